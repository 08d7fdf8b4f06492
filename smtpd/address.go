package smtpd

import (
	"errors"
	"strings"
	"unicode/utf8"
)

var (
	errAddress = errors.New("the address has characters or a form that mail programs do not agree on; use the plain form user@domain")
	errUTF8    = errors.New("the address is not ASCII, and the mail program did not ask for SMTPUTF8")
)

// checkAddress accepts dot-string@domain (RFC 5321 §4.1.2; RFC 6531 §3.3 with SMTPUTF8). The library unquotes
// quoted local parts and its client does not quote them again, so that "a> NOTIFY=…"@d would become
// another command: what needs quotes is refused.
func checkAddress(address string, smtputf8 bool) error {
	local, domain, found := strings.Cut(address, "@")
	if !found || len(local) > 64 || len(domain) > 255 || !utf8.ValidString(address) {
		return errAddress
	}
	if !smtputf8 && strings.ContainsFunc(address, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return errUTF8
	}
	if !dotted(local, isAtext) || !dotted(domain, isDomain) {
		return errAddress
	}
	return nil
}

// dotted says whether s is one or more non-empty words of ok runes, with dots between.
func dotted(s string, ok func(rune) bool) bool {
	for word := range strings.SplitSeq(s, ".") {
		if word == "" || strings.ContainsFunc(word, func(r rune) bool { return !ok(r) }) {
			return false
		}
	}
	return true
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// isAtext is RFC 5322 §3.2.3, and what RFC 6532 adds but for the C1 controls.
func isAtext(r rune) bool {
	return isAlphanumeric(r) || strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r) || r > 0x9f
}

// isDomain allows the underscore, which RFC 5321 does not, because such hosts exist.
func isDomain(r rune) bool { return isAlphanumeric(r) || r == '-' || r == '_' || r > 0x9f }
