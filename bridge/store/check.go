package store

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// checkSuffix names the file beside the database that tells a wrong key from damage: with
// encrypted pages both look like noise to SQLite. It holds a MAC of a fixed text under the key and a
// checksum of that MAC, so that a damaged check is not taken for a wrong key either.
const checkSuffix = ".check"

// sumSize is how much of the checksum is kept, in bytes.
const sumSize = 8

// checkKey refuses a wrong key before SQLite sees the file: SQLite would take a write-ahead log
// it cannot decrypt for an empty one, and remove it when it closes. known is false where there is
// no check yet.
func checkKey(ctx context.Context, path string, key []byte) (known bool, err error) {
	mac, err := readCheck(path)
	if err != nil {
		return false, err
	}
	if mac != nil && !hmac.Equal(mac, keyMAC(key)) {
		return false, ErrWrongKey
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist) && mac != nil:
		return false, fmt.Errorf("%w (the file is gone; to start with an empty one, remove %s)", ErrDamaged, path+checkSuffix)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return false, err
	case mac != nil:
		return true, nil
	case err != nil || info.Size() == 0:
		return false, nil // a new database
	}
	return false, probe(ctx, path, key)
}

// probe reads a database that has no check without changing anything: "immutable" makes
// SQLite leave the write-ahead log alone.
func probe(ctx context.Context, path string, key []byte) error {
	db, err := connect(path, key, 1, "&mode=ro&immutable=1&_pragma=query_only(true)")
	if err != nil {
		return unreadable(err)
	}
	defer db.Close()
	var n int
	return unreadable(db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema`).Scan(&n))
}

// unreadable says so where the two causes cannot be told apart.
func unreadable(err error) error {
	if err = explain(err); errors.Is(err, ErrDamaged) {
		return fmt.Errorf("%w, or %w", ErrWrongKey, err)
	}
	return err
}

func keyMAC(key []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("sealpost database key check"))
	return mac.Sum(nil)
}

// readCheck returns the MAC, nil where there is no check or it is damaged.
func readCheck(path string) ([]byte, error) {
	text, err := os.ReadFile(path + checkSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	check, err := hex.DecodeString(string(text))
	if err != nil || len(check) != sha256.Size+sumSize {
		return nil, nil
	}
	mac := check[:sha256.Size]
	if sum := sha256.Sum256(mac); !hmac.Equal(sum[:sumSize], check[sha256.Size:]) {
		return nil, nil
	}
	return mac, nil
}

// writeCheck writes the check of a database that has just been opened with key.
func writeCheck(path string, key []byte) error {
	mac := keyMAC(key)
	sum := sha256.Sum256(mac)
	f, err := os.CreateTemp(filepath.Dir(path), "check-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(hex.EncodeToString(append(mac, sum[:sumSize]...)))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path+checkSuffix)
}

// Check reads the whole structure of the database of our own; the error unwraps to ErrDamaged. A shared one checks itself.
func (d *DB) Check(ctx context.Context) error {
	if d.pool != nil {
		return explainShared(d.pool.Ping(ctx))
	}
	var answer string
	if err := d.read.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&answer); err != nil {
		return explain(err)
	}
	if answer != "ok" {
		return ErrDamaged
	}
	return nil
}
