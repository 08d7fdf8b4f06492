package imapd

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// fetchItems is what a FETCH asks for (RFC 9051 §6.4.5).
type fetchItems struct {
	uid, flags, date, size        bool
	envelope, body, bodyStructure bool
	preview                       bool // RFC 8970
	emailID, threadID             bool // RFC 8474
	sections                      []*sectionItem
}

// sectionItem is BODY[…], BINARY[…], BINARY.SIZE[…], or one of the names for them of RFC 3501.
type sectionItem struct {
	name      string // as it is written in the response
	part      []int
	text      string // HEADER, TEXT, MIME, or ""
	fields    []string
	not       bool // HEADER.FIELDS.NOT
	binary    bool
	sizeOnly  bool
	peek      bool
	isPartial bool
	offset    int64
	length    int64
}

// fetchMacros of RFC 9051 §6.4.5.
var fetchMacros = map[string][]string{
	"ALL":  {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"},
	"FAST": {"FLAGS", "INTERNALDATE", "RFC822.SIZE"},
	"FULL": {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"},
}

// fetchItems reads the items of a FETCH: a macro, an item or a list of them.
func (a *arguments) fetchItems() (*fetchItems, error) {
	items := &fetchItems{}
	one := func() error { return items.read(a) }
	if a.next() == '(' {
		return items, a.list(one)
	}
	if macro, ok := fetchMacros[strings.ToUpper(a.rest)]; ok {
		for _, name := range macro {
			items.add(name)
		}
		a.rest = ""
		return items, nil
	}
	return items, one()
}

func (f *fetchItems) read(a *arguments) error {
	name, err := a.word()
	if err != nil {
		return err
	}
	if a.next() == '[' {
		return f.readSection(a, name)
	}
	if name == "PREVIEW" && strings.HasPrefix(strings.ToUpper(a.rest), " (LAZY)") {
		a.rest = a.rest[len(" (LAZY)"):] // a preview is always at hand (RFC 8970 §3.2)
	}
	if !f.add(name) {
		return malformed
	}
	return nil
}

// add adds an item without arguments; false if there is no such item.
func (f *fetchItems) add(name string) bool {
	flag := map[string]*bool{
		"UID": &f.uid, "FLAGS": &f.flags, "INTERNALDATE": &f.date, "RFC822.SIZE": &f.size, "ENVELOPE": &f.envelope,
		"BODY": &f.body, "BODYSTRUCTURE": &f.bodyStructure, "PREVIEW": &f.preview,
		"EMAILID": &f.emailID, "THREADID": &f.threadID,
	}[name]
	if flag != nil {
		*flag = true
		return true
	}
	section := map[string]*sectionItem{
		"RFC822": {}, "RFC822.PEEK": {peek: true}, "RFC822.HEADER": {text: "HEADER", peek: true}, "RFC822.TEXT": {text: "TEXT"},
	}[name]
	if section == nil {
		return false
	}
	section.name = strings.TrimSuffix(name, ".PEEK") // no standard has it, Outlook sends it
	f.sections = append(f.sections, section)
	return true
}

func (f *fetchItems) readSection(a *arguments, name string) error {
	s := &sectionItem{}
	switch name {
	case "BODY":
	case "BODY.PEEK":
		s.peek = true
	case "BINARY":
		s.binary = true
	case "BINARY.PEEK":
		s.binary, s.peek = true, true
	case "BINARY.SIZE":
		s.binary, s.peek, s.sizeOnly = true, true, true
	default:
		return malformed
	}
	a.skip('[')
	if err := s.read(a); err != nil {
		return err
	}
	if err := a.expect(']'); err != nil {
		return err
	}
	s.name = strings.Replace(name, ".PEEK", "", 1) + "[" + s.spec() + "]"
	f.sections = append(f.sections, s)
	return s.readPartial(a)
}

// maxDepth is how deep a part number may go; mimescan goes no deeper.
const maxDepth = 100

// read reads what is between the brackets.
func (s *sectionItem) read(a *arguments) error {
	for c := a.next(); c >= '0' && c <= '9'; c = a.next() {
		n, err := a.number()
		if err != nil || n == 0 || n > math.MaxInt32 || len(s.part) == maxDepth {
			return malformed
		}
		s.part = append(s.part, int(n))
		if !a.skip('.') {
			return nil
		}
	}
	if a.next() == ']' {
		if len(s.part) > 0 { // "1."
			return malformed
		}
		return nil
	}
	return s.readText(a)
}

func (s *sectionItem) readText(a *arguments) error {
	text, err := a.word()
	switch {
	case err != nil || s.binary:
		return malformed
	case text == "HEADER.FIELDS", text == "HEADER.FIELDS.NOT":
		s.text, s.not = "HEADER", text == "HEADER.FIELDS.NOT"
		return s.readFields(a)
	case text == "HEADER", text == "TEXT", text == "MIME" && len(s.part) > 0: // RFC 9051 §6.4.5.1
		s.text = text
		return nil
	}
	return malformed
}

func (s *sectionItem) readFields(a *arguments) error {
	if err := a.space(); err != nil {
		return err
	}
	err := a.list(func() error {
		name, err := a.astring()
		s.fields = append(s.fields, name)
		return err
	})
	if err == nil && len(s.fields) == 0 {
		err = malformed
	}
	return err
}

// readPartial reads <offset.length>.
func (s *sectionItem) readPartial(a *arguments) (err error) {
	if s.sizeOnly || !a.skip('<') {
		return nil
	}
	s.isPartial = true
	if s.offset, err = a.number(); err != nil {
		return err
	}
	if err := a.expect('.'); err != nil {
		return err
	}
	if s.length, err = a.number(); err != nil || s.length == 0 {
		return malformed
	}
	s.name += "<" + strconv.FormatInt(s.offset, 10) + ">"
	return a.expect('>')
}

// spec is the section as the response names it.
func (s *sectionItem) spec() string {
	var words []string
	for _, n := range s.part {
		words = append(words, strconv.Itoa(n))
	}
	if s.text != "" {
		words = append(words, s.text)
	}
	spec := strings.Join(words, ".")
	if len(s.fields) == 0 {
		return spec
	}
	if s.not {
		spec += ".FIELDS.NOT ("
	} else {
		spec += ".FIELDS ("
	}
	for i, name := range s.fields {
		if i > 0 {
			spec += " "
		}
		if !isFlag(name) || strings.ContainsAny(name, "[]") {
			name = quoted(name)
		}
		spec += name
	}
	return spec + ")"
}

// isRootHeader says whether the section is the message's header or fields of it.
func (s *sectionItem) isRootHeader() bool { return s.text == "HEADER" && len(s.part) == 0 }

// needsMessage says whether the message itself has to be at hand.
func (f *fetchItems) needsMessage() bool {
	return slices.ContainsFunc(f.sections, func(s *sectionItem) bool { return !s.isRootHeader() })
}

// needsStructure says whether the parts of the message have to be known.
func (f *fetchItems) needsStructure() bool {
	return f.envelope || f.body || f.bodyStructure || f.needsMessage()
}

// needsSummary says whether anything that is kept of opened messages is asked for, apart from the size.
func (f *fetchItems) needsSummary() bool { return f.needsStructure() || len(f.sections) > 0 }

// reads says whether the client reads messages (RFC 9051 §6.4.5: BODY[…] sets \Seen).
func (f *fetchItems) reads() bool {
	return slices.ContainsFunc(f.sections, func(s *sectionItem) bool { return !s.peek })
}
