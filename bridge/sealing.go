package bridge

import (
	"cmp"
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

// errSkipped: there is nothing to replace, or its owner is removing it.
var errSkipped = errors.New("the message is left as it is")

// sealArriving seals new mail for the mirror, to which a message that need not be sealed is as good as one that is.
func (a *Account) sealArriving(ctx context.Context, mailbox string, validity uint32, uid imap.UID) error {
	if err := a.sealMessage(ctx, mailbox, validity, uid); !errors.Is(err, errSkipped) {
		return err
	}
	return nil
}

// sealMessage replaces a clear message at the provider by its sealed copy. It fails without having removed
// anything if any step is in doubt, with errSkipped if the message is unreadable there already.
func (a *Account) sealMessage(ctx context.Context, mailbox string, validity uint32, uid imap.UID) error {
	return a.replace(ctx, journalRow{mailbox: mailbox, validity: validity, uid: uid, verb: verbSeal}, func(r *replacement) (err error) {
		if readable, err := pgpmime.Readable(r.original); err != nil || !readable {
			return cmp.Or(err, errSkipped)
		}
		r.copy, r.row.sealID, err = a.seal(r.original, instanceOf(mailbox, validity, uid))
		return err
	})
}

// unsealMessage replaces a message that we sealed by its original bytes.
func (a *Account) unsealMessage(ctx context.Context, mailbox string, validity uint32, uid imap.UID) error {
	return a.replace(ctx, journalRow{mailbox: mailbox, validity: validity, uid: uid, verb: verbUnseal}, func(r *replacement) (err error) {
		r.copy, err = a.unseal(r.original)
		return err
	})
}

// replace takes all steps: those that an earlier attempt at the same message has left to do, or all anew.
// makeCopy sets the copy.
func (a *Account) replace(ctx context.Context, row journalRow, makeCopy func(r *replacement) error) error {
	a.replacing.Lock() // one replacement at a time: the journal's rows never overlap
	defer a.replacing.Unlock()
	row.account = a.Address()
	if finished, err := a.finishEarlier(ctx, row); finished || err != nil {
		return err
	}
	r, err := a.fetchForReplacement(ctx, row)
	if err != nil {
		return err
	}
	defer r.Close()
	if r.marked(imap.FlagDeleted) {
		return errSkipped // its owner is removing it
	}
	if err := makeCopy(r); err != nil {
		return err
	}
	if err := r.run(ctx); err != nil {
		return err
	}
	a.recordSealing(ctx, row.verb, row.mailbox, row.uid)
	return nil
}

// finishEarlier ends an earlier attempt at the same message that is in the journal.
func (a *Account) finishEarlier(ctx context.Context, row journalRow) (finished bool, err error) {
	rows, err := a.bridge.journal.replacements(ctx, a.Address())
	if err != nil {
		return false, err
	}
	for _, earlier := range rows {
		if earlier.mailbox == row.mailbox && earlier.validity == row.validity && earlier.uid == row.uid {
			return a.finishReplacement(ctx, earlier)
		}
	}
	return false, nil
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
		if _, err := a.finishReplacement(ctx, row); err != nil {
			a.log.Warn("a half-done replacement is left for the next start", "verb", row.verb, "mailbox", row.mailbox, "uid", row.uid, "cause", err)
		}
	}
	return nil
}

// finishReplacement ends one of them. finished is false if there is no copy: then all is to be done anew. An error
// leaves the row.
func (a *Account) finishReplacement(ctx context.Context, row journalRow) (finished bool, err error) {
	finished, err = a.conclude(ctx, row)
	switch {
	case errors.Is(err, errGone): // the original went, so the copy had been compared
		finished, err = true, nil
	case errors.Is(err, errDifferent):
		finished, err = false, nil
	case err != nil:
		return false, err
	}
	if finished {
		a.recordSealing(ctx, row.verb, row.mailbox, row.uid)
	}
	return finished, a.bridge.journal.end(context.WithoutCancel(ctx), row.id)
}

func (a *Account) conclude(ctx context.Context, row journalRow) (finished bool, err error) {
	r, err := a.fetchForReplacement(ctx, row)
	if err != nil {
		return false, err
	}
	defer r.Close()
	if r.marked(imap.FlagDeleted) && !row.removing {
		return false, nil // its owner is removing it
	}
	uid, err := r.earlierCopy()
	if err != nil || uid == 0 {
		return false, err
	}
	return true, r.conclude(ctx, uid)
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
	opened, err := a.unseal(sealed)
	if err != nil {
		return err
	}
	defer opened.Close()
	return sameBytes(opened, original)
}

// errLocked is not said of a message: without keys nothing can be found out about any.
var errLocked = errors.New("the account's keys are not at hand")

// unseal is the original of a sealed message.
func (a *Account) unseal(sealed *spool.Spool) (*spool.Spool, error) {
	keys, giveBack, err := a.keys()
	if err != nil {
		return nil, err
	}
	defer giveBack()
	if len(keys.Decrypters) == 0 {
		return nil, errLocked
	}
	return pgpmime.Unseal(sealed, keys, a.bridge.spoolDir)
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
