package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/imapd"
	"github.com/sealpost/sealpost/smtpd"
)

type runCmd struct{}

func (runCmd) Help() string {
	return "Example:\n\n    sealpost run\n\nPrints a line for each listener, then ready; the log goes to stderr ($SEALPOST_LOG=debug|info|warn). SIGTERM ends it, SIGHUP reloads the policy."
}

// Run implements the command.
func (runCmd) Run(ctx context.Context, g *globals) error {
	cfg, err := g.load()
	if err != nil {
		return err
	}
	if len(cfg.Accounts) == 0 && !cfg.Gateway.Enabled() {
		return fmt.Errorf("%s has no [[account]]; add one with sealpost init", g.path())
	}
	b, err := g.open(ctx, cfg, false)
	if err != nil {
		return err
	}
	defer b.Close()
	s := &service{bridge: b, config: cfg, configPath: g.path(), running: true}
	d, err := listen(ctx, s, g.logger())
	if err != nil {
		return err
	}
	d.announce(g.stdout)
	notify(d.log, daemon.SdNotifyReady)
	nagAboutBackup(ctx, b, d.log)
	go reloadOnHangup(ctx, g, b)
	go limitMemory(ctx, b)
	return d.run(ctx)
}

func nagAboutBackup(ctx context.Context, b *bridge.Bridge, log *slog.Logger) {
	state, err := backupStatusOf(ctx, b)
	if err != nil {
		log.Warn("it could not be seen whether there is a backup", "cause", err)
	} else if nag := state.nag(); nag != "" {
		log.Warn(nag)
	}
}

// reloadOnHangup puts a changed policy in force; a broken configuration changes nothing.
func reloadOnHangup(ctx context.Context, g *globals, b *bridge.Bridge) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
		}
		reload(ctx, g, b)
	}
}

// reload puts in force what can change while connections are open: the policy, and the certificates that the configuration names.
func reload(ctx context.Context, g *globals, b *bridge.Bridge) {
	notify(g.logger(), daemon.SdNotifyReloading)
	defer notify(g.logger(), daemon.SdNotifyReady)
	if err := takeOver(ctx, g, b); err != nil {
		g.logger().Error("the configuration was not reloaded", "cause", err)
	}
}

// takeOver reads all before it changes anything.
func takeOver(ctx context.Context, g *globals, b *bridge.Bridge) error {
	cfg, err := g.load()
	if err != nil {
		return err
	}
	lists, err := listsOf(cfg.Keydisc.Lists)
	if err != nil {
		return err
	}
	if err := reloadGateway(ctx, b, cfg.Gateway); err != nil {
		return err
	}
	b.SetPolicy(policyOf(cfg.Policy))
	b.Contacts().SetLists(lists)
	return b.Contacts().FollowLists(ctx)
}

// drainTime is how long what is under way may take after SIGTERM; the units give it five seconds more.
const drainTime = 25 * time.Second

// services is the servers of one bridge, listening.
type services struct {
	service  *service
	servers  []server
	shutdown []func(context.Context) error // of those that take mail
	late     []func(context.Context) error // of those that watch the others end
	draining atomic.Bool
	log      *slog.Logger
}

// server is one listener and what serves it.
type server struct {
	name     string
	listener net.Listener
	serve    func(net.Listener) error
}

// listen opens all listeners, so that a taken port is known before anything is served.
func listen(ctx context.Context, s *service, log *slog.Logger) (*services, error) {
	identity, err := s.bridge.Identity(ctx, localHost(s.config.Local))
	if err != nil {
		return nil, err
	}
	if end, soon := identity.CAExpiresSoon(time.Now()); soon {
		log.Warn("the local TLS authority ends soon; mail clients will have to trust a new one", "end", end.Format(time.DateOnly))
	}
	d := &services{service: s, log: log}
	if err := d.listenTCP(ctx, identity.TLSConfig()); err != nil {
		d.close()
		return nil, err
	}
	control, err := listenControl(s.config.StateDir)
	if err != nil {
		d.close()
		return nil, err
	}
	web := &http.Server{Handler: handlers(s), ReadHeaderTimeout: 10 * time.Second}
	d.servers = append(d.servers, server{"control", control, web.Serve})
	d.shutdown = append(d.shutdown, web.Shutdown)
	return d, nil
}

// listenTCP opens the listeners of the configuration, in the order they are announced.
func (d *services) listenTCP(ctx context.Context, tlsConfig *tls.Config) error {
	local, gateway := d.service.config.Local, d.service.config.Gateway
	if gateway.WKDCertificate != "" {
		if _, err := tls.LoadX509KeyPair(gateway.WKDCertificate, gateway.WKDKey); err != nil {
			return fmt.Errorf("the certificate of the Web Key Directory (gateway.wkd_certificate): %w", err)
		}
	}
	d.service.listeners = map[string]string{}
	inherited, err := inheritedSockets()
	if err != nil {
		return err
	}
	mail := func(name string) func(net.Listener) func(net.Listener) error {
		return func(l net.Listener) func(net.Listener) error { return d.mailServer(name, l, tlsConfig) }
	}
	for _, l := range []struct {
		name, address string
		server        func(net.Listener) func(net.Listener) error
	}{
		{"imap", local.IMAP, mail("imap")}, {"imaps", local.IMAPS, mail("imaps")},
		{"smtp", local.SMTP, mail("smtp")}, {"smtps", local.SMTPS, mail("smtps")}, {"devices", local.Devices, mail("devices")},
		{"gateway-outbound", relayAddress(gateway.Outbound), d.relayServer("gateway-outbound", tlsConfig)},
		{"gateway-inbound", relayAddress(gateway.Inbound), d.relayServer("gateway-inbound", tlsConfig)},
		{"wkd", gateway.WKD, d.directoryServer},
		{"metrics", local.Metrics, d.watchServer},
	} {
		listener, err := inherited.open(l.name, l.address)
		if err != nil {
			return err
		}
		if listener == nil {
			continue
		}
		d.service.listeners[l.name] = listener.Addr().String()
		d.servers = append(d.servers, server{l.name, listener, l.server(listener)})
	}
	if err := d.listenDashboard(ctx, inherited); err != nil {
		return err
	}
	return inherited.leftover()
}

// mailServer makes the server for one listener. Passwords without TLS are taken on loopback only.
func (d *services) mailServer(name string, l net.Listener, tlsConfig *tls.Config) func(net.Listener) error {
	address, ok := l.Addr().(*net.TCPAddr)
	loopback := ok && address.IP.IsLoopback()
	if name == "imap" || name == "imaps" {
		s := imapd.New(imapd.Options{Backend: d.service.bridge, TLS: tlsConfig, AllowInsecureAuth: loopback, Log: d.log})
		d.shutdown = append(d.shutdown, s.Shutdown)
		if name == "imaps" {
			return s.ServeTLS
		}
		return s.Serve
	}
	s := smtpd.New(smtpd.Options{
		Login: d.login(name == "devices"), MaxMessageSize: d.service.bridge.MaxMessageSize,
		TLS: tlsConfig, AllowInsecureAuth: loopback || name == "devices", Devices: name == "devices", Log: d.log,
	})
	d.shutdown = append(d.shutdown, s.Shutdown)
	if name == "smtps" {
		return s.ServeTLS
	}
	return s.Serve
}

// login tells devices from people by their user names: an account's has an @.
func (d *services) login(devicesAlone bool) func(context.Context, string, string) (smtpd.Account, error) {
	return func(ctx context.Context, user, password string) (smtpd.Account, error) {
		if devicesAlone || !strings.Contains(user, "@") {
			return d.service.bridge.LoginDevice(ctx, user, password)
		}
		return d.service.bridge.Login(ctx, user, password)
	}
}

// listenError says who holds a taken port.
func listenError(name, address string, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listener %s %s: %w; change it in [local]", name, address, err)
	}
	return fmt.Errorf("listener %s: %s is taken by %s; stop that program, or change %s in [local]", name, address, portHolder(address), name)
}

// announce prints a line for each listener, then ready.
func (d *services) announce(w io.Writer) {
	for _, s := range d.servers {
		if s.name != "control" {
			fmt.Fprintf(w, "listening %s %s\n", s.name, s.listener.Addr())
		}
	}
	fmt.Fprintln(w, "ready")
}

// run serves until ctx ends, then lets running commands finish.
func (d *services) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.service.bridge.Run(ctx) })
	for _, s := range d.servers {
		group.Go(func() error {
			if err := s.serve(s.listener); err != nil && ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("listener %s: %w", s.name, err)
			}
			return nil
		})
	}
	group.Go(func() error {
		<-ctx.Done()
		d.stop()
		return nil
	})
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// stop lets what is under way end. The watchers go last: a load balancer is to see that no more mail is taken.
func (d *services) stop() {
	d.draining.Store(true)
	notify(d.log, daemon.SdNotifyStopping)
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	for _, servers := range [][]func(context.Context) error{d.shutdown, d.late} {
		group := errgroup.Group{}
		for _, shutdown := range servers {
			group.Go(func() error { return shutdown(ctx) })
		}
		if err := group.Wait(); err != nil {
			d.log.Warn("some connections were cut off", "cause", err)
		}
	}
	d.close()
}

func (d *services) close() {
	for _, s := range d.servers {
		_ = s.listener.Close()
	}
}
