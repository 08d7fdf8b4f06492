package export

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"
)

// ReleaseOptions say what to do with the archive of a hold that ends.
type ReleaseOptions struct {
	Name       string
	Purge      bool // remove what no standing hold wants
	Unexported bool // also what no finished export has
}

// Released is what became of it.
type Released struct {
	Hold   Hold `json:"hold"`
	Purged int  `json:"purged"`
	Stay   int  `json:"stay"` // messages of the hold that stay in the archive
}

// Release ends a hold, or purges the archive of one that has ended. Messages are removed with Purge alone, never while another hold
// stands over them, and only if a finished export has them or Unexported says that this does not matter: else it is ErrNotExported.
func (h *Holds) Release(ctx context.Context, o ReleaseOptions) (Released, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	hold, err := h.find(ctx, o.Name)
	if err != nil {
		return Released{}, err
	}
	if !hold.Released.IsZero() && !o.Purge {
		return Released{}, fmt.Errorf("hold %s: %w", o.Name, ErrReleased)
	}
	var purge []int64
	if o.Purge {
		if purge, err = h.purgeable(ctx, hold, o); err != nil {
			return Released{}, err
		}
	}
	wasReleased := !hold.Released.IsZero()
	if !wasReleased {
		hold.Released = h.now().UTC()
	}
	err = h.db.Write(ctx, func(tx *sql.Tx) error { return h.release(ctx, tx, hold, wasReleased, purge) })
	if err != nil {
		return Released{}, fmt.Errorf("hold %s: %w", o.Name, err)
	}
	done := Released{Hold: hold, Purged: len(purge), Stay: hold.Messages - len(purge)}
	return done, h.noteRelease(ctx, done, wasReleased)
}

func (h *Holds) noteRelease(ctx context.Context, r Released, wasReleased bool) error {
	c := r.Hold.Request.Custodians
	if !wasReleased {
		if err := h.note(ctx, r.Hold.Name, "released", c, strconv.Itoa(r.Hold.Messages)+" messages in the archive"); err != nil {
			return err
		}
	}
	if r.Purged == 0 {
		return nil
	}
	return h.note(ctx, r.Hold.Name, "purged", c, fmt.Sprintf("%d messages; %d stay", r.Purged, r.Stay))
}

// purgeable are the messages of a hold over which no other stands.
func (h *Holds) purgeable(ctx context.Context, hold Hold, o ReleaseOptions) ([]int64, error) {
	rows, err := h.db.Read().QueryContext(ctx, `
		SELECT m.id, EXISTS (SELECT 1 FROM export_message e JOIN export_job j ON j.id = e.job AND j.finished > m.gone
			WHERE (e.custodian, e.mailbox, e.validity, e.uid) = (m.custodian, m.mailbox, m.validity, m.uid) AND e.kept <> '' AND e.outcome IN (?2, ?3))
		FROM held_by b JOIN held_message m ON m.id = b.message WHERE b.hold = ?1
		AND NOT EXISTS (SELECT 1 FROM held_by o JOIN hold h ON h.id = o.hold WHERE o.message = m.id AND o.hold <> ?1 AND h.released = 0)
		ORDER BY m.id`, hold.id, string(Exported), string(Duplicate))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []int64
	missing := 0
	for rows.Next() {
		var id int64
		var exported bool
		if err := rows.Scan(&id, &exported); err != nil {
			return nil, err
		}
		ids = append(ids, id)
		if !exported {
			missing++
		}
	}
	if missing > 0 && !o.Unexported {
		return nil, fmt.Errorf("hold %s: %d messages of its archive are in no finished export, %w: export them first, or add --unexported", hold.Name, missing, ErrNotExported)
	}
	return ids, rows.Err()
}

// release ends the hold and removes messages, all or nothing.
func (h *Holds) release(ctx context.Context, tx *sql.Tx, hold Hold, wasReleased bool, purge []int64) error {
	if !wasReleased {
		if _, err := tx.ExecContext(ctx, `UPDATE hold SET released = ? WHERE id = ?`, hold.Released.UnixNano(), hold.id); err != nil {
			return err
		}
		detail := fmt.Sprintf("%d messages in the archive", hold.Messages)
		if err := holdCustody.add(ctx, tx, hold.id, hold.Released, "released", detail); err != nil {
			return err
		}
	}
	for _, id := range purge {
		if err := h.purge(ctx, tx, hold, id); err != nil {
			return err
		}
	}
	return removeUnused(ctx, tx, purge)
}

// purge removes one message and notes which it was.
func (h *Holds) purge(ctx context.Context, tx *sql.Tx, hold Hold, id int64) error {
	var custodian, mailbox, hash string
	var validity, uid uint32
	err := tx.QueryRowContext(ctx, `SELECT custodian, mailbox, validity, uid, stored_hash FROM held_message WHERE id = ?`, id).
		Scan(&custodian, &mailbox, &validity, &uid, &hash)
	if err != nil {
		return err
	}
	detail := fmt.Sprintf("message %d of %s (UIDVALIDITY %d) of %s, stored SHA-256 %s", uid, mailbox, validity, custodian, hash)
	if err := holdCustody.add(ctx, tx, hold.id, h.now(), "purged", detail); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM held_by WHERE message = ?`, id); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM held_message WHERE id = ?`, id)
	return err
}

// removeUnused removes contents that no message in the archive has any more.
func removeUnused(ctx context.Context, tx *sql.Tx, purged []int64) error {
	if len(purged) == 0 {
		return nil
	}
	hashes, err := textsOf(tx.QueryContext(ctx, `SELECT hash FROM held_body b
		WHERE NOT EXISTS (SELECT 1 FROM held_message WHERE stored = b.hash) AND NOT EXISTS (SELECT 1 FROM held_message WHERE opened = b.hash)`))
	if err != nil {
		return err
	}
	list, err := json.Marshal(append([]string{}, hashes...))
	if err != nil {
		return err
	}
	for _, statement := range []string{`DELETE FROM held_body WHERE hash IN (SELECT value FROM json_each(?))`, `DELETE FROM held_chunk WHERE hash IN (SELECT value FROM json_each(?))`} {
		if _, err := tx.ExecContext(ctx, statement, string(list)); err != nil {
			return err
		}
	}
	return nil
}
