package export

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/bridge/upstream"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

const (
	alice = "alice@alpha.test"
	bob   = "bob@bravo.test"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is a provider, and mirrors of alice's and bob's accounts.
type rig struct {
	t          testing.TB
	provider   *bridgetest.Provider
	db         *store.DB
	custodians []Custodian
	holds      *Holds
	now        time.Time // of holds
}

// The stand-in for encryption: how stored messages begin that are encrypted, and that cannot be opened.
const (
	encryptedMark = "X-Encrypted: yes\r\n"
	lockedMark    = "X-Locked: yes\r\n"
)

func newRig(t testing.TB) *rig {
	t.Helper()
	users := []bridgetest.User{{Address: alice, Password: "secret"}, {Address: bob, Password: "secret"}}
	p, err := bridgetest.StartProvider(bridgetest.ProviderOptions{Users: users, Now: func() time.Time { return noon }})
	check(t, err)
	t.Cleanup(func() { _ = p.Close() })
	r := &rig{t: t, provider: p}
	r.db, err = store.Open(context.Background(), filepath.Join(t.TempDir(), "sealpost.db"), bytes.Repeat([]byte{7}, 32))
	check(t, err)
	t.Cleanup(func() { check(t, r.db.Close()) })
	r.now = noon
	clock := func() time.Time { return r.now }
	r.holds = NewHolds(r.db, audit.New(r.db, clock), clock)
	for _, u := range users {
		r.custodians = append(r.custodians, Custodian{u.Address, r.mirror(u.Address)})
	}
	return r
}

func (r *rig) mirror(address string) *mirror.Mirror {
	at, err := upstream.ParseEndpoint(r.provider.IMAPURL())
	check(r.t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(r.provider.CAPEM())
	up := upstream.New(upstream.Options{IMAP: at, Username: address, TLS: &tls.Config{RootCAs: roots},
		Password: func(context.Context) (string, error) { return "secret", nil }, Timeout: 10 * time.Second})
	r.t.Cleanup(func() { _ = up.Close() })
	m, err := mirror.New(context.Background(), mirror.Options{DB: r.db, Account: address, Provider: up, Open: open, Keeper: r.holds,
		SpoolDir: r.t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	check(r.t, err)
	return m
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// open is the stand-in for decryption.
func open(_ context.Context, stored mimescan.Source) (*mirror.Opened, error) {
	raw, err := io.ReadAll(io.NewSectionReader(stored, 0, stored.Size()))
	if err != nil {
		return nil, err
	}
	text, kind, status := string(raw), mirror.Clear, "encryption=none; signature=none; signer=-; trust=-; pq=-; reason=-"
	switch {
	case strings.HasPrefix(text, encryptedMark):
		text, kind = strings.TrimPrefix(text, encryptedMark), mirror.Encrypted
		status = "encryption=openpgp; signature=good; signer=ABCD; trust=verified; pq=no; reason=-"
	case strings.HasPrefix(text, lockedMark):
		kind, status = mirror.Failed, "encryption=failed; signature=none; signer=-; trust=-; pq=-; reason=no-key"
	}
	hash := sha256.Sum256(raw)
	return &mirror.Opened{Message: memory{bytes.NewReader([]byte(statusField + ": " + status + "\r\n" + text))}, Kind: kind, Hash: hash[:]}, nil
}

func (r *rig) deliver(address, mailbox, text string) uint32 {
	r.t.Helper()
	uid, err := r.provider.Deliver(address, mailbox, []byte(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")))
	check(r.t, err)
	return uid
}

func quiet(string, int, int) {}

func newCancel(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}
