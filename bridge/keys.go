package bridge

import (
	"context"
	"errors"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/bridge/internal/keyring"
	"github.com/sealpost/sealpost/keydisc"
)

// Key describes one of the account's own keys; KeyProfile is a kind of key to generate.
type (
	Key        = keyring.Key
	KeyProfile = keyring.Profile
)

// The profiles that GenerateKey knows.
const (
	ProfileCompatible = keyring.Compatible
	ProfileV6         = keyring.V6
	ProfilePQC        = keyring.PQC
	ProfilePQCV6      = keyring.PQCV6
)

// Profiles are those that GenerateKey knows.
var Profiles = []KeyProfile{ProfileCompatible, ProfileV6, ProfilePQC, ProfilePQCV6}

// ErrNoKey says that the account has no key, or not the one asked for.
var ErrNoKey = keyring.ErrNoKey

// Keys lists the account's own keys, the primary first.
func (a *Account) Keys() []Key { return a.ring.List() }

// GenerateKey makes a key for the account's address and aliases. It is the one in use if it is the first, or with primary.
func (a *Account) GenerateKey(ctx context.Context, p KeyProfile, primary bool) (Key, error) {
	key, err := a.ring.Generate(ctx, p, a.addresses(), a.bridge.now(), primary)
	if err != nil {
		return Key{}, err
	}
	return key, a.recordKey(ctx, "generated "+string(p), key)
}

// ImportKey adds secret keys made elsewhere; passphrase unlocks them if they are protected.
func (a *Account) ImportKey(ctx context.Context, data, passphrase []byte) ([]Key, error) {
	keys, err := a.ring.Import(ctx, data, passphrase, a.addresses(), a.bridge.now())
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := a.recordKey(ctx, "imported", key); err != nil {
			return nil, err
		}
	}
	return keys, a.reopenFailed(ctx)
}

// reopenFailed gives mail that could not be opened another chance: the new key may be the one it was
// encrypted to.
func (a *Account) reopenFailed(ctx context.Context) error {
	if err := a.bridge.journal.forgetFailures(ctx, a.Address()); err != nil {
		return err
	}
	return a.mirror.ReopenFailed(ctx)
}

// ExportKey is the armored secret key under a passphrase (empty: in clear). Programs like
// gpg import it. The caller has made sure that the user wants it outside the vault.
func (a *Account) ExportKey(ctx context.Context, f keydisc.Fingerprint, passphrase []byte) ([]byte, error) {
	armored, err := a.ring.Export(f, passphrase)
	if err != nil {
		return nil, err
	}
	return armored, a.recordKey(ctx, "exported", Key{Fingerprint: f})
}

// Certificate is the public part of the primary key. ErrNoKey if there is none.
func (a *Account) Certificate() (*keydisc.Certificate, error) { return a.ring.Certificate() }

// ExportCertificate is the armored public part of one of the account's keys.
func (a *Account) ExportCertificate(f keydisc.Fingerprint) ([]byte, error) {
	return a.ring.ExportCertificate(f)
}

// ImportContacts pins certificates by the user's own act; see contacts.Book.Import.
func (b *Bridge) ImportContacts(ctx context.Context, certificates []*keydisc.Certificate) ([]contacts.Contact, error) {
	imported, err := b.contacts.Import(ctx, certificates)
	for _, c := range imported {
		err = errors.Join(err, b.recordContact(ctx, "imported", c, nil))
	}
	return imported, err
}

func (a *Account) recordKey(ctx context.Context, what string, key Key) error {
	a.wakePublisher()
	return a.bridge.audit.Append(ctx, audit.Entry{
		Time: a.bridge.now(), Account: a.Address(), Event: "key", Fingerprint: string(key.Fingerprint), Detail: what,
	})
}
