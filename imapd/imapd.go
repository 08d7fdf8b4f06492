// Package imapd is the IMAP server the mail client sees (RFC 9051 and RFC 3501). It serves
// from the account's mirror, sections straight from byte offsets.
//
// A connection has two layers. The gate (gate.go) owns the bytes: TLS, framing, limits,
// capabilities, ID. It hands go-imap's server nothing but well-formed commands, each on one line.
// The session (session.go and the file named after each command) answers them from the account.
package imapd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/sealpost/sealpost/bridge"
)

// maxConnections is how many clients may be connected at once.
const maxConnections = 100

// Backend is what the server needs of the bridge.
type Backend interface {
	Login(ctx context.Context, username, password string) (*bridge.Account, error)
}

// Options of a Server.
type Options struct {
	Backend Backend
	TLS     *tls.Config // for STARTTLS and ServeTLS
	// AllowInsecureAuth permits LOGIN without TLS: only ever for loopback listeners.
	AllowInsecureAuth bool
	Log               *slog.Logger
}

// Server is the IMAP server.
type Server struct {
	options Options
	login   func(ctx context.Context, username, password string) (account, error)
	engine  *imapserver.Server
	log     *slog.Logger
	ctx     context.Context // of all commands; ends when Shutdown's patience does
	cancel  context.CancelFunc

	mu        sync.Mutex
	closing   bool
	listeners map[net.Listener]bool
	gates     map[*gate]bool
	none      chan struct{} // closed when closing and no gate is left
}

// New makes a Server.
func New(o Options) *Server {
	return newServer(o, func(ctx context.Context, username, password string) (account, error) {
		a, err := o.Backend.Login(ctx, username, password)
		if err != nil {
			return nil, err
		}
		return bridgeAccount{Account: a}, nil
	})
}

func newServer(o Options, login func(ctx context.Context, username, password string) (account, error)) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{options: o, login: login, log: o.Log, listeners: map[net.Listener]bool{}, gates: map[*gate]bool{}, none: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.engine = imapserver.New(&imapserver.Options{
		NewSession: s.newSession,
		Caps: imap.CapSet{
			imap.CapIMAP4rev1: {}, imap.CapIMAP4rev2: {}, imap.CapNamespace: {}, imap.CapMove: {}, imap.CapLiteralPlus: {},
		},
		Logger:       libraryLog{o.Log},
		InsecureAuth: true, // the gate decides: the library does not know about its TLS
	})
	return s
}

// Serve accepts connections with STARTTLS offered; ServeTLS with implicit TLS. They return
// nil after Close or Shutdown.
func (s *Server) Serve(l net.Listener) error    { return s.serve(l, false) }
func (s *Server) ServeTLS(l net.Listener) error { return s.serve(l, true) }

func (s *Server) serve(l net.Listener, implicitTLS bool) error {
	if implicitTLS && s.options.TLS == nil {
		return errors.New("imapd: ServeTLS needs a TLS configuration")
	}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return l.Close()
	}
	s.listeners[l] = true
	s.mu.Unlock()
	err := s.engine.Serve(&gateListener{Listener: l, server: s, implicitTLS: implicitTLS})
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
	if s.closing {
		return nil
	}
	return err
}

// Shutdown says BYE to every client and closes; it waits for running commands until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		for l := range s.listeners {
			_ = l.Close()
		}
		for g := range s.gates {
			g.wake()
		}
		if len(s.gates) == 0 {
			close(s.none)
		}
	}
	s.mu.Unlock()
	err := s.wait(ctx)
	s.cancel()
	_ = s.engine.Close()
	return err
}

// wait returns when all clients are gone; those that are not when ctx ends are cut off.
func (s *Server) wait(ctx context.Context) error {
	select {
	case <-s.none:
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	s.mu.Lock()
	for g := range s.gates {
		_ = g.conn().Close()
	}
	s.mu.Unlock()
	return ctx.Err()
}

// add registers a connection; false if there are too many, or no more are wanted.
func (s *Server) add(g *gate) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || len(s.gates) >= maxConnections {
		return false
	}
	s.gates[g] = true
	return true
}

func (s *Server) remove(g *gate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.gates[g] {
		return
	}
	delete(s.gates, g)
	if s.closing && len(s.gates) == 0 {
		close(s.none)
	}
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// libraryLog passes on what go-imap's server logs: broken commands, and panics, which cost
// the one connection they happen on.
type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Printf(format string, args ...any) {
	l.log.Warn("imap: " + fmt.Sprintf(format, args...))
}
