// Package bridge stands between a mail client and a mail provider. Its three stories are
// outgoing.go, incoming.go and sealing.go; policy.go decides.
package bridge

import (
	"context"
	"log/slog"
)

// Bridge is one installation: its accounts and what they share.
type Bridge struct {
	log *slog.Logger
}

// Login checks a client's credentials for IMAP or submission: an account's address (or alias) and the
// local password made for it. It compares in constant time and slows down guessing; the
// error is ErrCredentials.
func (b *Bridge) Login(ctx context.Context, username, password string) (*Account, error) {
	panic("stub")
}
