package keyring

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/keydisc"
)

// extendBefore is how long before its end a generated key is extended.
const extendBefore = 180 * 24 * time.Hour

// Errors of what changes a key.
var (
	ErrRevoked = errors.New("the key is revoked")
	ErrLastKey = errors.New("it is the account's only usable key")

	ErrUnusable = errors.New("mail can neither be signed with the key nor be encrypted to it")
)

// Maintain does what the generated keys of a ring need by that time: the next encryption subkeys and, for the primary one, a
// later end and user IDs for the account's addresses. It returns those that it changed: whoever has their certificates needs
// the new ones. Imported keys are left to whoever made them.
func (r *Ring) Maintain(ctx context.Context, addresses []string, now time.Time) ([]Key, error) {
	if err := r.reload(ctx); err != nil {
		return nil, err
	}
	var changed []Key
	for _, k := range r.List() {
		if k.Profile == Imported || k.Revoked {
			continue
		}
		var touched bool
		key, err := r.change(ctx, k.Fingerprint, now, func(entity *openpgp.Entity) (err error) {
			touched, err = maintain(entity, k, addresses, now)
			return err
		}, &touched)
		if err != nil {
			return changed, err
		}
		if touched {
			changed = append(changed, key)
		}
	}
	return changed, nil
}

func maintain(entity *openpgp.Entity, k Key, addresses []string, now time.Time) (touched bool, err error) {
	if touched, err = renewSubkeys(entity, k.Profile, now); err != nil || !k.Primary {
		return touched, err
	}
	if !k.Expires.IsZero() && now.Add(extendBefore).After(k.Expires) {
		touched = true
		if err := extend(entity, now.Add(keyLife), now); err != nil {
			return touched, err
		}
	}
	before := len(entity.Identities)
	config := kinds[k.Profile].config(now)
	config.KeyLifetimeSecs = 0
	if ends, ok := lifetime(entity, now); ok {
		config.KeyLifetimeSecs = ends
	}
	err = addAddresses(entity, addresses, config)
	return touched || len(entity.Identities) > before, err
}

// Rotate gives a key, for "" the primary one, a new encryption subkey now, whoever made the key.
func (r *Ring) Rotate(ctx context.Context, f keydisc.Fingerprint, now time.Time) (Key, error) {
	return r.change(ctx, f, now, func(entity *openpgp.Entity) error {
		if entity.Revoked(now) {
			return ErrRevoked
		}
		return addSubkey(entity, encryptionAlgorithm(entity, now), now.Truncate(time.Second))
	}, nil)
}

// encryptionAlgorithm is that of the subkey in use if we can make such, else the one for the key's version.
func encryptionAlgorithm(entity *openpgp.Entity, now time.Time) packet.PublicKeyAlgorithm {
	if inUse, ok := entity.EncryptionKey(now, nil); ok && inUse.PublicKey.PubKeyAlgo == packet.PubKeyAlgoMlkem768X25519 {
		return packet.PubKeyAlgoMlkem768X25519
	}
	if entity.PrimaryKey.Version == 6 {
		return packet.PubKeyAlgoX25519
	}
	return packet.PubKeyAlgoECDH
}

// Extend lets a key, for "" the primary one, end at another time; zero: never.
func (r *Ring) Extend(ctx context.Context, f keydisc.Fingerprint, until, now time.Time) (Key, error) {
	if !until.IsZero() && !until.After(now) {
		return Key{}, errors.New("that time has passed; to end the use of a key revoke it")
	}
	return r.change(ctx, f, now, func(entity *openpgp.Entity) error {
		if entity.Revoked(now) {
			return ErrRevoked
		}
		return extend(entity, until, now)
	}, nil)
}

// extend signs anew what says when the key ends (RFC 9580 §5.2.3.13): in version 6 the direct-key signature, in version 4
// every user ID, keeping all else they say.
func extend(entity *openpgp.Entity, until, now time.Time) error {
	seconds, err := lifetimeUntil(entity.PrimaryKey.CreationTime, until)
	if err != nil {
		return err
	}
	config := &packet.Config{Time: func() time.Time { return now }}
	if old, err := entity.LatestValidDirectSignature(now, nil); err == nil {
		renewed := again(old, seconds, now)
		if err := renewed.SignDirectKeyBinding(entity.PrimaryKey, entity.PrivateKey, config); err != nil {
			return err
		}
		entity.DirectSignatures = append(entity.DirectSignatures, packet.NewVerifiableSig(renewed))
	}
	if entity.PrimaryKey.Version == 6 {
		return nil
	}
	for _, identity := range entity.Identities {
		old, err := identity.Verify(now, nil) // says nothing of the key's own end
		if err != nil {
			continue // revoked: it stays so
		}
		renewed := again(old, seconds, now)
		if err := renewed.SignUserId(identity.UserId.Id, entity.PrimaryKey, entity.PrivateKey, config); err != nil {
			return err
		}
		identity.SelfCertifications = append(identity.SelfCertifications, packet.NewVerifiableSig(renewed))
	}
	return nil
}

// lifetimeUntil is how a key says when it ends: seconds after its creation, in 32 bits, of which 0 means never.
func lifetimeUntil(created, until time.Time) (seconds uint32, err error) {
	if until.IsZero() {
		return 0, nil
	}
	after := until.Unix() - created.Unix()
	if after <= 0 || after > math.MaxUint32 {
		return 0, errors.New("a key can end at most 136 years after it was made; choose an earlier end, or never")
	}
	return uint32(after), nil
}

// again is a signature to be made once more with another end of the key.
func again(old *packet.Signature, seconds uint32, now time.Time) *packet.Signature {
	renewed := *old
	renewed.CreationTime, renewed.KeyLifetimeSecs = now.Truncate(time.Second), &seconds
	renewed.SigLifetimeSecs = nil
	return &renewed
}

// lifetime is that of the primary key in seconds; not ok: unlimited.
func lifetime(entity *openpgp.Entity, now time.Time) (seconds uint32, ok bool) {
	signature, err := entity.PrimarySelfSignature(now, nil)
	if err != nil || signature.KeyLifetimeSecs == nil || *signature.KeyLifetimeSecs == 0 {
		return 0, false
	}
	return *signature.KeyLifetimeSecs, true
}

// Reason of a revocation (RFC 9580 §5.2.3.31).
type Reason string

// The reasons that users give.
const (
	NoReason    Reason = "none"
	Compromised Reason = "compromised"
	Superseded  Reason = "superseded"
	Retired     Reason = "retired"
)

var reasons = map[Reason]packet.ReasonForRevocation{
	NoReason: packet.NoReason, Compromised: packet.KeyCompromised, Superseded: packet.KeySuperseded, Retired: packet.KeyRetired,
}

// Revoke says for ever that a key is not used any more. It still opens older mail; if it was the primary one the next usable
// key is. The error unwraps to ErrLastKey if there is none, unless last says that this is meant.
func (r *Ring) Revoke(ctx context.Context, f keydisc.Fingerprint, why Reason, text string, now time.Time, last bool) (Key, error) {
	code, ok := reasons[why]
	if !ok {
		return Key{}, fmt.Errorf("reason %q is not known; use %s, %s, %s or %s", why, Compromised, Superseded, Retired, NoReason)
	}
	var revoked ownKey
	err := r.update(ctx, func(keys []ownKey) ([]ownKey, error) {
		k, err := r.findIn(keys, f)
		if err != nil {
			return nil, err
		}
		revoked, err = k.changed(func(entity *openpgp.Entity) error {
			if entity.Revoked(now) {
				return ErrRevoked
			}
			return entity.Revoke(code, text, &packet.Config{Time: func() time.Time { return now }})
		})
		switch {
		case err != nil:
			return nil, err
		case heir(keys, k.Fingerprint, now) == "" && !last:
			return nil, fmt.Errorf("%s: %w; make another one first (sealpost key generate), or say --last", k.Fingerprint, ErrLastKey)
		}
		return succeed(put(keys, revoked), now), nil
	})
	if err != nil {
		return Key{}, err
	}
	return r.shown(revoked.Fingerprint)
}

// usable says whether mail may be signed with the key and encrypted to it.
func (k ownKey) usable(now time.Time) bool {
	for _, address := range k.Addresses {
		if k.certificate.Check(address, now) == nil {
			return true
		}
	}
	return false
}

// Prefer makes a key the primary one. The error unwraps to ErrUnusable if it is revoked or has expired.
func (r *Ring) Prefer(ctx context.Context, f keydisc.Fingerprint, now time.Time) error {
	return r.update(ctx, func(keys []ownKey) ([]ownKey, error) {
		k, err := r.findIn(keys, f)
		if err != nil {
			return nil, err
		}
		if !k.usable(now) {
			return nil, fmt.Errorf("%s: %w now: it is revoked or has expired; choose another (sealpost key list), or give it a later end (sealpost key rotate --expires 2y)", k.Fingerprint, ErrUnusable)
		}
		return prefer(keys, k.Fingerprint), nil
	})
}

// change changes one key, for "" the primary one, and stores it; not if touched is false afterwards.
func (r *Ring) change(ctx context.Context, f keydisc.Fingerprint, now time.Time, do func(*openpgp.Entity) error, touched *bool) (Key, error) {
	var k ownKey
	err := r.update(ctx, func(keys []ownKey) (_ []ownKey, err error) {
		if k, err = r.findIn(keys, f); err != nil {
			return nil, err
		}
		if k, err = k.changed(do); err != nil || touched != nil && !*touched {
			return nil, err
		}
		return succeed(put(keys, k), now), nil
	})
	if err != nil {
		return Key{}, err
	}
	return r.shown(k.Fingerprint)
}

// changed is the key after a change.
func (k ownKey) changed(do func(*openpgp.Entity) error) (ownKey, error) {
	entity, err := k.entity()
	if err != nil {
		return ownKey{}, err
	}
	if err := do(entity); err != nil {
		return ownKey{}, fmt.Errorf("key %s: %w", k.Fingerprint, err)
	}
	after, err := reread(entity, k.Key)
	if err != nil {
		return ownKey{}, fmt.Errorf("key %s: %w", k.Fingerprint, err)
	}
	return after, nil
}

// shown is a key as it stands in the ring now.
func (r *Ring) shown(f keydisc.Fingerprint) (Key, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k, err := r.find(f)
	return k.Key, err
}

// reread is a changed key as it will be stored; profile and standing are those of before.
func reread(entity *openpgp.Entity, before Key) (ownKey, error) {
	secret, err := serialize(entity)
	if err != nil {
		return ownKey{}, err
	}
	return newOwnKey(secret, before.Profile, before.Primary)
}

// For is the key that speaks for an address: the primary one if it has the address or no other key in use has it, else that
// other. The certificate is shared; the signer is an unlocked copy for signing at that time, lent to one goroutine until it gives
// it back.
func (r *Ring) For(address string, now time.Time) (c *keydisc.Certificate, signer *openpgp.Entity, giveBack func(), err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k, err := r.speaker(address, now)
	if err != nil {
		return nil, nil, nil, err
	}
	lent, epoch := r.lent, k.turns.Epoch(now)
	if signer = lent.takeSigner(k.Fingerprint, epoch); signer == nil {
		if signer, err = k.entity(); err != nil {
			return nil, nil, nil, err
		}
	}
	return k.certificate, signer, func() { lent.putSigner(k.Fingerprint, epoch, signer) }, nil
}

// speaker chooses for For. The caller holds the lock.
func (r *Ring) speaker(address string, now time.Time) (ownKey, error) {
	for _, k := range r.keys { // the primary first
		if k.certificate.Check(address, now) == nil {
			return k, nil
		}
	}
	return r.find("")
}

// CertificateFor is the public part of the key that speaks for an address; Certificates are those of all keys, the primary
// first.
func (r *Ring) CertificateFor(address string, now time.Time) (*keydisc.Certificate, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k, err := r.speaker(address, now)
	return k.certificate, err
}

// Certificates are those of all keys, past ones too, the primary first.
func (r *Ring) Certificates() []*keydisc.Certificate {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]*keydisc.Certificate, len(r.keys))
	for i, k := range r.keys {
		all[i] = k.certificate
	}
	return all
}
