package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/keydisc/wkdserver"
)

// directoryServer makes the server for the listener "wkd".
func (d *services) directoryServer(net.Listener) func(net.Listener) error {
	gateway := func() *bridge.Gateway {
		g, _ := d.service.bridge.Gateway() // there is one if it is configured to listen
		return g
	}
	config := d.service.config.Gateway
	find := func(ctx context.Context, domain, hash string) (string, []byte, error) {
		address, certificate, err := gateway().Published(ctx, domain, hash)
		if errors.Is(err, bridge.ErrNoKey) {
			err = wkdserver.ErrNone
		}
		return address, certificate, err
	}
	s := &http.Server{
		Handler:           wkdserver.New(wkdserver.Options{Domains: func() []string { return gateway().Domains() }, Find: find, Submission: config.WKDSubmission, Log: d.log}),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
	}
	d.shutdown = append(d.shutdown, s.Shutdown)
	if config.WKDCertificate == "" {
		return s.Serve
	}
	identity := &certificateFiles{certificate: config.WKDCertificate, key: config.WKDKey}
	s.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: identity.get}
	return func(l net.Listener) error { return s.ServeTLS(l, "", "") }
}
