// Package bridgetest has what tests and the demo run against without a network: a
// provider in this process (IMAP and submission), a Web Key Directory, fixed keys and a fault
// injector. Everything listens on loopback.
package bridgetest

import (
	"crypto/tls"
	"time"
)

// User of the provider.
type User struct{ Address, Password string }

// ProviderOptions configure a Provider.
type ProviderOptions struct {
	Users []User
	// Mailboxes besides INBOX; default Drafts, Sent, Trash, Junk, Archive with their special use.
	MaxMessageSize int64       // submission SIZE and APPENDLIMIT; 0: 100 MiB
	Security       string      // "tls" (default), "starttls" or "insecure"
	TLS            *tls.Config // nil: a certificate of CA() for localhost, 127.0.0.1, ::1
}

// Provider is an ordinary mail provider: IMAP (IMAP4rev1 with UIDPLUS, MOVE, IDLE, SPECIAL-USE,
// NAMESPACE, LITERAL+) and submission with SIZE, 8BITMIME, AUTH PLAIN, delivering between its users. What
// it stores is what crossed the wire.
type Provider struct{}

// StartProvider listens on free loopback ports.
func StartProvider(o ProviderOptions) (*Provider, error) { panic("stub") }

func (p *Provider) Close() error { panic("stub") }

// IMAPURL and SMTPURL are configuration URLs; CAPEM the CA they are signed by.
func (p *Provider) IMAPURL() string { panic("stub") }
func (p *Provider) SMTPURL() string { panic("stub") }
func (p *Provider) CAPEM() []byte   { panic("stub") }

// Stored is a message at rest at the provider.
type Stored struct {
	Mailbox      string
	UID          uint32
	Flags        []string
	InternalDate time.Time
	Bytes        []byte
}

// Stored returns what the provider holds for a user, by mailbox and UID.
func (p *Provider) Stored(address string) []Stored { panic("stub") }

// Deliver puts a message into a mailbox as the provider's MX would.
func (p *Provider) Deliver(address, mailbox string, message []byte, flags ...string) (uid uint32, err error) {
	panic("stub")
}

// Outside returns what was submitted to addresses that are not the provider's users.
func (p *Provider) Outside() []Submission { panic("stub") }

// Submission is one accepted SMTP transaction.
type Submission struct {
	From  string
	To    []string
	Bytes []byte
}

// Submissions are all transactions accepted so far, in order.
func (p *Provider) Submissions() []Submission { panic("stub") }

// Faults to inject; each counts down its Times (0: until cleared).
type Fault struct {
	Protocol string // "imap" or "smtp"
	// Command: the verb at which it strikes, e.g. "APPEND", "UID FETCH", "MAIL", "RCPT", "DATA", "BODY"
	// (after the message's final dot, before the reply), "CONNECT".
	Command string
	Reply   string // text to answer instead, e.g. "451 4.3.0 try later" or "NO [OVERQUOTA] full"
	Drop    bool   // close the connection at that point (after the command took effect if After)
	After   bool
	Delay   time.Duration
	Times   int
	Match   string // only if the command line contains this
}

// Inject adds a fault; the func removes it.
func (p *Provider) Inject(f Fault) (remove func()) { panic("stub") }

// WKD is an HTTPS Web Key Directory.
type WKD struct{}

// StartWKD serves certificates (binary) for addresses in the advanced and direct layout.
func StartWKD() (*WKD, error) { panic("stub") }

// Publish makes cert the answer for an address in the layouts ("advanced", "direct"; none: both).
func (w *WKD) Publish(address string, cert []byte, layouts ...string) { panic("stub") }

// Resolve is the [keydisc.resolve] table for the domains served (and those in extra, which answer 404).
func (w *WKD) Resolve(extra ...string) map[string]string { panic("stub") }

// CAFile writes the CA into dir and returns its path.
func (w *WKD) CAFile(dir string) (string, error) { panic("stub") }

// Requests logs "METHOD host path" per request.
func (w *WKD) Requests() []string { panic("stub") }

func (w *WKD) Close() error { panic("stub") }
