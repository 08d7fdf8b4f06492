package pgpmime

import (
	"bufio"
	"bytes"
	"io"
	"strings"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// Normalise copies a message with every line ending as CRLF (bare CR and bare LF too),
// dropping the named header fields (any case) of the message's own header and adding
// the given ones on top. A first line that would continue them is dropped, too. Body bytes are
// otherwise unchanged.
func Normalise(w io.Writer, r io.Reader, drop []string, add []Field) error {
	for _, f := range add {
		if err := writeField(w, f.Name, f.Value); err != nil {
			return err
		}
	}
	in := bufio.NewReaderSize(&crlfReader{in: bufio.NewReader(r), bareCR: true}, 64<<10)
	if err := copyHeader(w, in, drop); err != nil {
		return err
	}
	_, err := io.Copy(w, in)
	return err
}

// copyHeader copies the header and the empty line after it without the fields in drop and without
// what continues nothing at the top.
func copyHeader(w io.Writer, in *bufio.Reader, drop []string) error {
	dropping, fresh := true, true
	for {
		line, err := in.ReadSlice('\n')
		if fresh && len(line) > 0 && line[0] != ' ' && line[0] != '\t' {
			dropping = named(line, drop)
		}
		ended := fresh && string(line) == "\r\n"
		fresh = err == nil
		if len(line) > 0 && !dropping {
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
		if err == io.EOF || ended {
			return nil
		}
		if err != nil && err != bufio.ErrBufferFull {
			return err
		}
	}
}

func named(line []byte, names []string) bool {
	name, _, _ := bytes.Cut(line, []byte(":"))
	name = bytes.TrimRight(name, " \t")
	for _, n := range names {
		if strings.EqualFold(n, string(name)) {
			return true
		}
	}
	return false
}

// crlfReader makes a CRLF of every bare LF and, if bareCR is set, of every bare CR.
type crlfReader struct {
	in     *bufio.Reader
	bareCR bool
	last   byte
	lf     bool // a LF is owed
}

func (r *crlfReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if r.lf {
			r.lf = false
			p[n], r.last = '\n', '\n'
			n++
			continue
		}
		if n > 0 && r.in.Buffered() == 0 {
			return n, nil
		}
		if copied := r.plain(p[n:]); copied > 0 {
			n += copied
			continue
		}
		c, err := r.in.ReadByte()
		if err == io.EOF && r.last == '\r' && r.bareCR {
			r.last, r.lf = 0, true
			continue
		}
		if err != nil {
			return n, err
		}
		switch {
		case c == '\n' && r.last != '\r':
			p[n], r.last, r.lf = '\r', '\r', true
		case r.bareCR && r.last == '\r' && c != '\n':
			p[n], r.last = '\n', '\n'
			_ = r.in.UnreadByte()
		default:
			p[n], r.last = c, c
		}
		n++
	}
	return n, nil
}

// plain copies what is buffered up to the next CR or LF, if no CR is behind.
func (r *crlfReader) plain(p []byte) int {
	if r.last == '\r' {
		return 0
	}
	text, _ := r.in.Peek(min(len(p), r.in.Buffered()))
	for _, end := range []byte{'\n', '\r'} {
		if at := bytes.IndexByte(text, end); at >= 0 {
			text = text[:at]
		}
	}
	if len(text) == 0 {
		return 0
	}
	copy(p, text)
	r.last = text[len(text)-1]
	_, _ = r.in.Discard(len(text))
	return len(text)
}

// WithStatus writes our X-Sealpost-Status field, then the message without the fields of its
// own header that look like ours and without a beginning that would continue it (RFC 5322 §2.2.3),
// otherwise byte for byte.
func WithStatus(w io.Writer, message mimescan.Source, status string) error {
	if err := writeStatus(w, status); err != nil {
		return err
	}
	return WithoutStatus(w, message)
}

// WithoutStatus writes the message without the fields that look like ours, for those whose mail nobody judges: a verdict would
// be the sender's own.
func WithoutStatus(w io.Writer, message mimescan.Source) error {
	drop, err := lookalikes(message)
	if err != nil {
		return err
	}
	var at int64
	for _, span := range append(drop, mimescan.Span{Start: message.Size(), End: message.Size()}) {
		n, err := io.Copy(w, io.NewSectionReader(message, at, span.Start-at))
		if err != nil {
			return err
		}
		if n != span.Start-at {
			return io.ErrUnexpectedEOF
		}
		at = span.End
	}
	return nil
}

// writeStatus writes the field on one line: its length must not depend on folding.
func writeStatus(w io.Writer, status string) error {
	_, err := io.WriteString(w, "X-Sealpost-Status: "+clean(status)+"\r\n")
	return err
}

// maxField is how much of one field lookalikes reads at once; of a longer one every piece
// is searched, and a find anywhere in it counts.
const maxField = 64 << 10

// lookalikes finds the fields that look like ours in the header of src, however long that is.
func lookalikes(src mimescan.Source) ([]mimescan.Span, error) {
	in := bufio.NewReaderSize(io.NewSectionReader(src, 0, src.Size()), maxField)
	var f fieldScan
	for {
		line, err := in.ReadSlice('\n')
		if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
			return nil, err
		}
		if f.line(line, err == nil) || err == io.EOF {
			f.end()
			return f.found, nil
		}
	}
}

// fieldScan is the state of lookalikes between two pieces of the header.
type fieldScan struct {
	found   []mimescan.Span
	field   []byte
	long    bool // the field outgrew maxField
	hit     bool // it is one of those to be found, whatever follows
	start   int64
	at      int64
	midLine bool
	kept    bool // there is a field between ours and this one
}

// continues says whether a line would continue the field above it, for some readers: those that
// drop control bytes first.
func continues(line []byte) bool {
	text := bytes.TrimLeftFunc(line, func(c rune) bool { return c != '\t' && c != '\n' && (c < ' ' || c == 0x7f) })
	return len(text) == 0 && len(line) > 0 || len(text) > 0 && (text[0] == ' ' || text[0] == '\t')
}

// line takes the next piece of a line; true at the end of the header.
func (f *fieldScan) line(piece []byte, whole bool) bool {
	fresh := !f.midLine
	f.midLine = !whole
	if fresh && (string(piece) == "\n" || string(piece) == "\r\n") {
		return true
	}
	if fresh && len(piece) > 0 && piece[0] != ' ' && piece[0] != '\t' {
		f.end()
	}
	if len(f.field) == 0 && !f.kept && continues(piece) {
		f.hit = true
	}
	if len(f.field)+len(piece) > maxField {
		f.long = true
		f.hit = f.hit || strings.Contains(visible(append(f.field, piece...)), ourPrefix)
		f.field = append(f.field[:0], piece[max(0, len(piece)-256):]...)
	} else {
		f.field = append(f.field, piece...)
	}
	f.at += int64(len(piece))
	return false
}

// maxLookalikes bounds what is remembered: a header with more of them is dropped from there on.
const maxLookalikes = 10000

// end judges the field that ends at the current offset.
func (f *fieldScan) end() {
	if n := len(f.found); n >= maxLookalikes {
		f.found[n-1].End = f.at
	} else if lookalike(f.field) || f.hit || f.long && strings.Contains(visible(f.field), ourPrefix) {
		f.found = append(f.found, mimescan.Span{Start: f.start, End: f.at})
	} else if len(f.field) > 0 {
		f.kept = true
	}
	f.field, f.long, f.hit, f.start = f.field[:0], false, false, f.at
}
