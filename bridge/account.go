package bridge

import (
	"context"
	"io"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/mirror"
)

// Account is one of the user's mail accounts.
type Account struct{}

// Address of the account.
func (a *Account) Address() string { panic("stub") }

// Mirror serves the account's mailboxes.
func (a *Account) Mirror() *mirror.Mirror { panic("stub") }

// MaxMessageSize is what Submit and Append accept, in bytes: the provider's limit less
// what encryption adds.
func (a *Account) MaxMessageSize() int64 { panic("stub") }

// Envelope of a submission (RFC 5321): it decides, not the header.
type Envelope struct {
	From string   // addr-spec
	To   []string // addr-specs
	UTF8 bool     // SMTPUTF8
}

// Submit takes a message from the account's user and returns nil once the provider has
// accepted it for every recipient (or it is safely queued after a part was accepted). The
// error is a *Refusal: nothing left the device.
func (a *Account) Submit(ctx context.Context, e Envelope, message io.Reader) error { panic("stub") }

// Append seals a message of exactly size bytes to the account's own certificate (unless
// it is ciphertext already or the mailbox is exempt) and stores it at the provider.
// Errors: *imap.Error from the provider, *Refusal otherwise.
func (a *Account) Append(ctx context.Context, mailbox string, message io.Reader, size int64, o *imap.AppendOptions) (*imap.AppendData, error) {
	panic("stub")
}
