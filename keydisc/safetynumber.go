package keydisc

import (
	"bytes"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// SafetyNumber is what two people compare over another channel to know that each has the other's
// true certificate: 60 decimal digits that are the same on both sides.
//
// Each side's half is 30 digits of a digest of its address and its primary key, hashed 5,200 times, so that
// finding another key with the same half takes more than 2¹¹⁰ hashes; the smaller half comes first.
//
//	H₀ = "Sealpost safety number 1" 0x00 address 0x00 key
//	Hₙ = SHA-512(Hₙ₋₁ key), n = 1 … 5,200
//
// where address is normalised and key is the body of the primary key packet (RFC 9580 §5.5.2): subkeys and
// user IDs may change, the number does not. Six times five octets of the last digest, each as a
// big-endian number modulo 100,000, are the half.
type SafetyNumber string

const (
	safetyVersion    = "Sealpost safety number 1"
	safetyIterations = 5200
	safetyGroups     = 6 // of five digits, per half
	safetyPrefix     = "SEALPOST1:"
)

// NewSafetyNumber computes the number of two people, in any order: their addresses and their certificates.
func NewSafetyNumber(address string, c *Certificate, otherAddress string, other *Certificate) (SafetyNumber, error) {
	a, err := safetyHalf(address, c)
	if err != nil {
		return "", err
	}
	b, err := safetyHalf(otherAddress, other)
	if err != nil {
		return "", err
	}
	return SafetyNumber(min(a, b) + max(a, b)), nil
}

func safetyHalf(address string, c *Certificate) (string, error) {
	address, err := NormalizeAddress(address)
	if err != nil {
		return "", err
	}
	key, err := c.primaryKey()
	if err != nil {
		return "", err
	}
	digest := append([]byte(safetyVersion+"\x00"+address+"\x00"), key...)
	for range safetyIterations {
		sum := sha512.Sum512(append(digest, key...))
		digest = append(digest[:0], sum[:]...)
	}
	var half strings.Builder
	for i := range safetyGroups {
		var eight [8]byte
		copy(eight[3:], digest[5*i:5*i+5])
		fmt.Fprintf(&half, "%05d", binary.BigEndian.Uint64(eight[:])%100_000)
	}
	return half.String(), nil
}

// primaryKey is the body of the primary key packet.
func (c *Certificate) primaryKey() ([]byte, error) {
	first, err := packet.NewOpaqueReader(bytes.NewReader(c.data)).Next()
	if err != nil || first.Tag != 6 {
		return nil, errors.New("the certificate does not begin with its primary key")
	}
	return first.Contents, nil
}

// String is the digits in groups of five, four groups a line.
func (n SafetyNumber) String() string {
	var text strings.Builder
	for i := 0; i+5 <= len(n); i += 5 {
		switch {
		case i == 0:
		case i%20 == 0:
			text.WriteByte('\n')
		default:
			text.WriteByte(' ')
		}
		text.WriteString(string(n[i : i+5]))
	}
	return text.String()
}

// QR is what a QR code of the number holds; Matches reads it.
func (n SafetyNumber) QR() string { return safetyPrefix + string(n) }

// Matches says whether text is the number, as digits in any grouping or as the content of its QR code. An
// error says that text is no safety number at all.
func (n SafetyNumber) Matches(text string) (bool, error) {
	text = strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(text)), safetyPrefix)
	digits := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\r\n-", r) {
			return -1
		}
		return r
	}, text)
	if len(digits) != 10*safetyGroups || strings.Trim(digits, "0123456789") != "" {
		return false, fmt.Errorf("a safety number has %d digits", 10*safetyGroups)
	}
	return subtle.ConstantTimeCompare([]byte(digits), []byte(n)) == 1, nil
}
