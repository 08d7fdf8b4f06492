package contacts

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/keydisc"
)

// row is a contact as stored.
type row struct {
	address       string
	certificate   *keydisc.Certificate
	source        Source
	trust         Trust
	firstSeen     time.Time
	lastUsed      time.Time
	pending       *keydisc.Certificate
	pendingSource Source
	autocryptSeen time.Time
	asked         time.Time
	tried         time.Time
}

// is says whether c is the pinned certificate.
func (r *row) is(c *keydisc.Certificate) bool {
	return r.certificate != nil && r.certificate.Fingerprint() == c.Fingerprint()
}

// offer takes a certificate that nobody vouches for: the first usable one is pinned, the
// same one is merged, another one waits for the user.
func (r *row) offer(c *keydisc.Certificate, s Source, now time.Time) {
	switch {
	case r.is(c):
		if merged, err := r.certificate.Merge(c); err == nil {
			r.certificate = merged
		}
	case c.Check(r.address, now) != nil:
		// It could not be used anyway, and must not get in the way of one that can.
	case r.certificate == nil:
		r.pin(c, s, now)
	default:
		r.pending, r.pendingSource, r.trust = c, s, Changed
	}
}

// pin puts a certificate in place of whatever was there.
func (r *row) pin(c *keydisc.Certificate, s Source, now time.Time) {
	if r.is(c) {
		if merged, err := r.certificate.Merge(c); err == nil {
			c = merged
		}
	} else {
		r.firstSeen = now
	}
	r.certificate, r.source, r.trust = c, s, Pinned
	r.pending, r.pendingSource = nil, ""
}

func (r *row) contact() Contact {
	c := Contact{
		Address: r.address, Certificate: r.certificate, Source: r.source, Trust: r.trust,
		FirstSeen: r.firstSeen, LastUsed: r.lastUsed, Ever: r.certificate != nil,
	}
	if r.pending != nil {
		c.Pending = r.pending.Fingerprint()
	}
	return c
}

// candidates are the contacts a signature may be by: with the pinned and with the pending certificate.
func (r *row) candidates() []Contact {
	if r.certificate == nil {
		return nil
	}
	pinned := r.contact()
	if r.pending == nil {
		return []Contact{pinned}
	}
	pinned.Trust = Pinned // the change is the other certificate's
	pending := r.contact()
	pending.Certificate, pending.Source = r.pending, r.pendingSource
	return []Contact{pinned, pending}
}

const columns = `address, certificate, source, trust, first_seen, last_used, pending, pending_source, autocrypt_seen, asked, tried`

type scanner interface{ Scan(dest ...any) error }

func scan(s scanner) (*row, error) {
	var r row
	var certificate, pending []byte
	var firstSeen, lastUsed, autocryptSeen, asked, tried int64
	err := s.Scan(&r.address, &certificate, &r.source, &r.trust, &firstSeen, &lastUsed, &pending, &r.pendingSource, &autocryptSeen, &asked, &tried)
	if err != nil {
		return nil, err
	}
	r.firstSeen, r.lastUsed, r.autocryptSeen, r.asked, r.tried = fromUnix(firstSeen), fromUnix(lastUsed), fromUnix(autocryptSeen), fromUnix(asked), fromUnix(tried)
	if r.certificate, err = parse(certificate); err == nil {
		r.pending, err = parse(pending)
	}
	if err != nil {
		return nil, fmt.Errorf("contact %s: %w", r.address, err)
	}
	return &r, nil
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

func fromUnix(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

func toUnix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func bytesOf(c *keydisc.Certificate) []byte {
	if c == nil {
		return nil
	}
	return c.Bytes()
}

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// get is the row of an address, or an empty one.
func (b *Book) get(ctx context.Context, address string) (*row, error) {
	return getRow(ctx, b.o.DB.Read(), address)
}

func getRow(ctx context.Context, q queryer, address string) (*row, error) {
	r, err := scan(q.QueryRowContext(ctx, `SELECT `+columns+` FROM contact WHERE address = ?`, address))
	if errors.Is(err, sql.ErrNoRows) {
		return &row{address: address, trust: Unknown}, nil
	}
	return r, err
}

// change reads a row, lets f change it and writes it, in one transaction.
func (b *Book) change(ctx context.Context, address string, f func(r *row, now time.Time)) (*row, error) {
	var r *row
	err := b.o.DB.Write(ctx, func(tx *sql.Tx) (err error) {
		if r, err = getRow(ctx, tx, address); err != nil {
			return err
		}
		f(r, b.o.Now())
		_, err = tx.ExecContext(ctx, `INSERT INTO contact (`+columns+`, fingerprint) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (address) DO UPDATE SET certificate = excluded.certificate, fingerprint = excluded.fingerprint, source = excluded.source,
			trust = excluded.trust, first_seen = excluded.first_seen, last_used = excluded.last_used, pending = excluded.pending,
			pending_source = excluded.pending_source, autocrypt_seen = excluded.autocrypt_seen, asked = excluded.asked, tried = excluded.tried`,
			r.address, bytesOf(r.certificate), r.source, r.trust, toUnix(r.firstSeen), toUnix(r.lastUsed), bytesOf(r.pending), r.pendingSource,
			toUnix(r.autocryptSeen), toUnix(r.asked), toUnix(r.tried), fingerprintOf(r.certificate))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("contact %s: %w", address, err)
	}
	return r, nil
}

func fingerprintOf(c *keydisc.Certificate) string {
	if c == nil {
		return ""
	}
	return string(c.Fingerprint())
}

// List returns all contacts that have a certificate, ordered by address.
func (b *Book) List(ctx context.Context) ([]Contact, error) {
	rows, err := b.o.DB.Read().QueryContext(ctx, `SELECT `+columns+` FROM contact WHERE certificate IS NOT NULL ORDER BY address`)
	if err != nil {
		return nil, fmt.Errorf("contacts: %w", err)
	}
	defer rows.Close()
	var list []Contact
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, r.contact())
	}
	return list, rows.Err()
}
