package export

import (
	"context"
	"database/sql"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/export/query"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
	"github.com/sealpost/sealpost/bridge/store"
)

// place is where a message is, or was.
type place struct {
	mailbox       string
	validity, uid uint32
}

// kept is a message of the archive. The same message may still be, or be again, in its mailbox: if the provider refused to delete it.
type kept struct {
	place
	id             int64
	received       time.Time
	how            mirror.Departure
	gone           time.Time
	kind           mirror.Kind // "": never opened
	storedHash     string
	stored, opened string // hashes; "" for what is lost
	storedSize     int64
	openedSize     int64
}

// departed says in words how and when the message left its mailbox.
func (k *kept) departed() string {
	at := k.gone.UTC().Format(time.RFC3339)
	if k.how == mirror.Vanished {
		return "removed elsewhere, noticed at " + at
	}
	return string(k.how) + " by a client at " + at
}

// of are the messages of an account in the archive, by place and in order. Their headers are read later.
func (h *Holds) of(ctx context.Context, account string) ([]kept, error) {
	rows, err := h.db.Read().QueryContext(ctx, `SELECT m.id, m.mailbox, m.validity, m.uid, m.received, m.zone, m.how, m.gone, m.kind, m.stored_hash,
		coalesce(m.stored, ''), coalesce(m.opened, ''), coalesce(s.size, 0), coalesce(o.size, 0)
		FROM held_message m LEFT JOIN held_body s ON s.hash = m.stored LEFT JOIN held_body o ON o.hash = m.opened
		WHERE m.custodian = ? ORDER BY m.mailbox, m.validity, m.uid`, account)
	if err != nil {
		return nil, fmt.Errorf("archive of deleted mail: %w", store.Explain(err))
	}
	defer rows.Close()
	var all []kept
	for rows.Next() {
		var k kept
		var received, gone int64
		var zone int
		err := rows.Scan(&k.id, &k.mailbox, &k.validity, &k.uid, &received, &zone, &k.how, &gone, &k.kind, &k.storedHash, &k.stored, &k.opened, &k.storedSize, &k.openedSize)
		if err != nil {
			return nil, err
		}
		k.received, k.gone = time.Unix(received, 0).In(time.FixedZone("", zone)), time.Unix(0, gone)
		all = append(all, k)
	}
	return all, store.Explain(rows.Err())
}

// summary is what is known of it without its text; nil if it was never opened.
func (h *Holds) summary(ctx context.Context, k *kept) (*mirror.Summary, error) {
	var header, structure []byte
	err := h.db.Read().QueryRowContext(ctx, `SELECT header, structure FROM held_message WHERE id = ?`, k.id).Scan(&header, &structure)
	if err != nil || k.kind == "" {
		return nil, err
	}
	root := &mimescan.Part{}
	if err := json.Unmarshal(structure, root); err != nil {
		return nil, err
	}
	return mirror.Summarise(header, k.openedSize, k.kind, root)
}

// message is a message of the archive; nil if it was never opened.
func (h *Holds) message(ctx context.Context, account string, k *kept) (*Message, error) {
	s, err := h.summary(ctx, k)
	if err != nil || s == nil {
		return nil, err
	}
	view := &mirror.Snapshot{Name: k.mailbox, UIDValidity: k.validity}
	return newMessage(account, view, mirror.Message{UID: imap.UID(k.uid), InternalDate: k.received}, s)
}

// askKept asks about the account's messages in the archive that are in no mailbox any more.
func (q Question) askKept(ctx context.Context, c Custodian, live map[place]bool, all []kept, p Progress, f func(*Answer) error) error {
	for i := range all {
		k := &all[i]
		if live[k.place] {
			continue
		}
		answer, err := q.answerKept(ctx, c, k)
		if err == nil {
			err = f(&answer)
		}
		if answer.blob != nil {
			err = errors.Join(err, answer.blob.Close())
		}
		if err != nil {
			return fmt.Errorf("message %d of %s in the archive of deleted mail: %w", k.uid, k.mailbox, err)
		}
		p(k.mailbox, i+1, len(all))
	}
	return nil
}

// lost is the reason for Unavailable of what is in the archive as a note alone.
const lost = "it was removed elsewhere before it could be kept"

func (q Question) answerKept(ctx context.Context, c Custodian, k *kept) (Answer, error) {
	answer := Answer{Message: &Message{Custodian: c.Address, Mailbox: k.mailbox, UIDValidity: k.validity, UID: imap.UID(k.uid), Received: k.received}, kept: k,
		content: q.Archive.reader(k.opened), stored: q.Archive.reader(k.stored)}
	message, err := q.Archive.message(ctx, c.Address, k)
	if err != nil || message == nil {
		answer.Outcome, answer.Reason = Unavailable, lost
		return answer, err
	}
	answer.Message = message
	answer.family = newFamily(answer.Message)
	if !q.covers(answer.Message) {
		answer.Outcome = OutOfRange
		return answer, nil
	}
	a := &asked{Question: q}
	j := &judged{family: answer.family, hidden: true, possible: func(*query.Term) bool { return true }}
	if k.opened == "" {
		if answer.Outcome = NotMatching; a.eval(j) != query.False {
			answer.Outcome, answer.Reason = Unavailable, lost
		}
		return answer, nil
	}
	return answer, a.decide(ctx, j, &answer)
}

// reader opens a content of the archive, or nothing if that is lost.
func (h *Holds) reader(hash string) func(context.Context) (mirror.Blob, error) {
	return func(ctx context.Context) (mirror.Blob, error) {
		if hash == "" {
			return nil, nil
		}
		return openBody(ctx, h.db, hash)
	}
}

// holdsFile names the holds that exported messages were kept under: when each was opened and when it ended.
const holdsFile = "holds.csv"

// writeHolds leaves out holds that have nothing to do with the export: they may be about other matters.
func (x *run) writeHolds(ctx context.Context, w io.Writer) error {
	rows, err := x.o.DB.Read().QueryContext(ctx, `
		SELECT h.name, h.reason, h.opened, h.released, count(*) FROM export_message e
		JOIN held_message m ON (m.custodian, m.mailbox, m.validity, m.uid) = (e.custodian, e.mailbox, e.validity, e.uid)
		JOIN held_by b ON b.message = m.id JOIN hold h ON h.id = b.hold
		WHERE e.job = ? AND e.kept <> '' AND e.outcome NOT IN (?, ?) GROUP BY h.id ORDER BY h.id`, x.job.id, string(OutOfRange), string(NotMatching))
	if err != nil {
		return store.Explain(err)
	}
	defer rows.Close()
	out := csv.NewWriter(w)
	_ = out.Write([]string{"HOLD", "REASON", "OPENED", "RELEASED", "MESSAGES"})
	for rows.Next() {
		if err := writeHold(out, rows); err != nil {
			return err
		}
	}
	out.Flush()
	return errors.Join(rows.Err(), out.Error())
}

func writeHold(out *csv.Writer, rows *sql.Rows) error {
	var name, reason, count string
	var opened, released int64
	if err := rows.Scan(&name, &reason, &opened, &released, &count); err != nil {
		return err
	}
	ended := ""
	if released != 0 {
		ended = time.Unix(0, released).UTC().Format(time.RFC3339)
	}
	return out.Write([]string{name, reason, time.Unix(0, opened).UTC().Format(time.RFC3339), ended, count})
}

// again is the original of a message in the archive.
func (h *Holds) again(ctx context.Context, r *Record) ([]byte, error) {
	var hash string
	err := h.db.Read().QueryRowContext(ctx, `SELECT opened FROM held_message WHERE (custodian, mailbox, validity, uid) = (?, ?, ?, ?)`,
		r.Custodian, r.Folder, r.UIDValidity, r.UID).Scan(&hash)
	if err != nil {
		return nil, store.Explain(err)
	}
	opened, err := openBody(ctx, h.db, hash)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	data, err := io.ReadAll(io.NewSectionReader(opened, opened.Size()-r.Size, r.Size)) // our field is on top
	if err == nil && hashOf(data) != r.SHA256 {
		err = fmt.Errorf("%s: %w", r.DocID, errArchive)
	}
	return data, err
}
