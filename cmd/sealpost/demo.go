package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/config"
)

type demoCmd struct {
	Dir  string `help:"Keep the state here (default: a temporary folder, removed at the end)." placeholder:"DIR"`
	Once bool   `help:"End after the demonstration; fails if anything was not as promised."`
}

func (demoCmd) Help() string {
	return "Example:\n\n    sealpost demo\n\nA provider, a Web Key Directory and the bridges of Alice and Bob in one process. It sends through Alice's bridge, reads through Bob's, shows what the provider stores, and stays up for your own mail client."
}

const (
	demoAlice   = "alice@alpha.test"
	demoBob     = "bob@bravo.test"
	demoCarol   = "carol@charlie.test" // has no certificate
	demoSubject = "The harbour plan"
	demoBody    = "Meet me at the old harbour at nine. Bring the blue folder."
)

// demo is everything that runs in it.
type demo struct {
	g        *globals
	dir      string
	provider *bridgetest.Provider
	wkd      *bridgetest.WKD
	users    map[string]*demoUser
}

// demoUser is one person with a bridge.
type demoUser struct {
	address, localPassword string
	service                *service
	daemon                 *services
	caFile                 string
}

// Run implements the command.
func (c demoCmd) Run(ctx context.Context, g *globals) error {
	dir := c.Dir
	if dir == "" {
		temporary, err := os.MkdirTemp("", "sealpost-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temporary)
		dir = temporary
	}
	d := &demo{g: g, dir: dir, users: map[string]*demoUser{}}
	defer d.close()
	if err := d.start(ctx); err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	group, running := errgroup.WithContext(running)
	for _, u := range d.users {
		group.Go(func() error { return u.daemon.run(running) })
	}
	err := d.show(running)
	if err == nil && !c.Once {
		d.printSettings()
		<-running.Done()
	}
	stop()
	return errors.Join(err, group.Wait())
}

// start brings up the provider, both bridges and the directory with their certificates.
func (d *demo) start(ctx context.Context) error {
	var users []bridgetest.User
	for _, address := range []string{demoAlice, demoBob, demoCarol} {
		users = append(users, bridgetest.User{Address: address, Password: randomSecret()})
	}
	var err error
	if d.provider, err = bridgetest.StartProvider(bridgetest.ProviderOptions{Users: users}); err != nil {
		return err
	}
	if d.wkd, err = bridgetest.StartWKD(); err != nil {
		return err
	}
	for _, user := range users[:2] {
		if err := d.addUser(ctx, user); err != nil {
			return fmt.Errorf("bridge of %s: %w", user.Address, err)
		}
	}
	return nil
}

// addUser opens a bridge with a fresh key and publishes its certificate.
func (d *demo) addUser(ctx context.Context, user bridgetest.User) error {
	cfg, err := d.configure(user)
	if err != nil {
		return err
	}
	b, err := d.g.open(ctx, cfg, true)
	if err != nil {
		return err
	}
	u := &demoUser{address: user.Address, service: &service{bridge: b, config: cfg, running: true}}
	d.users[user.Address] = u
	if err := b.SetProviderPassword(ctx, user.Address, user.Password); err != nil {
		return err
	}
	a := b.Accounts()[0]
	if len(a.Keys()) == 0 {
		if _, err := a.GenerateKey(ctx, bridge.ProfileCompatible, false); err != nil {
			return err
		}
	}
	certificate, err := a.Certificate()
	if err != nil {
		return err
	}
	d.wkd.Publish(user.Address, certificate.Bytes())
	if u.daemon, err = listen(ctx, u.service, d.g.logger()); err != nil {
		return err
	}
	settings, err := clientOperation.do(ctx, u.service, "", nil)
	if err != nil {
		return err
	}
	u.localPassword, u.caFile = settings[0].Password, settings[0].CAFile
	return nil
}

// configure makes one user's configuration, all listeners on free ports.
func (d *demo) configure(user bridgetest.User) (*config.Config, error) {
	name, _, _ := strings.Cut(user.Address, "@")
	dir := filepath.Join(d.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	passphrase, providerCA := filepath.Join(dir, "passphrase"), filepath.Join(dir, "provider-ca.pem")
	if _, err := os.Stat(passphrase); errors.Is(err, os.ErrNotExist) {
		if err := writeNewFile(passphrase, []byte(randomSecret())); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(providerCA, d.provider.CAPEM(), 0o600); err != nil {
		return nil, err
	}
	wkdCA, err := d.wkd.CAFile(dir)
	if err != nil {
		return nil, err
	}
	cfg := config.Default()
	cfg.StateDir = filepath.Join(dir, "state")
	cfg.Local = config.Local{IMAP: "127.0.0.1:0", IMAPS: "127.0.0.1:0", SMTP: "127.0.0.1:0", SMTPS: "127.0.0.1:0", Dashboard: "127.0.0.1:0"}
	cfg.Vault = config.Vault{Unlock: []string{"file"}, PassphraseFile: passphrase}
	cfg.Policy.Rules = []config.Rule{{Match: demoCarol, Encrypt: "require"}}
	cfg.Keydisc.Methods = []string{"contacts", "autocrypt", "wkd"}
	cfg.Keydisc.CAFile = wkdCA
	cfg.Keydisc.Resolve = d.wkd.Resolve("alpha.test", "bravo.test", "charlie.test")
	cfg.Accounts = []config.Account{{
		Address: user.Address, Username: user.Address, IMAP: d.provider.IMAPURL(), SMTP: d.provider.SMTPURL(),
		CAFile: providerCA, Auth: "password", Headers: "baseline", Seal: "all",
	}}
	return cfg, nil
}

// printSettings is for whoever wants to point a mail client at the demo.
func (d *demo) printSettings() {
	fmt.Fprintln(d.g.stdout, "\nThe bridges stay up. Point a mail client at one of them:")
	fmt.Fprintln(d.g.stdout)
	for _, address := range []string{demoAlice, demoBob} {
		settings, err := clientOperation.do(context.Background(), d.users[address].service, "", nil)
		if err == nil {
			_ = settings[0].print(d.g, "")
		}
		fmt.Fprintf(d.g.stdout, "  dashboard: %s\n\n", d.users[address].service.dashboard.LoginURL(demoLinkLife))
	}
	fmt.Fprintln(d.g.stdout, "Interrupt (Ctrl-C) ends the demo.")
}

func (d *demo) close() {
	for _, u := range d.users {
		if u.daemon != nil {
			u.daemon.close()
		}
		_ = u.service.bridge.Close()
	}
	if d.wkd != nil {
		_ = d.wkd.Close()
	}
	if d.provider != nil {
		_ = d.provider.Close()
	}
}

// demoPatience is how long each step of the demonstration may take.
const demoPatience = 30 * time.Second

// eventually asks until there is an answer or demoPatience has passed.
func eventually[T any](ctx context.Context, ask func() (T, bool, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	for {
		answer, ok, err := ask()
		if ok || (err != nil && !errors.As(err, new(net.Error))) {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return answer, fmt.Errorf("it did not happen within %v (%w)", demoPatience, errors.Join(err, ctx.Err()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
