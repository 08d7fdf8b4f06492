package smtpd

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzAddress: what is accepted cannot end a command or start a parameter.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"a@b", "a> NOTIFY=NEVER@d", "a..b@c", "j\u00fcrgen@x.test", "a\r\n@b", "a@b>", "\x80@b", "a@b\u0085"} {
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, address string, smtputf8 bool) {
		if checkAddress(address, smtputf8) != nil {
			return
		}
		for _, r := range address {
			if r <= ' ' || strings.ContainsRune(`<>()[]\,:;"`, r) || (r >= 0x7f && r <= 0x9f) || (r >= utf8.RuneSelf && !smtputf8) {
				t.Errorf("%q is accepted", address)
			}
		}
		if strings.Count(address, "@") != 1 {
			t.Errorf("%q is accepted", address)
		}
	})
}

// FuzzReplyText: no text can become a reply line of its own, or one that is too long.
func FuzzReplyText(f *testing.F) {
	f.Add("250 OK", "line\r\nline")
	f.Add(strings.Repeat("\u00fc ", 600), strings.Repeat("x", 2000))
	f.Fuzz(func(t *testing.T, first, second string) {
		for line := range strings.SplitSeq(replyText([3]int{5, 7, 1}, []string{first, second}), "\n") {
			if len(line) > maxReplyText+len("5.7.1 ") || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("line %q", line)
			}
		}
	})
}

// FuzzContent: whatever a message holds, it ends at the first CRLF.CRLF and nowhere else, and of its text only the dots
// that RFC 5321 §4.5.2 says are taken out.
func FuzzContent(f *testing.F) {
	for _, seed := range []string{"a", "a\r", ".\r", "\r\r\n.\r", ".\r\r\n.x", "\n.\r\r\n..", "a\n.\n", "\r.\r\n", ".\r\n250", "\r\n.\r\r", "x\r\n.\rx", strings.Repeat("x", maxCommandLine-1) + "\r\r\n."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content string) {
		stream := content + "\r\n.\r\n"
		passed := ""
		for lines, in := (contentLines{}), bufio.NewReaderSize(strings.NewReader(stream), maxCommandLine); ; {
			line, err := in.ReadSlice('\n')
			if len(line) > 0 {
				passed += string(lines.next(line))
			}
			if err == io.EOF {
				break
			}
		}
		r := startWith(t, func(o *Options, _ *fake) { o.AllowInsecureAuth, o.Devices = true, true })
		conn, err := net.Dial("tcp", r.plain)
		check(t, err)
		defer conn.Close()
		check(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
		want, _, _ := strings.Cut("\r\n"+stream, "\r\n.\r\n")
		want = strings.ReplaceAll(want, "\r\n.", "\r\n")
		_, err = io.WriteString(conn, "HELO localhost\r\nAUTH PLAIN AGFsaWNlQGFscGhhLnRlc3QAcGFzcyB3b3Jk\r\nMAIL FROM:<alice@alpha.test>\r\nRCPT TO:<bob@x.test>\r\nDATA\r\n")
		check(t, err)
		in := bufio.NewReader(conn)
		for range 6 {
			_, err := in.ReadString('\n')
			check(t, err)
		}
		_, err = io.WriteString(conn, stream)
		check(t, err)
		if reply, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(reply, "250 ") {
			t.Fatalf("reply %q, %v to %q", reply, err, stream)
		}
		got, _ := r.fake.take()
		bare := strings.NewReplacer("\r", "", "\n", "")
		if got = strings.TrimPrefix(got, "alice@alpha.test|bob@x.test|"); bare.Replace(got) != bare.Replace(want) {
			t.Errorf("%q came as %q (%q was passed on)", stream, got, passed)
		}
	})
}
