package outbox

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/sealpost/sealpost/bridge/store"
)

// queue is the queue library's client, on whichever database.
type queue interface {
	// insert makes a job in a transaction of store.DB.Write and returns its number.
	insert(ctx context.Context, tx *sql.Tx, job delivery, at time.Time) (int64, error)
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// newQueue opens the queue's tables in the database, making them if need be.
func newQueue(db *store.DB, w *worker, poll time.Duration) (q queue, err error) {
	ctx := context.Background()
	return q, db.Once(ctx, func() error {
		if pool := db.Pool(); pool != nil {
			q, err = clientOn(ctx, riverpgxv5.New(pool), w, poll, func(tx *sql.Tx) (pgx.Tx, error) {
				native, ok := db.Native(tx)
				if !ok {
					return nil, errors.New("not within a Write")
				}
				return openTx{conn: native}, nil
			})
			return err
		}
		q, err = clientOn(ctx, riversqlite.New(db.Writer()), w, poll, func(tx *sql.Tx) (*sql.Tx, error) { return tx, nil })
		return err
	})
}

func clientOn[T any](ctx context.Context, driver riverdriver.Driver[T], w *worker, poll time.Duration, native func(*sql.Tx) (T, error)) (queue, error) {
	quiet := slog.New(slog.DiscardHandler)
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: quiet})
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, w)
	client, err := river.NewClient(driver, &river.Config{
		Queues:                      map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: maxWorkers}},
		Workers:                     workers,
		FetchCooldown:               min(poll, 100*time.Millisecond),
		FetchPollInterval:           poll,
		PollOnly:                    true, // LISTEN on SQLite is polling, too, and needs a connection of its own on PostgreSQL
		JobTimeout:                  -1,   // the connection to the provider has its own
		SoftStopTimeout:             softStop,
		CompletedJobRetentionPeriod: time.Minute,
		Logger:                      quiet,
	})
	return riverQueue[T]{client, native}, err
}

// maxWorkers is how many messages one process delivers at once.
const maxWorkers = 2

// riverQueue is a client on a database whose transactions are T.
type riverQueue[T any] struct {
	*river.Client[T]
	native func(*sql.Tx) (T, error)
}

func (q riverQueue[T]) insert(ctx context.Context, tx *sql.Tx, job delivery, at time.Time) (int64, error) {
	t, err := q.native(tx)
	if err != nil {
		return 0, err
	}
	o := &river.InsertOpts{ScheduledAt: at} // zero: now
	inserted, err := q.InsertTx(ctx, t, job, o)
	if err != nil {
		return 0, err
	}
	return inserted.Job.ID, nil
}

// openTx is the transaction that a connection is in. The queue library runs statements in it and does not end it.
type openTx struct {
	pgx.Tx // nil: what is not below is not called
	conn   *pgx.Conn
}

// Exec implements pgx.Tx.
func (t openTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return t.conn.Exec(ctx, sql, args...)
}

// Query implements pgx.Tx.
func (t openTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return t.conn.Query(ctx, sql, args...)
}

// QueryRow implements pgx.Tx.
func (t openTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return t.conn.QueryRow(ctx, sql, args...)
}

// Conn implements pgx.Tx.
func (t openTx) Conn() *pgx.Conn { return t.conn }
