package contacts

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/keydisc"
)

// querier is a *sql.DB or a *sql.Tx.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// ready is a querier whose statements stay prepared.
type ready struct{ *store.DB }

func (r ready) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return r.Read().QueryContext(ctx, query, args...)
}

func (r ready) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	stmt, err := r.Prepared(ctx, query)
	if err != nil {
		return r.Read().QueryRowContext(ctx, query, args...) // which says why
	}
	return stmt.QueryRowContext(ctx, args...)
}

const columns = `address, certificate, source, pending, pending_source, dismissed, first_seen, last_used, heard, verified, blocked, standing`

// load reads the record of a normalised address; one that never had a certificate has an empty record.
func load(ctx context.Context, q querier, address string) (record, error) {
	r, err := scan(q.QueryRowContext(ctx, `SELECT `+columns+` FROM contact WHERE address = ?`, address).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return record{address: address}, nil
	}
	return r, err
}

func loadAll(ctx context.Context, q querier) ([]record, error) {
	rows, err := q.QueryContext(ctx, `SELECT `+columns+` FROM contact ORDER BY address`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var records []record
	for rows.Next() {
		r, err := scan(rows.Scan)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, rows.Err()
}

func scan(into func(...any) error) (record, error) {
	var r record
	var pinned, pending []byte
	var dismissed string
	var firstSeen, lastUsed, heard, verified int64
	err := into(&r.address, &pinned, &r.source, &pending, &r.pendingSource, &dismissed, &firstSeen, &lastUsed, &heard, &verified, &r.blocked, &r.was)
	if err != nil {
		return r, err
	}
	for _, f := range strings.Fields(dismissed) {
		r.dismissed = append(r.dismissed, keydisc.Fingerprint(f))
	}
	r.firstSeen, r.lastUsed, r.heard, r.verified = fromNano(firstSeen), fromNano(lastUsed), fromNano(heard), fromNano(verified)
	if r.pinned, err = parse(pinned); err == nil {
		r.pending, err = parse(pending)
	}
	if err != nil {
		return r, fmt.Errorf("stored certificate of %s: %w", r.address, err)
	}
	return r, nil
}

func parse(data []byte) (*keydisc.Certificate, error) {
	if data == nil {
		return nil, nil
	}
	certificates, err := keydisc.ParseCertificates(data)
	if err != nil {
		return nil, err
	}
	return certificates[0], nil
}

func (r *record) save(ctx context.Context, tx *sql.Tx) error {
	var dismissed []string
	for _, f := range r.dismissed {
		dismissed = append(dismissed, string(f))
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO contact (`+columns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (address) DO UPDATE SET certificate = excluded.certificate, source = excluded.source,
			pending = excluded.pending, pending_source = excluded.pending_source, dismissed = excluded.dismissed,
			heard = excluded.heard, verified = excluded.verified, blocked = excluded.blocked, standing = excluded.standing`,
		r.address, blob(r.pinned), string(r.source), blob(r.pending), string(r.pendingSource), strings.Join(dismissed, " "),
		toNano(r.firstSeen), toNano(r.lastUsed), toNano(r.heard), toNano(r.verified), r.blocked, r.standing())
	if err != nil {
		return err
	}
	return r.noteChange(ctx, tx)
}

// blob is NULL for no certificate.
func blob(c *keydisc.Certificate) any {
	if c == nil {
		return nil
	}
	return c.Bytes()
}

func toNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNano(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// asked is when the network was asked for an address; zero times: never.
type asked struct{ attempted, concluded time.Time }

func loadAsked(ctx context.Context, q querier, address string) (asked, error) {
	var attempted, concluded int64
	err := q.QueryRowContext(ctx, `SELECT attempted, concluded FROM contact_lookup WHERE address = ?`, address).Scan(&attempted, &concluded)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return asked{fromNano(attempted), fromNano(concluded)}, err
}

// saveAsked notes a lookup, and forgets those so old that they no longer matter.
func saveAsked(ctx context.Context, tx *sql.Tx, address string, concluded bool, at time.Time) error {
	definite := time.Time{}
	if concluded {
		definite = at
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO contact_lookup (address, attempted, concluded) VALUES (?1, ?2, ?3)
		ON CONFLICT (address) DO UPDATE SET attempted = ?2,
			concluded = CASE WHEN contact_lookup.concluded > ?3 THEN contact_lookup.concluded ELSE ?3 END`, address, toNano(at), toNano(definite))
	if err == nil {
		_, err = tx.ExecContext(ctx, `DELETE FROM contact_lookup WHERE attempted < ?`, at.Add(-2*refreshAfter).UnixNano())
	}
	return err
}
