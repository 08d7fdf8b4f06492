// Package database opens databases for tests: a file, or PostgreSQL where the environment names one.
package database

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"os"

	"github.com/jackc/pgx/v5"

	"github.com/sealpost/sealpost/bridge/store"
)

// Variable names the environment variable with the URL of a PostgreSQL server: tests whose package gateways share
// run on it then.
const Variable = "SEALPOST_TEST_DATABASE"

// Open opens an encrypted file of that path or, with Variable, a schema of its own for that path.
func Open(ctx context.Context, path string) (*store.DB, error) {
	server := os.Getenv(Variable)
	if server == "" {
		return store.Open(ctx, path, make([]byte, 32))
	}
	sum := sha256.Sum256([]byte(path))
	shared, err := NewSchema(ctx, server, "t"+hex.EncodeToString(sum[:8]))
	if err != nil {
		return nil, err
	}
	return store.OpenShared(ctx, shared)
}

// NewSchema makes a schema on a server unless it is there, and returns the URL that leads into it.
func NewSchema(ctx context.Context, server, name string) (string, error) {
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+pgx.Identifier{name}.Sanitize()); err != nil {
		return "", err
	}
	u, err := url.Parse(server)
	if err != nil {
		return "", err
	}
	q := u.Query()
	q.Set("search_path", name)
	u.RawQuery = q.Encode()
	return u.String(), nil
}
