package smtpd

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestTranscripts plays testdata/*.txt. Each line is one step:
//
//	# remark              "# secure" in the first line: AUTH only after TLS; "# relay" there begins that of a gateway, see startRelay
//	C: text               sent with CRLF; Go's escapes (\x00) and {text*count} are expanded; lines in a row are
//	                      sent in one go
//	R: text               the same without CRLF
//	S: text               the server's next line; a final * stands for any rest
//	TLS                   the handshake
//	M: from|to,to|body    the bridge was given this message, escapes as above
//	NONE                  the bridge was given no message
//	CLOSED                the server has closed the connection
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	check(t, err)
	if len(files) == 0 {
		t.Fatal("no transcripts")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			check(t, err)
			play(t, strings.Split(strings.TrimSuffix(string(b), "\n"), "\n"))
		})
	}
}

// player is a client that follows a script.
type player struct {
	t    *testing.T
	rig  *rig
	conn net.Conn
	in   *bufio.Reader
	out  strings.Builder // not sent yet
}

func play(t *testing.T, steps []string) {
	var r *rig
	if words := strings.Fields(steps[0]); len(words) > 1 && words[1] == "relay" {
		r = startRelay(t, words[2:])
	} else if len(words) > 1 && words[1] == "device" {
		r = startWith(t, func(o *Options, _ *fake) { o.AllowInsecureAuth, o.Devices = true, true })
	} else {
		r = start(t, steps[0] != "# secure")
	}
	conn, err := net.Dial("tcp", r.plain)
	check(t, err)
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	p := &player{t: t, rig: r, conn: conn, in: bufio.NewReader(conn)}
	for i, step := range steps {
		if !p.step(step) {
			t.Fatalf("at line %d", i+1)
		}
	}
}

func (p *player) step(step string) bool {
	kind, text, _ := strings.Cut(step, " ")
	switch kind {
	case "C:":
		p.out.WriteString(expand(p.t, text) + "\r\n")
		return true
	case "R:":
		p.out.WriteString(expand(p.t, text))
		return true
	case "#", "":
		return true
	}
	if p.out.Len() > 0 {
		_, err := io.WriteString(p.conn, p.out.String())
		check(p.t, err)
		p.out.Reset()
	}
	switch kind {
	case "S:":
		return p.hear(text)
	case "TLS":
		secured := tls.Client(p.conn, p.rig.trust)
		check(p.t, secured.Handshake())
		p.conn, p.in = secured, bufio.NewReader(secured)
		return true
	case "M:":
		return p.submitted(expand(p.t, text))
	case "NONE":
		got, any := p.rig.fake.take()
		if any {
			p.t.Errorf("submitted %.200q", got)
		}
		return !any
	case "CLOSED":
		return p.closed()
	}
	p.t.Errorf("unknown step %q", step)
	return false
}

func (p *player) hear(want string) bool {
	got, err := p.in.ReadString('\n')
	prefix, open := strings.CutSuffix(want, "*")
	ok := strings.HasSuffix(got, "\r\n") && len(got) <= 512 && strings.HasPrefix(got, prefix) && (open || len(got) == len(prefix)+2)
	if err != nil || !ok {
		p.t.Errorf("server says %q (%v), want %q", got, err, want)
		return false
	}
	return true
}

func (p *player) submitted(want string) bool {
	got, _ := p.rig.fake.take()
	if got != want {
		p.t.Errorf("submitted %.300q, want %.300q", got, want)
	}
	return got == want
}

func (p *player) closed() bool {
	rest, err := io.ReadAll(p.in)
	var timeout net.Error
	if len(rest) > 0 || (errors.As(err, &timeout) && timeout.Timeout()) {
		p.t.Errorf("server says %q, %v", rest, err)
		return false
	}
	return true
}

var repetition = regexp.MustCompile(`\{([^{}*]+)\*(\d+)\}`)

func expand(t *testing.T, s string) string {
	t.Helper()
	unquoted, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	check(t, err)
	return repetition.ReplaceAllStringFunc(unquoted, func(m string) string {
		parts := repetition.FindStringSubmatch(m)
		n, err := strconv.Atoi(parts[2])
		check(t, err)
		return strings.Repeat(parts[1], n)
	})
}
