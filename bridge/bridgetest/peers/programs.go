//go:build peers

package peers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// GPG is GnuPG with a keyring of its own.
type GPG struct {
	t    testing.TB
	Home string
}

// NewGPG makes an empty keyring; its agent ends with the test.
func NewGPG(t testing.TB) *GPG {
	t.Helper()
	Need(t, "gpg", "gnupg")
	g := &GPG{t: t, Home: filepath.Join(Dir(t), "gnupg")} // short: the agent's sockets are in it
	if err := os.Mkdir(g.Home, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Run(t, nil, nil, "gpgconf", "--homedir", g.Home, "--kill", "all") })
	return g
}

// Try runs gpg without questions.
func (g *GPG) Try(stdin []byte, args ...string) (string, error) {
	g.t.Helper()
	fixed := []string{"--homedir", g.Home, "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", "", "--trust-model", "always"}
	return try(g.t, nil, stdin, "gpg", append(fixed, args...)...)
}

// Run is Try, and fails the test if gpg does.
func (g *GPG) Run(stdin []byte, args ...string) string {
	g.t.Helper()
	out, err := g.Try(stdin, args...)
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

// Import adds keys or certificates, armored or binary.
func (g *GPG) Import(keys []byte) { g.t.Helper(); g.Run(keys, "--import") }

// ClientOptions say which server the command-line mail programs are pointed at.
type ClientOptions struct {
	Host, IMAP, SMTP   string // ports
	IMAPTLS, SMTPTLS   string // "none", "starttls" or "tls"
	CAFile             string
	Username, Password string
	Only               string // some of "swaks curl mbsync neomutt msmtp"; default all
}

// RunClients lets the mail programs send, read, flag, move and delete, each judged by another;
// every check that fails is an error of the test.
func RunClients(t testing.TB, o ClientOptions) {
	t.Helper()
	Need(t, "curl", "curl")
	Need(t, "python3", "python3")
	dir := Dir(t)
	env := []string{"IMAP_TLS=" + o.IMAPTLS, "SMTP_TLS=" + o.SMTPTLS, "CA_PEM=" + o.CAFile, "ONLY=" + o.Only}
	out, err := try(t, env, nil, script(t, dir, "clients.sh"), dir, o.Host, o.IMAP, o.SMTP, o.Username, o.Password)
	t.Log(out)
	if err != nil {
		t.Errorf("mail programs: %v", err)
	}
}

// Thunderbird is a window under Xvfb with one account.
type Thunderbird struct {
	t           testing.TB
	Dir, script string
}

// StartThunderbird starts it with a fresh profile and waits until the account's folders show.
func StartThunderbird(t testing.TB, o ClientOptions) *Thunderbird {
	t.Helper()
	Need(t, "thunderbird", "thunderbird")
	Need(t, "Xvfb", "xvfb")
	Need(t, "python3", "python3")
	b := &Thunderbird{t: t, Dir: Dir(t)}
	b.script = script(t, b.Dir, "tb.py")
	t.Cleanup(func() {
		if _, err := b.Try("stop"); err != nil {
			t.Errorf("stopping Thunderbird: %v", err)
		}
	})
	b.Do("start", o.Host, o.IMAP, o.SMTP, o.Username, o.Password, "--imap", o.IMAPTLS, "--smtp", o.SMTPTLS, "--ca", o.CAFile)
	return b
}

// Do runs a verb of rig/tb.py, and fails the test if it fails. Arguments begin behind the folder.
func (b *Thunderbird) Do(verb string, args ...string) string {
	b.t.Helper()
	out, err := b.Try(verb, args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// Try is Do, and returns the error.
func (b *Thunderbird) Try(verb string, args ...string) (string, error) {
	b.t.Helper()
	return try(b.t, nil, nil, b.script, append([]string{verb, b.Dir}, args...)...)
}

// WKD is a Web Key Directory by Python's HTTP server and GnuPG's keys.
type WKD struct {
	Dir, Port string
}

// StartWKD makes a key pair for each address with gpg and publishes the certificates; CA and
// key are the provider's. Dir/keys/ADDRESS.{pub.asc,pub.pgp,sec.asc} are the keys.
func StartWKD(t testing.TB, p *Provider, addresses ...string) *WKD {
	t.Helper()
	Need(t, "gpg", "gnupg")
	Need(t, "openssl", "openssl")
	path := script(t, p.Dir, "wkd.py")
	Run(t, nil, nil, path, append([]string{"keys", p.Dir}, addresses...)...)
	out := Run(t, nil, nil, path, append([]string{"start", p.Dir}, addresses...)...)
	t.Cleanup(func() { Run(t, nil, nil, path, "stop", p.Dir) })
	return &WKD{Dir: p.Dir, Port: envValue(out, "WKD_PORT")}
}

// envValue reads NAME=VALUE lines.
func envValue(text, name string) string {
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), name+"="); found {
			return value
		}
	}
	return ""
}
