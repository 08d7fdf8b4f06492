// Package outbox is the durable queue of messages that still have to reach somebody:
// transactions that failed after another of the same message had succeeded, and the bounces
// that tell the user. Bodies are already encrypted, or clear by a named rule.
package outbox

import (
	"context"
	"io"
	"log/slog"
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
	Queued    time.Time
	NextTry   time.Time
	Attempts  int
	LastError string
}

// Options of an Outbox.
type Options struct {
	DB *store.DB
	// Provider of an account.
	Provider func(account string) (*upstream.Provider, bool)
	// Undeliverable is called when a message is given up (permanent failure, or after
	// Lifetime): it puts a bounce into the user's own mailbox. The message stays in the
	// outbox until it returns nil.
	Undeliverable func(ctx context.Context, m Message, cause error) error
	Lifetime      time.Duration // 0: 48 h
	Log           *slog.Logger
}

// Outbox is the queue, shared by all accounts.
type Outbox struct{}

// New opens the queue; Run works it until ctx ends.
func New(o Options) (*Outbox, error)            { panic("stub") }
func (o *Outbox) Run(ctx context.Context) error { panic("stub") }

// Add stores the body and queues it; when it returns nil the message survives a crash.
func (o *Outbox) Add(ctx context.Context, m Message, body io.Reader) error { panic("stub") }

// Len is the number of waiting messages; List describes them; Retry tries one now.
func (o *Outbox) Len(ctx context.Context) (int, error)        { panic("stub") }
func (o *Outbox) List(ctx context.Context) ([]Message, error) { panic("stub") }
func (o *Outbox) Retry(ctx context.Context, id int64) error   { panic("stub") }
