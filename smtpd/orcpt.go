package smtpd

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Postfix writes the original recipient of an international address as octets: rfc822 with UTF-8 in xtext, where RFC 6533 §3 has a
// type of its own, utf-8, with code points. The protocol library refuses it, and the message would be returned to its sender.

var originalRecipient = regexp.MustCompile(`(?i) ORCPT=rfc822;([!-*,-<>-~]|\+[0-9A-F]{2})+`)

// internationalRecipient writes the original recipient of a RCPT command as RFC 6533 has it if it is no ASCII address.
func internationalRecipient(line []byte) []byte {
	if len(line) < 5 || !bytes.EqualFold(line[:5], []byte("RCPT ")) {
		return line
	}
	return originalRecipient.ReplaceAllFunc(line, func(parameter []byte) []byte {
		address := decodeXtext(string(parameter[len(" ORCPT=rfc822;"):]))
		switch {
		case isASCII(address):
			return parameter
		case !utf8.ValidString(address):
			return nil // nobody can be told of it
		}
		return append([]byte(" ORCPT=utf-8;"), encodeCodePoints(address)...)
	})
}

// decodeXtext (RFC 3461 §4).
func decodeXtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '+' && i+2 < len(s) {
			if octet, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(octet))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// encodeCodePoints is utf-8-addr-xtext (RFC 6533 §3).
func encodeCodePoints(address string) string {
	var b strings.Builder
	for _, r := range address {
		if r > ' ' && r < 0x7f && r != '\\' && r != '+' && r != '=' {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\x{%02X}`, r)
		}
	}
	return b.String()
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}
