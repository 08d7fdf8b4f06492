package audit

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sealpost/sealpost/bridge/store"
)

// Prune removes the entries made before a time, the oldest first and no other, and says in the log itself that it did. The chain
// goes on from the last one removed: what is left can be verified.
func (l *Log) Prune(ctx context.Context, before time.Time) (removed int64, err error) {
	err = l.db.Write(ctx, func(tx *sql.Tx) error {
		last, err := lastBefore(ctx, tx, before)
		if err != nil || last.Seq == 0 {
			return err
		}
		result, err := tx.ExecContext(ctx, `DELETE FROM audit WHERE seq <= ?`, last.Seq)
		if err != nil {
			return err
		}
		if removed, err = result.RowsAffected(); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO audit_base (one, seq, hash) VALUES (1, ?, ?)
			ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, hash = excluded.hash`, last.Seq, last.Hash)
		if err != nil {
			return err
		}
		return l.append(ctx, store.NewBatch(tx), []Entry{{Event: "log", Detail: fmt.Sprintf("%d entries until %s were removed", removed, last.Time.Format(time.RFC3339))}})
	})
	if err != nil {
		return 0, fmt.Errorf("decision log: %w", err)
	}
	return removed, nil
}

// lastBefore is the newest entry of the unbroken run from the beginning that is older than the time; zero if there is none. A clock
// that went back must not take newer entries with it.
func lastBefore(ctx context.Context, q queryer, before time.Time) (last Entry, err error) {
	stop := errors.New("enough")
	err = each(ctx, q, 0, maxEntries, func(_ int64, text, hash string) error {
		var e Entry
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			return err
		}
		if !e.Time.Before(before) {
			return stop
		}
		last, last.Hash = e, hash
		return nil
	})
	if errors.Is(err, stop) {
		err = nil
	}
	return last, err
}

// base is where the chain begins: 0 and "" if nothing was removed.
func base(ctx context.Context, q queryer) (seq int64, hash string, err error) {
	err = q.QueryRowContext(ctx, `SELECT seq, hash FROM audit_base`).Scan(&seq, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return seq, hash, err
}

// VerifyExport walks over entries as `sealpost log --json` prints them, a JSON object a line: all of them, or all from some
// entry on. broken is the first bad line, 0 if none. What was cut off at the end it cannot see: the hash of the last entry, noted
// elsewhere, tells.
func VerifyExport(r io.Reader) (checked, broken int64, last string, err error) {
	decoder := json.NewDecoder(r)
	var prev Entry
	for {
		var e Entry
		if err := decoder.Decode(&e); errors.Is(err, io.EOF) {
			return checked, 0, prev.Hash, nil
		} else if err != nil {
			return checked, 0, "", fmt.Errorf("line %d is no entry of a decision log: %w", checked+1, err)
		}
		hash := e.Hash
		e.Hash = ""
		text, err := json.Marshal(e)
		if err != nil {
			return checked, 0, "", err
		}
		if hashOf(text) != hash || checked > 0 && (e.Prev != prev.Hash || e.Seq != prev.Seq+1) || checked == 0 && e.Seq == 1 && e.Prev != "" {
			return checked, checked + 1, "", nil
		}
		checked++
		prev, prev.Hash = e, hash
	}
}
