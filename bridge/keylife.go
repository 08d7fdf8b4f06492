package bridge

import (
	"context"
	"errors"
	"time"

	"github.com/sealpost/sealpost/bridge/internal/keyring"
	"github.com/sealpost/sealpost/keydisc"
)

// RevocationReason is why a key is given up (RFC 9580 §5.2.3.31).
type RevocationReason = keyring.Reason

// Errors of what changes a key.
var (
	ErrKeyRevoked = keyring.ErrRevoked
	ErrLastKey    = keyring.ErrLastKey
)

// RotateKey gives a key, for "" the one in use, a new encryption subkey.
func (o *Owner) RotateKey(ctx context.Context, f keydisc.Fingerprint) (Key, error) {
	key, err := o.ring.Rotate(ctx, f, o.home.now())
	return o.keyDone(ctx, "new subkey", key, err)
}

// ExtendKey lets a key end at another time; zero: never.
func (o *Owner) ExtendKey(ctx context.Context, f keydisc.Fingerprint, until time.Time) (Key, error) {
	key, err := o.ring.Extend(ctx, f, until, o.home.now())
	return o.keyDone(ctx, "extended", key, err)
}

// RevokeKey says for ever that a key is not used any more. It still opens older mail. The error unwraps to ErrLastKey if no
// usable key would be left, unless last says that this is meant.
func (o *Owner) RevokeKey(ctx context.Context, f keydisc.Fingerprint, why RevocationReason, text string, last bool) (Key, error) {
	key, err := o.ring.Revoke(ctx, f, why, text, o.home.now(), last)
	return o.keyDone(ctx, "revoked: "+string(why), key, err)
}

// PreferKey makes a key the one that mail is signed with and sealed to.
func (o *Owner) PreferKey(ctx context.Context, f keydisc.Fingerprint) error {
	_, err := o.keyDone(ctx, "made primary", Key{Fingerprint: f}, o.ring.Prefer(ctx, f, o.home.now()))
	return err
}

func (o *Owner) keyDone(ctx context.Context, what string, key Key, err error) (Key, error) {
	if err != nil {
		return Key{}, err
	}
	return key, o.recordKey(ctx, what, key)
}

// keysInterval is how often keys are looked after.
const keysInterval = 12 * time.Hour

// maintainKeys does what the keys we have made need by now: a new subkey once a year, a later end, user IDs for aliases.
func (a *Account) maintainKeys(ctx context.Context) error {
	changed, err := a.ring.Maintain(ctx, a.Addresses(), a.bridge.now())
	for _, key := range changed {
		a.log.Info("a key was renewed; others get it with your mail, and from where it is published", "fingerprint", key.Fingerprint)
		err = errors.Join(err, a.recordKey(ctx, "renewed", key))
	}
	return err
}

// keepKeys maintains the keys until ctx ends. Whatever goes wrong is tried again: the keys in use last for months yet.
func (a *Account) keepKeys(ctx context.Context) {
	ticker := time.NewTicker(keysInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := a.maintainKeys(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("the keys could not be looked after; trying again later", "cause", err)
		}
	}
}

// learnOwn takes from a copy of an own certificate what another device has done to the key. Mail that could not be opened
// for want of it gets another chance.
func (a *Account) learnOwn(ctx context.Context, met *keydisc.Certificate) {
	changed, err := a.ring.Learn(ctx, met, a.bridge.now())
	if err == nil && changed {
		a.log.Info("another device has renewed a key", "fingerprint", met.Fingerprint())
		err = errors.Join(a.recordKey(ctx, "renewed by another device", Key{Fingerprint: met.Fingerprint()}), a.reopenFailed(ctx))
	}
	if err != nil {
		a.log.Warn("what another device has done to a key was not taken over", "fingerprint", met.Fingerprint(), "cause", err)
	}
}
