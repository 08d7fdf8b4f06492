// Package imapd is the IMAP server the mail client sees (RFC 9051 and RFC 3501). It serves
// from the account's mirror, sections straight from byte offsets.
package imapd

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
	// AllowInsecureAuth permits LOGIN without TLS: only ever for loopback listeners.
	AllowInsecureAuth bool
	Log               *slog.Logger
}

// Server is the IMAP server.
type Server struct{}

// New makes a Server.
func New(o Options) *Server { panic("stub") }

// Serve accepts connections with STARTTLS offered; ServeTLS with implicit TLS. They return
// nil after Close or Shutdown.
func (s *Server) Serve(l net.Listener) error    { panic("stub") }
func (s *Server) ServeTLS(l net.Listener) error { panic("stub") }

// Shutdown says BYE to every client and closes; it waits for running commands until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error { panic("stub") }
