package bridge

import (
	"context"
	"errors"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/bridge/internal/keyring"
	"github.com/sealpost/sealpost/keydisc"
)

// Key describes one of an owner's keys; KeyProfile is a kind of key to generate.
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

// ErrNoKey says that the owner has no key, or not the one asked for.
var ErrNoKey = keyring.ErrNoKey

// Keys lists the owner's keys, the primary first.
func (o *Owner) Keys() []Key { return o.ring.List() }

// GenerateKey makes a key for the owner's addresses. It is the one in use if it is the first, or with primary.
func (o *Owner) GenerateKey(ctx context.Context, p KeyProfile, primary bool) (Key, error) {
	key, err := o.ring.Generate(ctx, p, o.Addresses(), o.home.now(), primary)
	if err != nil {
		return Key{}, err
	}
	return key, o.recordKey(ctx, "generated "+string(p), key)
}

// ImportKey adds secret keys made elsewhere; passphrase unlocks them if they are protected.
func (o *Owner) ImportKey(ctx context.Context, data, passphrase []byte) ([]Key, error) {
	keys, err := o.ring.Import(ctx, data, passphrase, o.Addresses(), o.home.now())
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := o.recordKey(ctx, "imported", key); err != nil {
			return nil, err
		}
	}
	if o.imported == nil {
		return keys, nil
	}
	return keys, o.imported(ctx)
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
func (o *Owner) ExportKey(ctx context.Context, f keydisc.Fingerprint, passphrase []byte) ([]byte, error) {
	armored, err := o.ring.Export(f, passphrase)
	if err != nil {
		return nil, err
	}
	return armored, o.recordKey(ctx, "exported", Key{Fingerprint: f})
}

// ExportRevocation is an armored certificate that revokes a key, for the time when it is lost.
func (o *Owner) ExportRevocation(ctx context.Context, f keydisc.Fingerprint) ([]byte, error) {
	armored, err := o.ring.Revocation(f, o.home.now())
	if err != nil {
		return nil, err
	}
	return armored, o.recordKey(ctx, "revocation certificate made", Key{Fingerprint: f})
}

// Certificate is the public part of the primary key. ErrNoKey if there is none.
func (o *Owner) Certificate() (*keydisc.Certificate, error) { return o.ring.Certificate() }

// ExportCertificate is the armored public part of one of the owner's keys.
func (o *Owner) ExportCertificate(f keydisc.Fingerprint) ([]byte, error) {
	return o.ring.ExportCertificate(f)
}

// ImportContacts pins certificates by the user's own act; see contacts.Book.Import.
func (b *Bridge) ImportContacts(ctx context.Context, certificates []*keydisc.Certificate) ([]contacts.Contact, error) {
	imported, err := b.contacts.Import(ctx, certificates)
	for _, c := range imported {
		err = errors.Join(err, b.recordContact(ctx, "imported", c, nil))
	}
	return imported, err
}

func (o *Owner) recordKey(ctx context.Context, what string, key Key) error {
	if err := o.changed(ctx); err != nil {
		return err
	}
	return o.home.audit.Append(ctx, audit.Entry{
		Time: o.home.now(), Account: o.Address(), Event: "key", Fingerprint: string(key.Fingerprint), Detail: what,
	})
}
