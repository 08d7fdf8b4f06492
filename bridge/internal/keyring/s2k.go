package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// What a locked key may ask of us before it opens: RFC 9580 §3.7.1.4 allows 2 TiB, and the library
// sets no limit of its own.
const (
	maxS2KMemory = 20 // as in the packet: 2^20 KiB
	maxS2KPasses = 16
	argon2S2K    = 4
	argon2Size   = 1 + 16 + 3 // type, salt, passes, parallelism, memory
)

// affordable refuses keys whose passphrase costs more to try than we can give.
func affordable(entity *openpgp.Entity) error {
	locked := []*packet.PrivateKey{entity.PrivateKey}
	for _, s := range entity.Subkeys {
		locked = append(locked, s.PrivateKey)
	}
	for _, key := range locked {
		if key == nil || !key.Encrypted {
			continue
		}
		specifier, err := s2kSpecifier(key)
		if err != nil {
			return fmt.Errorf("its protection cannot be read: %w", err)
		}
		if costly(specifier) {
			return errors.New("its passphrase asks for more than 1 GiB of memory or 16 passes; change the passphrase in the program that made it")
		}
	}
	return nil
}

// costly says whether a string-to-key specifier asks for more than we give.
func costly(specifier []byte) bool {
	return len(specifier) >= argon2Size && specifier[0] == argon2S2K && (specifier[17] > maxS2KPasses || specifier[19] > maxS2KMemory)
}

// s2kSpecifier is the string-to-key specifier of a locked key and what follows it (RFC 9580 §5.5.3).
func s2kSpecifier(key *packet.PrivateKey) ([]byte, error) {
	secret, err := contents(key)
	if err != nil {
		return nil, err
	}
	public, err := contents(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	skip := len(public) + 2 // the usage octet, the cipher
	if key.Version >= 5 {
		skip++ // the length of what follows
	}
	if len(secret) > len(public) && secret[len(public)] == byte(packet.S2KAEAD) {
		skip++ // the AEAD mode
	}
	if key.Version >= 6 {
		skip++ // the length of the specifier
	}
	if len(secret) < skip {
		return nil, errors.New("it is cut off")
	}
	return secret[skip:], nil
}

// contents is a packet without its header.
func contents(p interface{ Serialize(w io.Writer) error }) ([]byte, error) {
	var b bytes.Buffer
	if err := p.Serialize(&b); err != nil {
		return nil, err
	}
	opaque, err := packet.NewOpaqueReader(&b).Next()
	if err != nil {
		return nil, err
	}
	return opaque.Contents, nil
}
