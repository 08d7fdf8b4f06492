package pgpmime

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/keydisc"
)

// maxAutocrypt is the longest Autocrypt value (Autocrypt 1.1 §2.1).
const maxAutocrypt = 10 << 10

// ErrAutocryptSize says that a certificate is larger than the field may be, as those with post-quantum signatures are. Mail
// goes without it then: others find the certificate where it is published.
var ErrAutocryptSize = errors.New("the certificate is too large for an Autocrypt field")

// AutocryptValue is the value of an Autocrypt header field (Autocrypt 1.1 §2.1) for the
// address: a minimal certificate, keydata last, with spaces where the writer may fold;
// prefer-encrypt=mutual. The error unwraps to ErrAutocryptSize if there is no room for it.
func AutocryptValue(address string, c *keydisc.Certificate) (string, error) {
	return autocryptValue(address, c, "prefer-encrypt=mutual; ", time.Now())
}

func autocryptValue(address string, c *keydisc.Certificate, attributes string, at time.Time) (string, error) {
	type field struct {
		value string
		err   error
	}
	f := keydisc.Remember(c, at, "autocrypt "+attributes+address, func() field {
		value, err := newAutocryptValue(address, c, attributes, at)
		return field{value, err}
	})
	return f.value, f.err
}

func newAutocryptValue(address string, c *keydisc.Certificate, attributes string, at time.Time) (string, error) {
	if address == "" || strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r == ';' || r == 0x7f }) {
		return "", fmt.Errorf("header field Autocrypt: %q is not an address it can carry", address)
	}
	own, err := c.ForAddress(address)
	if err != nil {
		return "", fmt.Errorf("header field Autocrypt: %w", err)
	}
	key, err := minimal(own, at)
	if err != nil {
		return "", fmt.Errorf("header field Autocrypt: certificate %s: %w", c.Fingerprint(), err)
	}
	value := "addr=" + address + "; " + attributes + "keydata=" + spaced(base64.StdEncoding.EncodeToString(key))
	if len(value) > maxAutocrypt {
		return "", fmt.Errorf("certificate %s: %w", c.Fingerprint(), ErrAutocryptSize)
	}
	return value, nil
}

// minimal is the certificate without subkeys that are not valid at that time; of a large one only the subkeys now used to encrypt and to sign.
func minimal(c *keydisc.Certificate, at time.Time) ([]byte, error) {
	e, err := c.Entity()
	if err != nil {
		return nil, err
	}
	if at.IsZero() {
		at = time.Now()
	}
	e.Subkeys = keep(e.Subkeys, func(s openpgp.Subkey) bool {
		_, err := s.Verify(at, nil)
		return err == nil
	})
	key, err := serialized(e)
	if err != nil || base64.StdEncoding.EncodedLen(len(key)) < maxAutocrypt*9/10 {
		return key, err
	}
	encrypt, _ := e.EncryptionKey(at, nil)
	sign, _ := e.SigningKey(at, nil)
	e.Subkeys = keep(e.Subkeys, func(s openpgp.Subkey) bool {
		return s.PublicKey == encrypt.PublicKey || s.PublicKey == sign.PublicKey
	})
	return serialized(e)
}

func keep(subkeys []openpgp.Subkey, wanted func(openpgp.Subkey) bool) []openpgp.Subkey {
	var kept []openpgp.Subkey
	for _, s := range subkeys {
		if wanted(s) {
			kept = append(kept, s)
		}
	}
	return kept
}

func serialized(e *openpgp.Entity) ([]byte, error) {
	var out bytes.Buffer
	err := e.Serialize(&out)
	return out.Bytes(), err
}

// spaced puts a space after every 72 characters, where the field may be folded.
func spaced(s string) string {
	var out strings.Builder
	for len(s) > 72 {
		out.WriteString(s[:72] + " ")
		s = s[72:]
	}
	return out.String() + s
}

// autocrypt is the raw value of the one valid Autocrypt field of a header, "" if there is none or
// more than one (Autocrypt 1.1 §2.3), the message is a report or has no single From.
func autocrypt(h mimescan.Header, mediaType string) string {
	from := soleFrom(h)
	if from == "" || mediaType == "multipart/report" {
		return ""
	}
	var found []string
	for i, value := range h.Values("Autocrypt") {
		if i < maxGossip && autocryptAddr(value) == from {
			found = append(found, value)
		}
	}
	if len(found) != 1 {
		return ""
	}
	return found[0]
}

// gossip are the Autocrypt-Gossip values for addresses the message is to (Autocrypt 1.1 §5.1).
func gossip(inner, shown mimescan.Header) []string {
	to := map[string]bool{}
	for _, name := range []string{"To", "Cc", "Reply-To"} {
		for _, a := range addrSpecs(shown, name) {
			to[a] = true
		}
	}
	var values []string
	for i, value := range inner.Values("Autocrypt-Gossip") {
		if i < maxGossip && to[autocryptAddr(value)] {
			values = append(values, value)
		}
	}
	return values
}

// maxGossip is how many Autocrypt fields of one kind are read in one message.
const maxGossip = 100

// autocryptAddr is the address of a well-formed Autocrypt value, otherwise "".
func autocryptAddr(value string) string {
	a, err := keydisc.ParseAutocrypt(value)
	if err != nil {
		return ""
	}
	return a.Address
}
