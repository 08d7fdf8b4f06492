// Package upstream is the provider as Sealpost sees it: IMAP and submission over TLS,
// with every read bounded in size and time, and nothing of the connection trusted
// before it is verified.
package upstream

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// Endpoint is one server of the provider, from a configuration URL such as
// imaps://mail.example.org:993, smtp+starttls://… or, on loopback only, imap+insecure://….
type Endpoint struct {
	Protocol string // "imap" or "smtp"
	Security string // "tls", "starttls", "insecure"
	Host     string
	Port     int
}

// ParseEndpoint reads a configuration URL. insecure is refused unless the host is a
// loopback address or localhost.
func ParseEndpoint(url string) (Endpoint, error) { panic("stub") }

// Options of a Provider.
type Options struct {
	IMAP, SMTP     Endpoint
	Username       string
	Password       func(ctx context.Context) (string, error) // asked at every login; "" is an error
	TLS            *tls.Config                               // roots; ServerName is set per endpoint; TLS ≥ 1.2
	MaxConnections int                                       // IMAP connections at once; 0: 5
	Timeout        time.Duration                             // without progress on any connection; 0: 60 s
	Log            *slog.Logger
}

// Provider is one account at its provider. Safe for concurrent use.
type Provider struct{}

// New makes a Provider; it does not connect.
func New(o Options) *Provider { panic("stub") }

// Close ends all connections.
func (p *Provider) Close() error { panic("stub") }

// Check logs in by IMAP and by submission, for init and doctor. The error is an *Error.
func (p *Provider) Check(ctx context.Context) error { panic("stub") }

// State is for status: online, offline, auth-failed, and the last error (nil when online).
func (p *Provider) State() (State, error) { panic("stub") }

// State of the connection to the provider.
type State string

const (
	Online     State = "online"
	Offline    State = "offline"
	AuthFailed State = "auth-failed"
)

// Conn is one leased, logged-in IMAP connection.
type Conn struct {
	*imapclient.Client
	Selected *imap.SelectData // of Mailbox; nil if none is selected
	Mailbox  string
}

// Acquire leases a connection, waiting for one if MaxConnections are out, preferring one
// that has the mailbox selected already, and selects it ("" for none) afresh: its
// SelectData is current. hint, if not nil, is called whenever the server says unasked that
// something changed while the lease lasts.
func (p *Provider) Acquire(ctx context.Context, mailbox string) (*Conn, error) { panic("stub") }

// Release gives the lease back; a connection whose last command failed with an I/O error
// is closed instead.
func (p *Provider) Release(c *Conn) { panic("stub") }

// Watch keeps one connection of its own idling on the mailbox (IDLE, or NOOP every 30 s
// where not offered) and calls changed for every hint, until ctx ends or the connection
// does (the error; the caller decides when to try again). It calls ready once it idles.
func (p *Provider) Watch(ctx context.Context, mailbox string, ready, changed func()) error {
	panic("stub")
}

// Transaction is one SMTP transaction: one body for some recipients.
type Transaction struct {
	From string
	To   []string
	Body mimescan.Source // CRLF lines only
	// UTF8 asks for SMTPUTF8 (RFC 6531); the provider must offer it.
	UTF8 bool
}

// Submit runs all transactions of one message: each on its own connection, none sends
// its body before all have reached the provider's 354, and a refusal of any recipient before
// that ends them all with nothing sent (the error is then a *RecipientError or *Error).
// Otherwise results has one entry per transaction, nil where the provider answered 250.
func (p *Provider) Submit(ctx context.Context, t []Transaction) (results []error, err error) {
	panic("stub")
}

// MaxSize is the provider's SIZE (RFC 1870) for submission as last seen; 0 if unknown.
func (p *Provider) MaxSize() int64 { panic("stub") }

// Kind of a failure, for replies and remedies.
type Kind string

const (
	KindUnreachable Kind = "unreachable" // no route, refused, time-out, connection lost
	KindTLS         Kind = "tls"         // certificate expired, wrong name, unknown authority, no STARTTLS
	KindAuth        Kind = "auth"        // wrong user name or password
	KindRejected    Kind = "rejected"    // the server answered NO / 5xx
	KindTemporary   Kind = "temporary"   // 4xx
	KindProtocol    Kind = "protocol"    // it speaks no proper IMAP or SMTP, or exceeds a limit
)

// Error is a failure at the provider. Error() says what, with which host, and what to do.
type Error struct {
	Kind   Kind
	Host   string
	Op     string // "connect", "login", "select", "submit", …
	Code   int    // SMTP reply code, 0 otherwise
	Reply  string // the server's text, one line, control characters removed
	Remedy string // one sentence
	Err    error
}

func (e *Error) Error() string { panic("stub") }
func (e *Error) Unwrap() error { return e.Err }

// RecipientError: the provider refused these recipients before anything was sent.
type RecipientError struct {
	Replies map[string]*Error // by address
}

func (e *RecipientError) Error() string { panic("stub") }
