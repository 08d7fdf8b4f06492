// Package store opens the one database of a Sealpost installation and brings its
// schema up to date. Every page on disk is encrypted under the key the vault wraps.
//
// Other packages own their tables: they put numbered SQL files under migrations/ and
// use the *sql.DB and Write below.
package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
	"github.com/ncruces/go-sqlite3/ext/fts5"
	_ "github.com/ncruces/go-sqlite3/vfs/adiantum" // encrypted pages
)

// Errors of Open. None ever deletes or replaces anything on disk.
var (
	ErrWrongKey = errors.New("the database cannot be read with this key")
	ErrDamaged  = errors.New("the database is damaged; nothing was changed, restore it from a backup")
	ErrInUse    = errors.New("the database is in use by another process")
)

// readers is how many queries can run at once beside the writer.
const readers = 4

// DB is the open database.
type DB struct {
	path  string
	read  *sql.DB // several connections, read only
	write *sql.DB // exactly one connection
	lock  *os.File

	pool   *pgxpool.Pool // of a shared database; nil: our own
	native sync.Map      // of a shared database: *sql.Tx of a Write → its *pgx.Conn

	mu       sync.Mutex
	prepared map[string]*sql.Stmt // of read
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
	d := &DB{path: path, lock: lock}
	if err := d.open(ctx, path, key); err != nil {
		_ = d.Close()
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	return d, nil
}

func (d *DB) open(ctx context.Context, path string, key []byte) error {
	known, err := checkKey(ctx, path, key)
	if err != nil {
		return err
	}
	if err := private(path, path+"-shm"); err != nil {
		return err
	}
	if d.write, err = connect(path, key, 1, "&_pragma=journal_mode(wal)&_txlock=immediate"); err != nil {
		return err
	}
	if err := migrate(ctx, d.write, "migrations/sqlite"); err != nil {
		return d.explain(err)
	}
	if !known {
		if err := writeCheck(path, key); err != nil {
			return err
		}
	}
	d.read, err = connect(path, key, readers, "&_pragma=query_only(true)")
	return err
}

// private makes files that are not there yet for the user alone: SQLite would ask the umask.
func private(paths ...string) error {
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// connect makes a pool. Nothing of a query may reach a plaintext temporary file, and what a commit
// has confirmed survives a power cut.
func connect(path string, key []byte, connections int, more string) (*sql.DB, error) {
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?vfs=adiantum&modeof=" + strings.ReplaceAll(url.QueryEscape(path), "+", "%20") + // SQLite knows no "+"
		"&_pragma=hexkey('" + hex.EncodeToString(key) + "')" +
		"&_pragma=busy_timeout(10000)&_pragma=temp_store(memory)&_pragma=synchronous(full)" +
		"&_pragma=foreign_keys(true)&_pragma=secure_delete(fast)" + more
	db, err := driver.Open(dsn, fts5.Register)
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

// explain maps SQLite's codes to errors users can act on.
func explain(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrDamaged), errors.Is(err, syscall.ENOSPC):
		return err
	case errors.Is(err, sqlite3.FULL):
		return diskFull(err)
	case errors.Is(err, sqlite3.NOTADB), errors.Is(err, sqlite3.CORRUPT):
		return fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	return err
}

// explain finds the cause that the driver loses: it looks for ENOSPC in an error that os.File has
// wrapped already, takes it for a general I/O error, and forgets it during the rollback.
func (d *DB) explain(err error) error {
	if err = explain(err); !errors.Is(err, sqlite3.IOERR) {
		return err
	}
	return explainIO(err, tryWrite(filepath.Dir(d.path)))
}

// explainIO says what an I/O error means after an attempt to write a file.
func explainIO(err, attempt error) error {
	if errors.Is(attempt, syscall.ENOSPC) || errors.Is(attempt, syscall.EDQUOT) {
		return diskFull(err)
	}
	return err
}

func diskFull(err error) error {
	return fmt.Errorf("%w on the disk of the database; free some and try again (%w)", syscall.ENOSPC, err)
}

// tryWrite says whether a file of some size can be written in dir.
func tryWrite(dir string) error {
	f, err := os.CreateTemp(dir, "space-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(make([]byte, 128<<10))
	return errors.Join(err, f.Close())
}

// Explain gives an error of a query on Read the meaning that Open and Write give theirs: it
// unwraps to ErrDamaged or to syscall.ENOSPC where that is the cause.
func Explain(err error) error { return explain(err) }

// Close checkpoints and closes.
func (d *DB) Close() error {
	var errs []error
	for _, db := range []*sql.DB{d.read, d.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if d.pool != nil {
		d.pool.Close()
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
	if d.pool != nil {
		return d.writeShared(ctx, f)
	}
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return d.explain(err)
	}
	defer func() { _ = tx.Rollback() }() // also after a panic, which would keep the one writer for ever
	if err := f(tx); err != nil {
		return d.explain(err)
	}
	return d.explain(tx.Commit())
}
