package query

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of a query: bytes, parentheses and NOT within each other, terms.
const (
	MaxLength = 64 << 10
	maxDepth  = 100
	maxTerms  = 1000
)

// Error says what is wrong with a query, and where.
type Error struct {
	Offset int // in bytes
	Text   string
}

func (e *Error) Error() string { return fmt.Sprintf("query, at character %d: %s", e.Offset+1, e.Text) }

// Parse reads a query; days are those of the zone. The error is an *Error.
func Parse(text string, zone *time.Location) (Expr, error) {
	if len(text) > MaxLength {
		return nil, &Error{MaxLength, fmt.Sprintf("it is longer than %d bytes", MaxLength)}
	}
	if !utf8.ValidString(text) {
		return nil, &Error{0, "it is not UTF-8"}
	}
	p := &parser{lexer: lexer{text: text}, zone: zone}
	e, err := p.query(Any)
	if err == nil && p.peek().kind != end {
		err = p.fail(p.peek(), "there is a parenthesis too many")
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

type parser struct {
	lexer
	zone         *time.Location
	depth, terms int
}

func (p *parser) fail(t token, format string, args ...any) error {
	return &Error{t.offset, fmt.Sprintf(format, args...)}
}

// query reads alternatives; field is that of terms which have none.
func (p *parser) query(field Field) (Expr, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.fail(p.peek(), "more than %d parentheses within each other", maxDepth)
	}
	defer func() { p.depth-- }()
	var members Or
	for {
		e, err := p.and(field)
		if err != nil {
			return nil, err
		}
		members = append(members, e)
		if p.peek().kind != or {
			break
		}
		p.next()
	}
	if len(members) == 1 {
		return members[0], nil
	}
	return members, nil
}

func (p *parser) and(field Field) (Expr, error) {
	var members And
	for {
		e, err := p.not(field)
		if err != nil {
			return nil, err
		}
		members = append(members, e)
		switch p.peek().kind {
		case and:
			p.next()
			continue
		case or, closing, end:
			if len(members) == 1 {
				return members[0], nil
			}
			return members, nil
		}
	}
}

func (p *parser) not(field Field) (Expr, error) {
	if p.peek().kind != not {
		return p.primary(field)
	}
	p.next()
	if p.depth++; p.depth > maxDepth {
		return nil, p.fail(p.peek(), "more than %d NOT within each other", maxDepth)
	}
	defer func() { p.depth-- }()
	e, err := p.not(field)
	return Not{e}, err
}

func (p *parser) primary(field Field) (Expr, error) {
	t := p.next()
	if t.kind == name {
		field = Field(strings.ToLower(t.text))
		if !slices.Contains(Fields, field) {
			return nil, p.fail(t, "there is no field %q; put the words into quotes if they are to be found, or use one of %s", t.text, list(Fields))
		}
		if t = p.next(); t.kind != words && t.kind != opening {
			return nil, p.fail(t, "a word, a phrase in quotes or a parenthesis is missing after %s:", field)
		}
	}
	switch t.kind {
	case opening:
		e, err := p.query(field)
		if err == nil && p.next().kind != closing {
			err = p.fail(t, "this parenthesis is not closed")
		}
		return e, err
	case words:
		return p.term(field, t)
	case broken:
		return nil, p.fail(t, "this quote is not closed")
	}
	return nil, p.fail(t, "a word, a phrase in quotes or a parenthesis is missing here")
}

func (p *parser) term(field Field, t token) (Expr, error) {
	if p.terms++; p.terms > maxTerms {
		return nil, p.fail(t, "more than %d terms", maxTerms)
	}
	term := &Term{Field: field, Value: strings.TrimSpace(t.text)}
	var err error
	switch field {
	case Since, Until, ReceivedSince, ReceivedUntil:
		term.When, err = ParseWhen(term.Value, field == Until || field == ReceivedUntil, p.zone)
	case Is:
		if term.Value = strings.ToLower(term.Value); !slices.Contains(States, term.Value) {
			err = fmt.Errorf("is: knows no %q; use one of %s", term.Value, strings.Join(States, ", "))
		}
	case Type, In, Custodian, ID:
		if term.Value == "" {
			err = errors.New("there is nothing in the quotes")
		}
	default:
		if err = checkWildcards(term.Value); err != nil {
			break
		}
		if term.words = wordsOf(term.Value); len(term.words) == 0 {
			err = fmt.Errorf("there is no letter and no digit in %q, so it cannot be found", term.Value)
		}
	}
	if err != nil {
		return nil, p.fail(t, "%v", err)
	}
	return term, nil
}

// ParseWhen reads a day in a zone, or a moment (RFC 3339). The result is the first moment of the day; with until
// the first after it, or after the moment.
func ParseWhen(text string, until bool, zone *time.Location) (time.Time, error) {
	if day, err := time.ParseInLocation(time.DateOnly, text, time.UTC); err == nil && inYears(day) {
		if until {
			day = day.AddDate(0, 0, 1)
		}
		return firstOf(day, zone), nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || !inYears(at) {
		return time.Time{}, fmt.Errorf("%q is no day and no moment; write 2026-01-31, or 2026-01-31T15:04:05Z", text)
	}
	if until {
		at = at.Add(time.Nanosecond)
	}
	return at, nil
}

// firstOf is the first moment of a day in a zone: of a day at whose midnight clocks are put forward, that at which they are.
func firstOf(day time.Time, zone *time.Location) time.Time {
	at := time.Date(day.Year(), day.Month(), day.Day(), 0, 0, 0, 0, zone)
	begins, ends := at.ZoneBounds()
	switch {
	case at.Day() != day.Day(): // there is no midnight, and time.Date has gone back
		return ends
	case !begins.IsZero() && begins.Before(at) && begins.Day() == at.Day() && at.Sub(begins) < 24*time.Hour: // it has gone forward
		return begins
	}
	return at
}

// inYears keeps to those that can be written again in any zone.
func inYears(t time.Time) bool { return t.Year() >= 1 && t.Year() <= 9998 && !t.IsZero() }

func list[S ~string](all []S) string {
	var texts []string
	for _, s := range all {
		texts = append(texts, string(s))
	}
	return strings.Join(texts, ", ")
}

type kind int

const (
	end kind = iota
	opening
	closing
	and
	or
	not
	name  // of a field, before a colon
	words // or one
	broken
)

type token struct {
	kind   kind
	text   string
	offset int
}

type lexer struct {
	text   string
	at     int
	peeked *token
}

func (l *lexer) peek() token {
	if l.peeked == nil {
		t := l.scan()
		l.peeked = &t
	}
	return *l.peeked
}

func (l *lexer) next() token {
	t := l.peek()
	l.peeked = nil
	return t
}

// quotes are the ways to begin a phrase, and how it then ends: word processors make curly ones.
var quotes = map[rune]string{'"': `"`, '“': `”"`, '„': `“”"`, '«': `»`}

func (l *lexer) scan() token {
	rest := strings.TrimLeftFunc(l.text[l.at:], unicode.IsSpace)
	start := len(l.text) - len(rest)
	if rest == "" {
		return token{end, "", start}
	}
	first, size := utf8.DecodeRuneInString(rest)
	one := func(k kind) token { l.at = start + size; return token{k, rest[:size], start} }
	switch {
	case first == '(':
		return one(opening)
	case first == ')':
		return one(closing)
	case first == '-':
		return one(not)
	case quotes[first] != "":
		return l.phrase(rest, start, size, quotes[first])
	}
	return l.word(rest, start)
}

func (l *lexer) phrase(rest string, start, size int, closing string) token {
	n := strings.IndexAny(rest[size:], closing)
	if n < 0 {
		l.at = len(l.text)
		return token{broken, "", start}
	}
	text := rest[size : size+n]
	_, last := utf8.DecodeRuneInString(rest[size+n:])
	l.at = start + size + n + last
	return token{words, strings.ReplaceAll(text, `"`, " "), start}
}

func (l *lexer) word(rest string, start int) token {
	n := strings.IndexFunc(rest, func(r rune) bool { return unicode.IsSpace(r) || r == '(' || r == ')' || quotes[r] != "" })
	if n < 0 {
		n = len(rest)
	}
	text := rest[:n]
	if i := strings.IndexByte(text, ':'); i > 0 && isName(text[:i]) {
		l.at = start + i + 1
		return token{name, text[:i], start}
	}
	l.at = start + n
	switch text {
	case "AND":
		return token{and, text, start}
	case "OR":
		return token{or, text, start}
	case "NOT":
		return token{not, text, start}
	}
	return token{words, text, start}
}

func isName(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }) < 0
}
