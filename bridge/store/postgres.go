package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// ErrUnreachable says that the shared database does not answer. Nothing was changed that was not confirmed before.
var ErrUnreachable = errors.New("the shared database cannot be reached")

// The advisory locks of a shared database (PostgreSQL documentation, §13.3.5): numbers that mean something to us alone.
const (
	lockWriters int64 = 0x5ea1_0001 // one Write at a time, as SQLite has it
	lockSetup   int64 = 0x5ea1_0002 // migrations and whatever else is done once
	lockOwned   int32 = 0x5ea1      // with a number: see TryLock
)

// sharedConnections is how many connections one gateway has to the shared database, at most.
const sharedConnections = 12

// OpenShared opens the PostgreSQL database that gateways share (postgres://…, as libpq has it) and migrates it. Pages
// are not encrypted there: secrets in it are sealed by the vault, and whoever runs it sees addresses and certificates.
func OpenShared(ctx context.Context, url string) (*DB, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("database.url cannot be read; write it as postgres://user@host/database") // the cause may quote a password
	}
	config.MaxConns = sharedConnections
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, explainShared(err)
	}
	db := sql.OpenDB(rebinding{stdlib.GetPoolConnector(pool)})
	db.SetMaxOpenConns(sharedConnections - 2) // the rest is the queue's
	d := &DB{read: db, write: db, pool: pool}
	if err := d.Once(ctx, func() error { return migrate(ctx, db, "migrations/postgres") }); err != nil {
		_ = d.Close()
		return nil, fmt.Errorf("database.url: %w", explainShared(err))
	}
	return d, nil
}

// Pool is the connections to the shared database, for the queue; nil for a database of our own.
func (d *DB) Pool() *pgxpool.Pool { return d.pool }

// Native is the connection on which a Write of the shared database runs, for the queue. It is used within f alone.
func (d *DB) Native(tx *sql.Tx) (*pgx.Conn, bool) {
	c, ok := d.native.Load(tx)
	if !ok {
		return nil, false
	}
	return c.(*pgx.Conn), true
}

// writeShared is Write on PostgreSQL. Writers of all gateways wait for each other: what f has read stays true until it
// has written, whatever its isolation level.
func (d *DB) writeShared(ctx context.Context, f func(tx *sql.Tx) error) error {
	conn, err := d.write.Conn(ctx)
	if err != nil {
		return explainShared(err)
	}
	defer conn.Close()
	native, err := nativeOf(conn)
	if err != nil {
		return err
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return explainShared(err)
	}
	defer func() { _ = tx.Rollback() }()
	d.native.Store(tx, native)
	defer d.native.Delete(tx)
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, lockWriters); err != nil {
		return explainShared(err)
	}
	if err := f(tx); err != nil {
		return explainShared(err)
	}
	return explainShared(tx.Commit())
}

func nativeOf(conn *sql.Conn) (native *pgx.Conn, err error) {
	err = conn.Raw(func(c any) error {
		native = c.(rebindingConn).Conn.Conn()
		return nil
	})
	return native, err
}

// Once runs f while no other process runs anything in Once on the same database.
func (d *DB) Once(ctx context.Context, f func() error) error {
	if d.pool == nil { // the lock file keeps others out
		return f()
	}
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return explainShared(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, lockSetup); err != nil {
		return explainShared(err)
	}
	err = f()
	_, unlock := conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, lockSetup)
	return errors.Join(err, explainShared(unlock))
}

// TryLock keeps other processes from what the number stands for until unlock is called or this process ends; false if
// one of them has it. Within the process the caller sees to that.
func (d *DB) TryLock(ctx context.Context, number int64) (unlock func(), ok bool, err error) {
	if d.pool == nil {
		return func() {}, true, nil
	}
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return nil, false, explainShared(err)
	}
	key := int32(number) //nolint:gosec // numbers that collide wait for each other, no more
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1, $2)`, lockOwned, key).Scan(&ok); err != nil || !ok {
		conn.Release()
		return nil, false, explainShared(err)
	}
	return func() {
		// A connection that cannot unlock is closed, which does.
		if _, err := conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1, $2)`, lockOwned, key); err != nil {
			_ = conn.Conn().Close(context.WithoutCancel(ctx))
		}
		conn.Release()
	}, true, nil
}

// explainShared tells what happened to the connection from what the database refuses.
func explainShared(err error) error {
	var refused *pgconn.PgError
	var network net.Error
	var connect *pgconn.ConnectError
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, ErrUnreachable):
		return err
	case errors.As(err, &refused) && refused.Code[:2] != "57": // 57: operator intervention, such as a shutdown
		return err
	case errors.As(err, &refused), errors.As(err, &connect), errors.As(err, &network):
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}
