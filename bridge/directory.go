package bridge

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/sealpost/sealpost/keydisc"
)

// The gateway's Web Key Directory knows its users by the hash of their addresses: whoever has a key here, or has mailed one in
// (wkssubmission.go). Asking for an address never makes a key.

// Published is what the directory says about the user of a domain whose local part has that hash (keydisc.WKDHash): his
// certificate with no other address in it; if it was revoked, that. ErrNoKey if there is none.
func (g *Gateway) Published(ctx context.Context, domain, hash string) (address string, certificate []byte, err error) {
	err = g.bridge.db.Read().QueryRowContext(ctx, `SELECT address FROM hosted_address WHERE domain = ? AND wkd_hash = ?`, domain, hash).Scan(&address)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil, ErrNoKey
	}
	if err != nil {
		return "", nil, err
	}
	certificates, err := g.users.certificates(ctx, address)
	if err != nil {
		return "", nil, err
	}
	for _, c := range certificates {
		one, err := c.ForAddress(address)
		if err != nil {
			return "", nil, err
		}
		certificate = append(certificate, one.Bytes()...)
	}
	return address, certificate, nil
}

// certificates of a user, the one to use first: what he has mailed in, as long as it is good, else that of the key that speaks for him, and
// what he had mailed in, which others may still have. ErrNoKey if there is none.
func (h *hosted) certificates(ctx context.Context, address string) ([]*keydisc.Certificate, error) {
	own, good, err := h.submitted(ctx, address)
	if err != nil {
		return nil, err
	}
	if good {
		return []*keydisc.Certificate{own}, nil
	}
	ring, err := h.ring(ctx, address)
	if err != nil {
		return nil, err
	}
	c, err := ring.CertificateFor(normalized(address), h.bridge.now())
	switch {
	case err == nil && own != nil:
		return []*keydisc.Certificate{c, own}, nil
	case err == nil:
		return []*keydisc.Certificate{c}, nil
	case own != nil && errors.Is(err, ErrNoKey):
		return []*keydisc.Certificate{own}, nil
	}
	return nil, err
}

// submitted is the certificate that a user has mailed in, nil if he has not, and whether it can be used.
func (h *hosted) submitted(ctx context.Context, address string) (c *keydisc.Certificate, good bool, err error) {
	stmt, err := h.bridge.db.Prepared(ctx, `SELECT certificate FROM submitted_certificate WHERE address = ?`)
	if err != nil {
		return nil, false, err
	}
	var data []byte
	err = stmt.QueryRowContext(ctx, normalized(address)).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	certificates, err := keydisc.ParseCertificates(data)
	if err != nil {
		return nil, false, fmt.Errorf("the certificate that %s has mailed in: %w", address, err)
	}
	return certificates[0], certificates[0].Check(address, h.bridge.now()) == nil, nil
}

// enrol puts addresses into the directory. Of two with the same hash the first stays.
func (h *hosted) enrol(ctx context.Context, addresses ...string) error {
	return h.bridge.db.Write(ctx, func(tx *sql.Tx) error {
		for _, address := range addresses {
			if strings.HasPrefix(address, "@") {
				continue // a domain's keys
			}
			if err := enrol(ctx, tx, normalized(address)); err != nil {
				return err
			}
		}
		return nil
	})
}

func enrol(ctx context.Context, tx *sql.Tx, address string) error {
	at := strings.LastIndexByte(address, '@')
	_, err := tx.ExecContext(ctx, `INSERT INTO hosted_address (domain, wkd_hash, address) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`,
		address[at+1:], keydisc.WKDHash(address[:at]), address)
	return err
}

// enrolAll puts those into the directory whose keys were there before it.
func (g *Gateway) enrolAll(ctx context.Context) error {
	users, err := g.Users(ctx)
	if err != nil || len(users) == 0 {
		return err
	}
	return g.users.enrol(ctx, users...)
}
