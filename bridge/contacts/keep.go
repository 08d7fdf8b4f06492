package contacts

import (
	"context"
	"time"
)

// Keep stays with the pinned certificate: what contests it is dismissed, and finding it again is no change.
// ErrNothingPending if there is none.
func (b *Book) Keep(ctx context.Context, address string) (Contact, error) {
	return b.decide(ctx, address, func(r *record, _ time.Time) error {
		if r.rival() == nil {
			return ErrNothingPending
		}
		r.dismissRivals()
		return nil
	})
}
