package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
)

// NextHop is where a gateway's mail goes afterwards: a server that takes it without a login.
type NextHop struct {
	LMTP bool   // RFC 2033
	TLS  bool   // from the first byte
	Host string // "": a socket of this machine
	Port int
	Path string // of the socket
}

// ParseNextHop reads host:port, smtp://, smtps://, lmtp://host:port or lmtp+unix:/path.
func ParseNextHop(raw string) (NextHop, error) {
	if path, ok := strings.CutPrefix(raw, "lmtp+unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			return NextHop{}, fmt.Errorf("%q: the path of the socket must begin with /", raw)
		}
		return NextHop{LMTP: true, Path: path}, nil
	}
	text := raw
	if !strings.Contains(raw, "://") {
		text = "smtp://" + raw
	}
	u, err := url.Parse(text)
	if err != nil || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.Hostname() == "" {
		return NextHop{}, fmt.Errorf("%q is no next hop; write host:port, smtp://, smtps://, lmtp://host:port or lmtp+unix:/path", raw)
	}
	h := NextHop{LMTP: u.Scheme == "lmtp", TLS: u.Scheme == "smtps", Host: strings.ToLower(u.Hostname())}
	if u.Scheme != "smtp" && !h.LMTP && !h.TLS {
		return NextHop{}, fmt.Errorf("%q: %s is not known; use smtp, smtps, lmtp or lmtp+unix", raw, u.Scheme)
	}
	if h.Port, err = strconv.Atoi(u.Port()); err != nil || h.Port < 1 || h.Port > 65535 {
		return NextHop{}, fmt.Errorf("%q: the port must be 1 to 65535", raw)
	}
	return h, nil
}

// endpoint is the next hop for errors and for TLS.
func (h NextHop) endpoint() Endpoint {
	at := Endpoint{Protocol: "smtp", Security: "insecure", Host: cmp.Or(h.Host, h.Path), Port: h.Port}
	if h.LMTP {
		at.Protocol = "lmtp"
	}
	return at
}

// RelayOptions of a Relay.
type RelayOptions struct {
	To      NextHop
	TLS     *tls.Config   // roots; ServerName is set; TLS ≥ 1.2
	Timeout time.Duration // without progress; 0: 60 s
}

// Relay is a gateway's way to its next hop. Safe for concurrent use.
type Relay struct {
	options RelayOptions
	offers  atomic.Pointer[offers]
	idle    idleSessions
}

// offers are what the next hop said last time.
type offers struct {
	extensions map[string]bool
	size       int64 // RFC 1870; 0: no limit known
}

// NewRelay makes a Relay; it does not connect.
func NewRelay(o RelayOptions) *Relay {
	o.Timeout = cmp.Or(o.Timeout, time.Minute)
	return &Relay{options: o}
}

// Close ends the connections that are kept; those in use end with their transactions.
func (r *Relay) Close() { r.idle.close() }

// Submit is Provider.Submit, and all or nothing up to the 354 as it is. Over LMTP results hold *PartialError, too.
func (r *Relay) Submit(ctx context.Context, t []Transaction) ([]error, error) {
	return r.route(false).submit(ctx, t)
}

// SubmitApart lets every recipient go whom the next hop takes, whatever becomes of the others. results has one entry per
// transaction: nil, a *PartialError if only some have it, or a *RecipientError or *Error if nobody has.
func (r *Relay) SubmitApart(ctx context.Context, t []Transaction) ([]error, error) {
	return r.route(true).submit(ctx, t)
}

func (r *Relay) route(apart bool) *route {
	return &route{host: r.options.To.endpoint().Address(), size: r.MaxSize, connect: r.connect, idle: &r.idle, apart: apart}
}

// MaxSize is the next hop's SIZE as last seen; 0 if unknown.
func (r *Relay) MaxSize() int64 {
	if o := r.offers.Load(); o != nil {
		return o.size
	}
	return 0
}

// Offers says whether the next hop offers an extension. It is asked if it never was; the error is an *Error.
func (r *Relay) Offers(ctx context.Context, extension string) (bool, error) {
	if r.offers.Load() == nil {
		if err := r.Check(ctx); err != nil {
			return false, err
		}
	}
	return r.offers.Load().extensions[extension], nil
}

// Check says whether the next hop can be reached and would take mail. The error is an *Error.
func (r *Relay) Check(ctx context.Context) error {
	s, err := r.connect(ctx)
	if err == nil {
		s.quit()
	}
	return err
}

// relayed are the extensions that a gateway passes on.
var relayed = []string{"8BITMIME", "SMTPUTF8", "DSN"}

// connect opens a connection that lives as long as ctx.
func (r *Relay) connect(ctx context.Context) (*smtpSession, error) {
	s, err := r.dial(ctx)
	if err != nil {
		return nil, err
	}
	o := &offers{extensions: map[string]bool{}}
	for _, name := range relayed {
		o.extensions[name], _ = s.client.Extension(name)
	}
	if size, ok := s.client.MaxMessageSize(); ok {
		o.size = int64(size)
	}
	r.offers.Store(o)
	return s, nil
}

func (r *Relay) dial(ctx context.Context) (*smtpSession, error) {
	to, at := r.options.To, r.options.To.endpoint()
	network, address := "tcp", at.Address()
	if to.Path != "" {
		network, address = "unix", to.Path
	}
	conn, err := (&net.Dialer{Timeout: r.options.Timeout, KeepAlive: keepAlive}).DialContext(ctx, network, address)
	if err != nil {
		return nil, failure(ctx, "connect", at, err)
	}
	w := &wire{at: at, timeout: r.options.Timeout}
	w.use(ctx, conn)
	greeting, err := r.protect(ctx, w)
	if err != nil {
		w.close()
		return nil, failure(ctx, "connect", at, err)
	}
	if !to.LMTP {
		return w.greet(ctx, greeting, smtp.NewClient)
	}
	s, err := w.greet(ctx, greeting, smtp.NewClientLMTP)
	if err == nil {
		s.lmtp = true
	}
	return s, err
}

// protect puts TLS on the connection as far as it has to be there. On this machine nobody else listens. In a private network
// TLS is used if it is offered, whoever vouches for it: the alternative is none. Everywhere else it must be there, and the
// certificate be good. greeting is what the server has said already.
func (r *Relay) protect(ctx context.Context, w *wire) (greeting string, err error) {
	near := nearness(w.conn.RemoteAddr())
	switch {
	case r.options.To.TLS:
		return "", w.secure(ctx, r.options.TLS)
	case near == thisMachine:
		return "", nil
	case r.options.To.LMTP && near == privateNetwork:
		return "", nil
	case r.options.To.LMTP:
		return "", noStartTLS(w.at)
	case near == privateNetwork:
		return "220 ready\r\n", w.tryStartTLS(ctx)
	}
	return "220 ready\r\n", w.smtpStartTLS(ctx, r.options.TLS)
}

// tryStartTLS uses TLS if it is offered, with any certificate. Without it EHLO is said again (RFC 5321 §4.1.4).
func (w *wire) tryStartTLS(ctx context.Context) error {
	offered, err := w.offersStartTLS()
	if err != nil || !offered {
		return err
	}
	if err := w.write("STARTTLS\r\n"); err != nil {
		return err
	}
	if _, err := w.smtpReply(220); err != nil {
		return err
	}
	return w.secureUnverified(ctx)
}

type distance int

const (
	elsewhere distance = iota
	privateNetwork
	thisMachine
)

// nearness of the other end: what is not known to be near is not.
func nearness(a net.Addr) distance {
	switch a := a.(type) {
	case *net.UnixAddr:
		return thisMachine
	case *net.TCPAddr:
		ip, ok := netip.AddrFromSlice(a.IP)
		switch ip = ip.Unmap(); {
		case ok && ip.IsLoopback():
			return thisMachine
		case ok && (ip.IsPrivate() || ip.IsLinkLocalUnicast()):
			return privateNetwork
		}
	}
	return elsewhere
}
