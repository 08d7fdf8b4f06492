package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ncruces/go-sqlite3"
)

var (
	key   = bytes.Repeat([]byte{7}, 32)
	other = bytes.Repeat([]byte{8}, 32)
)

func mustOpen(t *testing.T, path string) *DB {
	t.Helper()
	d, err := Open(t.Context(), path, key)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func exec(t *testing.T, d *DB, query string, args ...any) {
	t.Helper()
	err := d.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fill writes a database with a canary and returns its path; odd characters included.
func fill(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a b?c#d%25&e+f", "s.db")
	d := mustOpen(t, path)
	exec(t, d, `CREATE TABLE canary (text TEXT)`)
	exec(t, d, `INSERT INTO canary VALUES ('the canary sings')`)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReopenAndEncrypted(t *testing.T) {
	path := fill(t)
	d := mustOpen(t, path)
	defer d.Close()
	exec(t, d, `INSERT INTO canary VALUES ('the canary sings again')`)
	var n int
	if err := d.Read().QueryRow(`SELECT count(*) FROM canary`).Scan(&n); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte("canary")) || bytes.Contains(data, []byte("SQLite")) {
			t.Errorf("%s has plaintext", file)
		}
	}
}

func TestErrorsAreToldApartAndChangeNothing(t *testing.T) {
	t.Run("wrong key", func(t *testing.T) {
		path := fill(t)
		before, _ := os.ReadFile(path)
		if _, err := Open(t.Context(), path, other); !errors.Is(err, ErrWrongKey) {
			t.Fatal(err)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Error("the file changed")
		}
		_ = mustOpen(t, path).Close()
	})
	t.Run("damaged", func(t *testing.T) {
		path := fill(t)
		data, _ := os.ReadFile(path)
		copy(data, make([]byte, 4096))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), path, key); !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(data, after) {
			t.Error("the file changed")
		}
	})
	t.Run("damaged further on", func(t *testing.T) {
		path := fill(t)
		data, _ := os.ReadFile(path)
		for i := 4096; i < len(data); i += 512 {
			data[i] ^= 1
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), path, key); !errors.Is(err, ErrDamaged) || errors.Is(err, ErrWrongKey) {
			t.Fatal(err)
		}
	})
	t.Run("gone", func(t *testing.T) {
		path := fill(t)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), path, key); !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
	})
	t.Run("in use", func(t *testing.T) {
		path := fill(t)
		d := mustOpen(t, path)
		defer d.Close()
		if _, err := Open(t.Context(), path, key); !errors.Is(err, ErrInUse) {
			t.Fatal(err)
		}
	})
	t.Run("newer", func(t *testing.T) {
		path := fill(t)
		d := mustOpen(t, path)
		exec(t, d, `INSERT INTO schema_migration VALUES ('999_future.sql', '')`)
		exec(t, d, `DELETE FROM schema_migration WHERE name LIKE '001%'`) // would fail if it were applied
		_ = d.Close()
		if _, err := Open(t.Context(), path, key); !errors.Is(err, ErrNewer) {
			t.Fatal(err)
		}
	})
	t.Run("migration changed", func(t *testing.T) {
		path := fill(t)
		d := mustOpen(t, path)
		exec(t, d, `UPDATE schema_migration SET sha256 = 'x' WHERE name LIKE '001%'`)
		_ = d.Close()
		if _, err := Open(t.Context(), path, key); err == nil || !strings.Contains(err.Error(), "001_") {
			t.Fatal(err)
		}
	})
	t.Run("short key", func(t *testing.T) {
		if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "s.db"), key[:16]); err == nil {
			t.Fatal("accepted")
		}
	})
}

// crashed is a database whose last transaction is in the write-ahead log only.
func crashed(t *testing.T) string {
	t.Helper()
	path := fill(t)
	d := mustOpen(t, path)
	defer d.Close()
	exec(t, d, `INSERT INTO canary VALUES ('only in the log')`)
	copied := filepath.Join(t.TempDir(), "s.db")
	for _, suffix := range []string{"", "-wal", checkSuffix} {
		data, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied+suffix, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return copied
}

// A wrong key must not cost what a crash left in the write-ahead log, whatever the state of the
// check file.
func TestWrongKeyAfterCrash(t *testing.T) {
	for name, check := range map[string]func(path string) error{
		"check":         func(string) error { return nil },
		"no check":      func(path string) error { return os.Remove(path) },
		"empty check":   func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"damaged check": func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("0"), 80), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			path := crashed(t)
			if err := check(path + checkSuffix); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(t.Context(), path, other); !errors.Is(err, ErrWrongKey) {
				t.Fatal(err)
			}
			d := mustOpen(t, path)
			var n int
			if err := d.Read().QueryRow(`SELECT count(*) FROM canary`).Scan(&n); err != nil || n != 2 {
				t.Error("the log was lost", n, err)
			}
			_ = d.Close()
			if _, err := Open(t.Context(), path, other); !errors.Is(err, ErrWrongKey) || errors.Is(err, ErrDamaged) {
				t.Error("no new check was written", err)
			}
		})
	}
}

func TestFilesAreTheUsersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	d := mustOpen(t, filepath.Join(dir, "s.db"))
	defer d.Close()
	exec(t, d, `CREATE TABLE x (y TEXT)`)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 5 {
		t.Fatal(files, err)
	}
	for _, file := range append(files, dir) {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v %v", file, info.Mode(), err)
		}
	}
}

func TestDamageFoundByAQuery(t *testing.T) {
	if err := Explain(sqlite3.CORRUPT); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	if err := Explain(sql.ErrNoRows); !errors.Is(err, sql.ErrNoRows) || errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

func TestRollback(t *testing.T) {
	d := mustOpen(t, fill(t))
	defer d.Close()
	boom := errors.New("boom")
	err := d.Write(t.Context(), func(tx *sql.Tx) error {
		_, _ = tx.Exec(`DELETE FROM canary`)
		return boom
	})
	var n int
	_ = d.Read().QueryRow(`SELECT count(*) FROM canary`).Scan(&n)
	if !errors.Is(err, boom) || n != 1 {
		t.Fatal(err, n)
	}
	if _, err := d.Read().Exec(`DELETE FROM canary`); err == nil {
		t.Error("a reader could write")
	}
}

// After a panic or a cancelled context the one writer is free again.
func TestWriterIsNeverStuck(t *testing.T) {
	d := mustOpen(t, fill(t))
	defer d.Close()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = d.Write(t.Context(), func(*sql.Tx) error { panic("boom") })
	}()
	exec(t, d, `DELETE FROM canary`)
	ctx, cancel := context.WithCancel(t.Context())
	err := d.Write(ctx, func(tx *sql.Tx) error {
		cancel()
		_, err := tx.ExecContext(ctx, `INSERT INTO canary VALUES ('x')`)
		return err
	})
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%q", err)
	}
	exec(t, d, `INSERT INTO canary VALUES ('y')`)
	var n int
	if err := d.Read().QueryRow(`SELECT count(*) FROM canary`).Scan(&n); err != nil || n != 1 {
		t.Error(n, err)
	}
}

func TestFullDisk(t *testing.T) {
	if err := explain(sqlite3.FULL); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	for attempt, want := range map[error]bool{nil: false, syscall.EACCES: false, syscall.ENOSPC: true, syscall.EDQUOT: true} {
		err := explainIO(sqlite3.IOERR, attempt)
		if errors.Is(err, syscall.ENOSPC) != want || !errors.Is(err, sqlite3.IOERR) {
			t.Errorf("%v: %v", attempt, err)
		}
	}
	d := mustOpen(t, fill(t))
	defer d.Close()
	if err := d.explain(sqlite3.IOERR); errors.Is(err, syscall.ENOSPC) {
		t.Error("there is space here", err)
	}
	exec(t, d, `PRAGMA max_page_count = 20`)
	err := d.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO canary VALUES (zeroblob(1000000))`)
		return err
	})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func TestConcurrentUse(t *testing.T) {
	d := mustOpen(t, fill(t))
	defer d.Close()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				err := d.Write(context.Background(), func(tx *sql.Tx) error {
					_, err := tx.Exec(`INSERT INTO canary VALUES ('x')`)
					return err
				})
				var n int
				if err == nil {
					err = d.Read().QueryRow(`SELECT count(*) FROM canary`).Scan(&n)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
