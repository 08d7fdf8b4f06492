// Package audit is the append-only log of decisions. Each entry carries the hash of
// the one before it, so that a removed or changed line is found. It never holds
// content: no subjects, no bodies, no keys.
package audit

import (
	"context"
	"time"

	"github.com/sealpost/sealpost/bridge/store"
)

// Entry is one decision about one message and one recipient, or one event of sealing.
type Entry struct {
	Seq         int64     `json:"seq"`
	Time        time.Time `json:"time"` // UTC
	Account     string    `json:"account"`
	Event       string    `json:"event"` // "submit", "seal", "unseal", "append", "key", "contact", …
	MessageID   string    `json:"message_id,omitempty"`
	Recipient   string    `json:"recipient,omitempty"`
	Decision    string    `json:"decision,omitempty"` // encrypt, clear, refuse
	Rule        string    `json:"rule,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	Mailbox     string    `json:"mailbox,omitempty"`
	Detail      string    `json:"detail,omitempty"`
	Prev        string    `json:"prev"` // hex SHA-256 of the entry before
	Hash        string    `json:"hash"` // hex SHA-256 of this entry with Hash empty
}

// Log is the decision log of one installation.
type Log struct{}

// New opens the log on the database.
func New(db *store.DB, now func() time.Time) *Log { panic("stub") }

// Append writes the entries in one transaction; Seq, Time (if zero), Prev and Hash are filled in.
func (l *Log) Append(ctx context.Context, entries ...Entry) error { panic("stub") }

// List returns entries after seq, oldest first, at most limit.
func (l *Log) List(ctx context.Context, after int64, limit int) ([]Entry, error) { panic("stub") }

// Verify walks the chain; broken is the first bad Seq, 0 if none.
func (l *Log) Verify(ctx context.Context) (checked, broken int64, err error) { panic("stub") }
