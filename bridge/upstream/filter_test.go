package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/emersion/go-imap/v2/imapclient"
)

type filterCase struct{ name, sent, want, err string }

var escaped = regexp.MustCompile(`\\x[0-9a-f]{2}`)

// filterCases reads testdata/filter.txt.
func filterCases(t testing.TB) []filterCase {
	t.Helper()
	file := string(must(os.ReadFile("testdata/filter.txt"))(t))
	var cases []filterCase
	for line := range strings.Lines(file) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "== "); ok {
			cases = append(cases, filterCase{name: name})
			continue
		}
		if len(line) < 3 || line[0] == '#' {
			continue
		}
		c := &cases[len(cases)-1]
		text := escaped.ReplaceAllStringFunc(line[3:], func(s string) string {
			b, _ := strconv.ParseUint(s[2:], 16, 8)
			return string([]byte{byte(b)})
		}) + "\r\n"
		text = strings.TrimSuffix(text, "\\-\r\n")
		switch line[:3] {
		case "S: ":
			c.sent += text
		case "F: ":
			c.want += text
		case "E: ":
			c.err = strings.TrimSpace(text)
		default:
			t.Fatalf("strange line %q", line)
		}
	}
	return cases
}

func noCommands(string) bool { return false }

func testFilter(r io.Reader) *filter {
	return newFilter(r, "", limits{line: 64 << 10, literal: 1 << 20}, noCommands, func() {})
}

func TestFilter(t *testing.T) {
	for _, c := range filterCases(t) {
		t.Run(c.name, func(t *testing.T) {
			for _, read := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader} {
				got, err := io.ReadAll(testFilter(read(strings.NewReader(c.sent))))
				if string(got) != c.want {
					t.Errorf("got\n%s\nwant\n%s", got, c.want)
				}
				if (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
					t.Errorf("error %v, want %q", err, c.err)
				}
			}
		})
	}
}

func TestFilterEndlessLine(t *testing.T) {
	endless := io.MultiReader(strings.NewReader("* LIST () "), iotest.OneByteReader(zeros{}))
	n, err := io.Copy(io.Discard, testFilter(io.LimitReader(endless, 40<<20)))
	var limit *limitError
	if !errors.As(err, &limit) || n != 0 {
		t.Errorf("%d bytes passed, %v", n, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return copy(p, "0000"), nil }

func TestFilterStreamsLargeMessages(t *testing.T) {
	const size = 20 << 20
	head := fmt.Sprintf("* 1 FETCH (UID 1 BODY[] {%d}\r\n", size)
	sent := io.MultiReader(strings.NewReader(head), io.LimitReader(zeros{}, size), strings.NewReader(")\r\n"))
	f := newFilter(sent, "", limits{line: maxLine, literal: size}, noCommands, func() {})
	n, err := io.Copy(io.Discard, f)
	if err != nil || n != int64(len(head))+size+3 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if cap(f.out)+cap(f.text) > 1<<20 {
		t.Errorf("%d bytes held", cap(f.out)+cap(f.text))
	}
}

// A large message is streamed; cut off, it ends in an error, not early.
func TestFilterCutOffLargeMessage(t *testing.T) {
	sent := io.MultiReader(strings.NewReader("* 1 FETCH (UID 1 BODY[] {20000000}\r\n"), io.LimitReader(zeros{}, 10<<20))
	n, err := io.Copy(io.Discard, newFilter(sent, "", limits{line: maxLine, literal: 1 << 30}, noCommands, func() {}))
	if !errors.Is(err, io.ErrUnexpectedEOF) || n < 10<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// FuzzFilter: whatever a server sends, go-imap's client can parse what comes through, no
// line exceeds the limit, and what comes through once comes through again unchanged.
func FuzzFilter(f *testing.F) {
	for _, c := range filterCases(f) {
		f.Add([]byte(c.sent))
	}
	f.Add([]byte("* 1 FETCH (UID 1 BODYSTRUCTURE ((\"text\" \"plain\" NIL NIL NIL \"7bit\" 3 1 NIL NIL NIL NIL)(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 3 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) (\"a\" \"b\" (\"c\" \"d\") NIL NIL NIL -1 NIL (\"inline\" (\"x\" \"y\")) (\"en\" \"de\") \"loc\" (1 2)) 5) \"mixed\" (\"boundary\" \"x\") NIL \"en\") ENVELOPE (\"d\" \"s\" ((\"n\" NIL \"m\" \"h\")(NIL NIL \"a\" \"b\")) NIL NIL NIL NIL NIL \"<a@b>\" \"<c@d>\"))\r\n"))
	f.Add([]byte("* 1 FETCH (BINARY[1] ~{3}\r\nabc BINARY.SIZE[1.2] 5 UID 4)\r\n* STATUS {1}\r\nx (APPENDLIMIT NIL)\r\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		out, err := io.ReadAll(testFilter(bytes.NewReader(sent)))
		for line := range bytes.Lines(out) {
			if len(line) > (1<<20)+(64<<10) {
				t.Fatalf("a line of %d bytes", len(line))
			}
		}
		if err != nil {
			return
		}
		again, err := io.ReadAll(testFilter(bytes.NewReader(out)))
		if err != nil || !bytes.Equal(out, again) {
			t.Fatalf("second time (%v)\n%q\nfirst time\n%q", err, again, out)
		}
		if err := libraryReads(out); err != nil {
			t.Fatalf("go-imap: %v\n%q", err, out)
		}
	})
}

// libraryReads lets go-imap's client parse the responses.
func libraryReads(responses []byte) error {
	greeting := "* PREAUTH [CAPABILITY IMAP4rev1] ready\r\n"
	client := imapclient.New(&scriptedConn{reader: io.MultiReader(strings.NewReader(greeting), bytes.NewReader(responses))}, nil)
	<-client.Closed()
	return client.Close()
}

// scriptedConn is a connection with only one direction.
type scriptedConn struct {
	imapConn
	reader io.Reader
}

func (c *scriptedConn) Read(p []byte) (int, error)  { return c.reader.Read(p) }
func (c *scriptedConn) Write(p []byte) (int, error) { return len(p), nil }
func (c *scriptedConn) Close() error                { return nil }

var _ net.Conn = (*scriptedConn)(nil)
