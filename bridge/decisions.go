package bridge

import (
	"context"
	"errors"
	"fmt"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/keydisc"
)

// What the user decides about contacts and waiting messages goes into the log of decisions.

// AcceptContact takes the certificate that is waiting for a decision; see contacts.Book.Accept.
func (b *Bridge) AcceptContact(ctx context.Context, address string) (contacts.Contact, error) {
	c, err := b.contacts.Accept(ctx, address)
	return c, b.recordContact(ctx, "accepted", c, err)
}

// KeepContact stays with the pinned certificate where another one is waiting; see contacts.Book.Keep.
func (b *Bridge) KeepContact(ctx context.Context, address string) (contacts.Contact, error) {
	c, err := b.contacts.Keep(ctx, address)
	return c, b.recordContact(ctx, "kept", c, err)
}

// VerifyContact records that the user has compared a certificate; see contacts.Book.Verify.
func (b *Bridge) VerifyContact(ctx context.Context, address string, f keydisc.Fingerprint) (contacts.Contact, error) {
	c, err := b.contacts.Verify(ctx, address, f)
	return c, b.recordContact(ctx, "verified", c, err)
}

// BlockContact stops mail to an address, and ends that; see contacts.Book.Block.
func (b *Bridge) BlockContact(ctx context.Context, address string, on bool) (contacts.Contact, error) {
	what := map[bool]string{true: "blocked", false: "unblocked"}[on]
	c, err := b.contacts.Block(ctx, address, on)
	return c, b.recordContact(ctx, what, c, err)
}

// ForgetContact makes an address a stranger's; see contacts.Book.Forget.
func (b *Bridge) ForgetContact(ctx context.Context, address string) error {
	err := b.contacts.Forget(ctx, address)
	return b.recordContact(ctx, "forgotten", contacts.Contact{Address: normalized(address)}, err)
}

func (b *Bridge) recordContact(ctx context.Context, what string, c contacts.Contact, err error) error {
	if err != nil {
		return err
	}
	e := audit.Entry{Time: b.now(), Event: "contact", Recipient: c.Address, Detail: what}
	if c.Certificate != nil {
		e.Fingerprint = string(c.Certificate.Fingerprint())
	}
	return b.audit.Append(ctx, e)
}

// CancelQueued forgets a message of the outbox by the user's own act; see outbox.Cancel. Each recipient who does not
// get it is in the log.
func (b *Bridge) CancelQueued(ctx context.Context, id int64) error {
	m, err := b.outbox.Cancel(ctx, id)
	if err != nil {
		return err
	}
	entries := make([]audit.Entry, len(m.To))
	for i, to := range m.To {
		entries[i] = audit.Entry{Time: b.now(), Account: m.Account, Event: "outbox", MessageID: m.MessageID, Recipient: to, Detail: "cancelled"}
	}
	return b.audit.Append(ctx, entries...)
}

// SafetyNumber is what the user and a contact compare. Candidate is the certificate that it is about.
type SafetyNumber struct {
	Number    keydisc.SafetyNumber
	Candidate *keydisc.Certificate
	Pending   bool // it is the one that waits for a decision
}

// SafetyNumbers are those of the owner and a contact: with the pinned certificate, and with the one that waits for
// a decision. The error is contacts.ErrNone if there is neither.
func (o *Owner) SafetyNumbers(ctx context.Context, address string) ([]SafetyNumber, error) {
	own, err := o.ring.Certificate()
	if err != nil {
		return nil, fmt.Errorf("%s has no key; make one with sealpost key generate: %w", o.Address(), err)
	}
	known, err := o.home.contacts.Certificates(ctx, address)
	if err != nil {
		return nil, err
	}
	var numbers []SafetyNumber
	for i, c := range known {
		number, err := keydisc.NewSafetyNumber(o.Address(), own, address, c)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, SafetyNumber{number, c, i > 0})
	}
	if len(numbers) == 0 {
		return nil, contacts.ErrNone
	}
	return numbers, nil
}

// ErrMismatch says that a safety number is of another certificate than those known of the contact.
var ErrMismatch = errors.New("it is not the safety number of any certificate known for this contact")

// VerifyByNumber records the contact's certificate as compared whose safety number the text is: digits, or what a
// QR code holds. ErrMismatch if it is none.
func (o *Owner) VerifyByNumber(ctx context.Context, address, text string) (contacts.Contact, error) {
	numbers, err := o.SafetyNumbers(ctx, address)
	if err != nil {
		return contacts.Contact{}, err
	}
	for _, n := range numbers {
		same, err := n.Number.Matches(text)
		if err != nil {
			return contacts.Contact{}, err
		}
		if same {
			return o.home.VerifyContact(ctx, address, n.Candidate.Fingerprint())
		}
	}
	return contacts.Contact{}, ErrMismatch
}
