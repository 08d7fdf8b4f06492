package keyring

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"html"
	"io"
	"math/big"
	"regexp"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ProtonMail/go-crypto/openpgp/s2k"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/keydisc"
)

// An Autocrypt Setup Message carries a secret key to another device of the same user, encrypted under a code of nine groups of
// four digits (Autocrypt 1.1 §4.4). The code is shown, never mailed.

// Errors of OpenSetup.
var (
	ErrNoSetup   = errors.New("this is no Autocrypt Setup Message")
	ErrSetupCode = errors.New("the setup code does not open it")
)

// SetupCode is nine groups of four digits, with dashes.
type SetupCode string

// newSetupCode is 36 random digits.
func newSetupCode() (SetupCode, error) {
	groups := make([]string, 9)
	for i := range groups {
		n, err := rand.Int(rand.Reader, big.NewInt(10_000))
		if err != nil {
			return "", err
		}
		groups[i] = fmt.Sprintf("%04d", n)
	}
	return SetupCode(strings.Join(groups, "-")), nil
}

// parseSetupCode reads a code as somebody types it.
func parseSetupCode(text string) (SetupCode, error) {
	digits := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -\t\r\n", r) {
			return -1
		}
		return r
	}, text)
	if len(digits) != 36 || strings.Trim(digits, "0123456789") != "" {
		return "", errors.New("a setup code has 36 digits; type it as it was shown")
	}
	var groups []string
	for i := 0; i < 36; i += 4 {
		groups = append(groups, digits[i:i+4])
	}
	return SetupCode(strings.Join(groups, "-")), nil
}

// Setup is the payload of a Setup Message for a key, for "" the primary one: an HTML page with the encrypted key.
func (r *Ring) Setup(f keydisc.Fingerprint, now time.Time) (page []byte, code SetupCode, err error) {
	armored, err := r.Export(f, nil)
	if err != nil {
		return nil, "", err
	}
	defer clear(armored)
	if code, err = newSetupCode(); err != nil {
		return nil, "", err
	}
	// Autocrypt 1.1 §4.4.1: the key's armor says what its owner prefers.
	armored = bytes.Replace(armored, []byte("BLOCK-----\n"), []byte("BLOCK-----\nAutocrypt-Prefer-Encrypt: mutual\n"), 1)
	var message bytes.Buffer
	out, err := armor.EncodeWithChecksumOption(&message, "PGP MESSAGE", map[string]string{
		"Passphrase-Format": "numeric9x4", "Passphrase-Begin": string(code[:2]),
	}, true)
	if err != nil {
		return nil, "", err
	}
	w, err := openpgp.SymmetricallyEncrypt(out, []byte(code), &openpgp.FileHints{ModTime: now}, &packet.Config{
		DefaultCipher: packet.CipherAES128, // §4.4: it MUST be AES-128
		S2KConfig:     &s2k.Config{S2KMode: s2k.IteratedSaltedS2K, S2KCount: 65011712},
		Time:          func() time.Time { return now },
	})
	if err != nil {
		return nil, "", err
	}
	_, err = w.Write(armored)
	if err := errors.Join(err, w.Close(), out.Close()); err != nil {
		return nil, "", err
	}
	return setupPage(message.String()), code, nil
}

func setupPage(message string) []byte {
	return []byte("<html><body>\n<p>This is the Autocrypt Setup File used to transfer settings and keys between clients. You can decrypt it using the Setup Code " +
		"presented on your old device, and then import the contained key into your keyring.</p>\n<pre>\n" + html.EscapeString(message) + "\n</pre>\n</body></html>\n")
}

var setupBlock = regexp.MustCompile(`(?s)-----BEGIN PGP MESSAGE-----.*?-----END PGP MESSAGE-----`)

// IsSetup says whether a page holds an encrypted key under a setup code.
func IsSetup(page []byte) bool {
	return bytes.Contains(page, []byte("Passphrase-Format: numeric9x4"))
}

// OpenSetup is the armored secret key in the payload of a Setup Message. The error unwraps to ErrNoSetup or ErrSetupCode.
func OpenSetup(page []byte, typed string) ([]byte, error) {
	block := setupBlock.Find(page)
	if block == nil || !IsSetup(block) || len(page) > maxImport {
		return nil, ErrNoSetup
	}
	code, err := parseSetupCode(typed)
	if err != nil {
		return nil, err
	}
	decoded, err := armor.Decode(strings.NewReader(html.UnescapeString(string(block))))
	if err != nil {
		return nil, fmt.Errorf("%w: it is damaged", ErrNoSetup)
	}
	packets, err := io.ReadAll(decoded.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: it is damaged", ErrNoSetup)
	}
	if err := checkSetup(packets); err != nil {
		return nil, err
	}
	return decryptSetup(packets, code)
}

// Packets of a Setup Message (RFC 9580 §5).
const (
	tagSKESK = 3
	tagSEIPD = 18
)

// checkSetup sees that packets open with one passphrase alone and cannot have been changed since. The library also reads what is
// not encrypted at all, and tries any passphrase whatever it costs; but only the code says whose key this is.
func checkSetup(packets []byte) error {
	r := packet.NewOpaqueReader(bytes.NewReader(packets))
	way, err := r.Next()
	if err != nil || way.Tag != tagSKESK {
		return fmt.Errorf("%w: it is not encrypted under a code", ErrNoSetup)
	}
	if costly(skeskSpecifier(way.Contents)) {
		return fmt.Errorf("%w that we can open: it asks for more than 1 GiB of memory or 16 passes", ErrNoSetup)
	}
	if data, err := r.Next(); err != nil || data.Tag != tagSEIPD {
		return fmt.Errorf("%w: it is not encrypted under one code, with its integrity protected", ErrNoSetup)
	}
	return nil
}

// skeskSpecifier is the string-to-key specifier of an encrypted session key and what follows it (RFC 9580 §5.3); nil where there is
// none.
func skeskSpecifier(contents []byte) []byte {
	skip := map[byte]int{4: 2, 5: 3, 6: 5} // version, count, cipher, AEAD mode, length of the specifier, as far as the version has them
	if len(contents) == 0 || len(contents) < skip[contents[0]] {
		return nil
	}
	return contents[skip[contents[0]]:]
}

// decryptSetup reads to the end, where the integrity is checked.
func decryptSetup(packets []byte, code SetupCode) ([]byte, error) {
	tried := false
	limit := int64(maxImport)
	message, err := openpgp.ReadMessage(bytes.NewReader(packets), nil, func([]openpgp.Key, bool) ([]byte, error) {
		if tried {
			return nil, ErrSetupCode
		}
		tried = true
		return []byte(code), nil
	}, &packet.Config{MaxDecompressedMessageSize: &limit})
	if err != nil {
		return nil, fmt.Errorf("%w, or it is damaged", ErrSetupCode)
	}
	key, err := io.ReadAll(io.LimitReader(message.UnverifiedBody, maxImport+1))
	if err != nil || len(key) > maxImport {
		return nil, fmt.Errorf("%w, or it is damaged", ErrSetupCode)
	}
	return key, nil
}

// Revocation is an armored certificate that revokes a key, for the time when it is lost: whoever has it can end the key, and no
// more. gpg imports it.
func (r *Ring) Revocation(f keydisc.Fingerprint, now time.Time) ([]byte, error) {
	entity, err := r.unlocked(f)
	if err != nil {
		return nil, err
	}
	if err := entity.Revoke(packet.NoReason, "", &packet.Config{Time: func() time.Time { return now }}); err != nil {
		return nil, err
	}
	var signature bytes.Buffer
	if err := entity.Revocations[len(entity.Revocations)-1].Packet.Serialize(&signature); err != nil {
		return nil, err
	}
	return armorBlock(openpgp.PublicKeyType, signature.Bytes())
}
