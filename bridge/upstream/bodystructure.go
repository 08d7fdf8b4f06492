package upstream

import "strings"

// envelope checks an ENVELOPE (RFC 9051 §7.5.2).
func (p *parser) envelope() bool {
	if !p.take('(') || !p.nstring() || !p.take(' ') || !p.nstring() {
		return false
	}
	for range 6 {
		if !p.take(' ') || !p.nlist(p.address) {
			return false
		}
	}
	return p.take(' ') && p.nstring() && p.take(' ') && p.nstring() && p.take(')')
}

func (p *parser) address() bool {
	return p.take('(') && p.nstring() && p.take(' ') && p.nstring() && p.take(' ') &&
		p.nstring() && p.take(' ') && p.nstring() && p.take(')')
}

// bodyStructure checks a BODY or BODYSTRUCTURE. The library reads it recursively without a
// bound.
func (p *parser) bodyStructure(depth int) bool {
	if depth > maxNesting || !p.take('(') {
		return false
	}
	ok := false
	if p.peek() == '(' {
		ok = p.multipart(depth)
	} else {
		ok = p.singlePart(depth)
	}
	for ok && p.take(' ') {
		ok = p.value(0)
	}
	return ok && p.take(')')
}

func (p *parser) multipart(depth int) bool {
	for p.peek() == '(' {
		if !p.bodyStructure(depth + 1) {
			return false
		}
		if p.peek() != '(' && !p.take(' ') {
			return false
		}
	}
	return p.string() && p.extension(p.parameters)
}

func (p *parser) singlePart(depth int) bool {
	typ, ok := p.text()
	if !ok || !p.take(' ') {
		return false
	}
	subtype, ok := p.text()
	ok = ok && p.take(' ') && p.parameters() && p.take(' ') && p.nstring() && p.take(' ') && p.nstring() &&
		p.take(' ') && p.nstring() && p.take(' ') && (p.word("-1") || p.number(32))
	if !ok || p.peek() != ' ' {
		return ok
	}
	switch {
	case strings.EqualFold(typ, "message") && (strings.EqualFold(subtype, "rfc822") || strings.EqualFold(subtype, "global")):
		ok = p.take(' ') && p.envelope() && p.take(' ') && p.bodyStructure(depth+1) && p.take(' ') && p.number(63)
	case strings.EqualFold(typ, "text"):
		ok = p.take(' ') && p.number(63)
	}
	return ok && p.extension(p.nstring)
}

// extension checks what may follow: first, disposition, language, location.
func (p *parser) extension(first func() bool) bool {
	for _, element := range []func() bool{first, p.disposition, p.language, p.nstring} {
		if p.peek() != ' ' {
			return true
		}
		if p.pos++; !element() {
			return false
		}
	}
	return true
}

func (p *parser) parameters() bool {
	n := 0
	return p.nlist(func() bool {
		n++
		text, ok := p.text()
		return ok && (text != "" || n%2 == 0) // the library takes an empty name for none
	}) && n%2 == 0
}

func (p *parser) disposition() bool {
	return p.word("NIL") || (p.take('(') && p.string() && p.take(' ') && p.parameters() && p.take(')'))
}

func (p *parser) language() bool {
	if p.peek() == '(' {
		return p.nlist(p.string)
	}
	return p.nstring()
}
