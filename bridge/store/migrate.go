package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
)

//go:embed migrations/*/*.sql
var migrations embed.FS

// ErrNewer says that a newer version of the program has written the database.
var ErrNewer = errors.New("the database was written by a newer version of Sealpost; use that version")

// migrate runs each file of a folder under migrations once, in the order of their names, each in a
// transaction of its own.
func migrate(ctx context.Context, db *sql.DB, folder string) error {
	if _, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS schema_migration (name TEXT PRIMARY KEY, sha256 TEXT NOT NULL)`); err != nil {
		return err
	}
	names, err := fs.Glob(migrations, folder+"/*.sql") // sorted
	if err != nil {
		return err
	}
	if err := refuseNewer(ctx, db, names); err != nil {
		return err
	}
	for _, name := range names {
		if err := migrateOne(ctx, db, name); err != nil {
			return fmt.Errorf("migration %s: %w", path.Base(name), err)
		}
	}
	return nil
}

func migrateOne(ctx context.Context, db *sql.DB, name string) error {
	text, err := migrations.ReadFile(name)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	want, done := hex.EncodeToString(sum[:]), ""
	err = db.QueryRowContext(ctx, `SELECT sha256 FROM schema_migration WHERE name = ?`, path.Base(name)).Scan(&done)
	switch {
	case err == nil && done != want:
		return errors.New("the database was made with another version of this file; use the version of Sealpost that made it")
	case err == nil || !errors.Is(err, sql.ErrNoRows):
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	_, err = tx.ExecContext(ctx, string(text))
	if err == nil {
		_, err = tx.ExecContext(ctx, `INSERT INTO schema_migration (name, sha256) VALUES (?, ?)`, path.Base(name), want)
	}
	if err != nil {
		return err
	}
	return tx.Commit()
}

// refuseNewer comes before any change: this version cannot know what a newer one relies on.
func refuseNewer(ctx context.Context, db *sql.DB, names []string) error {
	rows, err := db.QueryContext(ctx, `SELECT name FROM schema_migration ORDER BY name`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var done string
		if err := rows.Scan(&done); err != nil {
			return err
		}
		if !slices.ContainsFunc(names, func(name string) bool { return path.Base(name) == done }) {
			return fmt.Errorf("%w (%s)", ErrNewer, done)
		}
	}
	return rows.Err()
}
