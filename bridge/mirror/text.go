package mirror

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// foldFields are decodeFields, folded.
func foldFields(header mimescan.Header) string { return fold(decodeFields(header)) }

// addressFields hold address lists.
var addressFields = map[string]bool{"from": true, "to": true, "cc": true, "bcc": true, "sender": true, "reply-to": true}

// decodeFields are the fields of a header, decoded, a line each: "name: value". Addresses that are
// written in a way nobody would search for follow as one would (RFC 9051 §6.4.4 speaks of the
// envelope structure's field).
func decodeFields(header mimescan.Header) string {
	var s strings.Builder
	for _, f := range header {
		if f.Name == "" {
			continue
		}
		value := strings.Join(strings.FieldsFunc(mimescan.DecodeWords(f.Value()), func(c rune) bool { return c == '\n' || c == '\r' }), " ")
		s.WriteString(f.Name + ": " + value)
		s.WriteByte('\n')
		if addressFields[strings.ToLower(f.Name)] {
			for _, address := range plainAddresses(f.Value()) {
				if !strings.Contains(value, address) {
					s.WriteString(f.Name + ": " + address + "\n")
				}
			}
		}
	}
	return s.String()
}

func plainAddresses(list string) []string {
	var plain []string
	for _, a := range mimescan.ParseAddresses(list) {
		if a.Host != "" && a.Host != mimescan.MissingDomain && a.Mailbox != mimescan.MissingMailbox {
			plain = append(plain, a.Mailbox+"@"+a.Host)
		}
	}
	return plain
}

// hasField says whether folded fields have one of that folded name whose value contains a
// folded string (RFC 9051 §6.4.4, HEADER); the empty string is in every value.
func hasField(fields, name, value string) bool {
	for line := range strings.Lines(fields) {
		got, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if got == name && strings.Contains(text, value) {
			return true
		}
	}
	return false
}

// fieldOf is the value of the first of folded fields of that folded name.
func fieldOf(fields, name string) string {
	for line := range strings.Lines(fields) {
		if value, ok := strings.CutPrefix(line, name+": "); ok {
			return strings.TrimSuffix(value, "\n")
		}
	}
	return ""
}

// sentDay is the day of a Date field as yyyymmdd, "disregarding time and timezone" (RFC 9051
// §6.4.4); 0 if there is none that can be read.
func sentDay(header mimescan.Header) int {
	t, err := mimescan.ParseDate(header.Get("Date"))
	if err != nil {
		return 0
	}
	return day(t)
}

// errEnough ends a walk that has found what it looked for.
var errEnough = errors.New("enough")

const textPiece = 64 << 10

// eachText calls f with the decoded text of a message in order, in pieces: that of
// all text parts, of the headers of attached messages, and the names of attachments. Markup is
// left out. f ends the walk with errEnough.
func eachText(src mimescan.Source, root *mimescan.Part, f func(piece string) error) error {
	w := &textWalk{src: src, emit: f}
	err := w.body(root)
	if err == errEnough {
		return nil
	}
	return err
}

type textWalk struct {
	src  mimescan.Source
	emit func(piece string) error
}

func (w *textWalk) body(p *mimescan.Part) error {
	for _, child := range p.Children {
		if err := w.part(child); err != nil {
			return err
		}
	}
	switch {
	case len(p.Children) > 0:
		return nil
	case p.Message != nil:
		return w.message(p.Message)
	case p.MediaType == "text/html":
		return w.html(p)
	case strings.HasPrefix(p.MediaType, "text/"):
		return w.plain(p)
	}
	return nil
}

func (w *textWalk) part(p *mimescan.Part) error {
	for _, name := range []string{p.DispositionParams["filename"], p.Params["name"], p.Description} {
		if name != "" {
			if err := w.emit(mimescan.DecodeWords(name) + "\n"); err != nil {
				return err
			}
		}
	}
	return w.body(p)
}

func (w *textWalk) message(p *mimescan.Part) error {
	header, err := mimescan.ReadHeader(w.src, p.Header)
	if err != nil {
		return err
	}
	if err := w.emit(decodeFields(header)); err != nil {
		return err
	}
	return w.body(p)
}

func (w *textWalk) plain(p *mimescan.Part) error {
	text, err := mimescan.Text(w.src, p)
	if err != nil {
		return err
	}
	in := bufio.NewReaderSize(unfolded(p, text), textPiece)
	for {
		piece, err := readPiece(in)
		if piece != "" {
			if err := w.emit(piece); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return w.emit("\n")
		}
		if err != nil {
			return err
		}
	}
}

// readPiece reads about textPiece bytes, ending with white space if there is some: folding
// must not be torn inside a word.
func readPiece(in *bufio.Reader) (string, error) {
	buf, err := in.Peek(textPiece)
	if err == bufio.ErrBufferFull {
		err = nil
	}
	n := len(buf)
	if err == nil {
		if i := strings.LastIndexAny(string(buf), " \n"); i > 0 {
			n = i + 1
		} else {
			for n > 1 && !utf8.RuneStart(buf[n-1]) {
				n--
			}
			n = max(n-1, 1)
		}
	}
	piece := string(buf[:n])
	_, _ = in.Discard(n)
	return strings.ReplaceAll(piece, "\r\n", "\n"), err
}

// finder looks for a folded string in text that comes in pieces and is not folded.
type finder struct {
	needle, tail string
	found        bool
}

func (f *finder) piece(s string) error {
	s = fold(s)
	if strings.Contains(f.tail+s, f.needle) {
		f.found = true
		return errEnough
	}
	f.tail += s
	f.tail = f.tail[max(0, len(f.tail)-len(f.needle)+1):]
	return nil
}
