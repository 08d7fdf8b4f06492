package mimescan

import (
	"bufio"
	"bytes"
	"io"
	"strings"
)

// bufferSize is what Scan holds of the message at a time. A line longer than this is never a
// boundary.
const bufferSize = 32 << 10

// Scan finds the parts of a message in one pass, with memory that does not grow with the
// message. Any sequence of bytes is a message: errors are those of reading src.
func Scan(src Source) (*Part, error) {
	s := &scanner{in: bufio.NewReaderSize(io.NewSectionReader(src, 0, src.Size()), int(min(src.Size()+1, bufferSize)))}
	root := s.open(nil, 1)
	root.Envelope = map[string]string{}
	for {
		line, err := s.in.ReadSlice('\n')
		s.feed(line)
		switch {
		case err == bufio.ErrBufferFull:
		case err == io.EOF && s.offset != src.Size():
			return nil, io.ErrUnexpectedEOF
		case err == io.EOF:
			s.prevBreak = 0 // what ends with the message has no boundary to give a line break to
			s.closeAbove(-1, s.offset)
			return root, nil
		case err != nil:
			return nil, err
		}
	}
}

// scanner is the state between two lines.
type scanner struct {
	in        *bufio.Reader
	offset    int64 // of the next line
	breaks    int64 // line breaks before offset
	prevBreak int64 // bytes of the line break just before offset: 0, 1 or 2
	midLine   bool  // offset is inside a line longer than the buffer
	cr        bool  // the byte before offset is a CR, when midLine
	stack     []*entity
	header    []byte // of the entity on top, while it is read; at most MaxHeader
	parts     int
	kept      int
}

// entity is a part whose end has not been seen.
type entity struct {
	*Part
	depth      int
	inHeader   bool
	overflow   bool   // its header is longer than MaxHeader
	boundary   string // "--" and the boundary, while parts may follow
	bodyBreaks int64  // line breaks before the body
	digest     bool   // it is a part of a multipart/digest
}

func (s *scanner) top() *entity { return s.stack[len(s.stack)-1] }

// open begins a part at the current offset.
func (s *scanner) open(parent *entity, depth int) *Part {
	s.parts++
	s.header = s.header[:0]
	p := &Part{Header: Span{s.offset, s.offset}}
	digest := parent != nil && parent.MediaType == "multipart/digest"
	s.stack = append(s.stack, &entity{Part: p, depth: depth, inHeader: true, digest: digest})
	return p
}

// feed takes the next line, or a piece of one that exceeds the buffer.
func (s *scanner) feed(line []byte) {
	if len(line) == 0 {
		return
	}
	start, fresh := s.offset, !s.midLine
	s.offset += int64(len(line))
	s.midLine = line[len(line)-1] != '\n'
	if fresh && line[0] == '-' {
		if i, last := s.boundaryAt(line); i >= 0 {
			s.delimit(i, last, start, line)
			return
		}
	}
	s.endLine(line)
	if top := s.top(); top.inHeader {
		s.headerLine(top, line, fresh)
	}
}

// endLine counts the line break that ends a line, if it has come.
func (s *scanner) endLine(line []byte) {
	s.prevBreak = 0
	if !s.midLine {
		s.breaks++
		s.prevBreak = 1
		if len(line) > 1 && line[len(line)-2] == '\r' || len(line) == 1 && s.cr {
			s.prevBreak = 2
		}
	}
	s.cr = s.midLine && line[len(line)-1] == '\r'
}

// boundaryAt finds the innermost open multipart that the line delimits (RFC 2046 §5.1.1),
// and whether it is the closing delimiter. The line must hold the boundary and nothing else
// but white space: a boundary may be the beginning of another.
func (s *scanner) boundaryAt(line []byte) (index int, last bool) {
	if len(line) < 2 || line[1] != '-' || s.midLine && len(line) == bufferSize {
		return -1, false
	}
	line = bytes.TrimRight(line, " \t\r\n")
	for i := len(s.stack) - 1; i >= 0; i-- {
		b := s.stack[i].boundary
		if b == "" || !bytes.HasPrefix(line, []byte(b)) {
			continue
		}
		switch rest := line[len(b):]; {
		case len(rest) == 0:
			return i, false
		case string(rest) == "--":
			return i, true
		}
	}
	return -1, false
}

// delimit ends the parts inside the multipart at index i, before the line that starts at
// offset start, and begins the next unless the delimiter is the last.
func (s *scanner) delimit(i int, last bool, start int64, line []byte) {
	s.closeAbove(i, start)
	s.endLine(line)
	multipart := s.stack[i]
	switch {
	case last:
		multipart.boundary = ""
	case s.parts >= MaxParts:
		multipart.boundary, multipart.Children, multipart.Limited = "", nil, true
	default:
		multipart.Children = append(multipart.Children, s.open(multipart, multipart.depth+1))
	}
}

// closeAbove ends all entities above index i. They reach to the boundary at offset end, less the
// line break that belongs to it (RFC 2046 §5.1.1), unless that one is already taken by the header
// or the boundary that the innermost entity begins after.
func (s *scanner) closeAbove(i int, end int64) {
	breaks := s.breaks
	if n := len(s.stack) - 1; n > i && s.prevBreak > 0 && end-s.prevBreak >= s.stack[n].start() {
		end -= s.prevBreak
		breaks--
	}
	for n := len(s.stack) - 1; n > i; n-- {
		e := s.stack[n]
		if e.inHeader {
			e.Header.End = end
			e.Body = Span{end, end}
			s.endHeader(e)
			continue
		}
		e.Body.End = end
		e.Lines = breaks - e.bodyBreaks
	}
	s.stack = s.stack[:i+1]
}

// start is where the piece of e that is being read began.
func (e *entity) start() int64 {
	if e.inHeader {
		return e.Header.Start
	}
	return e.Body.Start
}

// headerLine takes a line of the header of e. An empty line ends it (RFC 5322 §2.1).
func (s *scanner) headerLine(e *entity, line []byte, fresh bool) {
	if fresh && (line[0] == '\n' || string(line) == "\r\n") {
		e.Header.End = s.offset
		e.Body.Start = s.offset
		e.bodyBreaks = s.breaks
		s.endHeader(e)
		s.openBody(e)
		return
	}
	room := MaxHeader - len(s.header)
	if len(line) > room {
		e.overflow = true
		line = line[:max(room, 0)]
	}
	s.header = append(s.header, line...)
}

// endHeader reads the collected header into the part.
func (s *scanner) endHeader(e *entity) {
	e.inHeader = false
	kept := e.fill(s.header, e.digest)
	if s.kept += kept; s.kept > maxKept {
		s.kept -= kept
		e.forget()
		e.overflow = true
	}
	e.Limited = e.overflow
	s.header = s.header[:0]
}

// openBody looks for parts in the body that begins, if its type has any.
func (s *scanner) openBody(e *entity) {
	if e.Limited {
		return
	}
	boundary := strings.TrimRight(e.Params["boundary"], " \t\r\n")
	multipart := strings.HasPrefix(e.MediaType, "multipart/") && boundary != ""
	message := isMessage(e.MediaType) && isIdentity(e.Encoding)
	switch {
	case !multipart && !message:
	case e.depth >= MaxDepth, message && s.parts >= MaxParts:
		e.Limited = true
	case multipart:
		e.boundary = "--" + boundary
	default:
		e.Message = s.open(nil, e.depth+1)
		e.Message.Envelope = map[string]string{}
	}
}

// isMessage says whether a body of that type is itself a message (RFC 2046 §5.2.1, RFC 6532 §3.7).
func isMessage(mediaType string) bool {
	return mediaType == "message/rfc822" || mediaType == "message/global"
}

// isIdentity says whether the encoding leaves the bytes as they are (RFC 2045 §6.2).
func isIdentity(encoding string) bool {
	return encoding == "7bit" || encoding == "8bit" || encoding == "binary"
}
