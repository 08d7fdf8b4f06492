package imapd

import (
	"bufio"
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/mirror"
)

var update = flag.Bool("update", false, "write the S: lines of testdata/transcripts from what the server says")

// TestTranscripts plays each testdata/transcripts/*.txt, with the messages of testdata/messages in
// INBOX:
//
//	C: line     the client sends a line, and reads to its tagged answer, a "+" or the end
//	C+ line     the client sends a line and does not wait
//	S: line     what the server says; <closed> at the end of the connection
//	W: n        the client reads n lines
//	@ …         something happens, see (*transcript).event
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p := &transcript{t: t}
			p.play(string(text))
			got := strings.Join(p.out, "\n") + "\n"
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(text), got); diff != "" && !*update {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

type transcript struct {
	t    *testing.T
	rig  *rig
	conn net.Conn
	in   *bufio.Reader
	tag  string
	out  []string
}

func (p *transcript) play(text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "S: ") || line == "S:" {
			continue
		}
		kind, rest, _ := strings.Cut(line, " ")
		if p.conn == nil && kind != "#" && !strings.HasPrefix(line, "@ connect") {
			p.connect("plain")
			p.send("t0 LOGIN alice \"pass \\\"word\\\\\"\r\n")
			p.tag = "t0"
			p.answer()
			p.out = nil
		}
		p.out = append(p.out, line)
		switch kind {
		case "C:", "C+":
			p.send(unescape(rest) + "\r\n")
			if first, _, ok := strings.Cut(rest, " "); ok && strings.HasPrefix(first, "t") {
				p.tag = first
			}
			if kind == "C:" {
				p.answer()
			}
		case "W:":
			n, _ := strconv.Atoi(rest)
			for range n {
				p.line()
			}
		case "@":
			p.event(strings.Fields(rest))
		}
	}
}

// unescape lets a line hold \x00 and the like.
func unescape(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	unquoted, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	if err != nil {
		return s
	}
	return unquoted
}

// connect connects to a server of its own: plain, tls, or strict (no login without TLS).
func (p *transcript) connect(how string) {
	p.rig = newRig(p.t, how != "strict")
	fill(p.t, p.rig.account.boxes["INBOX"])
	var err error
	if how == "tls" {
		p.conn, err = tls.Dial("tcp", p.rig.secure, p.rig.tls)
	} else {
		p.conn, err = net.Dial("tcp", p.rig.plain)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = p.conn.Close() })
	_ = p.conn.SetDeadline(time.Now().Add(5 * time.Second))
	p.in = bufio.NewReader(p.conn)
	p.line()
}

// fill puts testdata/messages into a mailbox, in the order of their names.
func fill(t testing.TB, b *fakeMailbox) {
	files, _ := filepath.Glob("testdata/messages/*.eml")
	for _, file := range files {
		message, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b.put(string(message))
	}
}

func (p *transcript) send(s string) {
	if _, err := p.conn.Write([]byte(s)); err != nil {
		p.t.Fatalf("%q: %v", s, err)
	}
}

// line reads one line from the server.
func (p *transcript) line() string {
	line, err := p.in.ReadString('\n')
	if err != nil && line == "" {
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			p.t.Fatalf("no answer; so far:\n%s", strings.Join(p.out, "\n"))
		}
		line = "<closed>"
	}
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	p.out = append(p.out, strings.TrimRight("S: "+line, " "))
	return line
}

// answer reads to the end of the answer to the command sent last.
func (p *transcript) answer() {
	for {
		line := p.line()
		if line == "<closed>" || strings.HasPrefix(line, p.tag+" ") || strings.HasPrefix(line, "+ ") || strings.HasPrefix(line, "* BAD ") {
			return
		}
	}
}

// event is what happens besides the client's commands.
func (p *transcript) event(words []string) {
	box := func() *fakeMailbox { return p.rig.account.boxes["INBOX"] }
	number := func(i int) imap.UID {
		n, err := strconv.Atoi(words[i])
		if err != nil {
			p.t.Fatal(words, err)
		}
		return imap.UID(n)
	}
	switch words[0] {
	case "connect":
		p.connect(words[1])
	case "starttls":
		p.conn = tls.Client(p.conn, p.rig.tls)
		p.in = bufio.NewReader(p.conn)
	case "new": // uid
		box().putAt(number(1), "Subject: new\r\n\r\nnew\r\n")
	case "gone": // uid
		box().remove(number(1))
	case "flag": // uid flag
		_ = box().Store(p.t.Context(), imap.UIDSetNum(number(1)), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.Flag(words[2])}})
	case "digest": // uid minutes from subject preview
		minutes, err := strconv.Atoi(words[2])
		if err != nil {
			p.t.Fatal(words, err)
		}
		sent := time.Date(2024, 5, 6, 7, minutes, 0, 0, time.UTC)
		box().digests[number(1)] = mirror.Digest{Sent: sent, From: words[3], DisplayFrom: words[3], Subject: words[4], Preview: words[5]}
	case "recent": // from uid
		box().recent = number(1)
	case "offline": // uid
		box().offline[number(1)] = true
	case "found": // uid …
		box().found = nil
		for i := range words[1:] {
			box().found = append(box().found, number(i+1))
		}
	case "provider-has-new": // uid: known after a refresh
		uid := number(1)
		box().refresh = func() { box().refresh = nil; box().putAt(uid, "Subject: new\r\n\r\nnew\r\n") }
	case "object-ids":
		p.rig.account.objectIDs = true
		box().change(func(s *mirror.Snapshot) { s.ObjectID = "F1" })
	case "read-only":
		box().change(func(s *mirror.Snapshot) { s.ReadOnly = true })
	case "replaced":
		box().change(func(s *mirror.Snapshot) { s.UIDValidity++ })
	case "fails":
		p.fails(words[1])
	case "searched":
		p.out = append(p.out, "S: "+printed(box().searched))
	default:
		p.t.Fatalf("unknown event %q", words)
	}
}

// printed is a criterion as one reads it, without moments that depend on now.
func printed(c mirror.Criterion) string {
	text := strings.ReplaceAll(fmt.Sprintf("%#v", c), "mirror.", "")
	text = regexp.MustCompile(`time\.Date\((\d+), time\.(\w+), (\d+), 0, 0, 0, 0, time\.UTC\)`).ReplaceAllString(text, "$3-$2-$1")
	return regexp.MustCompile(`time\.Date\([^)]*\)`).ReplaceAllString(text, "a-moment")
}

// fails makes every change fail.
func (p *transcript) fails(how string) {
	err := map[string]error{
		"offline": mirror.ErrOffline, "disk": errDisk,
		"quota":     &imap.Error{Type: imap.StatusResponseTypeNo, Code: imap.ResponseCodeOverQuota, Text: "Quota\r\n* OK exceeded \u00e9"},
		"strange":   &imap.Error{Type: imap.StatusResponseTypeBad, Code: "X-STRANGE", Text: "What?"},
		"too-large": &bridge.Refusal{Reason: bridge.ReasonTooLarge, Text: "the message is larger than the provider accepts once encrypted"},
	}[how]
	a := p.rig.account
	a.failure, a.appending, a.boxes["INBOX"].storeErr = err, err, err
}
