package mirror

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"

	"github.com/emersion/go-imap/v2"
)

// Recent is the range of UIDs, from the first up to but without the second, that no client has been
// told of (RFC 3501 §2.3.2, \Recent). Who claims it is the only one to get it: the next caller
// gets what has come since. What was there when the account was set up is not recent. The provider is
// never asked: the mirror itself takes the flag away from others by looking.
func (b *Mailbox) Recent(ctx context.Context, claim bool) (from, to imap.UID, err error) {
	defer runtime.KeepAlive(b)
	to = b.snapshot().UIDNext
	b.write.Lock()
	defer b.write.Unlock()
	now := b.metaNow()
	if from = now.recent; from == 0 {
		from = now.baseline
	}
	if from >= to {
		return to, to, nil
	}
	if !claim {
		return from, to, nil
	}
	err = b.m.o.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE mailbox SET recent = ? WHERE id = ?`, to, b.id)
		return err
	})
	if err != nil {
		return to, to, fmt.Errorf("save what clients know of mailbox %q: %w", b.Name(), err)
	}
	b.mem.Lock()
	defer b.mem.Unlock()
	b.meta.recent = to
	return from, to, nil
}
