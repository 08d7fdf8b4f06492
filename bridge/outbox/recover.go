package outbox

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// A process that dies leaves its jobs in the state "running", and the queue library waits an hour before it believes
// that they are not. We know sooner.

// recoverInterval is how often a gateway looks for messages that another one has left.
const recoverInterval = 15 * time.Second

// recover gives messages without a living job a new one: on a database of our own all of them, at the start; on a shared
// one those whose job runs in no process.
func (b *Outbox) recover(ctx context.Context) error {
	left, err := b.left(ctx)
	if err != nil {
		return err
	}
	for _, id := range left {
		if err := b.revive(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// revive makes a new job unless a process is at work on the message. When it is due is read as late as that: the user may have
// asked for another try meanwhile.
func (b *Outbox) revive(ctx context.Context, id int64) error {
	end, err := b.begin(ctx, id)
	if err != nil {
		return ignoreBusy(err)
	}
	defer end()
	return ignoreGone(b.options.DB.Write(ctx, func(tx *sql.Tx) error {
		var at int64
		err := tx.QueryRowContext(ctx, `SELECT next_try FROM outbox WHERE id = ?`, id).Scan(&at)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotQueued
		}
		if err != nil {
			return err
		}
		return b.schedule(ctx, tx, id, time.Unix(0, at))
	}))
}

// watch returns when ctx ends. Meanwhile it looks after a shared database's messages.
func (b *Outbox) watch(ctx context.Context) {
	if b.options.DB.Pool() == nil {
		<-ctx.Done()
		return
	}
	ticker := time.NewTicker(recoverInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := b.recover(ctx); err != nil && ctx.Err() == nil {
			b.options.Log.Warn("the outbox could not look for messages that another gateway has left", "cause", err)
		}
	}
}

// left are the messages that recover looks at.
func (b *Outbox) left(ctx context.Context) (ids []int64, err error) {
	query := `SELECT id FROM outbox`
	if b.options.DB.Pool() != nil {
		query = `SELECT outbox.id FROM outbox JOIN river_job ON river_job.id = outbox.job WHERE river_job.state = 'running'`
	}
	rows, err := b.options.DB.Read().QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
