package keyring

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/bridge/store"
)

// GenerateFirst makes the first key of a ring, as Generate does, unless another process has made or imported one meanwhile: then
// that is taken over. made says whose it is. Writers of a shared database wait for each other, so that one key alone is the first.
func (r *Ring) GenerateFirst(ctx context.Context, p Profile, addresses []string, now time.Time) (made bool, err error) {
	r.changing.Lock()
	defer r.changing.Unlock()
	k, err := generated(p, addresses, now)
	if err != nil {
		return false, err
	}
	k.Primary = true
	sealed, err := r.vault.Seal(r.sealName(string(k.Fingerprint)), k.secret)
	if err != nil {
		return false, err
	}
	err = r.db.Write(ctx, func(tx *sql.Tx) error {
		var others int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM own_key WHERE account = ?`, r.account).Scan(&others); err != nil {
			return err
		}
		if made = others == 0; !made {
			return nil
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO own_key (account, fingerprint, profile, is_primary, sealed) VALUES (?, ?, ?, ?, ?)`,
			r.account, string(k.Fingerprint), string(k.Profile), true, sealed)
		return err
	})
	if err != nil {
		return false, err
	}
	fresh, err := Open(ctx, r.db, r.vault, r.account)
	if err != nil {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys, r.lent = fresh.keys, &lentKeys{}
	return made, nil
}

// Stamp differs whenever the stored keys of an account do, so that a ring that was read before need not be read again. It is not
// about the account's name.
func Stamp(ctx context.Context, db *store.DB, account string) (string, error) {
	stmt, err := db.Prepared(ctx, `SELECT fingerprint, profile, is_primary, sealed FROM own_key WHERE account = ? ORDER BY fingerprint`)
	if err != nil {
		return "", err
	}
	rows, err := stmt.QueryContext(ctx, account)
	if err != nil {
		return "", store.Explain(err)
	}
	defer rows.Close()
	sum := sha256.New()
	for rows.Next() {
		var fingerprint, profile string
		var primary bool
		var sealed []byte
		if err := rows.Scan(&fingerprint, &profile, &primary, &sealed); err != nil {
			return "", store.Explain(err)
		}
		fmt.Fprintf(sum, "%q %q %t %x\n", fingerprint, profile, primary, sealed)
	}
	return string(sum.Sum(nil)), store.Explain(rows.Err())
}
