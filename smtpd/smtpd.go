// Package smtpd is the submission server the mail client sees (RFC 6409): it
// authenticates, bounds what comes in and turns the bridge's refusals into replies.
package smtpd

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"

	"github.com/sealpost/sealpost/bridge"
)

// Backend is what the server needs of the bridge.
type Backend interface {
	Login(ctx context.Context, username, password string) (*bridge.Account, error)
}

// Options of a Server.
type Options struct {
	Backend Backend
	TLS     *tls.Config // for STARTTLS and ServeTLS
	// AllowInsecureAuth permits AUTH without TLS: only ever for loopback listeners.
	AllowInsecureAuth bool
	Log               *slog.Logger
}

// Server is the submission server.
type Server struct{}

// New makes a Server.
func New(o Options) *Server { panic("stub") }

// Serve accepts connections with STARTTLS offered; ServeTLS with implicit TLS. They return
// nil after Close or Shutdown.
func (s *Server) Serve(l net.Listener) error    { panic("stub") }
func (s *Server) ServeTLS(l net.Listener) error { panic("stub") }

// Shutdown lets running transactions end until ctx does; then closes.
func (s *Server) Shutdown(ctx context.Context) error { panic("stub") }
