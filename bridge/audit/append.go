package audit

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/bridge/store"
)

// Each commit waits for the disk. Entries that come while one is under way are written together by the next.

// writeTime bounds one transaction, which others than the caller wait for.
const writeTime = 30 * time.Second

// batch is what one call of Append writes.
type batch struct {
	entries []Entry
	done    chan error
}

// Append writes the entries, which stay together; Seq, Time (if zero), Prev and Hash are filled in. It returns once they are on the
// disk, or with an error after which they may be only if it is that of ctx.
func (l *Log) Append(ctx context.Context, entries ...Entry) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("decision log: %w", err)
	}
	b := &batch{entries, make(chan error, 1)}
	l.mu.Lock()
	l.waiting = append(l.waiting, b)
	first := !l.writing
	l.writing = true
	l.mu.Unlock()
	if first {
		go l.writeWaiting()
	}
	select {
	case err := <-b.done:
		if err != nil {
			return fmt.Errorf("decision log: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("decision log: %w", ctx.Err())
	}
}

// writeWaiting writes until nobody waits.
func (l *Log) writeWaiting() {
	for {
		l.mu.Lock()
		group := l.waiting
		l.waiting = nil
		l.writing = len(group) > 0
		l.mu.Unlock()
		if len(group) == 0 {
			return
		}
		l.writeGroup(group)
	}
}

// writeGroup writes several batches in one transaction, or, if that fails, each in one of its own: nobody's entries are lost for
// those of another.
func (l *Log) writeGroup(group []*batch) {
	err := l.write(group)
	for _, b := range group {
		if err != nil && len(group) > 1 {
			b.done <- l.write([]*batch{b})
			continue
		}
		b.done <- err
	}
}

func (l *Log) write(group []*batch) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeTime)
	defer cancel()
	var entries []Entry
	for _, b := range group {
		entries = append(entries, b.entries...)
	}
	return l.db.Write(ctx, func(tx *sql.Tx) error { return l.append(ctx, store.NewBatch(tx), entries) })
}
