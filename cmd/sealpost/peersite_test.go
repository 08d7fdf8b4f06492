//go:build peers

package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/bridge/bridgetest/peers"
)

const (
	alice = "alice@alpha.test"
	bob   = "bob@bravo.test"
	carol = "carol@charlie.test" // has an account but no certificate
	load  = "load@alpha.test"
)

// binary is the program, built once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sealpost-peers-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "sealpost")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// site is a provider of real servers and a Web Key Directory.
type site struct {
	t        *testing.T
	provider *peers.Provider
	wkd      *peers.WKD
	program  string
}

func newSite(t *testing.T) *site {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	provider := peers.StartProvider(t, peers.Options{})
	return &site{t: t, provider: provider, program: program, wkd: peers.StartWKD(t, provider, alice, bob, load)}
}

// user is one account with a bridge of its own, as a newcomer has it: an empty home folder.
type user struct {
	*site
	address string
	home    string
	daemon  *exec.Cmd
	log     *bytes.Buffer
	client  settings
}

// settings are what `sealpost client --json` prints.
type settings struct {
	Address, Username, Password, IMAP, IMAPS, SMTP, SMTPS string
	CAFile                                                string `json:"ca_file"`
}

// newUser runs init with the key that the directory publishes.
func (s *site) newUser(address string, starttls bool) *user {
	s.t.Helper()
	u := &user{site: s, address: address, home: s.t.TempDir(), log: &bytes.Buffer{}}
	u.write("password", peers.Password(address))
	u.write("passphrase", "open sesame")
	u.must("init", "--address", address, "--imap", s.provider.IMAPURL(starttls), "--smtp", s.provider.SMTPURL(starttls),
		"--ca-file", s.provider.CAFile, "--password-file", u.path("password"), "--passphrase-file", u.path("passphrase"),
		"--import-key", filepath.Join(s.wkd.Dir, "keys", address+".sec.asc"))
	u.configure(u.listeners() + u.keydisc())
	return u
}

func (u *user) path(name string) string { return filepath.Join(u.home, name) }

func (u *user) write(name, text string) {
	u.t.Helper()
	if err := os.WriteFile(u.path(name), []byte(text), 0o600); err != nil {
		u.t.Fatal(err)
	}
}

func (u *user) listeners() string {
	return "[local]\nimap = \"127.0.0.1:0\"\nimaps = \"127.0.0.1:0\"\nsmtp = \"127.0.0.1:0\"\nsmtps = \"127.0.0.1:0\"\ndashboard = \"127.0.0.1:0\"\n"
}

func (u *user) keydisc() string {
	text := "[keydisc]\nmethods = [\"contacts\", \"autocrypt\", \"wkd\"]\nca_file = \"" + u.provider.CAFile + "\"\n[keydisc.resolve]\n"
	for _, domain := range []string{"alpha.test", "bravo.test", "charlie.test"} {
		text += fmt.Sprintf("\"openpgpkey.%s:443\" = \"127.0.0.1:%s\"\n", domain, u.wkd.Port)
	}
	return text
}

// configure adds to the configuration that init wrote.
func (u *user) configure(text string) {
	u.t.Helper()
	path := u.path(".config/sealpost/config.toml")
	old, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, append(old, text...), 0o600)
	}
	if err != nil {
		u.t.Fatal(err)
	}
}

func (u *user) command(args ...string) *exec.Cmd {
	cmd := exec.Command(u.program, args...)
	cmd.Env = []string{"HOME=" + u.home, "PATH=" + os.Getenv("PATH")}
	return cmd
}

// run runs a command and returns its output and exit code.
func (u *user) run(args ...string) (stdout, stderr string, code int) {
	u.t.Helper()
	cmd := u.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		u.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (u *user) must(args ...string) string {
	u.t.Helper()
	stdout, stderr, code := u.run(args...)
	if code != 0 {
		u.t.Fatalf("sealpost %s: exit %d: %s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// start runs the daemon until the test ends, or stop, and takes its settings.
func (u *user) start() {
	u.t.Helper()
	u.launch()
	var all []settings
	if err := json.Unmarshal([]byte(u.must("client", "--json")), &all); err != nil || len(all) != 1 {
		u.t.Fatal(err, all)
	}
	u.client = all[0]
}

// launch runs the daemon until the test ends, or stop.
func (u *user) launch() {
	u.t.Helper()
	u.daemon = u.command("run")
	u.daemon.Stderr = u.log
	ready := &waiter{text: "ready\n", found: make(chan struct{})}
	u.daemon.Stdout = ready
	if err := u.daemon.Start(); err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(u.stop)
	select {
	case <-ready.found:
	case <-time.After(time.Minute):
		u.t.Fatalf("the daemon of %s is not ready: %s", u.address, u.log)
	}
}

// stop ends the daemon; it must do so by itself and without an error.
func (u *user) stop() {
	u.t.Helper()
	if u.daemon == nil {
		return
	}
	_ = u.daemon.Process.Signal(syscall.SIGTERM)
	if err := u.daemon.Wait(); err != nil {
		u.t.Errorf("the daemon of %s: %v: %s", u.address, err, u.log)
	}
	u.daemon = nil
}

// waiter is written to until a text has come.
type waiter struct {
	text  string
	seen  bytes.Buffer
	once  sync.Once
	found chan struct{}
}

func (w *waiter) Write(p []byte) (int, error) {
	w.seen.Write(p)
	if strings.Contains(w.seen.String(), w.text) {
		w.once.Do(func() { close(w.found) })
	}
	return len(p), nil
}

// clientOptions point a mail program at the bridge.
func (u *user) clientOptions(tls bool) peers.ClientOptions {
	port := func(address string) string {
		_, p, err := net.SplitHostPort(address)
		if err != nil {
			u.t.Fatal(err)
		}
		return p
	}
	o := peers.ClientOptions{
		Host: "localhost", Username: u.client.Username, Password: u.client.Password, CAFile: u.client.CAFile,
		IMAP: port(u.client.IMAP), SMTP: port(u.client.SMTP), IMAPTLS: "starttls", SMTPTLS: "starttls",
	}
	if tls {
		o.IMAP, o.SMTP, o.IMAPTLS, o.SMTPTLS = port(u.client.IMAPS), port(u.client.SMTPS), "tls", "tls"
	}
	return o
}

// mustNotLeak fails if any file below the provider's Maildirs or its queue holds a canary.
func (s *site) mustNotLeak(canaries ...string) {
	s.t.Helper()
	if found := s.provider.Find(canaries...); len(found) > 0 {
		s.t.Errorf("the provider can read %q in %v", canaries, found)
	}
}

func (s *site) stored(address, mailbox string) []peers.Stored {
	return slices.DeleteFunc(s.provider.Stored(address), func(m peers.Stored) bool { return m.Mailbox != mailbox })
}

// eventually waits for what other programs bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited in vain until %s", what)
}
