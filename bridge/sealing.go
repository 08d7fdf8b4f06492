package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/internal/spool"
)

// How a stored message is sealed:
//
//	fetch     the original, its flags and its date
//	encrypt   it to our own certificate, and see that it decrypts to the same bytes
//	append    the sealed copy with the same flags and date, unless another device has done so
//	compare   read the copy back by UID, decrypt it, compare it with the original byte for byte
//	expunge   the original, and only that
//
// Each step is in the journal before it is taken. A crash leaves the original, the copy, or
// both, and the next start finishes what the journal names. Unsealing is the same, the other way
// round. What a client appends is sealed before it leaves the device.

// Append seals a message of exactly size bytes to the account's own certificate (unless
// it is ciphertext already) and stores it at the provider. Errors: *imap.Error from the
// provider, *Refusal otherwise.
func (a *Account) Append(ctx context.Context, mailbox string, message io.Reader, size int64, o *imap.AppendOptions) (*imap.AppendData, error) {
	original, err := a.spoolExactly(message, size)
	if err != nil {
		return nil, err
	}
	defer original.Close()
	readable, err := pgpmime.Readable(original)
	if err != nil {
		return nil, localRefusal(err)
	}
	if !readable {
		return a.mirror.Append(ctx, mailbox, original, o)
	}
	sealed, _, err := a.seal(original, randomInstance())
	if err != nil {
		return nil, localRefusal(err)
	}
	defer sealed.Close()
	return a.mirror.Append(ctx, mailbox, sealed, o)
}

// sealMessage replaces a clear message at the provider by its sealed copy. It does nothing
// if the message is unreadable there already, and fails without having removed anything
// if any step is in doubt.
func (a *Account) sealMessage(ctx context.Context, mailbox string, validity uint32, uid imap.UID) error {
	a.replacing.Lock() // one replacement at a time: the journal's rows never overlap
	defer a.replacing.Unlock()
	r, err := a.fetchForReplacement(ctx, mailbox, validity, uid)
	if err != nil {
		return err
	}
	defer r.Close()
	if r.marked(imap.FlagDeleted) {
		return nil // its owner is removing it
	}
	if readable, err := pgpmime.Readable(r.original); err != nil || !readable {
		return err
	}
	r.copy, r.sealID, err = a.seal(r.original, instanceOf(mailbox, validity, uid))
	if err != nil {
		return err
	}
	r.sameMessage = a.opensTo
	if err := r.run(ctx, verbSeal); err != nil {
		return err
	}
	a.recordSealing(ctx, verbSeal, mailbox, uid)
	return nil
}

// unsealMessage replaces a message that we sealed by its original bytes.
func (a *Account) unsealMessage(ctx context.Context, mailbox string, validity uint32, uid imap.UID) error {
	a.replacing.Lock()
	defer a.replacing.Unlock()
	r, err := a.fetchForReplacement(ctx, mailbox, validity, uid)
	if err != nil {
		return err
	}
	defer r.Close()
	keys, giveBack, err := a.keys()
	if err != nil {
		return err
	}
	defer giveBack()
	if r.copy, err = pgpmime.Unseal(r.original, keys, a.bridge.spoolDir); err != nil {
		return err
	}
	r.sameMessage = a.isContentOf
	if err := r.run(ctx, verbUnseal); err != nil {
		return err
	}
	a.recordSealing(ctx, verbUnseal, mailbox, uid)
	return nil
}

// finishReplacements ends what an earlier run left half done: where the copy exists and
// proves to be the same message, the original is removed; else the original stays and the
// row is dropped.
func (a *Account) finishReplacements(ctx context.Context) error {
	a.replacing.Lock()
	defer a.replacing.Unlock()
	rows, err := a.bridge.journal.replacements(ctx, a.Address())
	if err != nil {
		return err
	}
	for _, row := range rows {
		err := a.finishReplacement(ctx, row)
		if err != nil && !errors.Is(err, errGone) && !errors.Is(err, errDifferent) {
			a.log.Warn("a half-done replacement is left for the next start", "verb", row.verb, "mailbox", row.mailbox, "uid", row.uid, "cause", err)
			continue
		}
		if err := a.bridge.journal.end(ctx, row.id); err != nil {
			return err
		}
	}
	return nil
}

func (a *Account) finishReplacement(ctx context.Context, row journalRow) error {
	r, err := a.fetchForReplacement(ctx, row.mailbox, row.validity, row.uid)
	if err != nil {
		return err // errGone: the original went, so the copy had been compared
	}
	defer r.Close()
	r.sealID, r.sameMessage = row.sealID, a.opensTo
	if row.verb == verbUnseal {
		r.sameMessage = a.isContentOf
	}
	uid, err := r.existingCopy()
	if err != nil {
		return err
	}
	if uid == 0 {
		uid = row.copyUID
	}
	if uid == 0 {
		return nil
	}
	return r.conclude(uid)
}

// seal encrypts a message to our own certificate and makes sure that it can be undone
// before anything relies on it.
func (a *Account) seal(original *spool.Spool, instance []byte) (sealed *spool.Spool, id string, err error) {
	own, err := a.ring.Certificate()
	if err != nil {
		return nil, "", err
	}
	key, err := a.ring.SealKey()
	if err != nil {
		return nil, "", err
	}
	sealed = spool.New(a.bridge.spoolDir)
	id, err = pgpmime.Seal(sealed, original, own, key, instance, a.bridge.now())
	if err == nil {
		err = a.opensTo(sealed, original)
	}
	if err != nil {
		_ = sealed.Close()
		return nil, "", fmt.Errorf("sealing: %w", err)
	}
	return sealed, id, nil
}

// opensTo is nil if the sealed message decrypts to exactly the original's bytes.
func (a *Account) opensTo(sealed, original *spool.Spool) error {
	keys, giveBack, err := a.keys()
	if err != nil {
		return err
	}
	defer giveBack()
	opened, err := pgpmime.Unseal(sealed, keys, a.bridge.spoolDir)
	if err != nil {
		return err
	}
	defer opened.Close()
	return sameBytes(opened, original)
}

// isContentOf is nil if clear is exactly what the sealed message decrypts to.
func (a *Account) isContentOf(clear, sealed *spool.Spool) error { return a.opensTo(sealed, clear) }

func (a *Account) recordSealing(ctx context.Context, verb, mailbox string, uid imap.UID) {
	err := a.bridge.audit.Append(context.WithoutCancel(ctx), audit.Entry{
		Time: a.bridge.now(), Account: a.Address(), Event: verb, Mailbox: mailbox, Detail: fmt.Sprintf("uid %d", uid),
	})
	if err != nil {
		a.log.Error("the decision log could not be written", "event", verb, "cause", err)
	}
}
