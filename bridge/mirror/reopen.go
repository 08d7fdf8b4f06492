package mirror

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/emersion/go-imap/v2"
)

// ReopenFailed forgets what was made of messages that could not be opened, so that they are opened again: there is a
// new key. Their content changes under the same UIDs; what clients have kept of them was of no use.
func (m *Mirror) ReopenFailed(ctx context.Context) error {
	list, err := m.List(ctx)
	if errors.Is(err, ErrOffline) {
		return nil // nothing was ever synced
	}
	if err != nil {
		return err
	}
	for _, info := range list {
		b, done, err := m.use(ctx, info.Name)
		if errors.Is(err, ErrNoMailbox) {
			continue
		}
		if err == nil {
			err = b.reopenFailed(ctx)
			done()
		}
		if err != nil {
			return fmt.Errorf("mailbox %q: %w", info.Name, err)
		}
	}
	m.wake.fill.set()
	return nil
}

func (b *box) reopenFailed(ctx context.Context) error {
	b.write.Lock()
	defer b.write.Unlock()
	_, rows := b.state()
	var e edit
	var uids []imap.UID
	for _, r := range rows {
		if r.content != 0 && r.kind == Failed {
			r.content, r.kind = 0, ""
			e.put = append(e.put, b.m.with(r, r.flags, ""))
			uids = append(uids, r.uid)
		}
	}
	if len(uids) == 0 {
		return nil
	}
	return b.commit(ctx, e, func(tx *sql.Tx) error {
		return each(ctx, tx, `UPDATE message SET content = NULL, tries = 0, retry = 0 WHERE mailbox = ? AND uid = ?`, uids,
			func(uid imap.UID) []any { return []any{b.id, uid} })
	})
}
