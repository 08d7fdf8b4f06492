// Package dashboard is the local web page: how the accounts are, what was decided, and what waits for the user's
// decision. It shows what bridge knows and passes on what the user decides; it judges nothing itself, and never shows
// mail. New, LoginURL and Serve are a dashboard's life; WriteReport writes the audit as a page of its own.
//
// Whoever can connect to the listener is not yet let in: other programs and other users of the device can, and so can
// web pages in the user's browser. See access.go and guard.go.
package dashboard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/sealpost/sealpost/bridge"
)

// Options of a Dashboard.
type Options struct {
	Bridge  *bridge.Bridge
	Address string // host:port of the listener as bound, on loopback
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now
}

// Dashboard serves the local web page. Safe for concurrent use.
type Dashboard struct {
	bridge *bridge.Bridge
	log    *slog.Logger
	now    func() time.Time
	guard  guard
	access *access
	server *http.Server
}

// Limits of a connection.
const (
	readTimeout  = 20 * time.Second
	writeTimeout = time.Minute
	idleTimeout  = 2 * time.Minute
	maxHeader    = 16 << 10
	maxForm      = 16 << 10 // bytes
)

// New makes a dashboard for a listener on loopback; any other address is refused.
func New(ctx context.Context, o Options) (*Dashboard, error) {
	guard, err := newGuard(o.Address)
	if err != nil {
		return nil, err
	}
	key, err := o.Bridge.DashboardKey(ctx)
	if err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	d := &Dashboard{bridge: o.Bridge, log: o.Log, now: o.Now, guard: guard, access: newAccess(key, o.Now)}
	d.server = &http.Server{
		Handler: d.Handler(), ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	return d, nil
}

// Serve answers on the listener until Shutdown.
func (d *Dashboard) Serve(l net.Listener) error {
	if err := d.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("dashboard: %w", err)
	}
	return nil
}

// Shutdown lets running requests end.
func (d *Dashboard) Shutdown(ctx context.Context) error { return d.server.Shutdown(ctx) }

// LoginURL is a link that lets one browser in, once, for as long as it is valid.
func (d *Dashboard) LoginURL(validFor time.Duration) string {
	return "http://" + d.guard.address + "/login?code=" + d.access.newCode(validFor)
}

// Handler is the whole page with its guards.
func (d *Dashboard) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", d.public(d.signIn))
	mux.HandleFunc("GET /login", d.public(d.login))
	mux.HandleFunc("GET /style.css", serveStyle)
	for path, show := range map[string]page{
		"{$}": d.overview, "contacts": d.contacts, "contact": d.contact, "decisions": d.decisions,
		"outbox": d.outbox, "keys": d.keys, "audit": d.audit,
	} {
		mux.HandleFunc("GET "+sessionPath+path, d.shown(show))
	}
	for path, act := range map[string]change{
		"contact": d.decideContact, "outbox": d.decideQueued, "logout": d.logout,
	} {
		mux.HandleFunc("POST "+sessionPath+path, d.changed(act))
	}
	return d.guard.protect(mux)
}
