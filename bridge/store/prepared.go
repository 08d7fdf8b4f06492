package store

import (
	"context"
	"database/sql"
	"fmt"
)

// Reading a statement takes SQLite longer than running most of ours: those that run for every
// message are prepared once.

// Prepared is a query on Read that is kept ready. There is a fixed number of them: query is a
// constant of the caller's.
func (d *DB) Prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if stmt := d.prepared[query]; stmt != nil {
		return stmt, nil
	}
	stmt, err := d.read.PrepareContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("prepare a query: %w", explain(err))
	}
	if d.prepared == nil {
		d.prepared = map[string]*sql.Stmt{}
	}
	d.prepared[query] = stmt
	return stmt, nil
}

// Batch runs the same statements many times in one transaction. For one goroutine.
type Batch struct {
	tx       *sql.Tx
	prepared map[string]*sql.Stmt
}

// NewBatch prepares statements of tx at first use; they end with it.
func NewBatch(tx *sql.Tx) *Batch { return &Batch{tx: tx, prepared: map[string]*sql.Stmt{}} }

func (b *Batch) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	stmt := b.prepared[query]
	if stmt == nil {
		var err error
		if stmt, err = b.tx.PrepareContext(ctx, query); err != nil {
			return nil, err
		}
		b.prepared[query] = stmt
	}
	return stmt, nil
}

// Exec runs a statement.
func (b *Batch) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	stmt, err := b.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.ExecContext(ctx, args...)
}

// Scan runs a query of one row.
func (b *Batch) Scan(ctx context.Context, query string, args []any, into ...any) error {
	stmt, err := b.stmt(ctx, query)
	if err != nil {
		return err
	}
	return stmt.QueryRowContext(ctx, args...).Scan(into...)
}
