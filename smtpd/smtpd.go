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

// Limits of the server.
const (
	maxConnections = 100
	maxRecipients  = 100
	maxLoginErrors = 3
	// maxLine bounds a line, of commands and of message text alike: go-smtp has one limit for both.
	maxLine     = 1 << 20
	idleTimeout = 5 * time.Minute
)

// Account is what the server needs of an account.
type Account interface {
	Submit(ctx context.Context, e bridge.Envelope, message io.Reader) error
	MaxMessageSize() int64
}

// Options of a Server.
type Options struct {
	// Login checks a client's credentials; bridge.ErrCredentials if they are wrong.
	Login func(ctx context.Context, username, password string) (Account, error)
	// MaxMessageSize is what EHLO announces, before it is known who logs in (RFC 1870); 0: nothing.
	MaxMessageSize func() int64
	TLS            *tls.Config // for STARTTLS and ServeTLS
	// AllowInsecureAuth permits AUTH without TLS: only ever for loopback listeners.
	AllowInsecureAuth bool
	Log               *slog.Logger
}

// Server is the submission server.
type Server struct {
	options Options
	ctx     context.Context // of all transactions; ends when Shutdown gives up waiting
	cancel  context.CancelFunc
	slots   chan struct{}

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]bool
	peers     map[*peer]bool
	wg        sync.WaitGroup
}

// New makes a Server.
func New(o Options) *Server {
	s := &Server{
		options: o, slots: make(chan struct{}, maxConnections),
		listeners: map[net.Listener]bool{}, peers: map[*peer]bool{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Serve accepts connections with STARTTLS offered; it returns nil after Shutdown.
func (s *Server) Serve(l net.Listener) error {
	return s.serve(l, func(c net.Conn) net.Conn { return c })
}

// ServeTLS is Serve with implicit TLS (RFC 8314 §3.3).
func (s *Server) ServeTLS(l net.Listener) error {
	return s.serve(l, func(c net.Conn) net.Conn { return tls.Server(c, s.options.TLS) })
}

func (s *Server) serve(l net.Listener, wrap func(net.Conn) net.Conn) error {
	if !s.track(l) {
		return nil
	}
	for {
		c, err := l.Accept()
		if err != nil {
			if s.isClosed() {
				return nil
			}
			return err
		}
		s.accept(c, wrap)
	}
}

func (s *Server) track(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners[l] = true
	return !s.closed
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// accept serves a connection in a goroutine of its own, or turns it away.
func (s *Server) accept(c net.Conn, wrap func(net.Conn) net.Conn) {
	select {
	case s.slots <- struct{}{}:
	default:
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(c, "421 4.3.2 Too many connections; close some and try again\r\n")
		_ = c.Close()
		return
	}
	s.wg.Go(func() {
		defer func() { <-s.slots }()
		p := &peer{server: s, gate: newGate(c)}
		defer p.gate.Close()
		if s.add(p) {
			s.serveConn(p, wrap(p.gate))
			s.remove(p)
		}
	})
}

func (s *Server) add(p *peer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers[p] = true
	return !s.closed
}

func (s *Server) remove(p *peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.peers, p)
}

// serveConn runs go-smtp for one connection: what it announces in EHLO is fixed for a server, and the
// provider's limit is not known from the beginning.
func (s *Server) serveConn(p *peer, c net.Conn) {
	server := smtp.NewServer(p)
	server.Domain = "localhost" // the machine's name is nobody's business
	server.TLSConfig = s.options.TLS
	server.AllowInsecureAuth = s.options.AllowInsecureAuth
	server.MaxRecipients, server.MaxLineLength = maxRecipients, maxLine
	server.ReadTimeout, server.WriteTimeout = idleTimeout, idleTimeout
	server.EnableSMTPUTF8 = true
	server.ErrorLog = quietLog{s.options.Log}
	if s.options.MaxMessageSize != nil {
		// go-smtp refuses a message of exactly its limit.
		if limit := s.options.MaxMessageSize(); limit > 0 {
			server.MaxMessageBytes = limit + 1
		}
	}
	_ = server.Serve(&oneConn{conn: c, done: p.gate.done}) // until the connection is closed
	_ = server.Close()
}

// Shutdown takes no new connections, ends idle ones, and lets running transactions end until ctx
// does; then it cuts them off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		_ = l.Close()
	}
	for p := range s.peers {
		p.finish()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	defer s.cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	s.mu.Lock()
	for p := range s.peers {
		_ = p.gate.Close()
	}
	s.mu.Unlock()
	<-done
	return errors.New("submissions were cut off; their clients know that they were not accepted")
}

// quietLog takes go-smtp's own messages: they may quote what the client sent, so only that
// something happened is logged.
type quietLog struct{ log *slog.Logger }

func (q quietLog) Printf(string, ...any) { q.log.Debug("the SMTP library reported an error") }
func (q quietLog) Println(...any)        { q.log.Debug("the SMTP library reported an error") }
