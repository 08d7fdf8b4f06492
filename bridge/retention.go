package bridge

import (
	"context"
	"time"
)

// pruneInterval is how often old entries of the decision log are looked for.
const pruneInterval = 24 * time.Hour

// pruneLog removes what is older than the configuration keeps, at the start and then once a day, until ctx ends.
func (b *Bridge) pruneLog(ctx context.Context) error {
	ticker := time.NewTicker(pruneInterval)
	defer ticker.Stop()
	for {
		if err := b.pruneNow(ctx); err != nil && ctx.Err() == nil {
			b.log.Warn("old entries of the decision log could not be removed; trying again tomorrow", "cause", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

func (b *Bridge) pruneNow(ctx context.Context) error {
	if b.keepLog == 0 {
		return nil
	}
	removed, err := b.audit.Prune(ctx, b.now().Add(-b.keepLog))
	if removed > 0 {
		b.log.Info("old entries of the decision log were removed", "entries", removed)
	}
	return err
}
