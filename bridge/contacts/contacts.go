// Package contacts remembers the certificates of correspondents: where each came
// from, which one is pinned, and that an address ever had one. A pin is never
// replaced silently: only the user's own act does that.
package contacts

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/keydisc"
)

// Trust in a contact's certificate, as shown to users.
type Trust string

const (
	Unknown  Trust = "unknown"  // no certificate
	Pinned   Trust = "pinned"   // first use; kept since
	Verified Trust = "verified" // the user's own, or compared by the user
	Changed  Trust = "changed"  // another certificate was found; the pin stays, sending stops
)

// Source says where a certificate came from: "wkd", "vks", "autocrypt", "import", …
type Source string

// The sources that are no network method.
const (
	SourceAutocrypt Source = "autocrypt"
	SourceImport    Source = "import"
)

// Contact is what is known of one address.
type Contact struct {
	Address     string               // normalised
	Certificate *keydisc.Certificate // the pinned one; nil: none now
	Source      Source
	Trust       Trust
	FirstSeen   time.Time
	LastUsed    time.Time           // zero: never encrypted to
	Pending     keydisc.Fingerprint // a conflicting certificate waiting for the user; "" none
	Ever        bool                // this address had a certificate at some time
}

// How long answers of the network are taken for fresh, by their kind. An answer that was
// not definite is never kept.
const (
	foundLife = 24 * time.Hour // then it is asked again in the background
	noneLife  = time.Hour
	tryLife   = time.Hour // between two questions for the sake of a signature
)

// Options of a Book.
type Options struct {
	DB           *store.DB
	Finder       *keydisc.Finder // nil: no network lookups
	UseAutocrypt bool            // certificates in Autocrypt fields count; else Learn does nothing
	Log          *slog.Logger
	Now          func() time.Time
}

// Book is the contacts of one installation, shared by its accounts. Safe for concurrent use.
type Book struct {
	o      Options
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	asking sync.Map // addresses being refreshed
}

// New makes a Book on the database. Close ends its background work.
func New(o Options) *Book {
	b := &Book{o: o}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Close ends background refreshes and waits for them.
func (b *Book) Close() error {
	b.cancel()
	b.wg.Wait()
	return nil
}

// Lookup is the answer for one recipient of an outgoing message.
type Lookup struct {
	Contact
	// Usable is nil if Certificate may be encrypted to now; else the reason: an
	// *keydisc.UnusableError, *ChangedError, or ErrNone.
	Usable error
	// Conclusive is false if no usable certificate was found and some method could
	// not give a definite answer; Cause then says why (for the log).
	Conclusive bool
	Cause      error
}

// ErrNone says that no certificate is known for the address.
var ErrNone = errors.New("no certificate is known for this address")

// ChangedError: the address now shows another certificate than the pinned one.
type ChangedError struct {
	Address         string
	Pinned, Pending keydisc.Fingerprint
}

func (e *ChangedError) Error() string { return e.Address + " now shows another certificate" }

// Lookup finds the certificate for a recipient: the pinned one if usable, else by
// the Finder; a first find is pinned. Fresh positive and negative answers are served
// from the database (positive: refreshed daily in the background; negative: 1 h;
// inconclusive: never kept). It never blocks longer than the Finder's deadline.
func (b *Book) Lookup(ctx context.Context, address string) Lookup {
	normal, err := keydisc.NormalizeAddress(address)
	if err != nil {
		return Lookup{Contact: Contact{Address: address, Trust: Unknown}, Usable: ErrNone, Cause: err}
	}
	r, err := b.get(ctx, normal)
	if err != nil {
		return failed(normal, err)
	}
	now := b.o.Now()
	switch l := b.judge(r, now); {
	case l.Usable == nil:
		if now.Sub(r.asked) > foundLife {
			b.refresh(normal)
		}
		return l
	case r.pending != nil, r.certificate == nil && now.Sub(r.asked) < noneLife:
		return l
	}
	return b.ask(ctx, normal)
}

// failed is the answer where the database or the address gave none: never a definite one.
func failed(address string, err error) Lookup {
	return Lookup{Contact: Contact{Address: address, Trust: Unknown, Ever: true}, Usable: ErrNone, Cause: err}
}

// judge turns a row into an answer.
func (b *Book) judge(r *row, now time.Time) Lookup {
	l := Lookup{Contact: r.contact(), Conclusive: true}
	switch {
	case r.certificate == nil:
		l.Usable = ErrNone
	case r.pending != nil:
		l.Usable = &ChangedError{r.address, r.certificate.Fingerprint(), r.pending.Fingerprint()}
	default:
		l.Usable = r.certificate.Check(r.address, now)
	}
	return l
}

// ask asks the network and takes what it says under the rules of a first pin.
func (b *Book) ask(ctx context.Context, address string) Lookup {
	answer := keydisc.Answer{Address: address, Conclusive: true}
	if b.o.Finder != nil {
		answer = b.o.Finder.Find(ctx, address)
	}
	r, err := b.take(context.WithoutCancel(ctx), address, answer)
	if err != nil {
		return failed(address, err)
	}
	l := b.judge(r, b.o.Now())
	if l.Usable != nil {
		l.Conclusive, l.Cause = answer.Conclusive, answer.Err
	}
	return l
}

// take records an answer of the network.
func (b *Book) take(ctx context.Context, address string, answer keydisc.Answer) (*row, error) {
	return b.change(ctx, address, func(r *row, now time.Time) {
		if answer.Conclusive {
			r.asked = now
		}
		keepsPin := false
		for _, f := range answer.Found {
			keepsPin = keepsPin || r.is(f.Certificate)
		}
		for _, f := range answer.Found {
			if !keepsPin || r.is(f.Certificate) {
				r.offer(f.Certificate, Source(f.Source), now)
			}
		}
	})
}

// refresh asks the network in the background, once at a time for an address.
func (b *Book) refresh(address string) {
	if _, busy := b.asking.LoadOrStore(address, true); busy || b.o.Finder == nil || b.ctx.Err() != nil {
		return
	}
	b.wg.Go(func() {
		defer b.asking.Delete(address)
		l := b.ask(b.ctx, address)
		if l.Cause != nil {
			b.o.Log.Debug("a certificate could not be refreshed", "address", address, "cause", l.Cause)
		}
	})
}

// ForVerification returns the certificates with which a signature by address may be
// checked (the pinned one, then the pending). It asks the network only if none is known,
// and at most once an hour for an address.
func (b *Book) ForVerification(ctx context.Context, address string) []Contact {
	normal, err := keydisc.NormalizeAddress(address)
	if err != nil {
		return nil
	}
	r, err := b.get(ctx, normal)
	if err == nil && r.certificate == nil && b.o.Finder != nil && b.o.Now().Sub(r.tried) > tryLife {
		_, err = b.change(ctx, normal, func(r *row, now time.Time) { r.tried = now })
		if err == nil {
			b.ask(ctx, normal)
			r, err = b.get(ctx, normal)
		}
	}
	if err != nil {
		b.o.Log.Warn("certificates of a sender could not be read", "address", normal, "cause", err)
		return nil
	}
	return r.candidates()
}

// Learn records a certificate that came with mail (Autocrypt), under the rules of a
// first pin; a conflicting one becomes pending. An effective date before that of a field taken earlier
// is ignored: it may be a replay.
func (b *Book) Learn(ctx context.Context, address string, c *keydisc.Certificate, s Source, effective time.Time) error {
	normal, err := keydisc.NormalizeAddress(address)
	if err != nil || !b.o.UseAutocrypt {
		return err
	}
	own, err := c.ForAddress(normal)
	if err != nil {
		return err
	}
	_, err = b.change(ctx, normal, func(r *row, now time.Time) {
		if effective.Before(r.autocryptSeen) {
			return
		}
		r.autocryptSeen = effective
		r.offer(own, s, now)
	})
	return err
}

// Import pins certificates by the user's own act, replacing an earlier pin; returns
// the contacts made or changed, one per address on the certificate.
func (b *Book) Import(ctx context.Context, certs []*keydisc.Certificate) ([]Contact, error) {
	var imported []Contact
	for _, c := range certs {
		if len(c.Addresses()) == 0 {
			return imported, errors.New("certificate " + string(c.Fingerprint()) + " has no mail address; nothing can be sent to it")
		}
		for _, address := range c.Addresses() {
			own, err := c.ForAddress(address)
			if err != nil {
				return imported, err
			}
			r, err := b.change(ctx, address, func(r *row, now time.Time) { r.pin(own, SourceImport, now) })
			if err != nil {
				return imported, err
			}
			imported = append(imported, r.contact())
		}
	}
	return imported, nil
}

// Get returns a contact; ok is false if the address never had a certificate.
func (b *Book) Get(ctx context.Context, address string) (c Contact, ok bool, err error) {
	normal, err := keydisc.NormalizeAddress(address)
	if err != nil {
		return c, false, err
	}
	r, err := b.get(ctx, normal)
	if err != nil {
		return c, false, err
	}
	return r.contact(), r.certificate != nil, nil
}

// Used notes that mail was encrypted to the contact.
func (b *Book) Used(ctx context.Context, address string, at time.Time) error {
	normal, err := keydisc.NormalizeAddress(address)
	if err != nil {
		return err
	}
	_, err = b.change(ctx, normal, func(r *row, _ time.Time) { r.lastUsed = at })
	return err
}
