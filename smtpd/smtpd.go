// Package smtpd is the submission server the mail client sees (RFC 6409): it
// authenticates, bounds what comes in and turns the bridge's refusals into replies.
package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/sealpost/sealpost/bridge"
)

// Account is what the server needs of a bridge.Account.
type Account interface {
	Submit(ctx context.Context, e bridge.Envelope, message io.Reader) error
	MaxMessageSize() int64
}

// Options of a Server.
type Options struct {
	// Login checks a client's credentials; bridge.ErrCredentials says that they are wrong.
	Login func(ctx context.Context, username, password string) (Account, error)
	TLS   *tls.Config // for STARTTLS and ServeTLS
	// AllowInsecureAuth permits AUTH without TLS: only ever for loopback listeners.
	AllowInsecureAuth bool
	Log               *slog.Logger // nil: slog.Default
	// MaxMessageSize is what EHLO announces (RFC 1870), in bytes, asked anew for every EHLO; the
	// account's own limit decides. nil, or 0 or less: SIZE without a number.
	MaxMessageSize func() int64
	// Devices have what they write read with some patience; see contentLines.
	Devices bool
	// Relay takes mail from MTAs in place of Login; LMTP: it gives an answer for each recipient (RFC 2033).
	Relay Relay
	LMTP  bool
}

const (
	maxConnections = 128              // at once, all listeners together
	maxRecipients  = 100              // RFC 5321 §4.5.3.1.8
	idleTimeout    = 5 * time.Minute  // RFC 5321 §4.5.3.2.7; for each read, not for the whole message
	writeTimeout   = 2 * time.Minute  // for each reply
	maxFailures    = 3                // wrong passwords on one connection
	maxCommandLine = 12288            // RFC 4954 §4: the longest line is AUTH's
	maxBodyLine    = 1 << 20          // beyond RFC 5321's 1000: what is encrypted leaves in short lines
	defaultMaxSize = 100 << 20        // where the account names no limit
	handshakeTime  = 30 * time.Second // for TLS
	farewellTime   = time.Second      // for the last word to a client that is turned away
)

// Server is the submission server.
type Server struct {
	o      Options
	engine *smtp.Server
	ctx    context.Context // ends with the last connection
	cancel context.CancelFunc
	done   chan struct{} // closed by Shutdown

	mu        sync.Mutex
	gates     map[*gate]struct{}
	entrances []*entrance
	serving   sync.WaitGroup // one for each of them
	closing   bool
}

// New makes a Server.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Server{o: o, done: make(chan struct{}), gates: map[*gate]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.engine = smtp.NewServer(smtp.BackendFunc(s.newSession))
	s.engine.Domain = "localhost"
	s.engine.MaxRecipients = maxRecipients
	// Size, lines, time, TLS and who may use AUTH are the gate's and the session's business: the library
	// refuses a message of exactly its limit, takes MaxLineLength for the message too, has one deadline for all
	// of it, and speaks on in plain text after a failed handshake.
	s.engine.MaxMessageBytes, s.engine.MaxLineLength = 0, 0
	s.engine.AllowInsecureAuth = true
	s.engine.EnableSMTPUTF8 = true
	s.engine.ErrorLog = libraryLog{o.Log}
	if o.Relay != nil {
		s.engine.LMTP, s.engine.EnableDSN, s.engine.MaxRecipients = o.LMTP, true, maxRelayed
	}
	return s
}

// Serve accepts connections with STARTTLS offered; ServeTLS with implicit TLS. They return
// nil after Shutdown.
func (s *Server) Serve(l net.Listener) error { return s.serve(l, false) }

// ServeTLS is Serve with TLS from the first byte (RFC 8314 §3.3).
func (s *Server) ServeTLS(l net.Listener) error {
	if s.o.TLS == nil {
		return errors.New("submission with implicit TLS needs a TLS certificate")
	}
	return s.serve(l, true)
}

func (s *Server) serve(l net.Listener, implicit bool) error {
	e := &entrance{Listener: l, s: s, implicit: implicit, ready: make(chan net.Conn), failed: make(chan error, 1), closed: make(chan struct{})}
	if !s.admit(e) {
		return e.Close()
	}
	defer s.serving.Done()
	var accepting sync.WaitGroup
	accepting.Go(e.accept)
	err := s.engine.Serve(e)
	_ = e.Close()
	accepting.Wait()
	if errors.Is(err, net.ErrClosed) {
		select {
		case <-s.done:
			return nil
		default:
		}
	}
	return err
}

// admit registers a listener for Shutdown, which the library forgets if it is called before Serve.
func (s *Server) admit(e *entrance) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.entrances = append(s.entrances, e)
		s.serving.Add(1)
	}
	return !s.closing
}

// Shutdown lets running transactions end until ctx does; then closes. Idle clients are told
// 421 and disconnected at once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	first := !s.closing
	s.closing = true
	entrances := s.entrances
	list := make([]*gate, 0, len(s.gates))
	for g := range s.gates {
		list = append(list, g)
	}
	s.mu.Unlock()
	if !first {
		return nil
	}
	close(s.done)
	for _, e := range entrances {
		_ = e.Close()
	}
	for _, g := range list {
		g.retire()
	}
	s.serving.Wait() // the library races if it is shut down while Serve begins
	err := s.engine.Shutdown(ctx)
	s.cancel()
	for _, g := range list {
		_ = g.Close()
	}
	return err
}

// enter registers a connection; false: there are too many, or the server is closing.
func (s *Server) enter(g *gate) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || len(s.gates) >= maxConnections {
		return false
	}
	s.gates[g] = struct{}{}
	return true
}

func (s *Server) leave(g *gate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.gates, g)
}

// entrance is a listener that puts a gate before each connection.
type entrance struct {
	net.Listener
	s        *Server
	implicit bool
	ready    chan net.Conn
	failed   chan error
	closed   chan struct{}
	once     sync.Once
	err      error // of closing
}

func (e *entrance) accept() {
	var shaking sync.WaitGroup
	defer shaking.Wait()
	for {
		c, err := e.Listener.Accept()
		if err != nil {
			e.failed <- err
			return
		}
		g := newGate(e, c, false)
		switch {
		case !e.s.enter(g):
			if !e.implicit { // else it would have to wait for a handshake
				_ = g.send([]byte("421 4.7.0 Too many connections, try again later\r\n"), farewellTime)
			}
			_ = c.Close()
		case e.implicit:
			shaking.Go(func() { g.shake(false) })
		default:
			e.hand(g)
		}
	}
}

// hand gives a connection to the library.
func (e *entrance) hand(g *gate) {
	select {
	case e.ready <- g:
	case <-e.closed:
		_ = g.Close()
	}
}

func (e *entrance) Accept() (net.Conn, error) {
	select {
	case c := <-e.ready:
		return c, nil
	case err := <-e.failed:
		return nil, err
	case <-e.closed:
		return nil, net.ErrClosed
	}
}

func (e *entrance) Close() error {
	e.once.Do(func() {
		close(e.closed)
		e.err = e.Listener.Close()
	})
	return e.err
}

// libraryLog takes what the library reports. Of a panic only type and place are logged: its value may
// hold content.
type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Printf(format string, v ...any) {
	if len(v) == 3 { // panic serving ADDRESS: VALUE, STACK
		logPanic(l.log, v[1], v[2])
		return
	}
	l.log.Debug("SMTP connection ended badly", "event", format)
}

func (l libraryLog) Println(...any) {}
