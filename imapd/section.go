package imapd

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// section finds the bytes of BODY[…] (RFC 9051 §6.4.5.1): those of the message, never made
// anew. A section that does not exist is empty. The library's Extract helpers are not used:
// they read everything into memory, change line ends and lose malformed headers.
func (r *reply) section(s *imap.FetchItemBodySection) (content, error) {
	if isHeader(s) {
		return bytesContent(fieldsOf(r.summary.Header, s)).partial(s.Partial), nil
	}
	part := r.summary.Structure.Find(s.Part)
	if part == nil {
		return bytesContent(nil), nil
	}
	if len(s.Part) > 0 && (s.Specifier == imap.PartSpecifierHeader || s.Specifier == imap.PartSpecifierText) {
		if part = part.Message; part == nil { // only a message in a message has these
			return bytesContent(nil), nil
		}
	}
	switch s.Specifier {
	case imap.PartSpecifierHeader:
		header, err := io.ReadAll(io.NewSectionReader(r.message, part.Header.Start, min(part.Header.Len(), mimescan.MaxHeader)))
		if err != nil {
			return content{}, err
		}
		if len(s.HeaderFields)+len(s.HeaderFieldsNot) > 0 {
			return bytesContent(fieldsOf(header, s)).partial(s.Partial), nil
		}
		return r.span(part.Header).partial(s.Partial), nil
	case imap.PartSpecifierMIME:
		return r.span(part.Header).partial(s.Partial), nil
	case imap.PartSpecifierNone:
		if len(s.Part) == 0 {
			return r.span(mimescan.Span{End: r.message.Size()}).partial(s.Partial), nil
		}
	}
	return r.span(part.Body).partial(s.Partial), nil
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
func fieldsOf(header []byte, s *imap.FetchItemBodySection) []byte {
	wanted, not := s.HeaderFields, false
	if len(wanted) == 0 {
		wanted, not = s.HeaderFieldsNot, true
	}
	if len(wanted) == 0 {
		return header
	}
	var out []byte
	rest := header
	for _, f := range mimescan.ParseHeader(header) {
		listed := slices.ContainsFunc(wanted, func(name string) bool { return strings.EqualFold(name, f.Name) })
		if listed != not {
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
		return r.span(mimescan.Span{End: r.message.Size()}), nil
	}
	part := r.summary.Structure.Find(path)
	if part == nil {
		return bytesContent(nil), nil
	}
	switch part.Encoding {
	case "7bit", "8bit", "binary":
		return r.span(part.Body), nil
	case "base64", "quoted-printable":
	default:
		return content{}, errUnknownEncoding
	}
	c := content{open: func() io.Reader { return mimescan.DecodeBody(r.message, part) }}
	var err error
	c.size, err = io.Copy(io.Discard, c.open())
	return c, err
}
