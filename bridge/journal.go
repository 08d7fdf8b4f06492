package bridge

import (
	"context"
	"database/sql"
	"errors"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/store"
)

// journal is what must survive a crash: replacements under way, first verdicts, and which
// messages arrived encrypted.
type journal struct{ db *store.DB }

type journalRow struct {
	id       int64
	account  string
	mailbox  string
	validity uint32
	uid      imap.UID
	verb     string
	sealID   string
	next     imap.UID // UIDNEXT before the copy was appended
	copyUID  imap.UID
	removing bool // the original has been marked \Deleted by us
}

// begin writes the row before the first step; a row left by a failed attempt is reused.
func (j *journal) begin(ctx context.Context, r journalRow) (id int64, err error) {
	err = j.db.Write(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `INSERT INTO seal_journal (account, mailbox, validity, uid, verb, seal_id, next_uid) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (account, mailbox, validity, uid) DO UPDATE SET verb = excluded.verb, seal_id = excluded.seal_id,
			next_uid = excluded.next_uid, copy_uid = 0, removing = 0
			RETURNING id`, r.account, r.mailbox, r.validity, r.uid, r.verb, r.sealID, r.next).Scan(&id)
	})
	return id, err
}

func (j *journal) appended(ctx context.Context, id int64, uid imap.UID) error {
	return j.exec(ctx, `UPDATE seal_journal SET copy_uid = ? WHERE id = ?`, uid, id)
}

func (j *journal) removing(ctx context.Context, id int64) error {
	return j.exec(ctx, `UPDATE seal_journal SET removing = 1 WHERE id = ?`, id)
}

func (j *journal) end(ctx context.Context, id int64) error {
	return j.exec(ctx, `DELETE FROM seal_journal WHERE id = ?`, id)
}

func (j *journal) exec(ctx context.Context, query string, args ...any) error {
	return j.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
}

// replacements are the rows of an account, oldest first.
func (j *journal) replacements(ctx context.Context, account string) ([]journalRow, error) {
	rows, err := j.db.Read().QueryContext(ctx, `SELECT id, mailbox, validity, uid, verb, seal_id, next_uid, copy_uid, removing
		FROM seal_journal WHERE account = ? ORDER BY id`, account)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []journalRow
	for rows.Next() {
		r := journalRow{account: account}
		if err := rows.Scan(&r.id, &r.mailbox, &r.validity, &r.uid, &r.verb, &r.sealID, &r.next, &r.copyUID, &r.removing); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// firstOpening is what is kept of a message's first opening.
type firstOpening struct {
	account   string
	digest    []byte // SHA-256 of the stored bytes
	status    string
	known     bool     // they were opened before
	encrypted []string // its Message-IDs, if it came end-to-end encrypted
}

// recall sets the status kept for these bytes, if there is one.
func (j *journal) recall(ctx context.Context, o *firstOpening) error {
	known, err := j.db.Prepared(ctx, `SELECT status FROM first_status WHERE account = ? AND digest = ?`)
	if err == nil {
		err = known.QueryRowContext(ctx, o.account, o.digest).Scan(&o.status)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	o.known = err == nil
	return err
}

// errOpenedTwice says that a copy of the message was opened at the same time, with another outcome.
var errOpenedTwice = errors.New("a copy of the message was opened meanwhile; try again")

// save keeps a first opening, with the message it is about.
func (o *firstOpening) save(ctx context.Context, b *store.Batch) error {
	var status string
	err := b.Scan(ctx, `INSERT INTO first_status (account, digest, status) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET status = status RETURNING status`, []any{o.account, o.digest, o.status}, &status)
	if err != nil {
		return err
	}
	if status != o.status {
		return errOpenedTwice
	}
	for _, id := range o.encrypted {
		if _, err := b.Exec(ctx, `INSERT INTO encrypted_message (account, message_id) VALUES (?, ?) ON CONFLICT DO NOTHING`, o.account, id); err != nil {
			return err
		}
	}
	return nil
}

// noteEncrypted keeps the Message-IDs of a message that came end-to-end encrypted.
func (j *journal) noteEncrypted(ctx context.Context, account string, messageIDs []string) error {
	return j.db.Write(ctx, func(tx *sql.Tx) error {
		for _, id := range messageIDs {
			_, err := tx.ExecContext(ctx, `INSERT INTO encrypted_message (account, message_id) VALUES (?, ?) ON CONFLICT DO NOTHING`, account, id)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// forgetFailures lets messages that could not be opened have a first opening again.
func (j *journal) forgetFailures(ctx context.Context, account string) error {
	return j.exec(ctx, `DELETE FROM first_status WHERE account = ? AND status LIKE 'encryption=failed;%'`, account)
}

// arrivedEncrypted says whether any of the messages reached any of the user's accounts, also former ones,
// end-to-end encrypted.
func (j *journal) arrivedEncrypted(ctx context.Context, messageIDs []string) (bool, error) {
	ask, err := j.db.Prepared(ctx, `SELECT EXISTS (SELECT 1 FROM encrypted_message WHERE message_id = ?)`)
	if err != nil {
		return false, err
	}
	for _, id := range messageIDs {
		var found bool
		err := ask.QueryRowContext(ctx, id).Scan(&found)
		if found || err != nil {
			return found, err
		}
	}
	return false, nil
}
