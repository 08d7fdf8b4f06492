// Package store opens the one database of a Sealpost installation and brings its
// schema up to date. Every page on disk is encrypted under the key the vault wraps.
//
// Other packages own their tables: they put numbered SQL files under migrations/ and
// use the *sql.DB and Write below.
package store

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
	_ "github.com/ncruces/go-sqlite3/vfs/adiantum" // encrypted pages
)

// Errors of Open. Neither ever deletes or replaces anything on disk.
var (
	ErrWrongKey = errors.New("the database cannot be read with this key")
	ErrDamaged  = errors.New("the database is damaged; nothing was changed, restore it from a backup")
	ErrInUse    = errors.New("the database is in use by another process")
)

// readers is how many queries can run at once beside the writer.
const readers = 4

// DB is the open database.
type DB struct {
	read  *sql.DB // several connections, read only
	write *sql.DB // exactly one connection
	lock  *os.File
}

// Open opens or creates the database file with a 32-byte key and migrates it.
func Open(ctx context.Context, path string, key []byte) (*DB, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("database key has %d bytes, not 32", len(key))
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	d := &DB{lock: lock}
	if err := d.open(ctx, path, key); err != nil {
		_ = d.Close()
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	return d, nil
}

func (d *DB) open(ctx context.Context, path string, key []byte) error {
	if err := checkKey(path, key); err != nil {
		return err
	}
	var err error
	if d.write, err = connect(path, key, 1, ""); err != nil {
		return err
	}
	if err := migrate(ctx, d.write); err != nil {
		return explain(err)
	}
	d.read, err = connect(path, key, readers, "&_pragma=query_only(true)")
	return err
}

// connect makes a pool. Nothing of a query may reach a plaintext temporary file, and what a commit
// has confirmed survives a power cut.
func connect(path string, key []byte, connections int, more string) (*sql.DB, error) {
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?vfs=adiantum&_pragma=hexkey('" + hex.EncodeToString(key) + "')" +
		"&_pragma=busy_timeout(10000)&_pragma=temp_store(memory)&_pragma=journal_mode(wal)&_pragma=synchronous(full)" +
		"&_pragma=foreign_keys(true)&_pragma=secure_delete(fast)&_txlock=immediate" + more
	db, err := driver.Open(dsn)
	if err != nil {
		return nil, explain(err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// lockFile keeps other processes out for as long as it is open.
func lockFile(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", path, ErrInUse)
	}
	return f, nil
}

// checkKey tells a wrong key from a damaged file: with encrypted pages both look like noise to
// SQLite, so a MAC of a fixed text under the key lies beside a database from its creation on.
func checkKey(path string, key []byte) error {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("sealpost database key check"))
	want := hex.EncodeToString(mac.Sum(nil))
	got, err := os.ReadFile(path + ".check")
	switch {
	case err == nil && !hmac.Equal(got, []byte(want)):
		return ErrWrongKey
	case err == nil:
		return nil
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	if _, err := os.Stat(path); err == nil {
		return nil // SQLite will say whether it can be read
	}
	return os.WriteFile(path+".check", []byte(want), 0o600)
}

// explain maps SQLite's codes to errors users can act on.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sqlite3.FULL):
		return fmt.Errorf("%w (%w)", err, syscall.ENOSPC)
	case errors.Is(err, sqlite3.NOTADB), errors.Is(err, sqlite3.CORRUPT):
		return fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	return err
}

// Close checkpoints and closes.
func (d *DB) Close() error {
	var errs []error
	for _, db := range []*sql.DB{d.read, d.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	return errors.Join(errs...)
}

// Read is for queries; it sees every committed Write.
func (d *DB) Read() *sql.DB { return d.read }

// Writer is the single writing connection, for libraries that manage their own
// transactions (the queue). Prefer Write.
func (d *DB) Writer() *sql.DB { return d.write }

// Write runs f in one transaction: committed if f returns nil, else rolled back.
// Writers wait for each other. A full disk is reported as an error that unwraps to
// syscall.ENOSPC. f must not call Write or Read.
func (d *DB) Write(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return explain(err)
	}
	if err := f(tx); err != nil {
		return explain(errors.Join(err, tx.Rollback()))
	}
	return explain(tx.Commit())
}
