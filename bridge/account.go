package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/sealpost/sealpost/bridge/internal/keyring"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mirror"
	"github.com/sealpost/sealpost/bridge/upstream"
)

// HeaderMode says how much of an encrypted message's header is hidden: "baseline" or "shy".
type HeaderMode = pgpmime.HeaderMode

// AccountOptions configure one account.
type AccountOptions struct {
	Address    string
	Aliases    []string
	IMAP, SMTP upstream.Endpoint
	Username   string
	CAFile     string     // extra roots for this provider
	Seal       Seal       // which mailboxes' clear mail is sealed
	Headers    HeaderMode // of outgoing mail; "" is baseline
	// Connections is how many IMAP connections the provider gets at once; 0: upstream's default.
	Connections int
}

// addresses are the address and the aliases, normalised.
func (o AccountOptions) addresses() []string {
	all := []string{normalized(o.Address)}
	for _, alias := range o.Aliases {
		all = append(all, normalized(alias))
	}
	return all
}

// Seal says in which mailboxes mail that arrived clear is sealed. What a client appends is
// always sealed.
type Seal struct {
	All       bool
	Mailboxes []string
}

// Covers says whether the mailbox's clear mail is sealed.
func (s Seal) Covers(mailbox string) bool {
	return s.All || slices.Contains(s.Mailboxes, mailbox)
}

// Account is one of the user's mail accounts. Safe for concurrent use.
type Account struct {
	sender
	Owner     // of the keys
	options   AccountOptions
	provider  *upstream.Provider
	mirror    *mirror.Mirror
	replacing sync.Mutex
	publisher publisher
}

// defaultMaxMessage is used while the provider's limit is not known.
const defaultMaxMessage = 128 << 20

// overhead is what a message grows by on its way, besides armor: header, signature, keys.
const overhead = 64 << 10

// Mirror serves the account's mailboxes.
func (a *Account) Mirror() *mirror.Mirror { return a.mirror }

// MaxMessageSize is what Submit and Append accept, in bytes: the provider's limit less
// what encryption adds.
func (a *Account) MaxMessageSize() int64 {
	return maxPlain(a.provider.MaxSize())
}

// maxPlain is the largest message that is within a server's limit, in bytes, once it is encrypted.
func maxPlain(limit int64) int64 {
	if limit <= 0 {
		return defaultMaxMessage
	}
	// Armor turns 48 bytes into a line of 64 and its line ending.
	return max(0, (limit-overhead)/66*48)
}

// newAccount puts an account together; nothing is connected yet.
func (b *Bridge) newAccount(ctx context.Context, o AccountOptions) (*Account, error) {
	a := &Account{options: o, publisher: newPublisher()}
	a.sender = sender{bridge: b, log: b.log.With("account", o.Address), origin: a}
	ring, err := keyring.Open(ctx, b.db, b.vault, o.Address)
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", o.Address, err)
	}
	a.Owner = Owner{home: b, ring: ring, address: o.Address, names: o.addresses(), imported: a.reopenFailed, changed: func(context.Context) error { a.wakePublisher(); return nil }}
	if err := a.maintainKeys(ctx); err != nil {
		return nil, fmt.Errorf("keys of %s: %w", o.Address, err)
	}
	a.provider, err = newProvider(o, a.log, func(ctx context.Context) (string, error) { return b.password(ctx, providerPassword(o.Address)) })
	if err != nil {
		return nil, err
	}
	a.mirror, err = mirror.New(ctx, a.mirrorOptions())
	if err != nil {
		return nil, fmt.Errorf("mirror of %s: %w", o.Address, err)
	}
	return a, nil
}

func newProvider(o AccountOptions, log *slog.Logger, password func(context.Context) (string, error)) (*upstream.Provider, error) {
	tlsConfig, err := tlsConfigFor(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", o.Address, err)
	}
	return upstream.New(upstream.Options{
		IMAP: o.IMAP, SMTP: o.SMTP, Username: o.Username, TLS: tlsConfig, Log: log, Password: password,
		MaxConnections: o.Connections,
	}), nil
}

// CheckLogin logs in at a provider by IMAP and submission before there is an account. The error is an *upstream.Error.
func CheckLogin(ctx context.Context, o AccountOptions, password string, log *slog.Logger) error {
	p, err := newProvider(o, log, func(context.Context) (string, error) { return password, nil })
	if err != nil {
		return err
	}
	return errors.Join(p.Check(ctx), p.Close())
}

func (a *Account) mirrorOptions() mirror.Options {
	return mirror.Options{
		DB: a.bridge.db, Account: a.Address(), Provider: a.provider,
		Open: a.openStored, Seal: a.sealArriving, ShouldSeal: a.sealsIn, Keeper: a.bridge.holds,
		SpoolDir: a.bridge.spoolDir, Log: a.log,
	}
}

// sealsIn says whether clear mail of a mailbox is sealed: not before there is a key.
func (a *Account) sealsIn(mailbox string) bool {
	_, err := a.ring.Certificate()
	return err == nil && a.options.Seal.Covers(mailbox)
}

// run keeps the account in step with its provider until ctx ends.
func (a *Account) run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if err := a.finishReplacements(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("half-done replacements could not be read", "cause", err)
		}
	})
	wg.Go(func() { a.keepKeys(ctx) })
	wg.Go(func() { _ = a.provider.Check(ctx) }) // learns the provider's SIZE; what fails shows in State
	wg.Go(func() { a.followPublications(ctx) })
	return a.mirror.Run(ctx)
}

// spoolExactly reads a message that was announced with its size.
func (a *Account) spoolExactly(message io.Reader, size int64) (*spool.Spool, error) {
	s, err := spool.FromReader(a.bridge.spoolDir, message, a.MaxMessageSize())
	if errors.Is(err, spool.ErrTooLarge) {
		return nil, tooLarge(err)
	}
	if err != nil {
		return nil, localRefusal(err)
	}
	if s.Size() != size {
		_ = s.Close()
		return nil, localRefusal(io.ErrUnexpectedEOF)
	}
	return s, nil
}

// State is for status: how the provider is, and the last error.
func (a *Account) State() (upstream.State, error) { return a.provider.State() }

// Check logs in at the provider by IMAP and submission. The error is an *upstream.Error.
func (a *Account) Check(ctx context.Context) error { return a.provider.Check(ctx) }
