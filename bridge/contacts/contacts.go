// Package contacts remembers the certificates of correspondents: where each came
// from, which one is pinned, and that an address ever had one. A pin is never
// replaced silently. It keeps them fresh, and takes in the lists in which organisations
// vouch for them.
package contacts

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/keydisc"
)

// Trust in a contact's certificate, as shown to users.
type Trust string

// The degrees of trust.
const (
	Unknown  Trust = "unknown"  // no certificate
	Pinned   Trust = "pinned"   // first use; kept since
	Verified Trust = "verified" // compared by the user, or vouched for by a list that the user trusts
	Changed  Trust = "changed"  // another certificate was found; the pin stays, sending stops
)

// Source says where a certificate came from: a keydisc.Method or one of the constants.
type Source string

// The sources that are not network methods.
const (
	SourceAutocrypt Source = "autocrypt" // the sender's own field: it contests only pins that came with mail
	SourceGossip    Source = "gossip"    // another recipient's, told by the sender: it can start a pin but not contest one
	SourceImport    Source = "import"    // the user's own act
	SourceList      Source = "list"      // an organisation's signed list; see List
)

// Contact is what is known of one address.
type Contact struct {
	Address     string               // lower case
	Certificate *keydisc.Certificate // the pinned one; nil: none now
	Source      Source
	Trust       Trust
	FirstSeen   time.Time
	LastUsed    time.Time           // zero: never encrypted to
	Pending     keydisc.Fingerprint // a conflicting certificate waiting for the user; "" none
	Ever        bool                // this address had a certificate at some time, usable or not, or a list names one
	Verified    time.Time           // when the user compared the pinned certificate; zero: never
	Blocked     bool                // no mail goes there
	InUse       bool                // mail was encrypted to the pin, or the user has decided about it; a stranger's never is
	VouchedBy   string              // the URL of the list that vouches for the pinned certificate; "" none
	VerifyBy    time.Time           // when the comparison should be repeated; zero: never, or there was none
}

// Finder asks the network, see keydisc.Finder.
type Finder interface {
	Find(ctx context.Context, address string) keydisc.Answer
	Refresh(ctx context.Context, fp keydisc.Fingerprint) ([]keydisc.Found, error)
	List(ctx context.Context, s keydisc.ListSource) (*keydisc.List, error)
}

// Options of a Book.
type Options struct {
	DB     *store.DB
	Finder Finder // nil: no network lookups
	Lists  []List // in which organisations vouch for certificates
	// VerifyEvery is how long a comparison by the user counts as recent; 0: for ever.
	VerifyEvery time.Duration
	// UseAutocrypt says whether Learn records anything (method "autocrypt").
	UseAutocrypt bool
	// Changed, if not nil, is called after contacts may have changed; it must not block.
	Changed func()
	Log     *slog.Logger     // nil: none
	Now     func() time.Time // nil: time.Now
}

// Book is the contacts of one installation, shared by its accounts. It is safe for
// concurrent use. Its maker closes it, before the database.
type Book struct {
	options Options
	ctx     context.Context // of the searches, which may outlive the call that began them
	cancel  context.CancelFunc
	running sync.WaitGroup
	lists   atomic.Pointer[[]List]

	mu       sync.Mutex
	closed   bool
	searches map[string]*search // by address; one at a time for each
	learned  map[string]lesson  // by address: what Learn need not look at again
}

// New makes a Book on the database.
func New(o Options) *Book {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &Book{options: o, ctx: ctx, cancel: cancel, searches: map[string]*search{}, learned: map[string]lesson{}}
	b.SetLists(o.Lists)
	return b
}

// Close ends the searches under way and waits for them. It may be called twice; the error is always nil.
func (b *Book) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cancel()
	b.running.Wait()
	return nil
}

// ErrNone says that no certificate is known or was found for an address.
var ErrNone = errors.New("there is no certificate for this address")

// ChangedError says that the address now shows another certificate than the pinned one.
// Importing one of the two decides.
type ChangedError struct {
	Address         string
	Pinned, Pending keydisc.Fingerprint
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s now shows the certificate %s instead of %s", e.Address, e.Pending, e.Pinned)
}

// Learn records a certificate that came with mail (Autocrypt), under the rules of a
// first pin; a conflicting one becomes pending only if the pin came with mail, too. The
// effective date guards against replays of old fields (Autocrypt 1.1 §2.3). A certificate that cannot be
// encrypted to is not recorded: the error is then a *keydisc.UnusableError.
func (b *Book) Learn(ctx context.Context, address string, c *keydisc.Certificate, s Source, effective time.Time) error {
	if !b.options.UseAutocrypt {
		return nil
	}
	address, err := keydisc.NormalizeAddress(address)
	if err != nil {
		return err
	}
	now := b.options.Now()
	if effective.After(now) {
		effective = now
	}
	taught := lesson{c, s, effective}
	if b.knows(address, taught) {
		return nil
	}
	if err := c.Check(address, now); err != nil {
		return err
	}
	own, err := c.ForAddress(address)
	if err != nil {
		return err
	}
	if err := b.change(ctx, address, func(r *record) error { return r.learn(own, s, effective, now) }); err != nil {
		return err
	}
	b.remember(address, taught)
	return nil
}

// lesson is what Learn was told. The same certificate with an older date changes nothing: it
// comes with every message of a correspondent.
type lesson struct {
	certificate *keydisc.Certificate
	source      Source
	effective   time.Time
}

const maxLearned = 1000

func (b *Book) knows(address string, l lesson) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	known, ok := b.learned[address]
	return ok && known.source == l.source && !l.effective.After(known.effective) && bytes.Equal(known.certificate.Bytes(), l.certificate.Bytes())
}

func (b *Book) remember(address string, l lesson) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.learned) >= maxLearned {
		clear(b.learned)
	}
	b.learned[address] = l
}

// changed comes after every change: what was of no consequence may be now.
func (b *Book) changed(addresses ...string) {
	b.mu.Lock()
	for _, address := range addresses {
		delete(b.learned, address)
	}
	b.mu.Unlock()
	b.options.Changed()
}

// RefusedError says which addresses an import did not pin, and why. The others are pinned.
type RefusedError struct {
	Reasons []error // each names its address
}

func (e *RefusedError) Error() string   { return errors.Join(e.Reasons...).Error() }
func (e *RefusedError) Unwrap() []error { return e.Reasons }

// Import pins certificates by the user's own act, replacing an earlier pin; returns
// the contacts made or changed, one per address on the certificates. Certificates that cannot be encrypted to
// are refused unless they bring news, such as a revocation, of a pinned one: the error is then a *RefusedError.
// On any other error nothing is changed.
func (b *Book) Import(ctx context.Context, certs []*keydisc.Certificate) ([]Contact, error) {
	addresses, byAddress, err := sortByAddress(certs)
	if err != nil {
		return nil, err
	}
	defer b.changed(addresses...)
	var contacts []Contact
	var refused RefusedError
	now := b.options.Now()
	err = b.options.DB.Write(ctx, func(tx *sql.Tx) error {
		contacts, refused.Reasons = nil, nil
		for _, address := range addresses {
			r, err := b.load(ctx, tx, address)
			if err != nil {
				return err
			}
			if err := r.replace(byAddress[address], now); err != nil {
				refused.Reasons = append(refused.Reasons, fmt.Errorf("%s: %w", address, err))
				continue
			}
			if err := r.save(ctx, tx); err != nil {
				return err
			}
			contacts = append(contacts, r.contact())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(refused.Reasons) > 0 {
		return contacts, &refused
	}
	return contacts, nil
}

// sortByAddress lists the addresses in order of appearance, each with its certificate. Two different
// ones for an address leave open which the user means.
func sortByAddress(certs []*keydisc.Certificate) (addresses []string, byAddress map[string]*keydisc.Certificate, err error) {
	byAddress = map[string]*keydisc.Certificate{}
	for _, c := range certs {
		if len(c.Addresses()) == 0 {
			return nil, nil, fmt.Errorf("certificate %s names no mail address", c.Fingerprint())
		}
		for _, address := range c.Addresses() {
			other := byAddress[address]
			if other != nil && other.Fingerprint() != c.Fingerprint() {
				return nil, nil, fmt.Errorf("there are two certificates for %s, %s and %s: import only the right one", address, other.Fingerprint(), c.Fingerprint())
			}
			if other == nil {
				addresses = append(addresses, address)
			}
			byAddress[address] = c
		}
	}
	if len(addresses) == 0 {
		return nil, nil, errors.New("there is no certificate to import")
	}
	return addresses, byAddress, nil
}

// List returns all contacts ordered by address.
func (b *Book) List(ctx context.Context) ([]Contact, error) {
	records, err := b.loadAll(ctx, b.options.DB.Read())
	if err != nil {
		return nil, store.Explain(err)
	}
	contacts := make([]Contact, len(records))
	for i, r := range records {
		contacts[i] = r.contact()
	}
	return contacts, nil
}

// Get returns one contact; ok is false if the address never had a certificate.
func (b *Book) Get(ctx context.Context, address string) (c Contact, ok bool, err error) {
	address, err = keydisc.NormalizeAddress(address)
	if err != nil {
		return Contact{}, false, err
	}
	r, err := b.load(ctx, b.options.DB.Read(), address)
	if err != nil {
		return Contact{}, false, store.Explain(err)
	}
	return r.contact(), r.ever(), nil
}

// Used notes that mail was encrypted to the contact.
func (b *Book) Used(ctx context.Context, address string, at time.Time) error {
	address, err := keydisc.NormalizeAddress(address)
	if err != nil {
		return err
	}
	return b.options.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE contact SET last_used = ?1 WHERE address = ?2 AND last_used < ?1`, at.UnixNano(), address)
		return err
	})
}

// change loads, changes and saves one record in one transaction.
func (b *Book) change(ctx context.Context, address string, f func(*record) error) error {
	defer b.changed(address)
	return b.options.DB.Write(ctx, func(tx *sql.Tx) error {
		r, err := b.load(ctx, tx, address)
		if err == nil {
			err = f(&r)
		}
		if err != nil || !r.ever() {
			return err
		}
		return r.save(ctx, tx)
	})
}
