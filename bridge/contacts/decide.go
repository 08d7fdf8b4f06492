package contacts

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/keydisc"
)

// What only the user decides. No answer of the network and no mail undoes any of it.

// ErrNothingPending says that there is no other certificate to accept.
var ErrNothingPending = errors.New("no other certificate is waiting for a decision")

// BlockedError says that the user wants no mail to go to the address.
type BlockedError struct{ Address string }

func (e *BlockedError) Error() string { return e.Address + " is blocked" }

// Accept makes the pending certificate the pinned one. What was pinned is dismissed: finding it again is no change.
// ErrNothingPending if there is none; a *keydisc.UnusableError if it can no longer be encrypted to.
func (b *Book) Accept(ctx context.Context, address string) (Contact, error) {
	return b.decide(ctx, address, func(r *record, now time.Time) error {
		return r.accept(r.rival(), now)
	})
}

// Verify says that the user has compared the certificate with that fingerprint with the contact's own, over another
// channel. A pending one is accepted by that. The error is a *OtherCertificateError if it is neither.
func (b *Book) Verify(ctx context.Context, address string, f keydisc.Fingerprint) (Contact, error) {
	return b.decide(ctx, address, func(r *record, now time.Time) error {
		if rival := r.rival(); rival != nil && rival.fingerprint == f {
			if err := r.accept(rival, now); err != nil {
				return err
			}
		}
		if r.pinned == nil || r.pinned.Fingerprint() != f {
			return &OtherCertificateError{r.address, f}
		}
		// The pin is the true one: whatever else claims to be is dismissed.
		r.dismissRivals()
		r.verified = now
		return nil
	})
}

// OtherCertificateError says that the certificate is not (any more) that of the contact.
type OtherCertificateError struct {
	Address     string
	Fingerprint keydisc.Fingerprint
}

func (e *OtherCertificateError) Error() string {
	return fmt.Sprintf("%s is not the certificate of %s", e.Fingerprint, e.Address)
}

// Certificates are those that claim to be of an address: the pinned one, then the pending one.
func (b *Book) Certificates(ctx context.Context, address string) ([]*keydisc.Certificate, error) {
	address, err := keydisc.NormalizeAddress(address)
	if err != nil {
		return nil, err
	}
	r, err := b.load(ctx, b.options.DB.Read(), address)
	if err != nil {
		return nil, store.Explain(err)
	}
	known := []*keydisc.Certificate{r.pinned}
	if rival := r.rival(); rival != nil {
		known = append(known, rival.certificate)
	}
	return slices.DeleteFunc(known, func(c *keydisc.Certificate) bool { return c == nil }), nil
}

// Block stops mail to an address, whatever is known of it, and ends that.
func (b *Book) Block(ctx context.Context, address string, on bool) (Contact, error) {
	return b.decide(ctx, address, func(r *record, now time.Time) error {
		r.blocked = on
		r.seen(now)
		return nil
	})
}

// Forget forgets an address altogether, also that it ever had a certificate and what the user has decided: it is a
// stranger's from now on. ErrNone if nothing is known of it.
func (b *Book) Forget(ctx context.Context, address string) error {
	address, err := keydisc.NormalizeAddress(address)
	if err != nil {
		return err
	}
	defer b.changed(address)
	return b.options.DB.Write(ctx, func(tx *sql.Tx) error {
		r, err := b.load(ctx, tx, address)
		if err != nil {
			return err
		}
		if !r.ever() {
			return ErrNone
		}
		forgotten := record{address: address, was: r.was}
		if err := forgotten.noteChange(ctx, tx); err != nil {
			return err
		}
		if _, err = tx.ExecContext(ctx, `DELETE FROM contact WHERE address = ?`, address); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM contact_lookup WHERE address = ?`, address)
		return err
	})
}

// decide changes one record as the user wants, and returns the contact as it is then.
func (b *Book) decide(ctx context.Context, address string, f func(r *record, now time.Time) error) (c Contact, err error) {
	address, err = keydisc.NormalizeAddress(address)
	if err != nil {
		return Contact{}, err
	}
	err = b.change(ctx, address, func(r *record) error {
		if err := f(r, b.options.Now()); err != nil {
			return err
		}
		c = r.contact()
		return nil
	})
	return c, err
}

// accept pins what contests the pin, and dismisses the pin.
func (r *record) accept(chosen *rival, at time.Time) error {
	switch {
	case chosen == nil:
		return ErrNothingPending
	case chosen.certificate == nil:
		return &NotAtHandError{r.address, chosen.fingerprint}
	}
	if err := chosen.certificate.Check(r.address, at); err != nil {
		return err
	}
	r.dismiss(r.pinned.Fingerprint())
	r.dismissed = slices.DeleteFunc(r.dismissed, func(f keydisc.Fingerprint) bool { return f == chosen.fingerprint })
	r.pending, r.pendingSource = nil, ""
	r.pin(chosen.certificate, chosen.source, at)
	return nil
}

// NotAtHandError says that only the fingerprint of a certificate is known.
type NotAtHandError struct {
	Address     string
	Fingerprint keydisc.Fingerprint
}

func (e *NotAtHandError) Error() string {
	return fmt.Sprintf("a list names the certificate %s for %s, which was not found yet; import it from a file", e.Fingerprint, e.Address)
}

// dismissRivals remembers that the user has decided against all that contests the pin.
func (r *record) dismissRivals() {
	for rival := r.rival(); rival != nil; rival = r.rival() {
		r.dismiss(rival.fingerprint)
		if r.pending != nil && r.pending.Fingerprint() == rival.fingerprint {
			r.pending, r.pendingSource = nil, ""
		}
	}
}

// dismiss remembers that the user has decided against a certificate.
func (r *record) dismiss(f keydisc.Fingerprint) {
	if !slices.Contains(r.dismissed, f) {
		r.dismissed = append(r.dismissed, f)
	}
}
