package contacts

import (
	"context"
	"time"
)

// Keep stays with the pinned certificate: the pending one is dismissed, and finding it again is no change.
// ErrNothingPending if there is none.
func (b *Book) Keep(ctx context.Context, address string) (Contact, error) {
	return b.decide(ctx, address, func(r *record, _ time.Time) error {
		if r.pending == nil {
			return ErrNothingPending
		}
		r.dismiss(r.pending)
		r.pending, r.pendingSource = nil, ""
		return nil
	})
}
