package upstream

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// fetchResponse is a FETCH response under way. It is held until it is complete, or has
// become too large: so the UID can be put first, and a connection that ends within it gives the
// library nothing of it (go-imap's reader and the reader of a cut-off literal race).
type fetchResponse struct {
	scanner scanner
	number  string
	held    [][]byte
	size    int // bytes held
	uid     []byte
	open    bool // "* n FETCH (" has been written
	written int  // items
	broken  bool // the rest cannot be understood
	id      ObjectID
}

// beginFetch starts behind "* n FETCH".
func (f *filter) beginFetch(number string, skip int) error {
	f.fetch = &fetchResponse{number: number, scanner: scanner{fetch: true}}
	message, err := f.complete(&f.fetch.scanner, f.limits.line)
	if err != nil {
		return err
	}
	f.hint()
	p := &parser{b: f.text, pos: skip}
	if !p.take(' ') || !p.take('(') {
		return f.abandon(message)
	}
	return f.items(p, message)
}

// continueFetch goes on behind a message literal.
func (f *filter) continueFetch() error {
	f.text = f.text[:0]
	if err := f.line(f.limits.line); err != nil {
		return inside(err)
	}
	message, err := f.complete(&f.fetch.scanner, f.limits.line)
	if err != nil {
		return err
	}
	if f.fetch.broken {
		return f.abandon(message)
	}
	return f.items(&parser{b: f.text}, message)
}

// abandon leaves the rest of a response out. With its UID at least it stays, so that the
// message is not taken for expunged. What has been written cannot be taken back.
func (f *filter) abandon(message int64) error {
	r := f.fetch
	switch {
	case r.open:
		return &limitError{"the server's FETCH response cannot be understood"}
	case message >= 0:
		r.broken = true
		return f.skip(message)
	case r.uid != nil:
		r.finish(f)
	}
	f.fetch = nil
	return nil
}

// items takes the items of the text, up to its end or the message literal.
func (f *filter) items(p *parser, message int64) error {
	r := f.fetch
	for {
		p.take(' ')
		if p.take(')') {
			if !bytes.Equal(bytes.TrimLeft(p.b[p.pos:], " "), []byte("\r\n")) {
				return f.abandon(message)
			}
			r.finish(f)
			return nil
		}
		start := p.pos
		name, section, ok := p.itemName()
		if !ok || !p.take(' ') {
			return f.abandon(message)
		}
		value := p.pos
		if message >= 0 && p.atMessage() {
			if name == "BINARY[" && p.take('~') { // literal8 (RFC 3516 §4.2)
				value = p.pos
			}
			return f.message(p.b[start:value], name, section, message)
		}
		if !p.anything() {
			return f.abandon(message)
		}
		r.identify(name, string(p.b[value:p.pos]))
		if item, ok := fetchItem(name, section, p.b[start:value], p.b[value:p.pos]); ok {
			r.add(item, name == "UID")
		}
	}
}

// atMessage says whether what is left is the announcement of the message literal.
func (p *parser) atMessage() bool {
	rest := bytes.TrimPrefix(p.b[p.pos:], []byte("~"))
	return len(rest) > 0 && rest[0] == '{' && bytes.IndexByte(rest, '\n') == len(rest)-1
}

// message handles BODY[…] or BINARY[…] with a literal.
func (f *filter) message(item []byte, name, section string, size int64) error {
	r := f.fetch
	if size > f.limits.literal {
		return &limitError{"the server sent a message of " + strconv.FormatInt(size, 10) + " bytes; the limit is " + strconv.FormatInt(f.limits.literal, 10)}
	}
	if (name != "BODY[" && name != "BINARY[") || !validSection(name, section) {
		return f.skip(size)
	}
	head := append(bytes.Clone(item), "{"+strconv.FormatInt(size, 10)+"}\r\n"...)
	if !r.open && int64(r.size)+size <= maxHeld {
		whole, err := f.append(head, size)
		r.add(whole, false)
		return err
	}
	r.release(f)
	r.write(f, head)
	f.literal = size
	return nil
}

// add holds an item, the UID in front of the others.
func (r *fetchResponse) add(item []byte, uid bool) {
	item = bytes.Clone(item)
	r.size += len(item)
	if uid && r.uid == nil {
		r.uid = item
		r.held = append([][]byte{item}, r.held...)
		return
	}
	r.held = append(r.held, item)
}

// release writes what is held.
func (r *fetchResponse) release(f *filter) {
	if !r.open {
		f.emit("* ", r.number, " FETCH (")
		r.open = true
	}
	for _, item := range r.held {
		r.write(f, item)
	}
	r.held, r.size = nil, 0
}

func (r *fetchResponse) write(f *filter, item []byte) {
	if r.written++; r.written > 1 {
		f.emit(" ")
	}
	f.out = append(f.out, item...)
}

func (r *fetchResponse) finish(f *filter) {
	r.release(f)
	f.emit(")\r\n")
	f.fetch = nil
	f.inquiry.fetched(r.uid, r.id)
}

// identify takes note of a message's object identifiers, which the library does not get.
func (r *fetchResponse) identify(name, value string) {
	id, err := objectID(value)
	switch {
	case err != nil:
	case name == "EMAILID":
		r.id.Email = id
	case name == "THREADID":
		r.id.Thread = id
	}
}

// itemName takes the name of a FETCH item in upper case, and what stands in its brackets.
func (p *parser) itemName() (name, section string, ok bool) {
	name = upper(p.while(func(b byte) bool { return atomChar(b) && b != '[' }))
	if !p.take('[') {
		return name, "", name != ""
	}
	start := p.pos
	for !p.end() && p.peek() != ']' {
		switch p.peek() {
		case '"':
			ok = p.quoted()
		case '{':
			ok = p.literal()
		case '\r', '\n':
			ok = false
		default:
			p.pos++
			ok = true
		}
		if !ok {
			return "", "", false
		}
	}
	section = string(p.b[start:p.pos])
	if !p.take(']') {
		return "", "", false
	}
	if p.take('<') {
		if ok = p.number(32) && p.take('>'); name != "BODY" {
			return name + "[<", section, ok // the library knows no such item
		}
		return name + "[", section, ok
	}
	return name + "[", section, name != ""
}

// internalDate is the layout go-imap parses (RFC 9051 §9, date-time).
const internalDate = `"_2-Jan-2006 15:04:05 -0700"`

// fetchItem checks an item that is not a message literal; false leaves it out.
func fetchItem(name, section string, head, value []byte) ([]byte, bool) {
	p := &parser{b: value}
	ok := false
	switch name {
	case "FLAGS":
		flags, valid := p.flags()
		return append(bytes.Clone(head), flags...), valid && p.end()
	case "UID":
		ok = p.number(32)
	case "RFC822.SIZE":
		ok = p.number(63)
	case "MODSEQ":
		ok = p.take('(') && p.number(64) && p.take(')')
	case "INTERNALDATE":
		date, err := time.Parse(internalDate, string(value))
		ok = err == nil && !date.IsZero()
		p.pos = len(value)
	case "ENVELOPE":
		ok = p.envelope()
	case "BODY", "BODYSTRUCTURE":
		ok = p.bodyStructure(0)
	case "BODY[", "BINARY[":
		ok = validSection(name, section) && p.nstring()
	case "BINARY.SIZE[":
		ok = validSection(name, section) && p.number(32)
	}
	return append(bytes.Clone(head), value...), ok && p.end()
}

// validSection checks what stands in the brackets (RFC 9051 §9, section-spec).
func validSection(name, section string) bool {
	p := &parser{b: []byte(section)}
	dot := true
	for dot && digit(p.peek()) {
		if !p.number(31) {
			return false
		}
		dot = p.take('.')
	}
	if p.end() {
		return section == "" || !dot
	}
	if !dot || !strings.HasPrefix(name, "BODY") {
		return false
	}
	specifier := upper(p.atom())
	if specifier == "HEADER.FIELDS" || specifier == "HEADER.FIELDS.NOT" {
		return p.take(' ') && p.peek() == '(' && p.nlist(p.astring) && p.end()
	}
	return (specifier == "HEADER" || specifier == "TEXT" || specifier == "MIME") && p.end()
}
