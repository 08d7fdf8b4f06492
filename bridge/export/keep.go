package export

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/export/query"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
)

// claim is a hold's on a message that departs.
type claim struct {
	Hold
	why string // Matching or Undecided
}

// Keep implements mirror.Keeper: when it returns nil, all that a standing hold wants of the message is on the disk, and was
// read back and compared.
func (h *Holds) Keep(ctx context.Context, d *mirror.Departing) error {
	standing, err := h.standing(ctx, d.Account)
	if err != nil {
		return err
	}
	message, err := messageOf(d)
	if err != nil {
		return err
	}
	var claims []claim
	for _, hold := range standing {
		outcome, err := hold.wants(ctx, message, d.Opened)
		if err != nil {
			return fmt.Errorf("hold %s: %w", hold.Name, err)
		}
		if outcome == Matching || outcome == Undecided {
			claims = append(claims, claim{hold, string(outcome)})
		}
	}
	if len(claims) == 0 {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.put(ctx, d, message, claims)
}

// messageOf is what is known of a message that departs; nil if it was never opened.
func messageOf(d *mirror.Departing) (*Message, error) {
	if d.Summary == nil {
		return nil, nil
	}
	view := &mirror.Snapshot{Name: d.Mailbox, UIDValidity: d.UIDValidity}
	return newMessage(d.Account, view, mirror.Message{UID: d.UID, InternalDate: d.Received}, d.Summary)
}

// wants says what the hold's question is answered by a message. What cannot be opened, or not read, is undecided. opened is nil if
// it is not known any more.
func (h Hold) wants(ctx context.Context, m *Message, opened mimescan.Source) (Outcome, error) {
	q, err := h.Request.parse()
	switch {
	case err != nil || m == nil:
		return Undecided, err
	case !q.covers(m):
		return OutOfRange, nil
	case q.Query == nil:
		return Matching, nil
	}
	j := &judged{family: newFamily(m), hidden: true, possible: func(*query.Term) bool { return true }}
	truth := q.Query.Eval(j.truth)
	if truth == query.Unknown && opened != nil && m.Kind != mirror.Failed {
		if err := j.family.read(ctx, opened); err != nil {
			return Undecided, err
		}
		j.read = true
		truth = q.Query.Eval(j.truth)
	}
	switch truth {
	case query.True:
		return Matching, nil
	case query.False:
		return NotMatching, nil
	}
	return Undecided, nil
}

// covers says whether a message was sent within the dates, or may have been.
func (q Question) covers(m *Message) bool {
	sent := m.Sent()
	return m.undated() || (q.Since.IsZero() || !sent.Before(q.Since)) && (q.Until.IsZero() || sent.Before(q.Until))
}

// bodies are the contents of a message in the archive; "" for what is lost.
type bodies struct {
	stored, opened         string
	storedSize, openedSize int64
}

// put writes the message to the archive.
func (h *Holds) put(ctx context.Context, d *mirror.Departing, m *Message, claims []claim) error {
	b, err := h.writeBodies(ctx, d, m)
	if err != nil {
		return fmt.Errorf("archive of deleted mail: %w", err)
	}
	var fresh []string
	event, detail := describe(d, b)
	err = h.db.Write(ctx, func(tx *sql.Tx) error {
		fresh = nil
		id, err := h.insert(ctx, tx, d, b)
		if err != nil {
			return err
		}
		for _, c := range claims {
			done, err := tx.ExecContext(ctx, `INSERT INTO held_by (message, hold, why) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, id, c.id, c.why)
			if err != nil {
				return err
			}
			if n, _ := done.RowsAffected(); n == 0 && d.How == mirror.Vanished {
				continue // it was kept when its deletion began
			}
			fresh = append(fresh, c.Name)
			if err := holdCustody.add(ctx, tx, c.id, h.now(), event, detail+" ("+c.why+")"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(fresh) == 0 {
		return err
	}
	entry := audit.Entry{Account: d.Account, Event: "hold", Decision: event, Rule: strings.Join(fresh, ", "), Mailbox: d.Mailbox, Detail: detail}
	return h.audit.Append(ctx, entry)
}

// writeBodies writes what there is of a message. Of clear mail that has vanished what the provider had stored is what clients saw
// without our field, if the digest says so.
func (h *Holds) writeBodies(ctx context.Context, d *mirror.Departing, m *Message) (b bodies, err error) {
	stored := d.Stored
	if stored == nil && d.Opened != nil && m.Kind == mirror.Clear {
		without := io.NewSectionReader(d.Opened, m.statusLen, d.Opened.Size()-m.statusLen)
		hash, err := hashSource(without)
		if err != nil {
			return b, err
		}
		if hash == hex.EncodeToString(d.StoredHash) {
			stored = without
		}
	}
	if stored != nil {
		b.storedSize = stored.Size()
		if b.stored, err = writeBody(ctx, h.db, stored); err != nil {
			return b, err
		}
	}
	if d.Opened != nil {
		b.openedSize = d.Opened.Size()
		b.opened, err = writeBody(ctx, h.db, d.Opened)
	}
	return b, err
}

// insert writes the row, or adds to the one of an earlier attempt to delete the message.
func (h *Holds) insert(ctx context.Context, tx *sql.Tx, d *mirror.Departing, b bodies) (id int64, err error) {
	for hash, size := range map[string]int64{b.stored: b.storedSize, b.opened: b.openedSize} {
		if hash == "" {
			continue
		}
		if err := countBody(ctx, tx, hash, size); err != nil {
			return 0, err
		}
	}
	var kind string
	var header, structure []byte
	if d.Summary != nil {
		root, err := d.Summary.Structure()
		if err != nil {
			return 0, err
		}
		if structure, err = json.Marshal(root); err != nil {
			return 0, err
		}
		kind, header = string(d.Summary.Kind), d.Summary.Header
	}
	_, zone := d.Received.Zone()
	var flags []string
	for _, f := range d.Flags {
		flags = append(flags, string(f))
	}
	err = tx.QueryRowContext(ctx, `
		INSERT INTO held_message (custodian, mailbox, validity, uid, received, zone, flags, how, gone, kind, header, structure, stored_hash, stored, opened)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, nullif(?, ''), nullif(?, ''))
		ON CONFLICT (custodian, mailbox, validity, uid) DO UPDATE SET
			how = iif(excluded.how = 'vanished', how, excluded.how), gone = iif(excluded.how = 'vanished', gone, excluded.gone),
			stored = coalesce(stored, excluded.stored), opened = coalesce(opened, excluded.opened)
		RETURNING id`, d.Account, d.Mailbox, d.UIDValidity, d.UID, d.Received.Unix(), zone, strings.Join(flags, " "), string(d.How), h.now().UnixNano(),
		kind, header, structure, hex.EncodeToString(d.StoredHash), b.stored, b.opened).Scan(&id)
	return id, err
}

// describe is what the custody log says of a message: where it was and digests, never what it says.
func describe(d *mirror.Departing, b bodies) (event, detail string) {
	detail = fmt.Sprintf("message %d of %s (UIDVALIDITY %d) of %s, %s", d.UID, d.Mailbox, d.UIDValidity, d.Account, d.How)
	event = "kept"
	switch {
	case b.stored == "" && b.opened == "":
		return "lost", detail + ": nothing of it was in the cache any more"
	case b.stored == "":
		detail += ": what the provider had stored is lost"
	default:
		detail += ": stored SHA-256 " + b.stored
	}
	if b.opened == "" {
		return event, detail + ", what it said is lost"
	}
	return event, detail + ", opened SHA-256 " + b.opened
}
