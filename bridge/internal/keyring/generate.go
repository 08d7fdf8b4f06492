package keyring

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// keyLife is how long a generated key lasts; it is extended before.
const keyLife = 3 * 365 * 24 * time.Hour

// kind is what a profile is made of.
type kind struct {
	v6         bool
	primary    packet.PublicKeyAlgorithm
	encryption []packet.PublicKeyAlgorithm // one subkey each
}

// kinds are the profiles that are generated. The version 4 kinds do not ask for SEIPDv2, which gpg 2.2 and most programs
// of today cannot read.
var kinds = map[Profile]kind{
	Compatible: {false, packet.PubKeyAlgoEdDSA, []packet.PublicKeyAlgorithm{packet.PubKeyAlgoECDH}},
	PQC:        {false, packet.PubKeyAlgoEdDSA, []packet.PublicKeyAlgorithm{packet.PubKeyAlgoECDH, packet.PubKeyAlgoMlkem768X25519}},
	V6:         {true, packet.PubKeyAlgoEd25519, []packet.PublicKeyAlgorithm{packet.PubKeyAlgoX25519}},
	PQCV6:      {true, packet.PubKeyAlgoMldsa65Ed25519, []packet.PublicKeyAlgorithm{packet.PubKeyAlgoMlkem768X25519}},
}

// Generate makes a key for the addresses (the first is the primary user ID). It becomes primary if it is the first of the
// ring, or with primary. It lasts three years; Maintain extends it and renews its subkeys.
func (r *Ring) Generate(ctx context.Context, p Profile, addresses []string, now time.Time, primary bool) (Key, error) {
	k, err := generated(p, addresses, now)
	if err != nil {
		return Key{}, err
	}
	return r.add(ctx, k, primary)
}

// generated is a new key that nobody has stored.
func generated(p Profile, addresses []string, now time.Time) (ownKey, error) {
	made, ok := kinds[p]
	if !ok {
		return ownKey{}, fmt.Errorf("profile %q is not known; use %s", p, strings.Join([]string{string(Compatible), string(V6), string(PQC), string(PQCV6)}, ", "))
	}
	if len(addresses) == 0 {
		return ownKey{}, errors.New("a key needs an address")
	}
	entity, err := made.generate(addresses, now)
	if err != nil {
		return ownKey{}, fmt.Errorf("generating a key for %s: %w", addresses[0], err)
	}
	return reread(entity, Key{Profile: p})
}

// config of everything that a key of the kind signs about itself.
func (k kind) config(now time.Time) *packet.Config {
	c := &packet.Config{
		Algorithm: k.primary, Curve: packet.Curve25519, DefaultCipher: packet.CipherAES256, V6Keys: k.v6,
		KeyLifetimeSecs: uint32(keyLife / time.Second), Time: func() time.Time { return now },
	}
	if k.v6 {
		c.AEADConfig = &packet.AEADConfig{DefaultMode: packet.AEADModeOCB} // the mode every program has (RFC 9580 §9.6)
	}
	return c
}

func (k kind) generate(addresses []string, now time.Time) (*openpgp.Entity, error) {
	now = now.Truncate(time.Second)
	entity, err := openpgp.NewEntity("", "", addresses[0], k.config(now))
	if err != nil {
		return nil, err
	}
	if err := addAddresses(entity, addresses[1:], k.config(now)); err != nil {
		return nil, err
	}
	entity.Subkeys = nil // the library's, which is not derived
	for _, algorithm := range k.encryption {
		if err := addSubkey(entity, algorithm, now); err != nil {
			return nil, err
		}
	}
	return entity, nil
}

// addAddresses adds user IDs; those that are there stay as they are.
func addAddresses(entity *openpgp.Entity, addresses []string, config *packet.Config) error {
	for _, address := range addresses {
		if _, ok := entity.Identities["<"+address+">"]; ok {
			continue
		}
		if err := entity.AddUserId("", "", address, config); err != nil {
			return fmt.Errorf("user ID %s: %w", address, err)
		}
	}
	return nil
}
