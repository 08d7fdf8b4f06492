package imapd

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/mirror"
)

// TestDeletionUnderAHoldIsRefusedInWords: the client reads that a hold stands, what to do, and nothing of the cause.
func TestDeletionUnderAHoldIsRefusedInWords(t *testing.T) {
	for want, cause := range map[string]error{
		"the disk of Sealpost's state folder is full": fmt.Errorf("%w: %w", mirror.ErrNotKept, fmt.Errorf("%w: secret: %w", mirror.ErrOffline, syscall.ENOSPC)),
		"folder is full: free some and try again":     fmt.Errorf("secret: %w", syscall.ENOSPC),
		"log says why":                   fmt.Errorf("%w: secret", mirror.ErrNotKept),
		"provider cannot be reached":     fmt.Errorf("keep: %w", mirror.ErrOffline),
		"provider cannot be reached; ":   fmt.Errorf("%w: %w", mirror.ErrNotKept, mirror.ErrOffline),
		"Some of the messages no longer": mirror.ErrExpunged,
	} {
		got := translate(cause, imap.ResponseCodeNonExistent)
		if got.Type != imap.StatusResponseTypeNo || !strings.Contains(got.Text, want) || strings.Contains(got.Text, "secret") {
			t.Errorf("%v: %q", cause, got.Text)
		}
	}
}
