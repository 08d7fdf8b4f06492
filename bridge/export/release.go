package export

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/sealpost/sealpost/bridge/mimescan"
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
	var wanted []claimed
	if o.Purge {
		if purge, wanted, err = h.purgeable(ctx, hold, o); err != nil {
			return Released{}, err
		}
	}
	wasReleased := !hold.Released.IsZero()
	if !wasReleased {
		hold.Released = h.now().UTC()
	}
	err = h.db.Write(ctx, func(tx *sql.Tx) error { return h.release(ctx, tx, hold, wasReleased, purge, wanted) })
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

// purgeable are the messages of a hold over which no other stands. wanted are those that one wants which was opened after they were kept.
func (h *Holds) purgeable(ctx context.Context, hold Hold, o ReleaseOptions) (ids []int64, wanted []claimed, err error) {
	archive, err := h.archiveOf(ctx, hold)
	if err != nil || len(archive) == 0 {
		return nil, nil, err
	}
	if wanted, err = h.wantedByOthers(ctx, hold, archive); err != nil {
		return nil, nil, err
	}
	missing := 0
	for id, exported := range archive {
		if slices.ContainsFunc(wanted, func(c claimed) bool { return c.message == id }) {
			continue
		}
		ids = append(ids, id)
		if !exported {
			missing++
		}
	}
	if missing > 0 && !o.Unexported {
		return nil, nil, fmt.Errorf("hold %s: %d messages of its archive are in no finished export, %w: export them first, or add --unexported", hold.Name, missing, ErrNotExported)
	}
	slices.Sort(ids)
	return ids, wanted, nil
}

// claimed is a message of the archive that a hold wants.
type claimed struct {
	message int64
	claim
}

// wantedByOthers asks the standing holds about messages of the archive: one that was opened later was never asked.
func (h *Holds) wantedByOthers(ctx context.Context, hold Hold, archive map[int64]bool) (wanted []claimed, err error) {
	accounts, err := textsOf(h.db.Read().QueryContext(ctx, `SELECT DISTINCT custodian FROM held_message`))
	if err != nil {
		return nil, err
	}
	for _, account := range accounts {
		standing, err := h.standing(ctx, account)
		if err != nil {
			return nil, err
		}
		standing = slices.DeleteFunc(standing, func(other Hold) bool { return other.id == hold.id })
		if len(standing) == 0 {
			continue
		}
		all, err := h.of(ctx, account)
		if err != nil {
			return nil, err
		}
		for i := range all {
			if _, of := archive[all[i].id]; !of {
				continue
			}
			claims, err := h.claimsOn(ctx, account, &all[i], standing)
			if err != nil {
				return nil, err
			}
			wanted = append(wanted, claims...)
		}
	}
	return wanted, nil
}

// claimsOn are those of standing holds on a message of the archive.
func (h *Holds) claimsOn(ctx context.Context, account string, k *kept, standing []Hold) (claims []claimed, err error) {
	message, err := h.message(ctx, account, k)
	if err != nil {
		return nil, err
	}
	opened, err := h.reader(k.opened)(ctx)
	if err != nil {
		return nil, err
	}
	var text mimescan.Source // nil, not a Blob that is
	if opened != nil {
		defer opened.Close()
		text = opened
	}
	for _, hold := range standing {
		outcome, err := hold.wants(ctx, message, text)
		if err != nil {
			return nil, fmt.Errorf("hold %s: %w", hold.Name, err)
		}
		if outcome == Matching || outcome == Undecided {
			claims = append(claims, claimed{k.id, claim{hold, string(outcome)}})
		}
	}
	return claims, nil
}

// archiveOf are the messages of a hold over which no other is known to stand, and whether a finished export has them.
func (h *Holds) archiveOf(ctx context.Context, hold Hold) (map[int64]bool, error) {
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
	archive := map[int64]bool{}
	for rows.Next() {
		var id int64
		var exported bool
		if err := rows.Scan(&id, &exported); err != nil {
			return nil, err
		}
		archive[id] = exported
	}
	return archive, rows.Err()
}

// release ends the hold and removes messages, all or nothing. What others want becomes theirs.
func (h *Holds) release(ctx context.Context, tx *sql.Tx, hold Hold, wasReleased bool, purge []int64, wanted []claimed) error {
	for _, c := range wanted {
		if err := h.claimAgain(ctx, tx, c); err != nil {
			return err
		}
	}
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

// claimAgain notes that a message of the archive is another hold's, too.
func (h *Holds) claimAgain(ctx context.Context, tx *sql.Tx, c claimed) error {
	if _, err := tx.ExecContext(ctx, `INSERT INTO held_by (message, hold, why) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, c.message, c.id, c.why); err != nil {
		return err
	}
	detail := fmt.Sprintf("message %d of the archive, kept before this hold was opened (%s)", c.message, c.why)
	return holdCustody.add(ctx, tx, c.id, h.now(), "kept", detail)
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
