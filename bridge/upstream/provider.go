package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a Provider.
type Options struct {
	IMAP, SMTP     Endpoint
	Username       string
	Password       func(ctx context.Context) (string, error) // asked at every login; "" is an error
	TLS            *tls.Config                               // roots; ServerName is set per endpoint; TLS ≥ 1.2
	MaxConnections int                                       // IMAP connections at once; 0: 5
	Timeout        time.Duration                             // without progress on any connection; 0: 60 s
	MaxMessage     int64                                     // bytes of one message literal the server may send; 0: 256 MiB
	Log            *slog.Logger
}

// State of the connection to the provider.
type State string

const (
	Online     State = "online"
	Offline    State = "offline"
	AuthFailed State = "auth-failed"
)

// Provider is one account at its provider. Safe for concurrent use.
type Provider struct {
	options Options
	pool    pool
	imap    gate
	smtp    gate
	maxSize atomic.Int64

	mu    sync.Mutex
	state State
	last  error

	secured map[string]*tls.ConnectionState // by protocol; see Transports
}

// New makes a Provider; it does not connect.
func New(o Options) *Provider {
	if o.MaxConnections <= 0 {
		o.MaxConnections = 5
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	if o.MaxMessage <= 0 {
		o.MaxMessage = 256 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Provider{options: o, state: Offline}
	p.pool.init(o.MaxConnections)
	return p
}

// Close ends all connections, leased ones too; those who wait for one get ErrClosed.
func (p *Provider) Close() error {
	p.pool.close()
	return nil
}

// State is for status: online, offline, auth-failed, and the last error (nil when online).
func (p *Provider) State() (State, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.last
}

// note records how an attempt to connect went. A caller that gave up says nothing about
// the provider.
func (p *Provider) note(ctx context.Context, err error) {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var failed *Error
	switch {
	case err == nil:
		p.state = Online
	case errors.As(err, &failed) && failed.Kind == KindAuth:
		p.state = AuthFailed
	default:
		p.state = Offline
	}
	p.last = err
}

// MaxSize is the provider's SIZE (RFC 1870) for submission as last seen; 0 if unknown.
func (p *Provider) MaxSize() int64 { return p.maxSize.Load() }

// Check logs in by IMAP and by submission, for init and doctor, even while logins wait
// after a failure. The error is an *Error.
func (p *Provider) Check(ctx context.Context) error {
	c, err := p.connectIMAP(ctx, true)
	if err != nil {
		return err
	}
	c.logout(p.options.Timeout)
	p.pool.drop(c)
	s, err := p.connectSMTP(ctx, true)
	if err != nil {
		return err
	}
	s.quit()
	return nil
}

// credentials asks for the password.
func (p *Provider) credentials(ctx context.Context, at Endpoint) (credentials, error) {
	if p.options.Password == nil {
		return credentials{}, noPassword(at, errors.New("no password is stored"))
	}
	password, err := p.options.Password(ctx)
	if err == nil && password == "" {
		err = errors.New("no password is stored")
	}
	if err != nil {
		return credentials{}, noPassword(at, err)
	}
	return credentials{p.options.Username, password}, nil
}

func noPassword(at Endpoint, err error) *Error {
	return &Error{Kind: KindAuth, Host: at.Address(), Op: "login", Err: err, Remedy: "Store the account's password again"}
}

// Delays after refused logins: providers lock accounts that hammer.
const (
	firstDelay = 30 * time.Second
	lastDelay  = 15 * time.Minute
)

// gate holds back logins with a password that the server has just refused. A different
// password passes at once.
type gate struct {
	mu      sync.Mutex
	seed    maphash.Seed
	refused uint64 // the password, so that a new one is noticed
	delay   time.Duration
	until   time.Time
	last    error
}

// closed is the error of the refused login while it is too early for another.
func (g *gate) closed(password string, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last == nil || !now.Before(g.until) || maphash.String(g.seed, password) != g.refused {
		return nil
	}
	return g.last
}

// result takes note of how a login went.
func (g *gate) result(password string, err error, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var failed *Error
	if err == nil {
		g.delay, g.last = 0, nil
		return
	}
	if !errors.As(err, &failed) || failed.Kind != KindAuth {
		return
	}
	if g.seed == (maphash.Seed{}) {
		g.seed = maphash.MakeSeed()
	}
	g.delay = min(max(2*g.delay, firstDelay), lastDelay)
	g.refused, g.until, g.last = maphash.String(g.seed, password), now.Add(g.delay), err
}
