package mirror

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/bridge/upstream"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

const alice = "alice@alpha.test"

// rig is a provider, and a mirror of one of its accounts.
type rig struct {
	*Mirror
	t        testing.TB
	provider *bridgetest.Provider
	path     string
	stop     func()
	opens    atomic.Int64
	unready  atomic.Bool // Open says "not now"
	sealing  atomic.Bool // Seal works
	seals    atomic.Int64
}

// marks by which the stand-in for encryption knows stored messages.
const (
	sealedMark    = "X-Sealed: yes\r\n"
	encryptedMark = "X-Encrypted: yes\r\n"
	brokenMark    = "X-Broken: yes\r\n"
	panicMark     = "X-Panic: yes\r\n"
	statusField   = "X-Sealpost-Status: test\r\n"
)

func newRig(t testing.TB, change ...func(*Options)) *rig {
	t.Helper()
	p, err := bridgetest.StartProvider(bridgetest.ProviderOptions{Users: []bridgetest.User{{Address: alice, Password: "secret"}}})
	check(t, err)
	r := &rig{t: t, provider: p, path: filepath.Join(t.TempDir(), "sealpost.db")}
	r.sealing.Store(true)
	t.Cleanup(func() { _ = p.Close() })
	r.start(change...)
	t.Cleanup(func() { r.stop() })
	return r
}

// start opens the mirror on the database; stop ends it, as a restart would.
func (r *rig) start(change ...func(*Options)) {
	r.t.Helper()
	ctx := context.Background()
	db, err := store.Open(ctx, r.path, bytes.Repeat([]byte{7}, 32))
	check(r.t, err)
	at, err := upstream.ParseEndpoint(r.provider.IMAPURL())
	check(r.t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(r.provider.CAPEM())
	up := upstream.New(upstream.Options{IMAP: at, Username: alice, TLS: &tls.Config{RootCAs: roots},
		Password: func(context.Context) (string, error) { return "secret", nil }, Timeout: 10 * time.Second})
	o := Options{DB: db, Account: alice, Provider: up, Open: r.open, SpoolDir: filepath.Dir(r.path), Log: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&o)
	}
	r.Mirror, err = New(ctx, o)
	check(r.t, err)
	r.stop = sync.OnceFunc(func() {
		_ = up.Close()
		check(r.t, db.Close())
	})
}

// restart stops everything and starts on the same database.
func (r *rig) restart(change ...func(*Options)) {
	r.t.Helper()
	r.stop()
	r.start(change...)
}

// run runs the mirror until the result is called or the test ends.
func (r *rig) run() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	m := r.Mirror
	running.Go(func() { _ = m.Run(ctx) })
	end = sync.OnceFunc(func() { cancel(); running.Wait() })
	stop := r.stop
	r.stop = sync.OnceFunc(func() { end(); stop() })
	return end
}

type memory struct{ *bytes.Reader }

func (memory) Close() error  { return nil }
func blob(s string) memory   { return memory{bytes.NewReader([]byte(s))} }
func source(s string) memory { return blob(s) }
func read(s mimescan.Source) string {
	b, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size()))
	if err != nil {
		return "error: " + err.Error()
	}
	return string(b)
}

// open is the stand-in for decryption.
func (r *rig) open(_ context.Context, stored mimescan.Source) (*Opened, error) {
	r.opens.Add(1)
	head := make([]byte, min(stored.Size(), 200))
	_, _ = stored.ReadAt(head, 0)
	if r.unready.Load() || strings.Contains(string(head), brokenMark) {
		return nil, errors.New("not now")
	}
	if strings.Contains(string(head), panicMark) {
		panic("hostile")
	}
	o := &Opened{Kind: Clear}
	text := read(stored)
	for strings.HasPrefix(text, sealedMark) {
		o.Kind, text = Sealed, strings.TrimPrefix(text, sealedMark)
	}
	if strings.HasPrefix(text, encryptedMark) {
		o.Kind, o.Keywords, text = Encrypted, []imap.Flag{"$Encrypted"}, strings.TrimPrefix(text, encryptedMark)
	}
	o.Message = blob(statusField + text)
	hash := sha256.Sum256([]byte(read(stored)))
	o.Hash = hash[:]
	return o, nil
}

// seal does what the bridge does: append the copy, then remove the original.
func (r *rig) seal(ctx context.Context, mailbox string, validity uint32, uid imap.UID) error {
	r.seals.Add(1)
	if !r.sealing.Load() {
		return errors.New("sealing does not work")
	}
	original, err := r.Stored(ctx, mailbox, uid)
	if err != nil {
		return err
	}
	defer original.Close()
	if _, err := r.Append(ctx, mailbox, source(sealedMark+read(original)), nil); err != nil {
		return err
	}
	c, err := r.o.Provider.Acquire(ctx, mailbox)
	if err != nil {
		return err
	}
	defer r.o.Provider.Release(c)
	set := imap.UIDSetNum(uid)
	err = c.Store(set, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}, Silent: true}, nil).Close()
	if err != nil {
		return err
	}
	return c.UIDExpunge(set).Close()
}

func (r *rig) withSeal(o *Options) { o.Seal, o.HoldBack = r.seal, time.Minute }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func letter(subject, text string) string {
	return "From: bob@bravo.test\r\nTo: alice@alpha.test\r\nSubject: " + subject +
		"\r\nDate: Mon, 02 Nov 2026 10:00:00 +0100\r\n\r\n" + text + "\r\n"
}

func (r *rig) deliver(mailbox, message string, flags ...string) imap.UID {
	r.t.Helper()
	uid, err := r.provider.Deliver(alice, mailbox, []byte(message), flags...)
	check(r.t, err)
	return imap.UID(uid)
}

func (r *rig) mailbox(name string) *Mailbox {
	r.t.Helper()
	b, err := r.Mailbox(r.t.Context(), name)
	check(r.t, err)
	return b
}

// refreshed is a handle with the state of this moment.
func (r *rig) refreshed(name string) *Mailbox {
	r.t.Helper()
	b := r.mailbox(name)
	check(r.t, b.sync(r.t.Context()))
	return b
}

// await waits until the condition holds, looking at every change of the mailbox.
func (r *rig) await(b *Mailbox, what string, ok func(s *Snapshot) bool) *Snapshot {
	r.t.Helper()
	changed, end := b.Watch()
	defer end()
	limit := time.After(20 * time.Second)
	for {
		if s := b.Snapshot(); ok(s) {
			return s
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond):
		case <-limit:
			r.t.Fatalf("%s has not come about: %s", what, describe(b.Snapshot()))
		}
	}
}

func describe(s *Snapshot) string {
	var d strings.Builder
	fmt.Fprintf(&d, "validity %d, next %d:", s.UIDValidity, s.UIDNext)
	for _, m := range s.Messages {
		fmt.Fprintf(&d, " %d%v", m.UID, m.Flags)
	}
	return d.String()
}

func uidsOf(s *Snapshot) []imap.UID {
	uids := []imap.UID{}
	for _, m := range s.Messages {
		uids = append(uids, m.UID)
	}
	return uids
}

// atProvider is what the provider has, as a snapshot would show it.
func (r *rig) atProvider(mailbox string) (uids []imap.UID, flags map[imap.UID]string) {
	uids, flags = []imap.UID{}, map[imap.UID]string{}
	for _, s := range r.provider.Stored(alice) {
		if s.Mailbox == mailbox {
			uids = append(uids, imap.UID(s.UID))
			flags[imap.UID(s.UID)] = strings.Join(sorted(s.Flags), " ")
		}
	}
	return uids, flags
}
