package mimescan

import (
	"bytes"
	"io"
	"iter"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
	"golang.org/x/text/encoding/charmap"
)

// Field is one header field as it stands in the message.
type Field struct {
	Name string // as written; "" for a line that is no field
	Raw  []byte // the whole field with its folding and line end
}

// Value is what follows the colon, unfolded (RFC 5322 §2.2.3), without surrounding white
// space; not decoded otherwise.
func (f Field) Value() string {
	_, value, _ := bytes.Cut(f.Raw, []byte{':'})
	if f.Name == "" {
		value = f.Raw
	}
	if bytes.IndexByte(value, '\n') >= 0 {
		value = bytes.ReplaceAll(value, []byte("\r\n"), []byte("\n"))
		value = bytes.ReplaceAll(value, []byte("\n\t"), []byte(" ")) // some fold with tabs where there were spaces
		value = bytes.ReplaceAll(value, []byte("\n"), nil)
	}
	return strings.Trim(string(value), " \t\r\n")
}

// Header is the fields of a header in order, without the empty line. Their Raw bytes one after
// the other are the header.
type Header []Field

// Get is the value of the first field of that name in any case, "" if there is none.
func (h Header) Get(name string) string {
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			return f.Value()
		}
	}
	return ""
}

// Values are the values of all fields of that name, in order.
func (h Header) Values(name string) []string {
	var values []string
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			values = append(values, f.Value())
		}
	}
	return values
}

// ReadHeader reads the fields in a span of src, such as Part.Header. Of a header longer than
// MaxHeader it reads the beginning; the part it belongs to is Limited. Errors are those of
// reading.
func ReadHeader(src Source, span Span) (Header, error) {
	raw := make([]byte, min(span.Len(), MaxHeader))
	if n, err := src.ReadAt(raw, span.Start); n < len(raw) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return parseHeader(raw), nil
}

// ParseHeader is ReadHeader for bytes that are at hand. The fields refer to raw.
func ParseHeader(raw []byte) Header { return parseHeader(raw[:min(len(raw), MaxHeader)]) }

func parseHeader(raw []byte) (h Header) {
	for f := range fields(raw) {
		h = append(h, f)
	}
	return h
}

// fields are the fields up to the empty line.
func fields(raw []byte) iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for len(raw) > 0 {
			n := fieldLength(raw)
			field := raw[:n:n]
			if raw = raw[n:]; field[0] == '\n' || string(field) == "\r\n" {
				return
			}
			if !yield(Field{Name: fieldName(field), Raw: field}) {
				return
			}
		}
	}
}

// fieldLength is the length of the first field: its line and those that begin with white space.
func fieldLength(raw []byte) int {
	n := 0
	for {
		i := bytes.IndexByte(raw[n:], '\n')
		if i < 0 {
			return len(raw)
		}
		n += i + 1
		if n == len(raw) || raw[n] != ' ' && raw[n] != '\t' {
			return n
		}
	}
}

// fieldName is the name before the colon (RFC 5322 §2.2; white space between as in §4.5.8),
// "" if the line has none.
func fieldName(field []byte) string {
	name, _, found := bytes.Cut(field, []byte{':'})
	name = bytes.TrimRight(name, " \t")
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return ""
		}
	}
	if !found {
		return ""
	}
	return string(name)
}

var words = mime.WordDecoder{CharsetReader: charset.Reader}

// DecodeWords decodes the encoded words of a field's value (RFC 2047) into UTF-8. What
// cannot be decoded stays as it is.
func DecodeWords(value string) string {
	decoded, err := words.DecodeHeader(value)
	if err != nil {
		return toUTF8(value)
	}
	return toUTF8(decoded)
}

// toUTF8 reads what is not UTF-8 as Windows-1252.
func toUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var out strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			r = charmap.Windows1252.DecodeByte(s[0])
		}
		out.WriteRune(r)
		s = s[n:]
	}
	return out.String()
}

// topRead is how much is read at first to find the end of a header.
const topRead = 16 << 10

// ReadTop reads the message's own header without looking at anything else; of one longer than
// MaxHeader the beginning. Errors are those of reading.
func ReadTop(src Source) (Header, error) {
	most := min(src.Size(), MaxHeader)
	for size := int64(topRead); ; size *= 4 {
		raw := make([]byte, min(size, most))
		if n, err := src.ReadAt(raw, 0); n < len(raw) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if end := endOfHeader(raw); end >= 0 {
			return parseHeader(raw[:end]), nil
		}
		if size >= most {
			return parseHeader(raw), nil
		}
	}
}

// endOfHeader is where the empty line begins, -1 if it is not there.
func endOfHeader(raw []byte) int {
	if bytes.HasPrefix(raw, []byte("\n")) || bytes.HasPrefix(raw, []byte("\r\n")) {
		return 0
	}
	crlf, lf := bytes.Index(raw, []byte("\n\r\n")), bytes.Index(raw, []byte("\n\n"))
	switch {
	case crlf < 0 && lf < 0:
		return -1
	case lf < 0 || crlf >= 0 && crlf < lf:
		return crlf + 1
	}
	return lf + 1
}

// MediaType is that of the Content-Type field in lower case, "text/plain" if there is none that is one.
func (h Header) MediaType() string {
	if media, _ := parseParams(h.Get("Content-Type")); validType(media) {
		return media
	}
	return "text/plain"
}
