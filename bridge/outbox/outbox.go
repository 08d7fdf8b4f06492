// Package outbox is the durable queue of messages that still have to reach somebody:
// transactions that failed after another of the same message had succeeded, and the bounces
// that tell the user. Bodies are already encrypted, or clear by a named rule.
//
// A message is a row and its body's chunks. The queue library's job holds only the row's
// number and says when; what happened and what comes next is decided here, in one transaction each.
package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/bridge/upstream"
)

// Message waits for delivery.
type Message struct {
	ID        int64
	Account   string
	MessageID string // for the user and the log
	From      string
	To        []string
	UTF8      bool // SMTPUTF8 was asked for (RFC 6531)
	Notice    upstream.Notice
	Queued    time.Time
	NextTry   time.Time
	Attempts  int
	LastError string
}

// Submitter takes messages; see upstream.Provider.Submit.
type Submitter interface {
	Submit(ctx context.Context, t []upstream.Transaction) ([]error, error)
}

// Options of an Outbox.
type Options struct {
	DB *store.DB
	// Provider of an account, or whatever else mail goes out by.
	Provider func(account string) (Submitter, bool)
	// Undeliverable is called when a message is given up (permanent failure, or after
	// Lifetime): it puts a bounce into the user's own mailbox. The message stays in the
	// outbox until it returns nil.
	Undeliverable func(ctx context.Context, m Message, cause error) error
	// Seal and Unseal wrap a chunk of a body, which name identifies, where the database's pages are not encrypted; both nil:
	// chunks are stored as they are.
	Seal, Unseal func(name string, chunk []byte) ([]byte, error)
	Lifetime     time.Duration // 0: 48 h
	Log          *slog.Logger
}

const (
	defaultLifetime = 48 * time.Hour
	firstDelay      = time.Minute
	lastDelay       = time.Hour
	pollInterval    = time.Second
	softStop        = 5 * time.Second // how long a delivery under way may go on at the end
)

// Outbox is the queue, shared by all accounts.
type Outbox struct {
	options Options
	queue   queue
	submit  func(ctx context.Context, m Message, body *body) error
	now     func() time.Time

	mu        sync.Mutex
	working   map[int64]bool // messages a job is at work on
	delivered map[int64]bool // the provider has them, the database does not know yet
}

// New opens the queue; Run works it until ctx ends.
func New(o Options) (*Outbox, error) {
	if o.Lifetime <= 0 {
		o.Lifetime = defaultLifetime
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return open(o, pollInterval)
}

func open(o Options, poll time.Duration) (*Outbox, error) {
	b := &Outbox{options: o, now: time.Now, working: map[int64]bool{}, delivered: map[int64]bool{}}
	b.submit = b.submitUpstream
	var err error
	if b.queue, err = newQueue(o.DB, &worker{outbox: b}, poll); err != nil {
		return nil, fmt.Errorf("outbox: the queue's tables: %w", err)
	}
	return b, nil
}

// Run works the queue until ctx ends; then it returns nil once what is under way has
// ended, after a few seconds at most.
func (b *Outbox) Run(ctx context.Context) error {
	if err := b.open(ctx); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	if ctx.Err() != nil {
		return nil
	}
	b.watch(ctx)
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*softStop)
	defer cancel()
	if err := b.queue.Stop(limited); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

// open takes over what was left and starts the queue. A shared database may be away: it is tried until it is there, or ctx ends.
func (b *Outbox) open(ctx context.Context) error {
	for {
		err := b.recover(ctx)
		if err == nil {
			err = b.queue.Start(context.WithoutCancel(ctx))
		}
		if err == nil || b.options.DB.Pool() == nil {
			return err
		}
		b.options.Log.Warn("the outbox cannot begin yet", "cause", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(openAgain):
		}
	}
}

// openAgain is how long open waits for the database.
const openAgain = 2 * time.Second

// Item is a message to be queued and its body.
type Item struct {
	Message
	Body io.Reader
}

// Add stores the bodies and queues them, all or none; when it returns nil the messages survive a crash.
// ID and Attempts are not taken from them; NextTry and Queued are now, or a minute from now, if zero.
func (b *Outbox) Add(ctx context.Context, items ...Item) error {
	return b.options.DB.Write(ctx, func(tx *sql.Tx) error {
		for _, item := range items {
			if err := b.add(ctx, tx, item.Message, item.Body); err != nil {
				return fmt.Errorf("queueing message %s: %w", item.MessageID, err)
			}
		}
		return nil
	})
}

func (b *Outbox) add(ctx context.Context, tx *sql.Tx, m Message, body io.Reader) error {
	if m.Queued.IsZero() {
		m.Queued = b.now()
	}
	if m.NextTry.IsZero() {
		m.NextTry = b.now().Add(firstDelay)
	}
	id, err := insert(ctx, tx, m, false)
	if err != nil {
		return err
	}
	if err := b.storeBody(ctx, tx, id, body); err != nil {
		return err
	}
	return b.schedule(ctx, tx, id, m.NextTry)
}

// Len is the number of waiting messages; List describes them; Retry tries one now.
func (b *Outbox) Len(ctx context.Context) (int, error) {
	var n int
	err := b.options.DB.Read().QueryRowContext(ctx, `SELECT count(*) FROM outbox WHERE NOT delivered`).Scan(&n)
	return n, err
}

// Waiting is the number of waiting messages and when the oldest of them was queued; zero if none is.
func (b *Outbox) Waiting(ctx context.Context) (n int, oldest time.Time, err error) {
	var queued sql.NullInt64
	err = b.options.DB.Read().QueryRowContext(ctx, `SELECT count(*), min(queued) FROM outbox WHERE NOT delivered`).Scan(&n, &queued)
	if queued.Valid {
		oldest = time.Unix(0, queued.Int64)
	}
	return n, oldest, err
}

// List describes the waiting messages, the oldest first.
func (b *Outbox) List(ctx context.Context) ([]Message, error) {
	rows, err := b.options.DB.Read().QueryContext(ctx, selectMessage+` WHERE NOT delivered ORDER BY id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Message
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, r.Message)
	}
	return all, rows.Err()
}

// ErrNotQueued says that no message with that number waits.
var ErrNotQueued = errors.New("no such message is waiting")

// Retry makes a message due now, without waiting for the outcome.
func (b *Outbox) Retry(ctx context.Context, id int64) error {
	return b.options.DB.Write(ctx, func(tx *sql.Tx) error {
		return b.schedule(ctx, tx, id, b.now())
	})
}

// schedule makes a new job for the message, and thereby the former one stale.
func (b *Outbox) schedule(ctx context.Context, tx *sql.Tx, id int64, at time.Time) error {
	var later time.Time // zero: now, by the database's own clock
	if at.After(b.now()) {
		later = at
	}
	job, err := b.queue.insert(ctx, tx, delivery{Message: id}, later)
	if err != nil {
		return err
	}
	result, err := tx.ExecContext(ctx, `UPDATE outbox SET job = ?, next_try = ? WHERE id = ?`, job, at.UnixNano(), id)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(ErrNotQueued, err)
	}
	return nil
}

// row is a message with what only this package needs.
type row struct {
	Message
	size      int64
	givenUp   bool
	delivered bool
	job       int64
}

const selectMessage = `SELECT id, account, message_id, sender, recipients, utf8, size, queued, next_try, attempts, last_error, given_up, delivered, job, notice FROM outbox`

func scan(s interface{ Scan(...any) error }) (row, error) {
	var r row
	var recipients, notice string
	var queued, next int64
	err := s.Scan(&r.ID, &r.Account, &r.MessageID, &r.From, &recipients, &r.UTF8, &r.size, &queued, &next,
		&r.Attempts, &r.LastError, &r.givenUp, &r.delivered, &r.job, &notice)
	if err != nil {
		return row{}, err
	}
	r.Queued, r.NextTry = time.Unix(0, queued), time.Unix(0, next)
	return r, errors.Join(json.Unmarshal([]byte(recipients), &r.To), json.Unmarshal([]byte(notice), &r.Notice))
}

// insert adds a row without a body and without a job.
func insert(ctx context.Context, tx *sql.Tx, m Message, givenUp bool) (int64, error) {
	recipients, err := json.Marshal(m.To)
	if err != nil {
		return 0, err
	}
	notice, err := json.Marshal(m.Notice)
	if err != nil {
		return 0, err
	}
	var id int64
	err = tx.QueryRowContext(ctx,
		`INSERT INTO outbox (account, message_id, sender, recipients, utf8, notice, size, queued, next_try, last_error, given_up)
			VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?) RETURNING id`,
		m.Account, m.MessageID, m.From, string(recipients), m.UTF8, string(notice), m.Queued.UnixNano(), m.NextTry.UnixNano(), m.LastError, givenUp).Scan(&id)
	return id, err
}
