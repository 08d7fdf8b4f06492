package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/riverqueue/river"

	"github.com/sealpost/sealpost/bridge/upstream"
)

// delivery is the queue library's job: the number of a message.
type delivery struct {
	Message int64 `json:"message"`
}

// Kind names the job in the database.
func (delivery) Kind() string { return "sealpost_delivery" }

type worker struct {
	river.WorkerDefaults[delivery]
	outbox *Outbox
}

// Work never fails as far as the queue library is concerned: what comes next is in the
// database, unless the database itself is the trouble; then the job is run again.
func (w *worker) Work(ctx context.Context, job *river.Job[delivery]) error {
	err := w.outbox.work(ctx, job.Args.Message, job.ID)
	if err == nil {
		return nil
	}
	if errors.Is(err, errBusy) {
		return river.JobSnooze(pollInterval)
	}
	if ctx.Err() == nil {
		w.outbox.options.Log.Error("the outbox cannot use its database; trying again in a minute", "cause", err)
	}
	return river.JobSnooze(firstDelay)
}

// work takes one message as far as it gets: to its recipients, to its sender, or to the
// next try.
func (b *Outbox) work(ctx context.Context, id, job int64) error {
	// A stale job must not be in the way of the one that replaced it.
	if _, err := b.load(ctx, id, job); err != nil {
		return ignoreStale(err)
	}
	end, err := b.begin(ctx, id)
	if err != nil {
		return err
	}
	defer end()
	r, err := b.load(ctx, id, job)
	if err != nil {
		return ignoreStale(err)
	}
	switch {
	case r.delivered || b.isDelivered(id):
		return b.remove(ctx, id)
	case r.givenUp:
		return b.bounce(ctx, r)
	}
	return b.deliver(ctx, r)
}

var (
	errBusy  = errors.New("another job is at work on the message")
	errStale = errors.New("the message is gone, or has another job")
)

func ignoreStale(err error) error {
	if errors.Is(err, errStale) {
		return nil
	}
	return err
}

// ignoreBusy and ignoreGone are for who looks after messages that others work on.
func ignoreBusy(err error) error {
	if errors.Is(err, errBusy) {
		return nil
	}
	return err
}

func ignoreGone(err error) error {
	if errors.Is(err, ErrNotQueued) {
		return nil
	}
	return err
}

// begin keeps two jobs from working on one message at once, in this process and, on a shared database, in all; errBusy
// if one does. What end gives back is free at once also if the process dies.
func (b *Outbox) begin(ctx context.Context, id int64) (end func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.working[id] {
		return nil, errBusy
	}
	unlock, ok, err := b.options.DB.TryLock(ctx, id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errBusy
	}
	b.working[id] = true
	return func() {
		unlock()
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.working, id)
	}, nil
}

func (b *Outbox) isDelivered(id int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.delivered[id]
}

// load reads a message; errStale if the job is not the one that may work on it.
func (b *Outbox) load(ctx context.Context, id, job int64) (row, error) {
	r, err := scan(b.options.DB.Read().QueryRowContext(ctx, selectMessage+` WHERE id = ? AND job = ?`, id, job))
	if errors.Is(err, sql.ErrNoRows) {
		err = errStale
	}
	return r, err
}

// deliver tries once.
func (b *Outbox) deliver(ctx context.Context, r row) error {
	failure := b.submit(ctx, r.Message, &body{ctx: ctx, box: b, id: r.ID, size: r.size})
	log := b.options.Log.With("account", r.Account, "message_id", r.MessageID)
	if failure == nil {
		log.Info("a queued message was delivered", "recipients", len(r.To), "attempts", r.Attempts+1)
		return b.accepted(ctx, r.ID)
	}
	if ctx.Err() != nil {
		return nil // at the end of the program; the next start makes a new job
	}
	var some *upstream.PartialError
	if errors.As(failure, &some) { // the others have it
		r.To = slices.DeleteFunc(slices.Clone(r.To), func(to string) bool { return some.Replies[to] == nil })
		failure = &upstream.RecipientError{Replies: some.Replies}
	}
	r.Attempts++
	r.LastError = failure.Error()
	refused := permanentlyRefused(r.To, failure)
	if b.now().Sub(r.Queued) > b.options.Lifetime {
		refused = r.To
	}
	log.Warn("a queued message was not delivered", "attempts", r.Attempts, "given_up", len(refused), "cause", failure)
	return b.afterFailure(ctx, r, refused)
}

// accepted notes that the provider has the message before anything else can happen.
func (b *Outbox) accepted(ctx context.Context, id int64) error {
	b.mu.Lock()
	b.delivered[id] = true
	b.mu.Unlock()
	return b.remove(ctx, id)
}

// remove deletes a message that needs nothing any more. If the disk is too full for that,
// it is at least marked.
func (b *Outbox) remove(ctx context.Context, id int64) error {
	ctx = context.WithoutCancel(ctx)
	err := b.options.DB.Write(ctx, func(tx *sql.Tx) error {
		// Not left to ON DELETE CASCADE, which depends on a setting of the connection.
		if _, err := tx.ExecContext(ctx, `DELETE FROM outbox_body WHERE message = ?`, id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE id = ?`, id)
		return err
	})
	if err != nil {
		return errors.Join(err, b.options.DB.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE outbox SET delivered = TRUE WHERE id = ?`, id)
			return err
		}))
	}
	b.mu.Lock()
	delete(b.delivered, id)
	b.mu.Unlock()
	return nil
}

// permanentlyRefused are the recipients for whom trying again is of no use: the server
// answered 5xx to the envelope or the body (RFC 5321 §4.2.1). A login or connection that fails is not that.
func permanentlyRefused(to []string, failure error) []string {
	var each *upstream.RecipientError
	if errors.As(failure, &each) {
		return slices.DeleteFunc(slices.Clone(to), func(address string) bool {
			return !permanent(each.Replies[address])
		})
	}
	var one *upstream.Error
	if errors.As(failure, &one) && permanent(one) {
		return to
	}
	return nil
}

func permanent(e *upstream.Error) bool {
	return e != nil && e.Kind == upstream.KindRejected && e.Op == "submit"
}

// afterFailure plans what comes next, in one transaction: another try for those who may yet
// get the message, a bounce for those who will not.
func (b *Outbox) afterFailure(ctx context.Context, r row, refused []string) error {
	left := slices.DeleteFunc(slices.Clone(r.To), func(to string) bool { return slices.Contains(refused, to) })
	now := b.now()
	return b.options.DB.Write(ctx, func(tx *sql.Tx) error {
		if len(left) == 0 {
			return b.update(ctx, tx, r, true, now)
		}
		if len(refused) > 0 {
			bounce := r.Message
			bounce.To, bounce.NextTry = refused, now
			id, err := insert(ctx, tx, bounce, true)
			if err != nil {
				return err
			}
			if err := b.schedule(ctx, tx, id, now); err != nil {
				return err
			}
			r.To = left
			return b.update(ctx, tx, r, false, now)
		}
		return b.update(ctx, tx, r, false, now.Add(delay(r.Attempts)))
	})
}

// update writes what has changed of a message and plans its next job.
func (b *Outbox) update(ctx context.Context, tx *sql.Tx, r row, givenUp bool, next time.Time) error {
	recipients, err := json.Marshal(r.To)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE outbox SET recipients = ?, attempts = ?, last_error = ?, given_up = ? WHERE id = ?`,
		string(recipients), r.Attempts, r.LastError, givenUp, r.ID)
	if err != nil {
		return err
	}
	return b.schedule(ctx, tx, r.ID, next)
}

// delay before the next try: 1, 2, 4, … minutes, at most an hour.
func delay(attempts int) time.Duration {
	d := firstDelay
	for range min(attempts, 10) - 1 {
		d *= 2
	}
	return min(d, lastDelay)
}

// bounce tells the sender. Only when that has worked is the message forgotten.
func (b *Outbox) bounce(ctx context.Context, r row) error {
	err := b.options.Undeliverable(ctx, r.Message, errors.New(r.LastError))
	if err == nil {
		return b.remove(ctx, r.ID)
	}
	if ctx.Err() != nil {
		return nil
	}
	b.options.Log.Warn("the report about an undeliverable message could not be stored yet",
		"account", r.Account, "message_id", r.MessageID, "cause", err)
	r.Attempts++
	return b.options.DB.Write(ctx, func(tx *sql.Tx) error {
		return b.update(ctx, tx, r, true, b.now().Add(delay(r.Attempts)))
	})
}

// submitUpstream hands a message to its account's provider.
func (b *Outbox) submitUpstream(ctx context.Context, m Message, body *body) error {
	p, ok := b.options.Provider(m.Account)
	if !ok {
		return fmt.Errorf("the account %s is not configured any more", m.Account)
	}
	t := upstream.Transaction{From: m.From, To: m.To, Body: body, UTF8: m.UTF8, Notice: m.Notice}
	results, err := p.Submit(ctx, []upstream.Transaction{t})
	if err != nil {
		return err
	}
	return results[0]
}
