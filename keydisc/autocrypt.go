package keydisc

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Autocrypt is one Autocrypt or Autocrypt-Gossip header field (Autocrypt 1.1 §2.1).
type Autocrypt struct {
	Address     string // normalised
	Mutual      bool   // prefer-encrypt=mutual
	Certificate *Certificate
}

// maxAutocrypt bounds a field, in bytes (Autocrypt 1.1 §2.1: 10 KiB).
const maxAutocrypt = 10 << 10

// ParseAutocrypt reads the field's value, folded or not. An unknown attribute makes it invalid unless its
// name begins with an underscore; keydata must come last.
func ParseAutocrypt(value string) (Autocrypt, error) {
	var a Autocrypt
	if len(value) > maxAutocrypt {
		return a, fmt.Errorf("Autocrypt field of %d bytes is more than %d", len(value), maxAutocrypt)
	}
	seen := map[string]bool{}
	for _, attribute := range strings.Split(value, ";") {
		name, text, ok := strings.Cut(attribute, "=")
		name, text = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(text)
		if name == "" && !ok {
			continue // a semicolon at the end
		}
		if seen["keydata"] || seen[name] {
			return a, errors.New("Autocrypt field: keydata is not last, or an attribute is doubled")
		}
		seen[name] = true
		if err := a.set(name, text); err != nil {
			return a, fmt.Errorf("Autocrypt field: %w", err)
		}
	}
	if a.Address == "" || a.Certificate == nil {
		return a, errors.New("Autocrypt field without addr or keydata")
	}
	return a, nil
}

func (a *Autocrypt) set(name, text string) (err error) {
	switch {
	case name == "addr":
		a.Address, err = NormalizeAddress(text)
	case name == "prefer-encrypt":
		a.Mutual = text == "mutual"
	case name == "keydata":
		a.Certificate, err = parseKeydata(text)
	case !strings.HasPrefix(name, "_"):
		err = fmt.Errorf("unknown attribute %q", name)
	}
	return err
}

func parseKeydata(text string) (*Certificate, error) {
	data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return nil, errors.New("keydata is not Base64")
	}
	certificates, err := ParseCertificates(data)
	if err != nil {
		return nil, err
	}
	if len(certificates) != 1 {
		return nil, errors.New("keydata holds more than one certificate")
	}
	return certificates[0], nil
}
