package outbox

import (
	"context"
	"database/sql"
	"errors"

	"github.com/sealpost/sealpost/bridge/store"
)

// ErrBusy says that a message is being delivered right now.
var ErrBusy = errors.New("it is being delivered at this moment; look again when that has ended")

// Cancel forgets a waiting message, by the user's own act: its recipients do not get it, and no report is made. It
// returns what was cancelled; ErrNotQueued if there is none, ErrBusy if it may be with the provider already.
func (b *Outbox) Cancel(ctx context.Context, id int64) (Message, error) {
	end, err := b.begin(ctx, id)
	if errors.Is(err, errBusy) {
		err = ErrBusy
	}
	if err != nil {
		return Message{}, err
	}
	defer end()
	r, err := scan(b.options.DB.Read().QueryRowContext(ctx, selectMessage+` WHERE id = ? AND NOT delivered`, id))
	if errors.Is(err, sql.ErrNoRows) || err == nil && b.isDelivered(id) {
		err = ErrNotQueued
	}
	if err != nil {
		return Message{}, store.Explain(err)
	}
	return r.Message, b.remove(ctx, id)
}
