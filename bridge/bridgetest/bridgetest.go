// Package bridgetest has what tests and the demo run against without a network: a
// provider in this process (IMAP and submission), a Web Key Directory, fixed keys, a clock and a
// fault injector. Everything listens on loopback.
package bridgetest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-smtp"
)

// User of the provider.
type User struct{ Address, Password string }

// ProviderOptions configure a Provider.
type ProviderOptions struct {
	Users []User
	// Mailboxes besides INBOX; default Drafts, Sent, Trash, Junk, Archive with their special use.
	Mailboxes      []string
	MaxMessageSize int64       // submission SIZE and APPENDLIMIT; 0: 100 MiB
	Security       string      // "tls" (default), "starttls" or "insecure"
	TLS            *tls.Config // nil: a certificate of CA() for localhost, 127.0.0.1, ::1
	// Now dates what arrives; nil: time.Now.
	Now func() time.Time
}

const defaultMaxMessageSize = 100 << 20

// Provider is an ordinary mail provider: IMAP (IMAP4rev1 with UIDPLUS, MOVE, IDLE, SPECIAL-USE,
// NAMESPACE, LITERAL+) and submission with SIZE, 8BITMIME, AUTH PLAIN, delivering between its users. What
// it stores is what crossed the wire.
type Provider struct {
	o      ProviderOptions
	store  *store
	faults faults
	imap   *imapserver.Server
	smtp   *smtp.Server
	doors  []*door

	mu          sync.Mutex
	logins      int
	submissions []Submission
	outside     []Submission
	sessions    sync.WaitGroup // IMAP sessions that still run
	serving     sync.WaitGroup
}

// StartProvider listens on free loopback ports.
func StartProvider(o ProviderOptions) (*Provider, error) {
	p := &Provider{o: o}
	if err := p.complete(); err != nil {
		return nil, err
	}
	p.store = newStore(p.o)
	p.imap = imapserver.New(&imapserver.Options{
		NewSession: p.newIMAPSession, Caps: imapCaps(), InsecureAuth: true, Logger: log.New(io.Discard, "", 0),
	})
	p.smtp = newSMTPServer(p)
	if err := p.open("imap", p.imap.Serve); err != nil {
		return nil, err
	}
	if err := p.open("smtp", p.smtp.Serve); err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

// complete fills in the defaults.
func (p *Provider) complete() error {
	if p.o.MaxMessageSize == 0 {
		p.o.MaxMessageSize = defaultMaxMessageSize
	}
	if p.o.Now == nil {
		p.o.Now = time.Now
	}
	if p.o.Security == "" {
		p.o.Security = "tls"
	}
	if !slices.Contains([]string{"tls", "starttls", "insecure"}, p.o.Security) {
		return fmt.Errorf("security %q: use tls, starttls or insecure", p.o.Security)
	}
	if p.o.TLS != nil {
		return nil
	}
	certificate, err := CA().Issue(time.Time{}, "localhost", "127.0.0.1", "::1")
	p.o.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	return err
}

func (p *Provider) open(protocol string, serve func(net.Listener) error) error {
	d, err := openDoor(p, protocol)
	if err != nil {
		return fmt.Errorf("%s listener of the provider: %w", protocol, err)
	}
	p.doors = append(p.doors, d)
	p.serving.Go(func() { _ = serve(d) })
	return nil
}

// Close ends all connections and waits until nothing runs any more.
func (p *Provider) Close() error {
	var errs []error
	for _, d := range p.doors {
		errs = append(errs, d.Close())
	}
	p.serving.Wait() // the libraries race if they are closed while Serve begins
	errs = append(errs, p.imap.Close(), p.smtp.Shutdown(context.Background()))
	p.sessions.Wait()
	return errors.Join(errs...)
}

// IMAPURL and SMTPURL are configuration URLs; CAPEM the CA they are signed by.
func (p *Provider) IMAPURL() string { return p.url(0, "imap", "imaps") }

// SMTPURL is that of submission.
func (p *Provider) SMTPURL() string { return p.url(1, "smtp", "smtps") }

// CAPEM is nil if the caller brought a TLS configuration of its own.
func (p *Provider) CAPEM() []byte { return CA().PEM() }

func (p *Provider) url(door int, plain, implicit string) string {
	scheme := map[string]string{"tls": implicit, "starttls": plain + "+starttls", "insecure": plain + "+insecure"}[p.o.Security]
	return fmt.Sprintf("%s://%s", scheme, p.doors[door].Addr())
}

// Logins counts successful logins, IMAP and SMTP together.
func (p *Provider) Logins() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.logins
}

// Connections counts those that are open now, IMAP and SMTP together.
func (p *Provider) Connections() int {
	n := 0
	for _, d := range p.doors {
		n += d.open()
	}
	return n
}

// Disconnect ends all open connections; new ones are welcome.
func (p *Provider) Disconnect() {
	for _, d := range p.doors {
		d.disconnect()
	}
}

// Stored is a message at rest at the provider.
type Stored struct {
	Mailbox      string
	UID          uint32
	Flags        []string
	InternalDate time.Time
	Bytes        []byte
}

// Stored returns what the provider holds for a user, by mailbox and UID. The caller must not
// change the bytes.
func (p *Provider) Stored(address string) []Stored { return p.store.stored(address) }

// Deliver puts a message into a mailbox as the provider's MX would, unchanged.
func (p *Provider) Deliver(address, mailbox string, message []byte, flags ...string) (uid uint32, err error) {
	return p.store.deliver(address, mailbox, message, p.o.Now(), flags)
}

// SetFlags replaces the flags of a message, as another client of the user would.
func (p *Provider) SetFlags(address, mailbox string, uid uint32, flags ...string) error {
	return p.store.setFlags(address, mailbox, uid, flags)
}

// Expunge removes messages, as another client of the user would.
func (p *Provider) Expunge(address, mailbox string, uids ...uint32) error {
	return p.store.expunge(address, mailbox, uids)
}

// ResetUIDValidity gives a mailbox a new UIDVALIDITY and its messages new UIDs, from 1.
func (p *Provider) ResetUIDValidity(address, mailbox string) error {
	return p.store.resetUIDValidity(address, mailbox)
}

// Outside returns what was submitted to addresses that are not the provider's users.
func (p *Provider) Outside() []Submission {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.outside)
}

// Submission is one accepted SMTP transaction.
type Submission struct {
	From  string
	To    []string
	Bytes []byte
}

// Submissions are all transactions accepted so far, in order.
func (p *Provider) Submissions() []Submission {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.submissions)
}

func (p *Provider) login(username, password string) *user {
	u := p.store.user(username)
	if u == nil || u.Password != password {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.logins++
	return u
}

func normal(address string) string { return strings.ToLower(strings.TrimSpace(address)) }
