package upstream

import (
	"bytes"
	"strconv"
	"strings"
)

// continuation passes a continuation request on if one is awaited: an unexpected one ends
// the connection in the library.
func (f *filter) continuation() {
	if f.answered("") && len(f.text) <= f.limits.line {
		f.emit("+ ", cleanText(strings.TrimPrefix(f.body(1), " ")), "\r\n")
	}
}

// body is the first line without its first n bytes and its end.
func (f *filter) body(n int) string { return string(f.text[n : len(f.text)-2]) }

// cleanText removes what ends a text too early.
func cleanText(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\r' || r == 0 {
			return ' '
		}
		return r
	}, s)
}

func (f *filter) tagged() error {
	tag, rest, _ := strings.Cut(f.body(0), " ")
	word, text, _ := strings.Cut(rest, " ")
	word = upper(word)
	if (word != "OK" && word != "NO" && word != "BAD") || len(rest) > f.limits.line {
		return &limitError{"the server sent something that is no IMAP response"}
	}
	if !f.answered(tag) {
		return &limitError{"the server answered a command that was not sent"}
	}
	if f.inquiry.answered(tag, word, text) {
		return nil
	}
	f.mailbox.read(text)
	f.emit(tag, " ", word, status(text), "\r\n")
	return nil
}

// status is a status response's text with a leading space, its code made safe.
func status(text string) string {
	if text == "" {
		return ""
	}
	if !strings.HasPrefix(text, "[") {
		return " " + cleanText(text)
	}
	code, rest, ok := cutCode(text[1:])
	if ok {
		if code = safeCode(code); code != "" {
			if rest != "" && rest[0] != ' ' {
				rest = " " + rest
			}
			return " [" + code + "]" + cleanText(rest)
		}
	}
	if rest = strings.Trim(cleanText(rest), "[ "); rest == "" {
		return ""
	}
	return " " + rest
}

// cutCode splits at the "]" that ends the code: in PERMANENTFLAGS that is the one behind
// the list, since some servers have flags with a "]".
func cutCode(s string) (code, rest string, ok bool) {
	end := strings.IndexByte(s, ']')
	if list := strings.Index(s, ")]"); list >= 0 && len(s) > 15 && strings.EqualFold(s[:15], "PERMANENTFLAGS ") {
		end = list + 1
	}
	if end < 0 {
		return "", s, false // an unclosed code would swallow the next responses
	}
	return s[:end], s[end+1:], true
}

// safeCode checks the codes whose arguments the library parses; "" if it could not.
func safeCode(code string) string {
	name, argument, has := strings.Cut(code, " ")
	name = upper(name)
	p := &parser{b: []byte(argument)}
	ok := has
	switch name {
	case "CAPABILITY":
		return name + capabilities(argument)
	case "PERMANENTFLAGS":
		flags, ok := p.flags()
		if !ok || !p.end() {
			return ""
		}
		return name + " " + flags
	case "UIDNEXT", "UIDVALIDITY":
		ok = ok && p.number(32) && p.end()
	case "HIGHESTMODSEQ":
		ok = ok && p.number(64) && p.end()
	case "APPENDUID":
		ok = ok && p.number(32) && p.take(' ') && p.number(32) && p.end()
	case "COPYUID":
		ok = ok && p.number(32) && p.take(' ') && p.numberSet() && p.take(' ') && p.numberSet() && p.end()
	default:
		q := &parser{b: []byte(name)}
		ok = q.atom() != "" && q.end()
	}
	if !ok {
		return ""
	}
	if !has || name == "NOMODSEQ" {
		return name
	}
	return name + " " + cleanText(argument)
}

// capabilities are what follows the word CAPABILITY. IMAP4rev2 is hidden: the library would
// use its syntax (raw UTF-8 mailbox names) without having enabled it.
func capabilities(list string) string {
	var s strings.Builder
	for _, c := range strings.Fields(list) {
		p := &parser{b: []byte(c)}
		if p.atom() == c && !strings.EqualFold(c, "IMAP4rev2") {
			s.WriteString(" " + c)
		}
	}
	return s.String()
}

// untagged handles a response that begins with "* ".
func (f *filter) untagged() error {
	word, rest, _ := strings.Cut(f.body(2), " ")
	word = upper(word)
	switch word {
	case "OK", "NO", "BAD", "BYE":
		if len(rest) <= f.limits.line {
			f.mailbox.read(rest)
			f.emit("* ", word, status(rest), "\r\n")
		}
		return nil
	}
	if word != "" && word[0] >= '0' && word[0] <= '9' {
		return f.numbered(word, rest)
	}
	limit := f.limits.line
	if word == "SEARCH" || word == "ESEARCH" {
		limit = max(limit, maxNumber)
	}
	s := &scanner{}
	if _, err := f.complete(s, limit); err != nil {
		return err
	}
	rewritten, err := f.data(word, s.quoted)
	if rewritten != "" {
		f.emit("* ", word, rewritten, "\r\n")
	}
	return err
}

// numbered handles "* 5 EXISTS" and its like.
func (f *filter) numbered(number, rest string) error {
	what, more, _ := strings.Cut(rest, " ")
	what = upper(what)
	_, err := strconv.ParseUint(number, 10, 32)
	switch {
	case what == "FETCH" && err == nil:
		return f.beginFetch(number, len("* ")+len(number)+len(" FETCH"))
	case (what == "EXISTS" || what == "EXPUNGE" || what == "RECENT") && err == nil && strings.TrimSpace(more) == "":
		f.emit("* ", number, " ", what, "\r\n")
		if what != "RECENT" {
			f.hint()
		}
		return nil
	}
	_, err = f.complete(&scanner{}, f.limits.line)
	return err
}

// data rewrites what follows the word of a data response; "" leaves the response out.
func (f *filter) data(word string, malformed bool) (string, error) {
	p := &parser{b: f.text[len("* ")+len(word) : len(f.text)-2]}
	switch word {
	case "CAPABILITY":
		return capabilities(string(p.b)), nil
	case "ENABLED":
		return "", nil
	case "SEARCH", "ESEARCH":
		p.b = bytes.TrimRight(p.b, " ")
		if malformed || (word == "SEARCH" && !p.search()) || (word == "ESEARCH" && !p.esearch()) {
			return "", &limitError{"the server's " + word + " response cannot be understood"}
		}
		if word == "SEARCH" && len(p.b) == 0 {
			f.emit("* SEARCH\r\n")
			return "", nil
		}
		return string(p.b), nil
	case "VANISHED":
		f.hint()
		return "", nil
	}
	if malformed || !p.take(' ') {
		return "", nil
	}
	switch word {
	case "FLAGS":
		if flags, ok := p.flags(); ok {
			return " " + flags, nil
		}
	case "LIST":
		return p.list(), nil
	case "STATUS":
		return p.status(), nil
	case "QUOTA":
		if p.quota() {
			return " " + string(p.b[1:p.pos]), nil
		}
	case "QUOTAROOT":
		if p.quotaRoots() {
			return " " + string(p.b[1:p.pos]), nil
		}
	case "NAMESPACE":
		if p.namespaces() {
			return string(p.b[:p.pos]), nil
		}
	}
	return "", nil
}

// search checks the numbers, and the MODSEQ of RFC 7162 §3.1.5.
func (p *parser) search() bool {
	for !p.end() {
		if !p.take(' ') {
			return false
		}
		if p.word("(MODSEQ ") {
			return p.number(64) && p.take(')') && p.end()
		}
		if !p.number(32) {
			return false
		}
	}
	return true
}

// esearch checks an ESEARCH response (RFC 4731 §3.1). The library reads none without a tag.
func (p *parser) esearch() bool {
	if !p.word(" (TAG ") || !p.astring() || !p.take(')') {
		return false
	}
	if p.word(" UID") && p.end() {
		return true
	}
	for !p.end() {
		if !p.take(' ') {
			return false
		}
		name := upper(p.atom())
		if name == "" || !p.take(' ') {
			return false
		}
		ok := false
		switch name {
		case "MIN", "MAX", "COUNT":
			ok = p.number(32)
		case "MODSEQ":
			ok = p.number(64)
		case "ALL":
			ok = p.numberSet()
		default:
			ok = p.value(0)
		}
		if !ok {
			return false
		}
	}
	return true
}

// list rewrites a LIST response without its extended data. A name that is neither UTF-8
// nor modified UTF-7 leaves one mailbox out; the library would end the connection.
func (p *parser) list() string {
	flags, ok := p.flags()
	start := p.pos
	if !ok || !p.take(' ') || (!p.quotedRune() && !p.word("NIL")) || !p.take(' ') || !p.mailbox() || (!p.end() && p.peek() != ' ') {
		return ""
	}
	return " " + flags + string(p.b[start:p.pos])
}

// status rewrites a STATUS response without the items whose values are not what they
// should be.
func (p *parser) status() string {
	if !p.mailbox() || !p.take(' ') || !p.take('(') {
		return ""
	}
	name := string(p.b[:p.pos])
	var items []string
	for !p.take(')') {
		p.take(' ')
		start := p.pos
		item := upper(p.atom())
		if item == "" || !p.take(' ') {
			return ""
		}
		value := p.pos
		if !p.anything() {
			return ""
		}
		if statusValue(item, string(p.b[value:p.pos])) {
			items = append(items, string(p.b[start:p.pos]))
		}
	}
	return name + strings.Join(items, " ") + ")"
}

func statusValue(item, value string) bool {
	bits := 32
	switch item {
	case "APPENDLIMIT":
		if value == "NIL" {
			return true
		}
	case "SIZE", "DELETED-STORAGE":
		bits = 63
	case "HIGHESTMODSEQ":
		bits = 64
	case "MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "DELETED":
	default:
		return false
	}
	p := &parser{b: []byte(value)}
	return p.number(bits) && p.end()
}

// quota checks a quota root's resources (RFC 9208 §5.1).
func (p *parser) quota() bool {
	return p.astring() && p.take(' ') && p.parenthesized(func() bool {
		return p.atom() != "" && p.take(' ') && p.number(63) && p.take(' ') && p.number(63)
	}) && p.end()
}

// quotaRoots checks a mailbox's quota roots (RFC 9208 §5.2).
func (p *parser) quotaRoots() bool {
	if !p.mailbox() {
		return false
	}
	for !p.end() {
		if !p.take(' ') || !p.astring() {
			return false
		}
	}
	return true
}

// namespaces checks the three lists of RFC 2342 §5.
func (p *parser) namespaces() bool {
	for i := range 3 {
		if i > 0 && !p.take(' ') {
			return false
		}
		ok := p.nlist(func() bool {
			if !p.take('(') || !p.string() || !p.take(' ') || (!p.quotedRune() && !p.word("NIL")) {
				return false
			}
			for p.take(' ') {
				if !p.value(0) {
					return false
				}
			}
			return p.take(')')
		})
		if !ok {
			return false
		}
	}
	return true
}
