package bridge

import (
	"context"
	"log/slog"

	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/bridge/internal/keyring"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/upstream"
)

// sender tells the story of an outgoing message (outgoing.go) for whoever sends: an account, or the gateway for the users
// of its domains.
type sender struct {
	bridge *Bridge
	log    *slog.Logger
	origin origin
}

// origin is what differs between those who send.
type origin interface {
	// Address is the name in the outbox.
	Address() string
	// MaxMessageSize is the largest message that is taken, in bytes.
	MaxMessageSize() int64
	// lookup finds the certificate of a recipient, and what the policy has to know of him.
	lookup(ctx context.Context, p Policy, m MessageFacts, address string) (contacts.Lookup, RecipientFacts)
	// ringOf holds the key that speaks for a message's author; nil: nobody signs it.
	ringOf(m *outgoing) *keyring.Ring
	// meet finds out about the author of a message what the rest needs.
	meet(ctx context.Context, m *outgoing) error
	// neverSent are the header fields that leave with no message of that author.
	neverSent(m *outgoing) []string
	// trace is what goes on top of a message on its way.
	trace(m *outgoing) []pgpmime.Field
	// submit hands over; see upstream.Provider.Submit.
	submit(ctx context.Context, t []upstream.Transaction) ([]error, error)
	// regime is what is in force for mail that names these as its authors and the envelope's sender.
	regime(senders ...string) Regime
	// account is whose message it is, for the log of decisions.
	account(m *outgoing) string
	// event is the kind of entry in the log of decisions.
	event() string
}

func (a *Account) lookup(ctx context.Context, _ Policy, _ MessageFacts, address string) (contacts.Lookup, RecipientFacts) {
	l := a.bridge.certificateOf(ctx, address)
	return l, factsOf(address, l)
}

func (a *Account) ringOf(*outgoing) *keyring.Ring { return a.ring }

func (a *Account) meet(context.Context, *outgoing) error { return nil }

func (a *Account) neverSent(*outgoing) []string { return neverSent }

func (a *Account) submit(ctx context.Context, t []upstream.Transaction) ([]error, error) {
	return a.provider.Submit(ctx, t)
}

func (a *Account) trace(*outgoing) []pgpmime.Field { return nil }

func (a *Account) regime(...string) Regime {
	return Regime{Policy: a.bridge.Policy(), Headers: a.options.Headers}
}

func (a *Account) account(*outgoing) string { return a.Address() }

func (a *Account) event() string { return "submit" }
