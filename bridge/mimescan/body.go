package mimescan

import (
	"bufio"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
	"golang.org/x/text/encoding/charmap"
)

// DecodeBody is the body of p without its transfer encoding (RFC 2045 §6). What is broken in
// it is passed over: the only errors are those of reading src. A body in an encoding that is
// not known is read as it stands.
func DecodeBody(src Source, p *Part) io.Reader {
	raw := io.NewSectionReader(src, p.Body.Start, p.Body.Len())
	switch p.Encoding {
	case "base64":
		return bufio.NewReader(&base64Reader{in: bufio.NewReader(raw)})
	case "quoted-printable":
		return bufio.NewReader(&qpReader{in: bufio.NewReader(raw)})
	}
	return raw
}

// Text is the body of p decoded from its transfer encoding and its charset into UTF-8. An
// unknown charset, or none, is read as UTF-8 and bytes that are not as Windows-1252: what can be
// read of the text is read.
func Text(src Source, p *Part) (io.Reader, error) {
	body := DecodeBody(src, p)
	label := strings.ToLower(strings.TrimSpace(p.Params["charset"]))
	switch label {
	case "", "us-ascii", "ascii", "utf-8", "utf8":
	default:
		if decoded, err := charset.Reader(label, body); err == nil {
			return decoded, nil
		}
		body = DecodeBody(src, p)
	}
	return bufio.NewReader(&utf8Reader{in: bufio.NewReader(body)}), nil
}

// The readers below are always behind a bufio.Reader, which never asks for a few bytes only.

// base64Reader decodes base64 (RFC 2045 §6.8): bytes outside the alphabet are ignored, padding
// ends a quantum wherever it stands, what is missing at the end is left out.
type base64Reader struct {
	in   *bufio.Reader
	bits uint32
	have int // characters in bits
}

func (r *base64Reader) Read(p []byte) (n int, err error) {
	for n+3 <= len(p) {
		c, err := r.in.ReadByte()
		if err == io.EOF {
			if n += r.flush(p[n:]); n > 0 {
				return n, nil
			}
		}
		if err != nil {
			return n, err
		}
		if c == '=' {
			n += r.flush(p[n:])
			continue
		}
		v := base64Value(c)
		if v < 0 {
			continue
		}
		r.bits = r.bits<<6 | uint32(v)
		if r.have++; r.have == 4 {
			n += r.flush(p[n:])
		}
	}
	return n, nil
}

// flush writes the whole bytes that have come together.
func (r *base64Reader) flush(p []byte) int {
	whole := r.have * 6 / 8
	bits := r.bits << (24 - 6*r.have)
	for i := range whole {
		p[i] = byte(bits >> (16 - 8*i))
	}
	r.bits, r.have = 0, 0
	return whole
}

func base64Value(c byte) int {
	switch {
	case c >= 'A' && c <= 'Z':
		return int(c - 'A')
	case c >= 'a' && c <= 'z':
		return int(c-'a') + 26
	case c >= '0' && c <= '9':
		return int(c-'0') + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return -1
}

// qpReader decodes quoted-printable (RFC 2045 §6.7): "=" that begins no escape stands for itself.
type qpReader struct {
	in      *bufio.Reader
	pending []byte // white space that is dropped if the line ends after it
}

// maxPending is how much white space may wait for the end of its line; more is text.
const maxPending = 1 << 10

func (r *qpReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(r.pending) > 0 && !r.atBlank() {
			m := copy(p[n:], r.pending)
			r.pending = r.pending[m:]
			n += m
			continue
		}
		c, err := r.in.ReadByte()
		switch {
		case err == io.EOF && n > 0:
			return n, nil
		case err != nil:
			return n, err
		case (c == ' ' || c == '\t') && len(r.pending) < maxPending:
			r.pending = append(r.pending, c)
		case c != '=':
			p[n] = c
			n++
		default:
			if v, ok := r.escape(); ok {
				p[n] = v
				n++
			}
		}
	}
	return n, nil
}

// atBlank says whether the pending white space is not decided about yet, or drops it before
// the end of a line (RFC 2045 §6.7 rule 3).
func (r *qpReader) atBlank() bool {
	next, err := r.in.Peek(2)
	if len(next) == 0 && err != nil || len(next) > 0 && next[0] == '\n' || string(next) == "\r\n" {
		r.pending = r.pending[:0]
		return true
	}
	return len(r.pending) < maxPending && (next[0] == ' ' || next[0] == '\t')
}

// escape reads what follows "="; not ok after a soft line break, which stands for nothing.
func (r *qpReader) escape() (byte, bool) {
	next, _ := r.in.Peek(2)
	if len(next) == 2 {
		hi, lo := hexValue(next[0]), hexValue(next[1])
		if hi >= 0 && lo >= 0 {
			_, _ = r.in.Discard(2)
			return byte(hi<<4 | lo), true
		}
	}
	// A soft line break may have white space before its end: transports add it.
	line, _ := r.in.Peek(80)
	for i, c := range line {
		switch c {
		case '\n':
			_, _ = r.in.Discard(i + 1)
			return 0, false
		case ' ', '\t', '\r':
			continue
		}
		return '=', true
	}
	if len(line) < 80 { // the end of the body
		_, _ = r.in.Discard(len(line))
		return 0, false
	}
	return '=', true
}

func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// utf8Reader makes UTF-8 of bytes that are meant to be: what is not is read as Windows-1252.
type utf8Reader struct{ in *bufio.Reader }

func (r *utf8Reader) Read(p []byte) (n int, err error) {
	for n+utf8.UTFMax <= len(p) {
		next, err := r.in.Peek(utf8.UTFMax)
		if len(next) == 0 {
			if err == io.EOF && n > 0 {
				return n, nil
			}
			return n, err
		}
		c, size := utf8.DecodeRune(next)
		if c == utf8.RuneError && size == 1 {
			c = charmap.Windows1252.DecodeByte(next[0])
		}
		n += utf8.EncodeRune(p[n:], c)
		_, _ = r.in.Discard(size)
	}
	return n, nil
}
