package keyring

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Encryption subkeys are renewed once a year. Their secrets are not random: they follow from the primary key's secret and
// from what is public of them, so that
//
//   - all devices that have the key make the same subkeys, without telling each other;
//   - a backup of the key opens mail that comes years later.
//
// It is no forward secrecy against whoever steals the primary key; the subkeys lie beside it anyway.
//
//	seed = HKDF-SHA512(secret, salt = none, info = "sealpost encryption subkey" 0x00 fingerprint algorithm time, 128 octets)
//
// where secret is that of the primary key (see secretOf), fingerprint its binary one, algorithm the subkey's public-key algorithm
// (one octet, RFC 9580 §9.1), and time its creation in seconds since 1970 (eight octets, big-endian). The seed begins
// with the 32 octets of the X25519 secret; for ML-KEM-768+X25519 the 64 of ML-KEM's d ‖ z follow (RFC 9980 §4.3.2).
const (
	subkeyPeriod  = 365 * 24 * time.Hour
	subkeyOverlap = 60 * 24 * time.Hour // senders have so long to learn of the next one
	subkeyLabel   = "sealpost encryption subkey\x00"
	subkeySeed    = 128
)

// addSubkey adds the encryption subkey of that algorithm and time of creation. It lasts for a period and the overlap.
func addSubkey(entity *openpgp.Entity, algorithm packet.PublicKeyAlgorithm, created time.Time) error {
	seed, err := seedOf(entity, algorithm, created)
	if err != nil {
		return err
	}
	config := &packet.Config{
		Algorithm: algorithm, Curve: packet.Curve25519, V6Keys: entity.PrimaryKey.Version == 6,
		KeyLifetimeSecs: uint32((subkeyPeriod + subkeyOverlap) / time.Second), Time: func() time.Time { return created },
		Rand:                                  bytes.NewReader(seed), // what is left salts the signature of version 6, which needs no secret (RFC 9580 §5.2.3)
		NonDeterministicSignaturesViaNotation: packet.BoolPointer(false),
	}
	return entity.AddEncryptionSubkey(config)
}

func seedOf(entity *openpgp.Entity, algorithm packet.PublicKeyAlgorithm, created time.Time) ([]byte, error) {
	secret, err := secretOf(entity)
	if err != nil {
		return nil, err
	}
	info := append([]byte(subkeyLabel), entity.PrimaryKey.Fingerprint...)
	info = append(info, byte(algorithm))
	info = binary.BigEndian.AppendUint64(info, uint64(created.Unix()))
	return hkdf.Key(sha512.New, secret, nil, string(info), subkeySeed)
}

// due are the times of creation of the subkeys that a generated key has at that time, the first of them its own.
func due(created, now time.Time) []time.Time {
	times := []time.Time{created}
	for t := created.Add(subkeyPeriod); !t.After(now); t = t.Add(subkeyPeriod) {
		times = append(times, t)
	}
	return times
}

// hasSubkey says whether there is a subkey of that algorithm and time of creation.
func hasSubkey(entity *openpgp.Entity, algorithm packet.PublicKeyAlgorithm, created time.Time) bool {
	return slices.ContainsFunc(entity.Subkeys, func(s openpgp.Subkey) bool {
		return s.PublicKey.PubKeyAlgo == algorithm && s.PublicKey.CreationTime.Equal(created)
	})
}

// renewSubkeys adds the subkeys that are due and missing.
func renewSubkeys(entity *openpgp.Entity, p Profile, now time.Time) (added bool, err error) {
	for i, created := range due(entity.PrimaryKey.CreationTime, now) {
		for _, algorithm := range kinds[p].encryption {
			// Keys of earlier versions have a first subkey that is random and lasts as long as they.
			if hasSubkey(entity, algorithm, created) || i == 0 {
				continue
			}
			if err := addSubkey(entity, algorithm, created); err != nil {
				return added, fmt.Errorf("subkey of %s: %w", created.Format(time.DateOnly), err)
			}
			added = true
		}
	}
	return added, nil
}

// deriveAhead adds to a copy of a key for opening mail the subkeys that come after the newest it has: another device may have made
// them, by its clock, and told the world.
func deriveAhead(entity *openpgp.Entity, p Profile) error {
	next := entity.PrimaryKey.CreationTime
	for _, s := range entity.Subkeys {
		if made := s.PublicKey.CreationTime; made.After(next) && made.Sub(entity.PrimaryKey.CreationTime)%subkeyPeriod == 0 {
			next = made
		}
	}
	next = next.Add(subkeyPeriod)
	for _, algorithm := range kinds[p].encryption { // of imported keys there are none
		if err := addSubkey(entity, algorithm, next); err != nil {
			return fmt.Errorf("subkey of %s: %w", next.Format(time.DateOnly), err)
		}
	}
	return nil
}

// completeSubkeys gives the subkeys of which only the public part is here their secrets, where they can be derived: another
// device has made them.
func completeSubkeys(entity *openpgp.Entity) error {
	for i := range entity.Subkeys {
		s := &entity.Subkeys[i]
		if s.PrivateKey != nil || !derivable(s.PublicKey.PubKeyAlgo) {
			continue
		}
		trial := *entity
		trial.Subkeys = nil
		if err := addSubkey(&trial, s.PublicKey.PubKeyAlgo, s.PublicKey.CreationTime); err != nil {
			return err
		}
		if derived := trial.Subkeys[0]; bytes.Equal(derived.PublicKey.Fingerprint, s.PublicKey.Fingerprint) {
			s.PrivateKey = derived.PrivateKey
		}
	}
	return nil
}

func derivable(a packet.PublicKeyAlgorithm) bool {
	return a == packet.PubKeyAlgoECDH || a == packet.PubKeyAlgoX25519 || a == packet.PubKeyAlgoMlkem768X25519
}
