package keyring

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/sealpost/sealpost/keydisc"
)

// querier is a database to read from, or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// load reads the keys of the account, the primary first.
func (r *Ring) load(ctx context.Context, q querier) (keys []ownKey, err error) {
	rows, err := q.QueryContext(ctx, `SELECT fingerprint, profile, is_primary, sealed FROM own_key WHERE account = ? ORDER BY is_primary DESC, fingerprint`, r.account)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var fingerprint, profile string
		var primary bool
		var sealed []byte
		if err := rows.Scan(&fingerprint, &profile, &primary, &sealed); err != nil {
			return nil, err
		}
		secret, err := r.vault.Unseal(r.sealName(fingerprint), sealed)
		if err != nil {
			return nil, fmt.Errorf("key %s: it is damaged, or another vault has sealed it", fingerprint)
		}
		k, err := r.parsed(secret, Profile(profile), primary)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", fingerprint, err)
		}
		keys = append(keys, k)
	}
	return keys, rows.Err()
}

// parsed is a key as it is in the ring already, or read anew.
func (r *Ring) parsed(secret []byte, p Profile, primary bool) (ownKey, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, k := range r.keys {
		if bytes.Equal(k.secret, secret) && k.Profile == p {
			clear(secret)
			k.Primary = primary
			return k, nil
		}
	}
	return newOwnKey(secret, p, primary)
}

// update changes the keys in one transaction, which begins with what the database holds: a gateway that shares it may have changed
// them since they were read here, or revoked one. The first of what change returns is the primary key; nil: nothing is to
// change. change must not use the ring.
func (r *Ring) update(ctx context.Context, change func(keys []ownKey) ([]ownKey, error)) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	r.mu.RLock()
	closed := r.closed
	r.mu.RUnlock()
	if closed {
		return fmt.Errorf("%s: %w", r.account, ErrNoKey)
	}
	var loaded, changed []ownKey
	err := r.db.Write(ctx, func(tx *sql.Tx) (err error) {
		if loaded, err = r.load(ctx, tx); err != nil {
			return err
		}
		if changed, err = change(slices.Clone(loaded)); err != nil || changed == nil {
			return err
		}
		for i := range changed {
			changed[i].Primary = i == 0
		}
		return r.store(ctx, tx, changed)
	})
	switch {
	case err == nil && changed != nil:
		r.hold(changed)
	case loaded != nil: // what others have done counts, too, if ours fails
		r.hold(loaded)
	}
	return err
}

// hold takes over what the database holds.
func (r *Ring) hold(keys []ownKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed && !slices.EqualFunc(keys, r.keys, sameKey) {
		r.keys, r.lent = keys, &lentKeys{}
	}
}

// reload takes over what others that share the database have done.
func (r *Ring) reload(ctx context.Context) error {
	return r.update(ctx, func([]ownKey) ([]ownKey, error) { return nil, nil })
}

func sameKey(a, b ownKey) bool {
	return a.Fingerprint == b.Fingerprint && a.Primary == b.Primary && a.Profile == b.Profile && bytes.Equal(a.secret, b.secret)
}

func (r *Ring) store(ctx context.Context, tx *sql.Tx, keys []ownKey) error {
	for _, k := range keys {
		sealed, err := r.vault.Seal(r.sealName(string(k.Fingerprint)), k.secret)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO own_key (account, fingerprint, profile, is_primary, sealed) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (account, fingerprint) DO UPDATE SET profile = excluded.profile, is_primary = excluded.is_primary, sealed = excluded.sealed`,
			r.account, string(k.Fingerprint), string(k.Profile), k.Primary, sealed)
		if err != nil {
			return fmt.Errorf("key %s: %w", k.Fingerprint, err)
		}
	}
	return nil
}

// add stores a key, in the place of its older copy if there is one, and shows it. The first key of a ring is the primary one.
func (r *Ring) add(ctx context.Context, k ownKey, primary bool) (Key, error) {
	err := r.update(ctx, func(keys []ownKey) ([]ownKey, error) {
		if keys = put(keys, k); primary {
			return prefer(keys, k.Fingerprint), nil
		}
		return keys, nil
	})
	if err != nil {
		return Key{}, err
	}
	return r.shown(k.Fingerprint)
}

// put replaces the older copy of a key, or appends it.
func put(keys []ownKey, k ownKey) []ownKey {
	i := slices.IndexFunc(keys, func(older ownKey) bool { return older.Fingerprint == k.Fingerprint })
	if i < 0 {
		return append(keys, k)
	}
	keys[i] = k
	return keys
}

// prefer puts one of the keys first.
func prefer(keys []ownKey, f keydisc.Fingerprint) []ownKey {
	i := slices.IndexFunc(keys, func(k ownKey) bool { return k.Fingerprint == f })
	if i < 0 {
		return keys
	}
	first := keys[i]
	return slices.Insert(slices.Delete(keys, i, i+1), 0, first)
}

// heir is another key that can be used; "" if there is none.
func heir(keys []ownKey, than keydisc.Fingerprint, now time.Time) keydisc.Fingerprint {
	for _, k := range keys {
		if k.Fingerprint != than && k.usable(now) {
			return k.Fingerprint
		}
	}
	return ""
}

// succeed puts another key that can be used in the place of a primary one that is revoked, on whatever device that was done.
func succeed(keys []ownKey, now time.Time) []ownKey {
	if len(keys) == 0 || !keys[0].Revoked {
		return keys
	}
	return prefer(keys, heir(keys, keys[0].Fingerprint, now))
}

// listed are the given keys as they stand in the ring now.
func (r *Ring) listed(given []ownKey) []Key {
	return slices.DeleteFunc(r.List(), func(k Key) bool {
		return !slices.ContainsFunc(given, func(g ownKey) bool { return g.Fingerprint == k.Fingerprint })
	})
}
