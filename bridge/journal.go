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
	copyUID  imap.UID
}

// begin writes the row before the first step; a row left by a failed attempt is reused.
func (j *journal) begin(ctx context.Context, r journalRow) (id int64, err error) {
	err = j.db.Write(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `INSERT INTO seal_journal (account, mailbox, validity, uid, verb, seal_id) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (account, mailbox, validity, uid) DO UPDATE SET verb = excluded.verb, seal_id = excluded.seal_id, copy_uid = 0
			RETURNING id`, r.account, r.mailbox, r.validity, r.uid, r.verb, r.sealID).Scan(&id)
	})
	return id, err
}

func (j *journal) appended(ctx context.Context, id int64, uid imap.UID) error {
	return j.exec(ctx, `UPDATE seal_journal SET copy_uid = ? WHERE id = ?`, uid, id)
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
	rows, err := j.db.Read().QueryContext(ctx, `SELECT id, mailbox, validity, uid, verb, seal_id, copy_uid
		FROM seal_journal WHERE account = ? ORDER BY id`, account)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []journalRow
	for rows.Next() {
		r := journalRow{account: account}
		if err := rows.Scan(&r.id, &r.mailbox, &r.validity, &r.uid, &r.verb, &r.sealID, &r.copyUID); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// firstStatus returns the status kept for these bytes, keeping the given one if there is none.
func (j *journal) firstStatus(ctx context.Context, account string, digest []byte, status string) (string, error) {
	const query = `SELECT status FROM first_status WHERE account = ? AND digest = ?`
	var first string
	err := j.db.Read().QueryRowContext(ctx, query, account, digest).Scan(&first)
	if err == nil || !errors.Is(err, sql.ErrNoRows) {
		return first, err
	}
	err = j.db.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO first_status (account, digest, status) VALUES (?, ?, ?)
			ON CONFLICT DO NOTHING`, account, digest, status); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, query, account, digest).Scan(&first)
	})
	return first, err
}

// forgetFailures lets messages that could not be opened have a first opening again.
func (j *journal) forgetFailures(ctx context.Context, account string) error {
	return j.exec(ctx, `DELETE FROM first_status WHERE account = ? AND status LIKE 'encryption=failed;%'`, account)
}

// noteEncrypted remembers that the message reached the account end-to-end encrypted.
func (j *journal) noteEncrypted(ctx context.Context, account, messageID string) error {
	return j.exec(ctx, `INSERT INTO encrypted_message (account, message_id) VALUES (?, ?) ON CONFLICT DO NOTHING`, account, messageID)
}

// arrivedEncrypted says whether any of the messages reached the account end-to-end encrypted.
func (j *journal) arrivedEncrypted(ctx context.Context, account string, messageIDs []string) (bool, error) {
	for _, id := range messageIDs {
		var found bool
		err := j.db.Read().QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM encrypted_message WHERE account = ? AND message_id = ?)`, account, id).Scan(&found)
		if found || err != nil {
			return found, err
		}
	}
	return false, nil
}
