// Package bridge stands between a mail client and a mail provider. Its three stories are
// outgoing.go, incoming.go and sealing.go; policy.go decides.
package bridge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/bridge/export"
	"github.com/sealpost/sealpost/bridge/internal/keyring"
	"github.com/sealpost/sealpost/bridge/localtls"
	"github.com/sealpost/sealpost/bridge/metrics"
	"github.com/sealpost/sealpost/bridge/outbox"
	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/keydisc"
)

// Options of a Bridge.
type Options struct {
	StateDir     string // made if it does not exist, readable by its owner only
	Database     string // of gateways that share one: a PostgreSQL URL; "": an encrypted file in StateDir
	Unlock       UnlockOptions
	Accounts     []AccountOptions
	Devices      []DeviceOptions
	Gateway      *GatewayOptions // nil: none
	Policy       Policy
	Keydisc      keydisc.Options // Log and Now are filled in
	Announce     []string        // who is told of exports before they begin
	UseAutocrypt bool            // certificates in Autocrypt fields count
	Lists        []contacts.List // in which organisations vouch for certificates
	VerifyEvery  time.Duration   // how long a comparison counts as recent; 0: for ever
	KeepLog      time.Duration   // how long the decision log is kept; 0: for ever
	Log          *slog.Logger
	Now          func() time.Time // nil: time.Now
}

// UnlockOptions say how the vault is unlocked.
type UnlockOptions struct {
	Methods        []string // keyring, systemd, file, prompt: tried in order
	PassphraseFile string
	Prompt         func(ctx context.Context) ([]byte, error) // nil: nobody to ask
	Create         bool                                      // make the vault if there is none
}

// Errors of Open that users can do something about; each unwraps to one of these.
var (
	ErrLocked       = keyring.ErrLocked
	ErrVaultDamaged = keyring.ErrDamaged
	ErrNoVault      = keyring.ErrNoVault
	ErrInUse        = store.ErrInUse
	ErrUnreachable  = store.ErrUnreachable // the shared database
)

// Bridge is one installation: its accounts and what they share.
type Bridge struct {
	log      *slog.Logger
	now      func() time.Time
	spoolDir string
	vault    *keyring.Vault
	db       *store.DB
	secrets  *keyring.Secrets
	finder   *keydisc.Finder
	contacts *contacts.Book
	audit    *audit.Log
	holds    *export.Holds
	outbox   *outbox.Outbox
	metrics  *metrics.Metrics
	journal  *journal
	policy   atomic.Pointer[Policy]
	keepLog  time.Duration

	announceTo []string // of exports
	accounts   []*Account
	devices    []*Device
	deviceKeys *hosted                 // of devices that have addresses for themselves; nil: there are none
	gateway    atomic.Pointer[Gateway] // nil: none; see SetGateway
	logins     logins

	trustChanged chan struct{} // see followTrust
}

// Open unlocks the vault, opens the database and puts the accounts together. Nothing is
// connected before Run.
func Open(ctx context.Context, o Options) (*Bridge, error) {
	b := &Bridge{log: o.Log, now: o.Now, keepLog: o.KeepLog, spoolDir: filepath.Join(o.StateDir, "spool"), trustChanged: make(chan struct{}, 1)}
	if b.now == nil {
		b.now = time.Now
	}
	if err := os.MkdirAll(b.spoolDir, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if err := b.unlock(ctx, o); err != nil {
		_ = b.Close()
		return nil, err
	}
	if err := b.assemble(ctx, o); err != nil {
		_ = b.Close()
		return nil, err
	}
	return b, nil
}

func (b *Bridge) unlock(ctx context.Context, o Options) error {
	chain, err := keyring.Chain(keyring.UnlockOptions{
		Methods: o.Unlock.Methods, StateDir: o.StateDir, PassphraseFile: o.Unlock.PassphraseFile, Prompt: o.Unlock.Prompt,
	})
	if err != nil {
		return err
	}
	create := func() (err error) {
		b.vault, err = keyring.CreateVault(ctx, o.StateDir, chain)
		return err
	}
	if !o.Unlock.Create {
		create = nil
	}
	if o.Database != "" {
		if err := b.joinDatabase(ctx, o, create); err != nil || b.vault != nil {
			return err
		}
	}
	b.vault, err = keyring.OpenVault(ctx, o.StateDir, chain)
	if errors.Is(err, keyring.ErrNoVault) && create != nil {
		return create()
	}
	return err
}

// joinDatabase opens the shared database and takes its vault, or puts the first one there.
func (b *Bridge) joinDatabase(ctx context.Context, o Options, create func() error) (err error) {
	if len(o.Accounts) > 0 {
		return errors.New("a shared database is for gateways: an [[account]] keeps its mail in a database of its own; leave one of them out")
	}
	if b.db, err = store.OpenShared(ctx, o.Database); err != nil {
		return err
	}
	return keyring.ShareVault(ctx, b.db, o.StateDir, create)
}

// assemble builds everything in the order in which it depends on each other.
func (b *Bridge) assemble(ctx context.Context, o Options) (err error) {
	if b.db == nil {
		b.db, err = store.Open(ctx, filepath.Join(o.StateDir, "sealpost.db"), b.vault.DatabaseKey())
	}
	if err != nil {
		return err
	}
	b.secrets = keyring.NewSecrets(b.db, b.vault)
	b.journal = &journal{db: b.db}
	b.audit = audit.New(b.db, b.now)
	b.holds = export.NewHolds(b.db, b.audit, b.now)
	b.metrics = metrics.New()
	b.SetPolicy(o.Policy)
	b.announceTo = o.Announce
	for _, part := range []func(context.Context, Options) error{b.openContacts, b.openOutbox, b.openAccounts, b.openDevices, b.openGateway} {
		if err := part(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bridge) openContacts(_ context.Context, o Options) (err error) {
	o.Keydisc.Log, o.Keydisc.Now = b.log, b.now
	o.Keydisc.Asked = func(m keydisc.Method, result string, took time.Duration) { b.metrics.LookedUp(string(m), result, took) }
	b.finder, err = keydisc.New(o.Keydisc)
	if err != nil {
		return err
	}
	b.contacts = contacts.New(contacts.Options{DB: b.db, Finder: b.finder, UseAutocrypt: o.UseAutocrypt, Log: b.log, Now: b.now,
		Changed: b.noteTrust, Lists: o.Lists, VerifyEvery: o.VerifyEvery})
	return nil
}

func (b *Bridge) openOutbox(_ context.Context, o Options) (err error) {
	queue := outbox.Options{DB: b.db, Provider: b.providerOf, Undeliverable: b.bounce, Log: b.log}
	if o.Database != "" { // whose pages are not encrypted
		queue.Seal, queue.Unseal = b.vault.Seal, b.vault.Unseal
	}
	b.outbox, err = outbox.New(queue)
	if err != nil {
		return err
	}
	b.metrics.WatchQueue(b.outbox.Waiting, b.now)
	return nil
}

func (b *Bridge) openAccounts(ctx context.Context, o Options) error {
	for _, account := range o.Accounts {
		a, err := b.newAccount(ctx, account)
		if err != nil {
			return err
		}
		b.accounts = append(b.accounts, a)
	}
	return nil
}

func (b *Bridge) openDevices(_ context.Context, o Options) error {
	for _, device := range o.Devices {
		if device.Address != "" && b.deviceKeys == nil {
			b.deviceKeys = newHosted(b)
		}
		d, err := b.newDevice(device)
		if err != nil {
			return err
		}
		b.devices = append(b.devices, d)
	}
	return nil
}

// Run keeps all accounts in step and works the outbox until ctx ends.
func (b *Bridge) Run(ctx context.Context) error {
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return b.outbox.Run(inner) })
	group.Go(func() error { return b.followTrust(inner) })
	group.Go(func() error { return b.watchDevices(inner) })
	group.Go(func() error { return b.pruneLog(inner) })
	group.Go(func() error { return b.contacts.Run(inner) })
	for _, a := range b.accounts {
		group.Go(func() error { return a.run(inner) })
	}
	err := group.Wait()
	if ctx.Err() != nil { // it was called off; the database says "interrupted" to a query under way
		b.log.Debug("the bridge ends", "cause", err)
		return nil
	}
	return err
}

// Close ends all connections and closes the database. Run has ended.
func (b *Bridge) Close() error {
	var errs []error
	for _, a := range b.accounts {
		errs = append(errs, a.provider.Close())
	}
	if g, ok := b.Gateway(); ok {
		g.close()
	}
	if b.contacts != nil {
		errs = append(errs, b.contacts.Close())
	}
	if b.db != nil {
		errs = append(errs, b.db.Close())
	}
	return errors.Join(errs...)
}

// Accounts in the order of the configuration.
func (b *Bridge) Accounts() []*Account { return b.accounts }

// Account with that address or alias.
func (b *Bridge) Account(address string) (*Account, bool) {
	for _, a := range b.accounts {
		if a.Owns(address) {
			return a, true
		}
	}
	return nil, false
}

// Policy in force; SetPolicy replaces it for messages submitted from now on.
func (b *Bridge) Policy() Policy     { return *b.policy.Load() }
func (b *Bridge) SetPolicy(p Policy) { b.policy.Store(&p) }

// Contacts are the correspondents' certificates; Audit is the decision log.
func (b *Bridge) Contacts() *contacts.Book { return b.contacts }
func (b *Bridge) Audit() *audit.Log        { return b.audit }
func (b *Bridge) Outbox() *outbox.Outbox   { return b.outbox }

// Metrics are what the installation counts.
func (b *Bridge) Metrics() *metrics.Metrics { return b.metrics }

// Identity is the local CA and the leaf certificate for the listeners; made on first use.
func (b *Bridge) Identity(ctx context.Context, host string) (*localtls.Identity, error) {
	return localtls.Ensure(ctx, b.secrets, host, b.now())
}

// MaxMessageSize is the largest message any account takes, in bytes.
func (b *Bridge) MaxMessageSize() int64 {
	var largest int64
	for _, a := range b.accounts {
		largest = max(largest, a.MaxMessageSize())
	}
	return largest
}

func (b *Bridge) providerOf(account string) (outbox.Submitter, bool) {
	a, ok := b.Account(account)
	if !ok {
		return b.relayOf(account)
	}
	return a.provider, true
}

// sourceOwn marks certificates of accounts of this installation.
const sourceOwn contacts.Source = "own"

// certificateOf looks a recipient up: our own accounts first, then the contacts.
func (b *Bridge) certificateOf(ctx context.Context, address string) contacts.Lookup {
	if c, ok := b.ownContact(address); ok {
		return contacts.Lookup{Contact: c, Usable: checkOwn(c.Certificate, b.now()), Conclusive: true}
	}
	if _, ok := b.deviceAt(address); ok {
		return b.deviceKeys.lookup(ctx, address)
	}
	return b.contacts.Lookup(ctx, address)
}

// signersOf are the contacts with whose certificates a signature by address may be checked.
func (b *Bridge) signersOf(ctx context.Context, address string) []contacts.Contact {
	if a, ok := b.Account(address); ok {
		return a.ownContacts(address)
	}
	if _, ok := b.deviceAt(address); ok {
		return b.deviceKeys.contacts(ctx, address)
	}
	if g, ok := b.Gateway(); ok && g.Hosts(address) {
		return g.users.contacts(ctx, address)
	}
	return b.contacts.ForVerification(ctx, address)
}

func (b *Bridge) ownContact(address string) (contacts.Contact, bool) {
	a, ok := b.Account(address)
	if !ok {
		return contacts.Contact{}, false
	}
	certificate, err := a.ring.CertificateFor(address, b.now())
	if err != nil {
		return contacts.Contact{}, false
	}
	return ownContact(address, certificate), true
}

func ownContact(address string, c *keydisc.Certificate) contacts.Contact {
	return contacts.Contact{Address: normalized(address), Certificate: c, Source: sourceOwn, Trust: contacts.Verified, Ever: true}
}

// ownContacts are those with whose certificates mail of one's own may be checked: that of past keys, too.
func (a *Account) ownContacts(address string) (all []contacts.Contact) {
	for _, c := range a.ring.Certificates() {
		all = append(all, ownContact(address, c))
	}
	return all
}

// checkOwn says whether mail to an address of one's own may be encrypted to a certificate: the configuration vouches for
// the address, whether the key knows it or not.
func checkOwn(c *keydisc.Certificate, now time.Time) (err error) {
	for _, address := range c.Addresses() {
		if err = c.Check(address, now); err == nil {
			return nil
		}
	}
	return err
}

// tlsConfigFor trusts the system's authorities and those in the file.
func tlsConfigFor(caFile string) (*tls.Config, error) {
	if caFile == "" {
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file %s: no certificate in PEM form in it", caFile)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}, nil
}

func providerPassword(address string) string { return "provider-password:" + strings.ToLower(address) }
func localPassword(address string) string    { return "local-password:" + strings.ToLower(address) }
