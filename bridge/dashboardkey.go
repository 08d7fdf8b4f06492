package bridge

import (
	"context"
	"crypto/rand"
	"fmt"
)

const dashboardKey = "dashboard-key"

// DashboardKey is what the dashboard authenticates its sessions with: 32 random bytes that stay in the vault; made on
// first use.
func (b *Bridge) DashboardKey(ctx context.Context) ([]byte, error) {
	key, err := b.secrets.Lookup(ctx, dashboardKey)
	if err != nil {
		return nil, fmt.Errorf("key of the dashboard: %w", err)
	}
	if key == nil {
		return b.RenewDashboardKey(ctx)
	}
	return key, nil
}

// RenewDashboardKey ends all sessions of the dashboard, and returns the key of those to come.
func (b *Bridge) RenewDashboardKey(ctx context.Context) ([]byte, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	if err := b.secrets.Set(ctx, dashboardKey, key); err != nil {
		return nil, fmt.Errorf("key of the dashboard: %w", err)
	}
	return key, nil
}
