package contacts

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"

	"github.com/sealpost/sealpost/bridge/store"
)

// Change says that signatures by an address may have to be judged anew: another certificate, or
// the same with another trust, or news of it.
type Change struct {
	Address string
	serial  int64
}

// Changes are those that nobody has called Settled for. They survive restarts.
func (b *Book) Changes(ctx context.Context) ([]Change, error) {
	rows, err := b.options.DB.Read().QueryContext(ctx, `SELECT address, serial FROM contact_change ORDER BY address`)
	if err != nil {
		return nil, store.Explain(err)
	}
	defer rows.Close()
	var all []Change
	for rows.Next() {
		var c Change
		if err := rows.Scan(&c.Address, &c.serial); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, rows.Err()
}

// Settled says that a change has been followed; one that came after it stays.
func (b *Book) Settled(ctx context.Context, c Change) error {
	return b.options.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM contact_change WHERE address = ? AND serial = ?`, c.Address, c.serial)
		return err
	})
}

// standing is what signatures by the address are judged by, as a digest.
func (r *record) standing() string {
	h := sha256.New()
	fmt.Fprintf(h, "blocked %t", r.blocked)
	for _, c := range r.signers() {
		fmt.Fprintf(h, " %s %s %x", c.Trust, c.Pending, c.Certificate.Bytes())
	}
	return hex.EncodeToString(h.Sum(nil))
}

// noteChange notes a change of standing with the change itself.
func (r *record) noteChange(ctx context.Context, tx *sql.Tx) error {
	if r.standing() == r.was {
		return nil
	}
	r.was = r.standing()
	_, err := tx.ExecContext(ctx, `INSERT INTO contact_change (address) VALUES (?)
		ON CONFLICT (address) DO UPDATE SET serial = contact_change.serial + 1`, r.address)
	return err
}
