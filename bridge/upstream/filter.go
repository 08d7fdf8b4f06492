package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
)

// Limits of what a server may send outside of message literals, in bytes.
const (
	maxLine   = 1 << 20  // one response, with the small literals in it
	maxNumber = 16 << 20 // a SEARCH response: the numbers of 2 million messages
	maxHeld   = 4 << 20  // a FETCH response with the messages in it, until it is streamed
)

// limits of one connection.
type limits struct {
	line    int   // bytes of a response outside of message literals
	literal int64 // bytes of one message literal
}

// filter is what go-imap's client reads: the server's responses, each parsed and written
// again, so that nothing reaches the library that it cannot parse. One such item would end the
// connection there (VANISHED, LSUB, X-…, unknown FETCH items, a bad INTERNALDATE, a "]" in a
// flag), an unclosed "[" would swallow responses, and no size is limited.
//
// Well-formed responses that the library knows pass byte for byte, but for: IMAP4rev2 in
// capabilities; the case of response codes; LIST's extended data; and ENABLED,
// ID, SORT, THREAD, METADATA and ACL, which nothing here asks for. The UID comes first
// in a FETCH response: an item behind a literal is lost unless the UID precedes it.
//
// Unknown things are left out. What cannot be left out without giving a false answer (a
// broken SEARCH, a literal over the limit) ends the connection with a *limitError.
type filter struct {
	source   *bufio.Reader
	limits   limits
	answered func(tag string) bool
	hint     func()

	out     []byte // to be read by the client
	literal int64  // then so many bytes as they come
	fetch   *fetchResponse
	err     error

	inquiry inquiries
	mailbox mailboxID

	text  []byte // the response being read
	start int    // of the last line in it
}

// newFilter reads greeting first, then the source. answered is told the tag of every
// tagged response, "" for a continuation request, and says whether it was expected; hint
// is called when the mailbox has changed.
func newFilter(source io.Reader, greeting string, l limits, answered func(tag string) bool, hint func()) *filter {
	return &filter{source: bufio.NewReaderSize(source, 32<<10), limits: l, out: []byte(greeting), answered: answered, hint: hint}
}

// Read implements io.Reader.
func (f *filter) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		switch {
		case len(f.out) > 0:
			n := copy(p, f.out)
			f.out = f.out[n:]
			return n, nil
		case f.literal > 0:
			n, err := f.source.Read(p[:min(int64(len(p)), f.literal)])
			f.literal -= int64(n)
			if n > 0 {
				return n, nil
			}
			if f.err = inside(err); f.err != nil {
				f.literal = 0
			}
		}
		if f.err != nil {
			return 0, f.err
		}
		f.err = f.next()
	}
}

// inside turns the end of the stream within a response into an error: the library would
// take a cut-off literal for a complete one.
func inside(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// next reads one response, or one up to its next message literal, and sets out and literal.
func (f *filter) next() error {
	f.out = f.out[:0]
	if f.fetch != nil {
		return f.continueFetch()
	}
	f.text, f.start = f.text[:0], 0
	if err := f.line(maxNumber); err != nil {
		if len(f.text) > 0 {
			return inside(err)
		}
		return err
	}
	switch {
	case f.text[0] == '+':
		f.continuation()
		return nil
	case bytes.HasPrefix(f.text, []byte("* ")):
		return f.untagged()
	}
	return f.tagged()
}

// line appends a line to the text, its end normalised to CRLF.
func (f *filter) line(limit int) error {
	f.start = len(f.text)
	for {
		part, err := f.source.ReadSlice('\n')
		f.text = append(f.text, part...)
		if len(f.text) > limit {
			return &limitError{"the server sent a response of more than " + strconv.Itoa(limit) + " bytes"}
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
	if n := len(f.text); n < 2 || f.text[n-2] != '\r' || n-2 < f.start {
		f.text = append(f.text[:n-1], '\r', '\n')
	}
	return nil
}

// complete reads on until the response is complete, or until a literal of a message
// begins, whose size it returns (else -1). Literals elsewhere become part of the text. A quoted
// string that is still open at a line's end ends the response, as malformed.
func (f *filter) complete(s *scanner, limit int) (message int64, err error) {
	for {
		if len(f.text) > limit {
			return 0, &limitError{"the server sent a response of more than " + strconv.Itoa(limit) + " bytes"}
		}
		line := f.text[f.start : len(f.text)-2]
		s.feed(line)
		size, ok := literalSize(line)
		if s.quoted || !ok {
			return -1, nil
		}
		if s.messageLiteral(line) {
			return size, nil
		}
		if size > int64(limit-len(f.text)) {
			return 0, &limitError{"the server sent too large a literal"}
		}
		if f.text, err = f.append(f.text, size); err != nil {
			return 0, err
		}
		if err := f.line(limit); err != nil {
			return 0, inside(err)
		}
	}
}

// append reads size bytes onto b.
func (f *filter) append(b []byte, size int64) ([]byte, error) {
	n := len(b)
	b = append(b, make([]byte, size)...)
	_, err := io.ReadFull(f.source, b[n:])
	return b, inside(err)
}

// skip reads size bytes and forgets them.
func (f *filter) skip(size int64) error {
	_, err := io.CopyN(io.Discard, f.source, size)
	return inside(err)
}

// scanner follows quotes and parentheses of a response, line by line.
type scanner struct {
	depth           int
	quoted, escaped bool
	fetch           bool
}

func (s *scanner) feed(line []byte) {
	for _, b := range line {
		switch {
		case s.escaped:
			s.escaped = false
		case s.quoted && b == '\\':
			s.escaped = true
		case b == '"':
			s.quoted = !s.quoted
		case s.quoted:
		case b == '(':
			s.depth++
		case b == ')':
			s.depth--
		}
	}
}

// messageLiteral says whether the literal that begins at the end of the line is the value
// of BODY[…] or BINARY[…], not a string within something else.
func (s *scanner) messageLiteral(line []byte) bool {
	before := bytes.TrimSuffix(line[:bytes.LastIndexByte(line, '{')], []byte("~"))
	return s.fetch && s.depth == 1 && (bytes.HasSuffix(before, []byte("] ")) || bytes.HasSuffix(before, []byte("> ")))
}

// literalSize reads the {n} at the end of a server's line.
func literalSize(line []byte) (size int64, ok bool) {
	if bytes.HasSuffix(line, []byte("+}")) {
		return 0, false
	}
	return literalAtEnd(string(line[max(0, len(line)-24):]))
}

// literalAtEnd reads the size of a literal announced at the end of a line: {5}, {5+}.
func literalAtEnd(line string) (size int64, ok bool) {
	open := strings.LastIndexByte(line, '{')
	if open < 0 || !strings.HasSuffix(line, "}") {
		return 0, false
	}
	digits := strings.TrimSuffix(line[open+1:len(line)-1], "+")
	n, err := strconv.ParseUint(digits, 10, 62)
	return int64(n), err == nil
}

func (f *filter) emit(parts ...string) {
	for _, p := range parts {
		f.out = append(f.out, p...)
	}
}
