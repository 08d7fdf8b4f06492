package bridge

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/bridge/mirror"
	"github.com/sealpost/sealpost/keydisc"
)

// The status field says what was true when a message was first opened; the keywords follow the truth
// of the moment: a certificate that is found, compared or revoked later changes what is known of
// signatures made before.

const (
	trustInterval = 10 * time.Minute // between looks at what could not be followed
	trustRetry    = 30 * time.Second
)

// followTrust judges mail anew whenever the standing of its signer has changed, until ctx ends.
func (b *Bridge) followTrust(ctx context.Context) error {
	for ctx.Err() == nil {
		wait := trustInterval
		if err := b.followChanges(ctx); err != nil && ctx.Err() == nil {
			level := slog.LevelWarn
			if errors.Is(err, mirror.ErrOffline) {
				level = slog.LevelDebug
			}
			b.log.Log(ctx, level, "keywords do not follow a change of trust yet; trying again", "cause", err)
			wait = trustRetry
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-b.trustChanged:
		case <-timer.C:
		}
		timer.Stop()
	}
	return ctx.Err()
}

// noteTrust wakes followTrust.
func (b *Bridge) noteTrust() {
	select {
	case b.trustChanged <- struct{}{}:
	default:
	}
}

func (b *Bridge) followChanges(ctx context.Context) error {
	changes, err := b.contacts.Changes(ctx)
	if err != nil {
		return err
	}
	for _, change := range changes {
		contact, _, err := b.contacts.Get(ctx, change.Address)
		if err != nil {
			return err
		}
		for _, a := range b.accounts {
			if err := a.mirror.Reconsider(ctx, change.Address, outdated(contact)); err != nil {
				return err
			}
		}
		if err := b.contacts.Settled(ctx, change); err != nil {
			return err
		}
	}
	return nil
}

func isRevoked(c contacts.Contact) bool {
	var unusable *keydisc.UnusableError
	return errors.As(c.Certificate.Check(c.Address, time.Now()), &unusable) && unusable.Reason == keydisc.ReasonRevoked
}

// outdated says of a message by the contact whether its keywords may not be the truth any more, given its
// status and keywords. Most signatures are by the pinned certificate and stay what they were.
func outdated(c contacts.Contact) func(status string, keywords []imap.Flag) bool {
	sound := c.Certificate != nil && !isRevoked(c)
	return func(status string, keywords []imap.Flag) bool {
		switch {
		case status == "", strings.Contains(status, "signature=none"):
			return false
		case !sound, !strings.Contains(status, "signature=good"), !slices.Contains(keywords, KeywordSignedGood):
			return true
		case !strings.Contains(status, "signer="+strings.ToLower(string(c.Certificate.Fingerprint()))+";"):
			return true
		}
		return slices.Contains(keywords, KeywordSignerVerified) != (c.Trust == contacts.Verified)
	}
}
