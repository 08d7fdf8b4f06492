package smtpd

import (
	"bytes"
	"testing"
)

func TestInternationalRecipient(t *testing.T) {
	for _, c := range []struct{ name, line, want string }{
		{"Postfix", "RCPT TO:<b\u00fcro@delta.test> ORCPT=rfc822;b+C3+BCro@delta.test\r\n", "RCPT TO:<b\u00fcro@delta.test> ORCPT=utf-8;b\\x{FC}ro@delta.test\r\n"},
		{"and more", "RCPT TO:<x@delta.test> NOTIFY=FAILURE ORCPT=rfc822;+E2+82+AC@delta.test NOTIFY=NEVER\r\n", "RCPT TO:<x@delta.test> NOTIFY=FAILURE ORCPT=utf-8;\\x{20AC}@delta.test NOTIFY=NEVER\r\n"},
		{"ASCII", "RCPT TO:<a@delta.test> ORCPT=rfc822;a+2Bb@delta.test\r\n", "RCPT TO:<a@delta.test> ORCPT=rfc822;a+2Bb@delta.test\r\n"},
		{"no UTF-8", "RCPT TO:<a@delta.test> ORCPT=rfc822;+FF@delta.test\r\n", "RCPT TO:<a@delta.test>\r\n"},
		{"another command", "MAIL FROM:<a@delta.test> ORCPT=rfc822;+C3+BC\r\n", "MAIL FROM:<a@delta.test> ORCPT=rfc822;+C3+BC\r\n"},
		{"none", "RCPT TO:<a@delta.test>\r\n", "RCPT TO:<a@delta.test>\r\n"},
		{"short", "RC\r\n", "RC\r\n"},
	} {
		if got := string(internationalRecipient([]byte(c.line))); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzInternationalRecipient(f *testing.F) {
	f.Add([]byte("RCPT TO:<x@delta.test> ORCPT=rfc822;+E2+82+AC@delta.test\r\n"))
	f.Add([]byte("RCPT TO:<x@delta.test> ORCPT=rfc822;+\r\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		out := internationalRecipient(line)
		if bytes.Count(out, []byte("\n")) != bytes.Count(line, []byte("\n")) || bytes.Count(out, []byte("\r")) != bytes.Count(line, []byte("\r")) {
			t.Errorf("%q became %q: another number of lines", line, out)
		}
		if again := internationalRecipient(bytes.Clone(out)); !bytes.Equal(again, out) && bytes.Equal(out, line) {
			t.Errorf("%q: %q, then %q", line, out, again)
		}
	})
}
