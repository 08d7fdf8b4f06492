package upstream

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxNesting of lists in a response.
const maxNesting = 50

// parser reads one response, as go-imap's decoder would: what it accepts the decoder
// accepts. Methods say whether the element was there, and stand behind it if so.
type parser struct {
	b   []byte
	pos int
}

func (p *parser) end() bool { return p.pos >= len(p.b) }

func (p *parser) peek() byte {
	if p.end() {
		return 0
	}
	return p.b[p.pos]
}

func (p *parser) take(b byte) bool {
	if p.end() || p.b[p.pos] != b {
		return false
	}
	p.pos++
	return true
}

// word takes exactly these bytes.
func (p *parser) word(s string) bool {
	if !bytes.HasPrefix(p.b[p.pos:], []byte(s)) {
		return false
	}
	p.pos += len(s)
	return true
}

func (p *parser) while(valid func(byte) bool) string {
	start := p.pos
	for !p.end() && valid(p.b[p.pos]) {
		p.pos++
	}
	return string(p.b[start:p.pos])
}

// atomChar is an ATOM-CHAR as go-imap understands it (RFC 9051 §9, and 8-bit).
func atomChar(b byte) bool {
	return b > ' ' && (b < 0x7f || b >= 0xa0) && !strings.ContainsRune(`(){%*"\]`, rune(b))
}

func (p *parser) atom() string { return p.while(atomChar) }

func digit(b byte) bool { return b >= '0' && b <= '9' }

// number of at most that many bits.
func (p *parser) number(bits int) bool {
	_, err := strconv.ParseUint(p.while(digit), 10, bits)
	return err == nil
}

// maxSetSize bounds the messages of a number set: the library counts them out one by one.
const maxSetSize = 10_000_000

// numberSet takes a set without "*" and 4294967295 (on which the library's Nums never ends).
func (p *parser) numberSet() bool {
	total := uint64(0)
	for {
		from, ok := p.setNumber()
		if !ok {
			return false
		}
		to := from
		if p.take(':') {
			if to, ok = p.setNumber(); !ok {
				return false
			}
		}
		if total += max(from, to) - min(from, to) + 1; total > maxSetSize {
			return false
		}
		if !p.take(',') {
			return true
		}
	}
}

func (p *parser) setNumber() (uint64, bool) {
	n, err := strconv.ParseUint(p.while(digit), 10, 32)
	return n, err == nil && n != 0 && n != 1<<32-1 && !p.leadingZero()
}

// leadingZero looks back at the number just read: the library refuses "01" in a set.
func (p *parser) leadingZero() bool {
	start := p.pos
	for start > 0 && digit(p.b[start-1]) {
		start--
	}
	return p.b[start] == '0'
}

func (p *parser) quoted() bool { _, ok := p.quotedText(); return ok }

func (p *parser) quotedText() (string, bool) {
	if !p.take('"') {
		return "", false
	}
	var s strings.Builder
	for !p.end() {
		b := p.b[p.pos]
		p.pos++
		if b == '"' {
			return s.String(), true
		}
		if b == '\\' {
			if p.end() {
				return "", false
			}
			b = p.b[p.pos]
			p.pos++
		}
		s.WriteByte(b)
	}
	return "", false
}

// quotedRune takes a hierarchy delimiter.
func (p *parser) quotedRune() bool {
	s, ok := p.quotedText()
	r, n := utf8.DecodeRuneInString(s)
	return ok && n == len(s) && r != utf8.RuneError
}

func (p *parser) literal() bool { _, ok := p.literalText(); return ok }

func (p *parser) literalText() (string, bool) {
	if !p.take('{') {
		return "", false
	}
	n, err := strconv.ParseUint(p.while(digit), 10, 31)
	if err != nil || !p.word("}\r\n") || n > uint64(len(p.b)-p.pos) {
		return "", false
	}
	s := string(p.b[p.pos : p.pos+int(n)])
	p.pos += int(n)
	return s, true
}

// text takes a quoted string or a literal.
func (p *parser) text() (string, bool) {
	if p.peek() == '{' {
		return p.literalText()
	}
	return p.quotedText()
}

func (p *parser) string() bool { _, ok := p.text(); return ok }

func (p *parser) nstring() bool {
	if atom := p.atom(); atom != "" {
		return atom == "NIL"
	}
	return p.string()
}

func (p *parser) astringText() (string, bool) {
	if c := p.peek(); c == '"' || c == '{' {
		return p.text()
	}
	s := p.while(func(b byte) bool { return atomChar(b) || b == ']' })
	return s, s != ""
}

func (p *parser) astring() bool { _, ok := p.astringText(); return ok }

func (p *parser) mailbox() bool {
	name, ok := p.astringText()
	return ok && validMailbox(name)
}

// value takes an atom, a string, or a list of values.
func (p *parser) value(depth int) bool {
	switch p.peek() {
	case '"':
		return p.quoted()
	case '{':
		return p.literal()
	case '(':
		return depth < maxNesting && p.parenthesized(func() bool { return p.value(depth + 1) })
	}
	return p.atom() != ""
}

// anything takes the value of an item that may be left out, whatever it is: it ends where
// quotes, literals and parentheses say so.
func (p *parser) anything() bool {
	start, depth := p.pos, 0
	for !p.end() {
		ok := true
		switch b := p.peek(); {
		case b == '"':
			ok = p.quoted()
		case b == '{':
			ok = p.literal()
		case b == '\r' || b == '\n', depth > maxNesting:
			return false
		case depth == 0 && (b == ' ' || b == ')'):
			return p.pos > start
		default:
			if b == '(' {
				depth++
			} else if b == ')' {
				depth--
			}
			p.pos++
		}
		if !ok {
			return false
		}
	}
	return depth == 0 && p.pos > start
}

// nlist takes NIL or a list of what element takes.
func (p *parser) nlist(element func() bool) bool {
	return p.word("NIL") || p.parenthesized(element)
}

// parenthesized takes a list of what element takes.
func (p *parser) parenthesized(element func() bool) bool {
	if !p.take('(') {
		return false
	}
	if p.take(')') {
		return true
	}
	for {
		if !element() {
			return false
		}
		if p.take(')') {
			return true
		}
		if !p.take(' ') && p.peek() != '(' {
			return false
		}
	}
}

// flags takes a list of flags and returns it without those that are none: the library
// could neither read nor store them.
func (p *parser) flags() (string, bool) {
	if !p.take('(') {
		return "", false
	}
	var valid []string
	for !p.take(')') {
		if p.end() {
			return "", false
		}
		flag := p.while(func(b byte) bool { return b != ' ' && b != ')' && b != '(' })
		if validFlag(flag) {
			valid = append(valid, flag)
		}
		if !p.take(' ') && p.peek() != ')' {
			return "", false
		}
	}
	return "(" + strings.Join(valid, " ") + ")", true
}

func validFlag(flag string) bool {
	name := strings.TrimPrefix(flag, `\`)
	if name == "*" {
		return flag == `\*`
	}
	p := &parser{b: []byte(name)}
	return p.atom() != "" && p.end()
}

var utf7 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

// validMailbox says whether a name is modified UTF-7 (RFC 3501 §5.1.3), or raw UTF-8, which
// the library accepts as well.
func validMailbox(name string) bool {
	if !utf8.ValidString(name) {
		return false
	}
	shifted := false
	for i := 0; i < len(name); i++ {
		b := name[i]
		if b < ' ' || b == 0x7f {
			return false
		}
		if b != '&' {
			shifted = false
			continue
		}
		length := strings.IndexByte(name[i+1:], '-')
		if length < 0 || (length > 0 && (shifted || !validShift(name[i+1:i+1+length]))) {
			return false
		}
		shifted = length > 0
		i += length + 1
	}
	return true
}

// validShift checks the base64 between "&" and "-": UTF-16 of what is not printable ASCII.
func validShift(s string) bool {
	raw, err := utf7.DecodeString(s)
	if err != nil || len(raw) == 0 || len(raw)%2 != 0 || strings.ContainsAny(s, "\r\n") {
		return false
	}
	for i := 0; i < len(raw); i += 2 {
		r := rune(raw[i])<<8 | rune(raw[i+1])
		if !utf16.IsSurrogate(r) {
			if r >= ' ' && r <= '~' {
				return false
			}
			continue
		}
		if i += 2; i == len(raw) || utf16.DecodeRune(r, rune(raw[i])<<8|rune(raw[i+1])) == utf8.RuneError {
			return false
		}
	}
	return true
}

// upper is for ASCII alone: every byte stays one.
func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			b[i] = c - ('a' - 'A')
		}
	}
	return string(b)
}
