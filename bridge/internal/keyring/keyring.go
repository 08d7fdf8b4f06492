// Package keyring holds the user's own secrets: the vault that everything at rest is
// wrapped by, and the secret OpenPGP keys of each account.
package keyring

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/keydisc"
)

// Profile is a kind of key to generate.
type Profile string

const (
	Compatible Profile = "compatible" // v4: Ed25519 (EdDSALegacy) primary, X25519 (ECDH) subkey: every program reads it
	V6         Profile = "v6"         // v6: Ed25519 primary, X25519 subkey (RFC 9580); asks for SEIPDv2
	PQC        Profile = "pqc"        // compatible with an added ML-KEM-768+X25519 subkey (RFC 9980)
	PQCV6      Profile = "pqc-v6"     // v6: ML-DSA-65+Ed25519 primary, ML-KEM-768+X25519 subkey (RFC 9980)
	Imported   Profile = "imported"   // made by another program
)

// Key describes one secret key without its secrets.
type Key struct {
	Fingerprint keydisc.Fingerprint
	Addresses   []string
	Profile     Profile
	Created     time.Time
	Expires     time.Time // zero: never
	Primary     bool      // the one mail is signed with and sealed to
	Revoked     bool
}

// ErrNoKey says that the account has no key, or not the one asked for.
var ErrNoKey = errors.New("no such secret key")

// Ring is the secret keys of one account; stored in the database, each sealed once
// more under the vault's key. Safe for concurrent use.
type Ring struct {
	db      *store.DB
	vault   *Vault
	account string

	changing sync.Mutex // one update at a time; taken before mu

	mu     sync.RWMutex
	keys   []ownKey // the primary first
	lent   *lentKeys
	closed bool
}

// lentKeys are copies of all keys that nobody uses now. A sync.Pool forgets them at every garbage
// collection.
type lentKeys struct {
	mu      sync.Mutex
	spare   []openpgp.EntityList
	signers map[keydisc.Fingerprint]signers
}

// signers are copies of one key that nobody uses now. go-crypto remembers of a signature whether it held at the time of the first
// look, so that they are for one epoch of the key (keydisc.Turns).
type signers struct {
	epoch int
	spare []*openpgp.Entity
}

func (l *lentKeys) takeSigner(f keydisc.Fingerprint, epoch int) *openpgp.Entity {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.signers[f]
	if s.epoch != epoch || len(s.spare) == 0 {
		return nil
	}
	last := len(s.spare) - 1
	signer := s.spare[last]
	s.spare = s.spare[:last]
	l.signers[f] = s
	return signer
}

func (l *lentKeys) putSigner(f keydisc.Fingerprint, epoch int, signer *openpgp.Entity) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.signers[f]
	if s.epoch != epoch {
		s = signers{epoch: epoch}
	}
	if l.signers == nil {
		l.signers = map[keydisc.Fingerprint]signers{}
	}
	if len(s.spare) < maxSpare {
		s.spare = append(s.spare, signer)
	}
	l.signers[f] = s
}

const maxSpare = 4

func (l *lentKeys) take() openpgp.EntityList {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.spare)
	if n == 0 {
		return nil
	}
	list := l.spare[n-1]
	l.spare = l.spare[:n-1]
	return list
}

func (l *lentKeys) put(list openpgp.EntityList) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.spare) < maxSpare {
		l.spare = append(l.spare, list)
	}
}

// ownKey is one key: its unlocked serialization is parsed anew for every use, because an
// Entity is not safe for concurrent use.
type ownKey struct {
	Key
	secret      []byte
	sealKey     []byte
	certificate *keydisc.Certificate
	turns       keydisc.Turns
}

// Open loads the keys of an account (there may be none yet).
func Open(ctx context.Context, db *store.DB, v *Vault, account string) (*Ring, error) {
	r := &Ring{db: db, vault: v, account: strings.ToLower(account), lent: &lentKeys{}}
	var err error
	if r.keys, err = r.load(ctx, db.Read()); err != nil {
		return nil, fmt.Errorf("keys of %s: %w", account, store.Explain(err))
	}
	return r, nil
}

func (r *Ring) sealName(fingerprint string) string { return "key:" + r.account + ":" + fingerprint }

// newOwnKey reads a serialized, unlocked secret key.
func newOwnKey(secret []byte, p Profile, primary bool) (ownKey, error) {
	k := ownKey{secret: secret}
	entity, err := k.entity()
	if err != nil {
		return k, err
	}
	var public bytes.Buffer
	if err := entity.Serialize(&public); err != nil {
		return k, err
	}
	certificates, err := keydisc.ParseCertificates(public.Bytes())
	if err != nil {
		return k, err
	}
	k.certificate, k.turns = certificates[0], keydisc.TurnsOf(entity)
	k.Key = Key{
		Fingerprint: k.certificate.Fingerprint(), Addresses: k.certificate.Addresses(), Profile: p, Primary: primary,
		Created: k.certificate.Created(), Expires: k.certificate.Expires(), Revoked: entity.Revoked(time.Now()),
	}
	k.sealKey, err = sealKeyOf(entity)
	return k, err
}

// entity is a fresh, unlocked copy.
func (k ownKey) entity() (*openpgp.Entity, error) {
	entities, err := openpgp.ReadKeyRing(bytes.NewReader(k.secret))
	if err != nil {
		return nil, err
	}
	if len(entities) != 1 || entities[0].PrivateKey == nil {
		return nil, ErrNoKey
	}
	return entities[0], nil
}

// List returns the keys, the primary first.
func (r *Ring) List() []Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]Key, len(r.keys))
	for i, k := range r.keys {
		list[i] = k.Key
	}
	return list
}

// find is the key with that fingerprint, or for "" the primary. The caller holds the lock.
func (r *Ring) find(f keydisc.Fingerprint) (ownKey, error) {
	return r.findIn(r.keys, f)
}

func (r *Ring) findIn(keys []ownKey, f keydisc.Fingerprint) (ownKey, error) {
	for _, k := range keys {
		if f == "" || k.Fingerprint == f {
			return k, nil
		}
	}
	return ownKey{}, fmt.Errorf("%s: %w", r.account, ErrNoKey)
}

// Certificate is the public part of the primary key; ErrNoKey if there is none.
func (r *Ring) Certificate() (*keydisc.Certificate, error) { return r.CertificateOf("") }

// CertificateOf is the public part of one key.
func (r *Ring) CertificateOf(f keydisc.Fingerprint) (*keydisc.Certificate, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k, err := r.find(f)
	return k.certificate, err
}

// Signer is a fresh, unlocked copy of the primary key for one goroutine.
func (r *Ring) Signer() (*openpgp.Entity, error) { return r.unlocked("") }

// unlocked is a fresh copy of one key, for "" of the primary.
func (r *Ring) unlocked(f keydisc.Fingerprint) (*openpgp.Entity, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k, err := r.find(f)
	if err != nil {
		return nil, err
	}
	return k.entity()
}

// Decrypters are unlocked copies of all keys, past ones too, with the subkeys that come next; lent to one
// goroutine until it gives them back.
func (r *Ring) Decrypters() (list openpgp.EntityList, giveBack func(), err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	lent := r.lent // what was lent of other keys goes elsewhere
	giveBack = func() { lent.put(list) }
	if list = lent.take(); list != nil {
		return list, giveBack, nil
	}
	for _, k := range r.keys {
		entity, err := k.entity()
		if err == nil {
			err = deriveAhead(entity, k.Profile)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("key %s: %w", k.Fingerprint, err)
		}
		list = append(list, entity)
	}
	return list, giveBack, nil
}

// SealKey is a 32-byte MAC key derived from the secret parameters of the primary key
// alone, so that two devices with the same key derive the same one (HKDF-SHA256).
func (r *Ring) SealKey() ([]byte, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k, err := r.find("")
	return bytes.Clone(k.sealKey), err
}

// SealKeys are those of all keys, past ones too, to recognise older seals.
func (r *Ring) SealKeys() ([][]byte, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var keys [][]byte
	for _, k := range r.keys {
		keys = append(keys, bytes.Clone(k.sealKey))
	}
	return keys, nil
}

// Close wipes the keys; the ring is empty afterwards. Copies handed out before stay usable.
func (r *Ring) Close() {
	r.changing.Lock() // what is being stored must not be wiped
	defer r.changing.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.keys {
		clear(k.secret)
		clear(k.sealKey)
	}
	r.keys, r.lent, r.closed = nil, &lentKeys{}, true
}

// serialize is the unlocked secret key as stored.
func serialize(e *openpgp.Entity) ([]byte, error) {
	var b bytes.Buffer
	err := e.SerializePrivateWithoutSigning(&b, nil)
	return b.Bytes(), err
}

// armored reports whether data is ASCII armor rather than binary packets, whose first octet
// always has its high bit set (RFC 9580 §4.2).
func armored(data []byte) bool { return len(data) > 0 && data[0]&0x80 == 0 }

// readSecretKeys reads binary packets, or armor of one block or several.
func readSecretKeys(data []byte) (all openpgp.EntityList, err error) {
	if !armored(data) {
		return openpgp.ReadKeyRing(bytes.NewReader(data))
	}
	// armor.Decode reads ahead, into a buffer of its own unless it is given one: the beginning of the next block would be lost.
	for r := bufio.NewReader(bytes.NewReader(data)); ; {
		block, err := armor.Decode(r)
		if errors.Is(err, io.EOF) && len(all) > 0 {
			return all, nil
		}
		if errors.Is(err, io.EOF) {
			return nil, errors.New("there is neither a packet nor an armored block in it")
		}
		if err != nil {
			return nil, err
		}
		if block.Type != openpgp.PrivateKeyType && block.Type != openpgp.PublicKeyType {
			return nil, fmt.Errorf("a block of type %q is among the keys", block.Type)
		}
		entities, err := openpgp.ReadKeyRing(block.Body)
		if err != nil {
			return nil, err
		}
		all = append(all, entities...)
	}
}
