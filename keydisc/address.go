package keydisc

import (
	"fmt"
	"net/mail"
	"strings"

	"golang.org/x/net/idna"
)

// NormalizeAddress is an addr-spec in the form in which addresses are compared: the local part with its
// ASCII letters in lower case, as WKD does it, the domain in lower-case A-labels (RFC 5891). The error says that
// it is not a plain addr-spec.
func NormalizeAddress(address string) (string, error) {
	parsed, err := mail.ParseAddress("<" + strings.TrimSpace(address) + ">")
	if err != nil || strings.ContainsAny(parsed.Address, "\"<> \t\r\n") || strings.Count(parsed.Address, "@") != 1 {
		return "", fmt.Errorf("%q is not a mail address", address)
	}
	local, domain, _ := strings.Cut(parsed.Address, "@")
	if !isASCII(domain) {
		if domain, err = idna.Lookup.ToASCII(domain); err != nil {
			return "", fmt.Errorf("%q has no valid domain", address)
		}
	}
	return asciiLower(local) + "@" + asciiLower(domain), nil
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 127 }) < 0
}

func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// addressOf is the normalised addr-spec of a user ID: "Name <addr>", "<addr>" or "addr"; "" if there is none.
func addressOf(userID string) string {
	spec := userID
	if open := strings.LastIndexByte(userID, '<'); open >= 0 {
		if !strings.HasSuffix(strings.TrimSpace(userID), ">") {
			return ""
		}
		spec = strings.TrimSuffix(strings.TrimSpace(userID[open+1:]), ">")
	}
	address, err := NormalizeAddress(spec)
	if err != nil {
		return ""
	}
	return address
}
