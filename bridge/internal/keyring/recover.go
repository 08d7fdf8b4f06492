package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/keydisc"
)

// Accounts are those that have keys, in order.
func Accounts(ctx context.Context, db *store.DB) ([]string, error) {
	return column(ctx, db, `SELECT DISTINCT account FROM own_key ORDER BY account`)
}

// Fingerprints of all accounts' keys, in order.
func Fingerprints(ctx context.Context, db *store.DB) ([]string, error) {
	return column(ctx, db, `SELECT fingerprint FROM own_key ORDER BY fingerprint`)
}

func column(ctx context.Context, db *store.DB, query string) (values []string, err error) {
	rows, err := db.Read().QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("own keys: %w", store.Explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var value string
		if err := rows.Scan(&value); err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, rows.Err()
}

// Restore puts back a key that Export wrote unlocked, whatever its state: revoked ones open older mail.
func (r *Ring) Restore(ctx context.Context, data []byte, p Profile, primary bool) error {
	entities, err := readSecretKeys(data)
	if err != nil || len(entities) != 1 || entities[0].PrivateKey == nil {
		return errors.Join(errors.New("it is no secret key"), err)
	}
	k, err := reread(entities[0], Key{Profile: p})
	if err != nil {
		return err
	}
	_, err = r.add(ctx, k, primary)
	return err
}

// Opens says whether the ring opens what is encrypted to a certificate now: it is tried.
func (r *Ring) Opens(c *keydisc.Certificate) error {
	to, giveBack, err := c.Borrow()
	if err != nil {
		return err
	}
	defer giveBack()
	const text = "a drill"
	var message bytes.Buffer
	w, err := openpgp.Encrypt(&message, []*openpgp.Entity{to}, nil, nil, nil, &packet.Config{AEADConfig: &packet.AEADConfig{}})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, text)
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	keys, done, err := r.Decrypters()
	if err != nil {
		return err
	}
	defer done()
	opened, err := openpgp.ReadMessage(&message, keys, nil, nil)
	if err != nil {
		return err
	}
	if got, err := io.ReadAll(opened.UnverifiedBody); err != nil || string(got) != text {
		return errors.Join(errors.New("it opens to something else"), err)
	}
	return nil
}

// All are the named secrets.
func (s *Secrets) All(ctx context.Context) (map[string][]byte, error) {
	rows, err := s.db.Read().QueryContext(ctx, `SELECT name FROM secret ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("secrets: %w", store.Explain(err))
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	all := map[string][]byte{}
	for _, name := range names {
		if all[name], err = s.Get(ctx, name); err != nil {
			return nil, err
		}
	}
	return all, nil
}
