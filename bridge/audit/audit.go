// Package audit is the append-only log of decisions. Each entry carries the hash of
// the one before it, so that a removed or changed line is found. It never holds
// content: no subjects, no bodies, no keys.
package audit

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/sealpost/sealpost/bridge/store"
)

// Entry is one decision about one message and one recipient, or one event of sealing.
type Entry struct {
	Seq         int64     `json:"seq"`
	Time        time.Time `json:"time"` // UTC
	Account     string    `json:"account"`
	Event       string    `json:"event"` // "submit", "seal", "unseal", "key", "contact", …
	MessageID   string    `json:"message_id,omitempty"`
	Recipient   string    `json:"recipient,omitempty"`
	Decision    string    `json:"decision,omitempty"` // encrypt, clear, refuse
	Rule        string    `json:"rule,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	Mailbox     string    `json:"mailbox,omitempty"`
	Detail      string    `json:"detail,omitempty"`
	Prev        string    `json:"prev"`           // hex SHA-256 of the entry before; "" for the first
	Hash        string    `json:"hash,omitempty"` // hex SHA-256 of this entry's JSON without this field
}

// Log is the decision log of one installation. Safe for concurrent use.
type Log struct {
	db  *store.DB
	now func() time.Time

	mu      sync.Mutex
	waiting []*batch // not yet being written
	writing bool
}

// New opens the log on the database.
func New(db *store.DB, now func() time.Time) *Log { return &Log{db: db, now: now} }

func (l *Log) append(ctx context.Context, tx *store.Batch, entries []Entry) error {
	var seq int64
	var hash string
	err := tx.Scan(ctx, `SELECT seq, hash FROM audit_head`, nil, &seq, &hash)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	for _, e := range entries {
		seq++
		e.Seq, e.Prev = seq, hash
		if hash, err = l.insert(ctx, tx, e); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, `INSERT INTO audit_head (one, seq, hash) VALUES (1, ?, ?)
		ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, hash = excluded.hash`, seq, hash)
	return err
}

func (l *Log) insert(ctx context.Context, tx *store.Batch, e Entry) (hash string, err error) {
	if e.Time.IsZero() {
		e.Time = l.now()
	}
	e.Time, e.Hash = e.Time.UTC().Round(0), ""
	text, err := json.Marshal(e)
	if err != nil {
		return "", err
	}
	hash = hashOf(text)
	_, err = tx.Exec(ctx, `INSERT INTO audit (seq, entry, hash) VALUES (?, ?, ?)`, e.Seq, string(text), hash)
	return hash, err
}

func hashOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// queryer is a database or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// head is where the chain ends: 0 and "" for an empty log.
func head(ctx context.Context, q queryer) (seq int64, hash string, err error) {
	err = q.QueryRowContext(ctx, `SELECT seq, hash FROM audit_head`).Scan(&seq, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return seq, hash, err
}

// List returns entries after seq, oldest first, at most limit.
func (l *Log) List(ctx context.Context, after int64, limit int) ([]Entry, error) {
	var entries []Entry
	err := each(ctx, l.db.Read(), after, int64(limit), func(_ int64, text, hash string) error {
		var e Entry
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			return err
		}
		e.Hash = hash
		entries = append(entries, e)
		return nil
	})
	return entries, err
}

func each(ctx context.Context, q queryer, after, limit int64, f func(seq int64, text, hash string) error) error {
	rows, err := q.QueryContext(ctx, `SELECT seq, entry, hash FROM audit WHERE seq > ? ORDER BY seq LIMIT ?`, after, limit)
	if err != nil {
		return fmt.Errorf("decision log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		var text, hash string
		if err := rows.Scan(&seq, &text, &hash); err != nil {
			return fmt.Errorf("decision log: %w", err)
		}
		if err := f(seq, text, hash); err != nil {
			return fmt.Errorf("decision log, entry %d: %w", seq, err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("decision log: %w", err)
	}
	return nil
}

// maxEntries is all of them.
const maxEntries = math.MaxInt64

// errBroken stops Verify at the first bad entry.
var errBroken = errors.New("the chain is broken")

// Verify walks the chain; broken is the first bad Seq, 0 if none. What was cut off at the
// end is bad, too. It finds what was changed by somebody who did not make the chain anew.
func (l *Log) Verify(ctx context.Context) (checked, broken int64, err error) {
	tx, err := l.db.Read().BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // one view of chain and head
	if err != nil {
		return 0, 0, fmt.Errorf("decision log: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	endSeq, endHash, err := head(ctx, tx)
	if err != nil {
		return 0, 0, fmt.Errorf("decision log: %w", err)
	}
	first, prev, err := base(ctx, tx)
	if err != nil {
		return 0, 0, fmt.Errorf("decision log: %w", err)
	}
	checked = first
	defer func() { checked -= first }()
	err = each(ctx, tx, math.MinInt64, maxEntries, func(seq int64, text, hash string) error {
		var e Entry
		if json.Unmarshal([]byte(text), &e) != nil || seq != checked+1 || e.Seq != seq || e.Prev != prev || hashOf([]byte(text)) != hash {
			return errBroken
		}
		checked, prev = seq, hash
		return nil
	})
	switch {
	case err != nil && !errors.Is(err, errBroken):
		return checked, 0, store.Explain(err)
	case err != nil || checked < endSeq:
		return checked, checked + 1, nil
	case checked > endSeq || prev != endHash:
		return checked, max(endSeq, 1), nil // the head was changed, or entries were added past it
	}
	return checked, 0, nil
}
