// Package store opens the one database of a Sealpost installation and brings its
// schema up to date. Every page on disk is encrypted under the key the vault wraps.
//
// Other packages own their tables: they put numbered SQL files under migrations/ and
// use the *sql.DB and Write below.
package store

import (
	"context"
	"database/sql"
	"errors"
)

// Errors of Open. Neither ever deletes or replaces anything on disk.
var (
	ErrWrongKey = errors.New("the database cannot be read with this key")
	ErrDamaged  = errors.New("the database is damaged")
	ErrInUse    = errors.New("the database is in use by another process")
)

// DB is the open database.
type DB struct {
	read  *sql.DB // several connections, read only
	write *sql.DB // exactly one connection
}

// Open opens or creates the database file with a 32-byte key and migrates it.
func Open(ctx context.Context, path string, key []byte) (*DB, error) { panic("stub") }

// Close checkpoints and closes.
func (d *DB) Close() error { panic("stub") }

// Read is for queries; it sees every committed Write.
func (d *DB) Read() *sql.DB { return d.read }

// Writer is the single writing connection, for libraries that manage their own
// transactions (the queue). Prefer Write.
func (d *DB) Writer() *sql.DB { return d.write }

// Write runs f in one transaction: committed if f returns nil, else rolled back.
// Writers wait for each other. A full disk is reported as an error that unwraps to
// syscall.ENOSPC. f must not call Write or Read.
func (d *DB) Write(ctx context.Context, f func(tx *sql.Tx) error) error { panic("stub") }
