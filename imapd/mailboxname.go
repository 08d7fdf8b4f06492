package imapd

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// mailbox takes a mailbox name: modified UTF-7 (RFC 3501 §5.1.3), or UTF-8 as it is.
func (a *arguments) mailbox() (string, error) {
	text, err := a.astring()
	if err != nil {
		return "", err
	}
	var name strings.Builder
	for text != "" {
		plain, shifted, found := strings.Cut(text, "&")
		name.WriteString(plain)
		if !found {
			break
		}
		code, rest, closed := strings.Cut(shifted, "-")
		decoded, ok := unshift(code)
		if !closed || !ok {
			return "", refused("NO [CANNOT] The mailbox name is not modified UTF-7")
		}
		name.WriteString(decoded)
		text = rest
	}
	if !utf8.ValidString(name.String()) {
		return "", malformed
	}
	if strings.EqualFold(name.String(), inbox) {
		return inbox, nil
	}
	return name.String(), nil
}

var utf7 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

// unshift is what stands for the characters between "&" and "-".
func unshift(code string) (string, bool) {
	if code == "" {
		return "&", true
	}
	raw, err := utf7.DecodeString(code)
	if err != nil || len(raw)%2 != 0 {
		return "", false
	}
	var units []uint16
	for i := 0; i < len(raw); i += 2 {
		units = append(units, uint16(raw[i])<<8|uint16(raw[i+1]))
	}
	return string(utf16.Decode(units)), true
}
