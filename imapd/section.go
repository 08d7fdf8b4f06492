package imapd

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// content is the bytes of a section.
type content struct {
	size int64
	nul  bool // there may be NUL among them
	open func() io.Reader
}

// section finds the bytes of BODY[…] and BINARY[…] (RFC 9051 §6.4.5.1): those of the message,
// never made anew. A section that does not exist is empty. The library's Extract helpers are not
// used: they read everything into memory, change line ends and lose malformed headers.
func (r *reply) section(s *sectionItem) (content, error) {
	c, err := r.whole(s)
	if err != nil || !s.isPartial {
		return c, err
	}
	return c.partial(s.offset, s.length), nil
}

func (r *reply) whole(s *sectionItem) (content, error) {
	switch {
	case s.isRootHeader():
		return bytesContent(fieldsOf(r.header, s)), nil
	case s.binary:
		return r.binary(s.part)
	}
	part := r.structure.Find(s.part)
	if len(s.part) > 0 && strings.HasPrefix(r.structure.MediaType, "multipart/") && len(r.structure.Children) == 0 && canBeMultipart(r.structure) {
		part = nil // the empty part that BODYSTRUCTURE speaks of
	}
	if part != nil && len(s.part) > 0 && (s.text == "HEADER" || s.text == "TEXT") {
		part = part.Message // only a message in a message has these
	}
	if part == nil {
		return bytesContent(nil), nil
	}
	switch {
	case s.text == "HEADER" && len(s.fields) > 0:
		header, err := io.ReadAll(io.NewSectionReader(r.message, part.Header.Start, min(part.Header.Len(), mimescan.MaxHeader)))
		return bytesContent(fieldsOf(header, s)), err
	case s.text == "HEADER", s.text == "MIME":
		return r.span(part.Header), nil
	case s.text == "" && len(s.part) == 0:
		return r.span(mimescan.Span{End: r.message.Size()}), nil
	}
	return r.span(part.Body), nil
}

// span is bytes of the message.
func (r *reply) span(s mimescan.Span) content {
	return content{size: s.Len(), open: func() io.Reader { return io.NewSectionReader(r.message, s.Start, s.Len()) }}
}

func bytesContent(b []byte) content {
	return content{size: int64(len(b)), open: func() io.Reader { return bytes.NewReader(b) }}
}

// fieldsOf is a header, or with HEADER.FIELDS and HEADER.FIELDS.NOT the fields asked for and the
// empty line (RFC 9051 §6.4.5.1), if the header has one.
func fieldsOf(header []byte, s *sectionItem) []byte {
	if len(s.fields) == 0 {
		return header
	}
	var out []byte
	rest := header
	for _, f := range mimescan.ParseHeader(header) {
		listed := slices.ContainsFunc(s.fields, func(name string) bool { return strings.EqualFold(name, f.Name) })
		if listed != s.not {
			out = append(out, f.Raw...)
		}
		rest = rest[len(f.Raw):]
	}
	return append(out, rest...)
}

// errUnknownEncoding is the answer to BINARY of a part that cannot be decoded (RFC 3516 §4.3).
var errUnknownEncoding = errors.New("the part's transfer encoding is not known")

// binary finds the bytes of BINARY[…]: a part's body without its transfer encoding
// (RFC 3516 §4.2). Its size is known only by decoding it.
func (r *reply) binary(path []int) (content, error) {
	if len(path) == 0 {
		return measured(r.span(mimescan.Span{End: r.message.Size()}))
	}
	part := r.structure.Find(path)
	if part == nil {
		return bytesContent(nil), nil
	}
	switch part.Encoding {
	case "7bit", "8bit", "binary":
		return measured(r.span(part.Body))
	case "base64", "quoted-printable":
		return measured(content{open: func() io.Reader { return mimescan.DecodeBody(r.message, part) }})
	}
	return content{}, errUnknownEncoding
}

// measured finds size and NULs by reading.
func measured(c content) (content, error) {
	m := &meter{}
	_, err := io.Copy(m, c.open())
	c.size, c.nul = m.size, m.nul
	return c, err
}

type meter struct {
	size int64
	nul  bool
}

func (m *meter) Write(p []byte) (int, error) {
	m.size += int64(len(p))
	m.nul = m.nul || bytes.IndexByte(p, 0) >= 0
	return len(p), nil
}

// partial is the part of the content that <offset.length> asks for (RFC 9051 §6.4.5); beyond the
// end there is nothing.
func (c content) partial(offset, length int64) content {
	offset = min(offset, c.size)
	return content{size: min(length, c.size-offset), nul: c.nul, open: func() io.Reader { return &after{r: c.open(), skip: offset} }}
}

// after is a reader without its first bytes.
type after struct {
	r    io.Reader
	skip int64
}

func (a *after) Read(p []byte) (int, error) {
	if s, ok := a.r.(io.Seeker); ok && a.skip > 0 {
		if _, err := s.Seek(a.skip, io.SeekStart); err != nil {
			return 0, err
		}
		a.skip = 0
	}
	if a.skip > 0 {
		n, err := io.CopyN(io.Discard, a.r, a.skip)
		if a.skip -= n; err != nil {
			return 0, err
		}
	}
	return a.r.Read(p)
}
