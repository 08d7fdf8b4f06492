package smtpd

import (
	"strings"
	"testing"
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
