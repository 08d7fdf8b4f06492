// Package keyring holds the user's own secrets: the vault that everything at rest is
// wrapped by, and the secret OpenPGP keys of each account.
package keyring

import (
	"context"
	"errors"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/keydisc"
)

// Profile is a kind of key to generate.
type Profile string

const (
	Compatible Profile = "compatible" // v4: Ed25519 (EdDSALegacy) primary, X25519 (ECDH) subkey: every program reads it
	PQC        Profile = "pqc"        // the same with an added ML-KEM-768+X25519 subkey (RFC 9980)
)

// Key describes one secret key without its secrets.
type Key struct {
	Fingerprint keydisc.Fingerprint
	Addresses   []string
	Profile     Profile
	Created     time.Time
	Expires     time.Time // zero: never
	Primary     bool      // the one mail is signed with and sealed to
}

// ErrNoKey says that the account has no key, or not the one asked for.
var ErrNoKey = errors.New("no such secret key")

// Ring is the secret keys of one account; stored in the database, each sealed once
// more under the vault's key. Safe for concurrent use.
type Ring struct{}

// Open loads the keys of an account (there may be none yet).
func Open(ctx context.Context, db *store.DB, v *Vault, account string) (*Ring, error) { panic("stub") }

// Generate makes a key for the addresses (the first is the primary user ID) and makes it
// primary if it is the first of the ring.
func (r *Ring) Generate(ctx context.Context, p Profile, addresses []string, now time.Time) (Key, error) {
	panic("stub")
}

// Import adds transferable secret keys, armored or binary, unlocking them with the
// passphrase if they are protected. It refuses keys without a user ID of the
// account's addresses, keys that cannot encrypt and sign, and public keys.
func (r *Ring) Import(ctx context.Context, data, passphrase []byte, addresses []string) ([]Key, error) {
	panic("stub")
}

// Export writes the armored secret key, locked with the passphrase (empty: unlocked,
// which the caller must have been asked for in so many words). gpg must be able to import it.
func (r *Ring) Export(f keydisc.Fingerprint, passphrase []byte) ([]byte, error) { panic("stub") }

// List returns the keys, the primary first.
func (r *Ring) List() []Key { panic("stub") }

// Certificate is the public part of the primary key; ErrNoKey if there is none.
func (r *Ring) Certificate() (*keydisc.Certificate, error) { panic("stub") }

// Signer is a fresh, unlocked copy of the primary key for one goroutine.
func (r *Ring) Signer() (*openpgp.Entity, error) { panic("stub") }

// Decrypters are fresh, unlocked copies of all keys for one goroutine, past ones too.
func (r *Ring) Decrypters() (openpgp.EntityList, error) { panic("stub") }

// SealKey is a 32-byte MAC key derived from the secret parameters of the primary key
// alone, so that two devices with the same key derive the same one (HKDF-SHA256).
func (r *Ring) SealKey() ([]byte, error) { panic("stub") }

// SealKeys are those of all keys, past ones too, to recognise older seals.
func (r *Ring) SealKeys() ([][]byte, error) { panic("stub") }
