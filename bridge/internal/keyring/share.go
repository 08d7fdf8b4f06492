package keyring

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sealpost/sealpost/bridge/store"
)

// ErrOtherVault says that the state folder and the shared database hold different vaults: what one has sealed the other
// cannot read.
var ErrOtherVault = errors.New("the vault in the state folder is not that of the shared database")

// ShareVault gives all gateways of a shared database the same vault: the file that the first of them made is kept in the
// database (wrapped under its passphrase, as on disk) and put into dir where there is none. create is called, if not nil, where
// neither has one. The error unwraps to ErrOtherVault if they differ; nothing is replaced.
func ShareVault(ctx context.Context, db *store.DB, dir string, create func() error) error {
	path := filepath.Join(dir, vaultFile)
	return db.Once(ctx, func() error {
		shared, err := sharedVault(ctx, db)
		if err != nil {
			return err
		}
		own, err := os.ReadFile(path)
		switch {
		case err != nil && !errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("vault: %w", err)
		case err == nil && shared == nil:
			return keepVault(ctx, db, path, own)
		case err == nil && string(own) != string(shared):
			return fmt.Errorf("%s: %w; move it away if this gateway is to join the others", path, ErrOtherVault)
		case err == nil:
			return nil
		case shared != nil:
			return joinVault(path, shared)
		case create == nil:
			return nil // OpenVault says that there is none
		}
		if err := create(); err != nil {
			return err
		}
		if own, err = os.ReadFile(path); err != nil {
			return fmt.Errorf("vault: %w", err)
		}
		return keepVault(ctx, db, path, own)
	})
}

// sharedVault is the file in the database; nil if there is none.
func sharedVault(ctx context.Context, db *store.DB) (file []byte, err error) {
	err = db.Read().QueryRowContext(ctx, `SELECT file FROM vault`).Scan(&file)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return file, err
}

func keepVault(ctx context.Context, db *store.DB, path string, file []byte) error {
	if _, err := parseVault(path, file); err != nil {
		return err
	}
	return db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO vault (one, file) VALUES (1, ?)`, file)
		return err
	})
}

func joinVault(path string, file []byte) error {
	f, err := parseVault("the shared database's vault", file)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	return f.write(path)
}
