package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/mirror"
	"github.com/sealpost/sealpost/bridge/upstream"
	"github.com/sealpost/sealpost/keydisc"
)

const (
	alice = "alice@alpha.test"
	bob   = "bob@bravo.test"
	carol = "carol@charlie.test"
	dave  = "dave@delta.test" // has no certificate
)

// world is a provider, a Web Key Directory and whatever bridges a test opens.
type world struct {
	t        *testing.T
	provider *bridgetest.Provider
	wkd      *bridgetest.WKD
	policy   Policy
	seal     Seal
}

func newWorld(t *testing.T) *world {
	t.Helper()
	var users []bridgetest.User
	for _, address := range []string{alice, bob, carol, dave} {
		users = append(users, bridgetest.User{Address: address, Password: "secret of " + address})
	}
	provider, err := bridgetest.StartProvider(bridgetest.ProviderOptions{Users: users})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = provider.Close() })
	wkd, err := bridgetest.StartWKD()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = wkd.Close() })
	for _, address := range []string{bob, carol} {
		wkd.Publish(address, bridgetest.PublicKey(address))
	}
	return &world{t: t, provider: provider, wkd: wkd, policy: Policy{Default: Prefer, AllowSplit: true}, seal: Seal{All: true}}
}

// newState fills a new state folder with a vault that costs next to nothing to unlock (its passphrase is "open sesame") and
// an empty database: most of the time of the tests would go into Argon2 and migrations otherwise.
func newState(t *testing.T, dir string) {
	t.Helper()
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, os.ErrExist) {
		return
	}
	if err == nil {
		err = os.CopyFS(dir, emptyState())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// emptyState is made once.
var emptyState = sync.OnceValue(func() fs.FS {
	dir, err := os.MkdirTemp("", "sealpost-state-")
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	must(err)
	defer os.RemoveAll(dir)
	vault, err := os.ReadFile("testdata/quick-vault.json")
	must(err)
	must(os.WriteFile(filepath.Join(dir, "vault.json"), vault, 0o600))
	passphrase := filepath.Join(dir, "passphrase")
	must(os.WriteFile(passphrase, []byte("open sesame\n"), 0o600))
	b, err := Open(context.Background(), Options{
		StateDir: dir, Unlock: UnlockOptions{Methods: []string{"file"}, PassphraseFile: passphrase}, Log: slog.New(slog.DiscardHandler),
	})
	must(err)
	must(b.Close())
	files := fstest.MapFS{}
	for _, name := range []string{"vault.json", "sealpost.db", "sealpost.db.check"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		must(err)
		files[name] = &fstest.MapFile{Data: data, Mode: 0o600}
	}
	return files
})

// options of a bridge for one address; state in dir.
func (w *world) options(address, dir string) Options {
	w.t.Helper()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			w.t.Fatal(err)
		}
		return path
	}
	passphrase, ca := write("passphrase", []byte("open sesame\n")), write("ca.pem", w.provider.CAPEM())
	wkdCA, err := w.wkd.CAFile(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	endpoint := func(url string) upstream.Endpoint {
		e, err := upstream.ParseEndpoint(url)
		if err != nil {
			w.t.Fatal(err)
		}
		return e
	}
	newState(w.t, filepath.Join(dir, "state"))
	return Options{
		StateDir: filepath.Join(dir, "state"),
		Unlock:   UnlockOptions{Methods: []string{"file"}, PassphraseFile: passphrase, Create: true},
		Accounts: []AccountOptions{{
			Address: address, Aliases: []string{"alias-" + address}, Username: address, CAFile: ca, Seal: w.seal,
			IMAP: endpoint(w.provider.IMAPURL()), SMTP: endpoint(w.provider.SMTPURL()),
		}},
		Policy: w.policy,
		Keydisc: keydisc.Options{
			Methods: []keydisc.Method{keydisc.WKD}, CAFile: wkdCA, Timeout: 5 * time.Second,
			Resolve: w.wkd.Resolve("alpha.test", "bravo.test", "charlie.test", "delta.test"),
		},
		UseAutocrypt: true,
		Log:          slog.New(slog.NewTextHandler(testWriter{w.t}, nil)),
	}
}

// testWriter puts the log into the test's output.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	fmt.Fprint(w.t.Output(), string(p))
	return len(p), nil
}

// open opens a bridge without running it; its account has the fixed key of its address.
func (w *world) open(o Options) *Account {
	w.t.Helper()
	b, err := Open(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := b.Close(); err != nil {
			w.t.Error(err)
		}
	})
	a := b.Accounts()[0]
	if err := b.SetProviderPassword(w.t.Context(), a.Address(), "secret of "+a.Address()); err != nil {
		w.t.Fatal(err)
	}
	if secret := bridgetest.SecretKey(a.Address()); secret != nil && len(a.Keys()) == 0 {
		if _, err := a.ImportKey(w.t.Context(), secret, nil); err != nil {
			w.t.Fatal(err)
		}
	}
	return a
}

// start opens a bridge and runs it until the test ends.
func (w *world) start(address string) *Account {
	w.t.Helper()
	return w.run(w.options(address, w.t.TempDir()))
}

func (w *world) run(o Options) *Account {
	w.t.Helper()
	a := w.open(o)
	w.t.Cleanup(runOnly(w.t, a))
	return a
}

// runOnly runs an open bridge; the func ends it.
func runOnly(t *testing.T, a *Account) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.bridge.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// runUntilDone is runOnly, and closes the bridge, too.
func runUntilDone(t *testing.T, a *Account) (stop func()) {
	end := runOnly(t, a)
	return func() {
		end()
		if err := a.bridge.Close(); err != nil {
			t.Error(err)
		}
	}
}

// message is a plain message; extra are further header lines.
func message(from, to, subject, body string, extra ...string) string {
	lines := append([]string{"From: <" + from + ">", "To: <" + to + ">", "Subject: " + subject,
		"Date: Mon, 23 Nov 2026 10:00:00 +0000", "Message-ID: <" + strings.ReplaceAll(subject, " ", "-") + "@alpha.test>", "User-Agent: Canary/1.0"}, extra...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body + "\r\n"
}

func submit(t *testing.T, a *Account, text string, to ...string) error {
	t.Helper()
	err := a.Submit(t.Context(), Envelope{From: a.Address(), To: to}, strings.NewReader(text))
	var refusal *Refusal
	if err != nil && !errors.As(err, &refusal) {
		t.Fatalf("Submit returned %T: %v", err, err)
	}
	return err
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited in vain until %s", what)
}

// seen is what a client sees of a mailbox now: the messages in order.
func seen(t *testing.T, a *Account, mailbox string) []string {
	t.Helper()
	b, err := a.Mirror().Mailbox(t.Context(), mailbox)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range b.Snapshot().Messages {
		all = append(all, content(t, b, m.UID))
	}
	return all
}

func content(t *testing.T, b *mirror.Mailbox, uid imap.UID) string {
	t.Helper()
	c, err := b.Content(t.Context(), uid)
	if errors.Is(err, mirror.ErrExpunged) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Message.Close()
	data, err := io.ReadAll(io.NewSectionReader(c.Message, 0, c.Message.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// waitFor waits until the client sees a message that holds all the texts.
func waitFor(t *testing.T, a *Account, mailbox string, texts ...string) string {
	t.Helper()
	var found string
	eventually(t, fmt.Sprintf("%s shows %q", mailbox, texts), func() bool {
		for _, m := range seen(t, a, mailbox) {
			if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(m, text) }) {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// mustNotLeak fails if the provider can read any of the canaries, at rest or in transit.
func (w *world) mustNotLeak(canaries ...string) {
	w.t.Helper()
	for _, canary := range canaries {
		for _, address := range []string{alice, bob, carol, dave} {
			for _, m := range w.provider.Stored(address) {
				if bytes.Contains(m.Bytes, []byte(canary)) {
					w.t.Errorf("the provider stores %q in %s of %s:\n%s", canary, m.Mailbox, address, m.Bytes)
				}
			}
		}
		for _, s := range w.provider.Submissions() {
			if bytes.Contains(s.Bytes, []byte(canary)) {
				w.t.Errorf("%q was submitted to %v", canary, s.To)
			}
		}
	}
}
