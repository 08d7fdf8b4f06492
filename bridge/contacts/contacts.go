// Package contacts remembers the certificates of correspondents: where each came
// from, which one is pinned, and that an address ever had one. A pin is never
// replaced silently.
package contacts

import (
	"context"
	"log/slog"
	"time"

	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/keydisc"
)

// Trust in a contact's certificate, as shown to users.
type Trust string

const (
	Unknown  Trust = "unknown"  // no certificate
	Pinned   Trust = "pinned"   // first use; kept since
	Verified Trust = "verified" // compared by the user
	Changed  Trust = "changed"  // another certificate was found; the pin stays, sending stops
	Blocked  Trust = "blocked"
)

// Source says where a certificate came from: "wkd", "vks", "autocrypt", "import", …
type Source string

// Contact is what is known of one address.
type Contact struct {
	Address     string               // lower case
	Certificate *keydisc.Certificate // the pinned one; nil: none now
	Source      Source
	Trust       Trust
	FirstSeen   time.Time
	LastUsed    time.Time           // zero: never encrypted to
	Pending     keydisc.Fingerprint // a conflicting certificate waiting for the user; "" none
	Ever        bool                // this address had a certificate at some time
}

// Options of a Book.
type Options struct {
	DB     *store.DB
	Finder *keydisc.Finder // nil: no network lookups
	// UseContacts and UseAutocrypt say whether stored contacts and certificates
	// learned from Autocrypt headers count (methods "contacts" and "autocrypt").
	UseAutocrypt bool
	Log          *slog.Logger
	Now          func() time.Time
}

// Book is the contacts of one installation, shared by its accounts.
type Book struct{}

// New makes a Book on the database.
func New(o Options) *Book { panic("stub") }

// Lookup is the answer for one recipient of an outgoing message.
type Lookup struct {
	Contact
	// Usable is nil if Certificate may be encrypted to now; else the reason: an
	// *keydisc.UnusableError, *ChangedError, *BlockedError, or ErrNone.
	Usable error
	// Conclusive is false if no usable certificate was found and some method could
	// not give a definite answer; Cause then says why (for the log).
	Conclusive bool
	Cause      error
}

// Lookup finds the certificate for a recipient: the pinned one if usable, else by
// the Finder; a first find is pinned. Fresh positive and negative answers are served
// from the database (positive: refreshed daily in the background; negative: 1 h;
// inconclusive: never cached). It never blocks longer than the Finder's deadline.
func (b *Book) Lookup(ctx context.Context, address string) Lookup { panic("stub") }

// ForVerification returns the certificates with which a signature by address may be
// checked (pinned first, then pending). It asks the network only if none is known,
// and at most once an hour for an address.
func (b *Book) ForVerification(ctx context.Context, address string) []Contact { panic("stub") }

// Learn records a certificate that came with mail (Autocrypt), under the rules of a
// first pin; a conflicting one becomes pending only if it differs from the pin. The
// effective date guards against replays of old headers.
func (b *Book) Learn(ctx context.Context, address string, c *keydisc.Certificate, s Source, effective time.Time) error {
	panic("stub")
}

// Import pins certificates by the user's own act, replacing an earlier pin; returns
// the contacts made or changed, one per address on the certificate.
func (b *Book) Import(ctx context.Context, certs []*keydisc.Certificate) ([]Contact, error) {
	panic("stub")
}

// List returns all contacts ordered by address; Get one (ok false if never seen).
func (b *Book) List(ctx context.Context) ([]Contact, error)                    { panic("stub") }
func (b *Book) Get(ctx context.Context, address string) (Contact, bool, error) { panic("stub") }

// Used notes that mail was encrypted to the contact.
func (b *Book) Used(ctx context.Context, address string, at time.Time) error { panic("stub") }

// ChangedError: the address now shows another certificate than the pinned one.
type ChangedError struct {
	Address         string
	Pinned, Pending keydisc.Fingerprint
}

func (e *ChangedError) Error() string { return e.Address + " now shows another certificate" }
