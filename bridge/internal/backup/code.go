package backup

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"strings"
)

// Code is a recovery code: 26 characters that hold 130 random bits, and two that tell a typing error. It is shown in groups of
// four.
type Code string

// alphabet has no I, L, O and U: what looks like another is read as that (Crockford's base 32).
const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

const (
	randomChars = 26
	checkChars  = 2
	group       = 4
)

var encoding = base32.NewEncoding(alphabet).WithPadding(base32.NoPadding)

// NewCode makes a recovery code.
func NewCode() Code {
	var random [17]byte // 28 characters; the last two give way to the check
	_, _ = rand.Read(random[:])
	text := encoding.EncodeToString(random[:])[:randomChars]
	return Code(text + checkOf(text))
}

func newSalt() string {
	var random [20]byte
	_, _ = rand.Read(random[:])
	return strings.ToLower(encoding.EncodeToString(random[:]))
}

// checkOf is the first ten bits of the SHA-256 of the random characters.
func checkOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return encoding.EncodeToString(sum[:2])[:checkChars]
}

// Errors of ParseCode: they say what is wrong without repeating the code.
var (
	errCodeLength = errors.New("the recovery code has 28 letters and digits; this has more or fewer")
	errCodeLetter = errors.New("the recovery code has a character that no code has")
	errCodeTypo   = errors.New("the recovery code was not typed as it was shown; compare it letter by letter")
)

// ParseCode reads a code as somebody types it: in any case and grouping, with letters that look alike.
func ParseCode(text string) (Code, error) {
	plain := strings.Map(func(r rune) rune {
		switch {
		case r == ' ' || r == '-' || r == '\t' || r == '\n' || r == '\r':
			return -1
		case r >= 'a' && r <= 'z':
			r -= 'a' - 'A'
		}
		switch r {
		case 'O':
			return '0'
		case 'I', 'L':
			return '1'
		}
		return r
	}, text)
	switch {
	case strings.Trim(plain, alphabet) != "":
		return "", errCodeLetter
	case len(plain) != randomChars+checkChars:
		return "", errCodeLength
	case checkOf(plain[:randomChars]) != plain[randomChars:]:
		return "", errCodeTypo
	}
	return Code(plain), nil
}

// plain is what the passphrase is derived from.
func (c Code) plain() string { return string(c) }

// String is the code as it is shown.
func (c Code) String() string {
	var groups []string
	for rest := string(c); rest != ""; rest = rest[min(group, len(rest)):] {
		groups = append(groups, rest[:min(group, len(rest))])
	}
	return strings.Join(groups, "-")
}
