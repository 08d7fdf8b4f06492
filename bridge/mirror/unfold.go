package mirror

import (
	"bufio"
	"io"
	"strings"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// foldedTypes are kinds of text whose lines are torn anywhere, inside words, too: a line that begins with white space continues the one before
// (RFC 5545 §3.1, RFC 6350 §3.2).
var foldedTypes = map[string]bool{"text/calendar": true, "text/x-vcalendar": true, "text/vcard": true, "text/x-vcard": true, "text/directory": true}

// unfolded is the text of a part with its lines put together again where they are torn inside words.
func unfolded(p *mimescan.Part, text io.Reader) io.Reader {
	flowed := strings.EqualFold(p.Params["format"], "flowed") && strings.EqualFold(p.Params["delsp"], "yes") // RFC 3676 §4.1
	if !flowed && !foldedTypes[p.MediaType] {
		return text
	}
	return bufio.NewReader(&unfolder{in: bufio.NewReader(text), flowed: flowed})
}

// unfolder takes out line ends with the white space behind, or with the space before.
type unfolder struct {
	in     *bufio.Reader
	flowed bool
}

func (u *unfolder) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if skip := u.tear(); skip > 0 {
			_, _ = u.in.Discard(skip)
			continue
		}
		c, err := u.in.ReadByte()
		if err == io.EOF && n > 0 {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		p[n] = c
		n++
	}
	return n, nil
}

// tear is the length of what begins here and tears a line, 0 if nothing does.
func (u *unfolder) tear() int {
	next, _ := u.in.Peek(3)
	for _, end := range []string{"\r\n", "\n"} {
		switch after, found := strings.CutPrefix(strings.TrimPrefix(string(next), " "), end); {
		case !found:
		case u.flowed && next[0] == ' ':
			return len(end) + 1
		case !u.flowed && next[0] != ' ' && (strings.HasPrefix(after, " ") || strings.HasPrefix(after, "\t")):
			return len(end) + 1
		}
	}
	return 0
}
