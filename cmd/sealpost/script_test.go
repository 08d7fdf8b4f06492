package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealpost/sealpost/bridge/bridgetest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sealpost": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs testdata/script/*.txt. Each script has a provider and a Web Key Directory
// of its own; testdata/script/README.md describes what it finds and the commands there are.
func TestScripts(t *testing.T) { runScripts(t, "testdata/script") }

// scriptDeadline ends scripts in which a command does not.
const scriptDeadline = 6 * time.Minute

func runScripts(t *testing.T, dir string) {
	testscript.Run(t, testscript.Params{
		Dir: dir, Setup: setUp, RequireUniqueNames: true,
		Deadline: time.Now().Add(scriptDeadline),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "until": until, "json": likeJSON, "plist": isPlist,
			"account": addAccount, "daemon": startDaemon, "signal": signalDaemon, "ended": daemonEnded, "web": getFromDaemon,
			"provider": provider, "deliver": deliver, "stored": stored, "submitted": submitted, "fault": fault, "wkd": directory, "vks": keyServer,
			"submit": submit, "fetch": fetch, "append": appendMessage, "expunge": expunge, "occupy": occupy, "damage": damage, "tmpfs": tmpfs, "fill": fill,
			"browse": browse, "gateway": addGateway, "relay": relay, "relayed": relayed,
		},
	})
}

// world is what one script runs against.
type world struct {
	providers []*bridgetest.Provider // the newest is in use
	wkd       *bridgetest.WKD
	vks       *bridgetest.VKS
	faults    []func()
	outHop    *bridgetest.NextHop // behind the gateway; see gateway
	inHop     *bridgetest.NextHop
	daemons   map[string]*background
	cleanUp   func(func())
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func (w *world) provider() *bridgetest.Provider { return w.providers[len(w.providers)-1] }

var users = []bridgetest.User{
	{Address: "alice@alpha.test", Password: "alice at the provider"},
	{Address: "bob@bravo.test", Password: "bob at the provider"},
	{Address: "carol@charlie.test", Password: "carol at the provider"},
}

// setUp starts the servers and says in the environment where they are.
func setUp(env *testscript.Env) error {
	w := &world{daemons: map[string]*background{}, cleanUp: env.Defer}
	env.Values[worldKey{}] = w
	wkd, err := bridgetest.StartWKD()
	if err != nil {
		return err
	}
	w.wkd = wkd
	env.Defer(func() { _ = wkd.Close() })
	wkd.Publish("bob@bravo.test", bridgetest.PublicKey("bob@bravo.test"))
	if w.vks, err = bridgetest.StartVKS(); err != nil {
		return err
	}
	env.Defer(func() { _ = w.vks.Close() })
	if err := w.start(env.Setenv, "tls", false); err != nil {
		return err
	}
	env.Defer(w.killAll)
	env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
	env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
	env.Setenv("SEALPOST_CONFIG", filepath.Join(env.WorkDir, "config.toml"))
	env.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector delays every exit by a second otherwise
	env.Setenv("RESOLVE", resolveTable(wkd))
	return w.writeFiles(env)
}

// start starts a provider, in use from now on.
func (w *world) start(setenv func(key, value string), security string, expired bool) error {
	o := bridgetest.ProviderOptions{Users: users, Security: security}
	if expired {
		certificate, err := bridgetest.CA().Issue(time.Now().Add(-time.Hour), "localhost", "127.0.0.1")
		if err != nil {
			return err
		}
		o.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	}
	p, err := bridgetest.StartProvider(o)
	if err != nil {
		return err
	}
	w.providers = append(w.providers, p)
	w.cleanUp(func() { _ = p.Close() })
	setenv("IMAP_URL", p.IMAPURL())
	setenv("SMTP_URL", p.SMTPURL())
	_, imap, _ := strings.Cut(p.IMAPURL(), "://")
	_, smtp, _ := strings.Cut(p.SMTPURL(), "://")
	setenv("IMAP_HOST", imap)
	setenv("SMTP_HOST", smtp)
	return nil
}

// resolveTable is the lines of [keydisc.resolve].
func resolveTable(wkd *bridgetest.WKD) string {
	var lines []string
	for host, address := range wkd.Resolve("alpha.test", "bravo.test", "charlie.test", "delta.test") {
		lines = append(lines, fmt.Sprintf("%q = %q\n", host, address))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// baseConfig has everything but accounts; keydisc asks nobody outside this machine.
const baseConfig = `state_dir = %q

[local]
imap  = "127.0.0.1:0"
imaps = "127.0.0.1:0"
smtp  = "127.0.0.1:0"
smtps = "127.0.0.1:0"
dashboard = "127.0.0.1:0"

[vault]
unlock = ["file"]
passphrase_file = %q

[policy]
default = "prefer"

[keydisc]
methods = ["contacts", "autocrypt", "wkd"]
vks     = %q
ca_file = %q

[keydisc.resolve]
%s`

// writeFiles puts the files that scripts name into the work folder; files of the script win.
func (w *world) writeFiles(env *testscript.Env) error {
	at := func(name string) string { return filepath.Join(env.WorkDir, name) }
	files := map[string][]byte{
		"base.toml":  fmt.Appendf(nil, baseConfig, at("state"), at("passphrase"), w.vks.URL(), at("ca.pem"), env.Getenv("RESOLVE")),
		"passphrase": []byte("correct horse battery staple\n"),
		"ca.pem":     bridgetest.CA().PEM(),
		"wrong.pass": []byte("not the password\n"),
		"empty.pass": nil,
	}
	for _, u := range users {
		name, _, _ := strings.Cut(u.Address, "@")
		files[name+".pass"] = []byte(u.Password + "\n")
		files[name+".sec.asc"], files[name+".pub.asc"] = bridgetest.SecretKey(u.Address), bridgetest.PublicKey(u.Address)
	}
	env.Setenv("CA", at("ca.pem"))
	env.Setenv("WKD_CA", at("ca.pem"))
	for name, content := range files {
		if _, err := os.Stat(at(name)); err == nil {
			continue
		}
		if err := os.WriteFile(at(name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// crlf is a message of a script as it travels.
func crlf(message string) []byte {
	return bytes.ReplaceAll([]byte(message), []byte("\n"), []byte("\r\n"))
}
