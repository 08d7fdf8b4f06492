package keyring

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/sealpost/sealpost/bridge/store"
)

// Secrets keeps named small secrets (provider and local passwords, TLS keys) in the
// database, each sealed by the vault. Safe for concurrent use.
type Secrets struct {
	db    *store.DB
	vault *Vault
}

// ErrNoSecret says that there is no secret of that name.
var ErrNoSecret = errors.New("no such secret")

// secretPrefix keeps the names of secrets apart from those of keys.
const secretPrefix = "secret:"

// NewSecrets keeps secrets in db under v.
func NewSecrets(db *store.DB, v *Vault) *Secrets { return &Secrets{db, v} }

// Get returns a secret, or ErrNoSecret.
func (s *Secrets) Get(ctx context.Context, name string) ([]byte, error) {
	var sealed []byte
	err := s.db.Read().QueryRowContext(ctx, `SELECT value FROM secret WHERE name = ?`, name).Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("%s: %w", name, ErrNoSecret)
	}
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", name, err)
	}
	value, err := s.vault.Unseal(secretPrefix+name, sealed)
	if err != nil {
		return nil, fmt.Errorf("secret %s: it is damaged, or another vault has sealed it", name)
	}
	return value, nil
}

// Lookup is Get with nil for what is not there.
func (s *Secrets) Lookup(ctx context.Context, name string) ([]byte, error) {
	value, err := s.Get(ctx, name)
	if errors.Is(err, ErrNoSecret) {
		return nil, nil
	}
	return value, err
}

// Set stores a secret in place of an earlier one of that name.
func (s *Secrets) Set(ctx context.Context, name string, value []byte) error {
	sealed, err := s.vault.Seal(secretPrefix+name, value)
	if err != nil {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO secret (name, value) VALUES (?, ?)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, sealed)
		return err
	})
	if err != nil {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	return nil
}

// Delete removes a secret; none of that name is no error.
func (s *Secrets) Delete(ctx context.Context, name string) error {
	err := s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM secret WHERE name = ?`, name)
		return err
	})
	if err != nil {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	return nil
}
