// Package mirror is what the provider's mailboxes hold, and what their messages say once
// opened. Reads are answered from it; changes go to the provider first and then into it.
// UIDs and UIDVALIDITY are the provider's.
//
// State (UIDs, flags, dates) is synced by UID, in sync.go; content is opened once, in open.go,
// and kept in a bounded cache; change.go changes the provider; hold.go keeps new clear mail
// back until its sealed copy has taken its place; run.go is what happens by itself.
// Everything is in the encrypted database: there are no files.
package mirror

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/bridge/upstream"
)

// Blob is a message that is held somewhere until closed.
type Blob interface {
	mimescan.Source
	io.Closer
}

// Kind is how a message rests at the provider.
type Kind string

const (
	Clear     Kind = "clear"
	Encrypted Kind = "encrypted" // end-to-end, by its sender
	Sealed    Kind = "sealed"    // by us
	Failed    Kind = "failed"    // ciphertext we cannot open
)

// Opened is a message as the client is to see it, status field included.
type Opened struct {
	Message  Blob // closed by the mirror
	Kind     Kind
	Keywords []imap.Flag // $Encrypted, $SignedGood, … of this moment
	Hash     []byte      // SHA-256 of the stored bytes
	// Save, if not nil, saves what belongs with it, in the transaction that saves the message.
	Save func(ctx context.Context, b *store.Batch) error
}

// Options of a Mirror.
type Options struct {
	DB       *store.DB
	Account  string // its address: the key of its rows
	Provider *upstream.Provider
	// Open turns stored bytes into what the client sees. An error means "not now"; bad mail
	// is not an error. It is called from several goroutines at once.
	Open func(ctx context.Context, stored mimescan.Source) (*Opened, error)
	// Seal replaces a clear message at the provider by its sealed copy; nil: never. ShouldSeal
	// says for which mailboxes (nil: all). Seal may use the mirror, with the context it is given:
	// Append then does not wait for the message that is being replaced.
	Seal       func(ctx context.Context, mailbox string, validity uint32, uid imap.UID) error
	ShouldSeal func(mailbox string) bool
	Keeper     Keeper        // of what is deleted; nil: nothing is kept
	HoldBack   time.Duration // how long a new clear message is held back for sealing; 0: 5 s
	CacheSize  int64         // bytes of opened bodies kept; 0: 2 GiB
	SpoolDir   string
	Log        *slog.Logger
}

// Errors that imapd turns into response codes.
var (
	ErrNoMailbox = errors.New("no such mailbox")
	ErrOffline   = errors.New("the provider cannot be reached")
	ErrExpunged  = errors.New("message is gone")
)

// errReplaced says that UIDs of the mirror mean nothing at the provider any more.
var errReplaced = errors.New("the mailbox was replaced at the provider (its UIDVALIDITY changed); select it again")

// Mirror is one account's mailboxes. Safe for concurrent use.
type Mirror struct {
	o    Options
	poll time.Duration // between looks at mailboxes that are not live

	sleepCheck time.Duration // between looks at the clocks
	demand     atomic.Int64  // callers that wait for messages: the background work lets them pass
	cached     atomic.Int64  // bytes in chunk of this account
	wake       wakers
	awake      bell
	clock      clock
	running    atomic.Bool
	filling    atomic.Bool // there are messages to open

	mu      sync.Mutex // taken before a box's mem
	boxes   map[string]*box
	flags   flagSets
	listing sync.Mutex   // one LIST at a time
	listed  atomic.Int64 // Unix nanoseconds of the last
}

// wakers tell the parts of Run that there is something to do.
type wakers struct{ fill, seal, hold, live, poll, index waker }

// waker is a signal that is not lost if nobody waits for it yet.
type waker chan struct{}

func (w waker) set() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// New opens the mirror; what an earlier run synced is served at once.
func New(ctx context.Context, o Options) (*Mirror, error) {
	if o.HoldBack == 0 {
		o.HoldBack = 5 * time.Second
	}
	if o.CacheSize == 0 {
		o.CacheSize = 2 << 30
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	m := &Mirror{o: o, poll: time.Minute, sleepCheck: sleepCheck, clock: systemClock(), boxes: map[string]*box{}}
	m.wake = wakers{make(waker, 1), make(waker, 1), make(waker, 1), make(waker, 1), make(waker, 1), make(waker, 1)}
	if err := m.recover(ctx); err != nil {
		return nil, fmt.Errorf("open the mirror of %s: %w", o.Account, err)
	}
	return m, nil
}

// recover removes what a crash left half written and takes the cache's measure.
func (m *Mirror) recover(ctx context.Context) error {
	err := m.o.DB.Write(ctx, func(tx *sql.Tx) error {
		const half = `SELECT id FROM content WHERE account = ? AND kind = ''`
		if _, err := tx.ExecContext(ctx, `DELETE FROM chunk WHERE content IN (`+half+`)`, m.o.Account); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM content WHERE account = ? AND kind = ''`, m.o.Account)
		return err
	})
	if err != nil {
		return err
	}
	var cached int64
	err = m.o.DB.Read().QueryRowContext(ctx,
		`SELECT coalesce(sum(cached), 0) FROM content WHERE account = ?`, m.o.Account).Scan(&cached)
	m.cached.Store(cached)
	return err
}

// Counts for status: all mailboxes together.
type Counts struct{ Mailboxes, Messages, Opened, Sealed, Clear int }

// Counts of the account.
func (m *Mirror) Counts(ctx context.Context) (Counts, error) {
	var c Counts
	err := m.o.DB.Read().QueryRowContext(ctx, `SELECT count(*) FROM mailbox WHERE account = ?`, m.o.Account).Scan(&c.Mailboxes)
	if err != nil {
		return c, fmt.Errorf("count the mailboxes: %w", err)
	}
	err = m.o.DB.Read().QueryRowContext(ctx, `
		SELECT count(*), count(c.id), coalesce(sum(c.kind = 'sealed'), 0), coalesce(sum(c.kind = 'clear'), 0)
		FROM mailbox b JOIN message m ON m.mailbox = b.id LEFT JOIN content c INDEXED BY content_state ON c.id = m.content
		WHERE b.account = ?`, m.o.Account).Scan(&c.Messages, &c.Opened, &c.Sealed, &c.Clear)
	if err != nil {
		return c, fmt.Errorf("count the messages: %w", err)
	}
	return c, nil
}

// Messages is how many there are in all mailboxes.
func (m *Mirror) Messages(ctx context.Context) (n int, err error) {
	err = m.o.DB.Read().QueryRowContext(ctx, `SELECT count(*) FROM mailbox b JOIN message m ON m.mailbox = b.id WHERE b.account = ?`, m.o.Account).Scan(&n)
	return n, err
}

// sealed says whether new clear mail of a mailbox is to be sealed.
func (m *Mirror) shouldSeal(mailbox string) bool {
	return m.o.Seal != nil && (m.o.ShouldSeal == nil || m.o.ShouldSeal(mailbox))
}

// offline turns an error of the provider into what callers get: its refusals unwrap to
// *imap.Error, everything else is ErrOffline.
func offline(err error) error {
	var refused *imap.Error
	switch {
	case err == nil, errors.As(err, &refused), errors.Is(err, ErrNoMailbox), errors.Is(err, errReplaced), errors.Is(err, ErrOffline):
		return err
	}
	return fmt.Errorf("%w: %w", ErrOffline, err)
}

// isRefusal says whether the provider answered NO or BAD.
func isRefusal(err error) bool {
	var refused *imap.Error
	return errors.As(err, &refused)
}
