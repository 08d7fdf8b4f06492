package imapd

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeAccount is an account in memory.
type fakeAccount struct {
	mu        sync.Mutex
	limit     int64
	list      []mirror.MailboxInfo
	boxes     map[string]*fakeMailbox
	failure   error // of every change
	appending error
	objectIDs bool
}

func (a *fakeAccount) HasObjectIDs(context.Context) (bool, error) { return a.objectIDs, nil }

// ObjectIDs knows every message but the third, and a thread of all but the second.
func (b *fakeMailbox) ObjectIDs(_ context.Context, uids []imap.UID) (map[imap.UID]mirror.ObjectID, error) {
	ids := map[imap.UID]mirror.ObjectID{}
	for _, uid := range uids {
		id := mirror.ObjectID{Email: fmt.Sprintf("M%d", uid), Thread: "T1"}
		if uid == 2 {
			id.Thread = ""
		}
		if uid != 3 {
			ids[uid] = id
		}
	}
	return ids, nil
}

func newFakeAccount() *fakeAccount {
	a := &fakeAccount{limit: 10_000, boxes: map[string]*fakeMailbox{}}
	for _, name := range []string{"INBOX", "Sent", "Archive/2024", "Fünf"} {
		a.add(name)
	}
	a.list[0].Subscribed, a.list[2].Subscribed = true, true
	a.list[1].Attrs = []imap.MailboxAttr{imap.MailboxAttrSent}
	a.list = append(a.list, mirror.MailboxInfo{Name: "Archive", Delim: '/', Attrs: []imap.MailboxAttr{imap.MailboxAttrNoSelect}})
	return a
}

func (a *fakeAccount) add(name string) {
	a.list = append(a.list, mirror.MailboxInfo{Name: name, Delim: '/'})
	a.boxes[name] = &fakeMailbox{account: a, state: mirror.Snapshot{
		Name: name, UIDValidity: 7, UIDNext: 1, Version: 1,
		PermanentFlags: []imap.Flag{imap.FlagSeen, imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagDraft, imap.FlagWildcard},
	}, messages: map[imap.UID][]byte{}, offline: map[imap.UID]bool{}, digests: map[imap.UID]mirror.Digest{}, watchers: map[chan struct{}]bool{}}
}

func (a *fakeAccount) List(context.Context) ([]mirror.MailboxInfo, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.list), a.failure
}

func (a *fakeAccount) SpecialUse(_ context.Context, attr imap.MailboxAttr) (string, bool) {
	return "Archive/2024", attr == imap.MailboxAttrArchive
}

func (a *fakeAccount) Create(_ context.Context, name string, _ *imap.CreateOptions) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failure == nil {
		a.add(name)
		if a.objectIDs {
			a.boxes[name].state.ObjectID = "F2"
		}
	}
	return a.failure
}

func (a *fakeAccount) Delete(_ context.Context, name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.boxes[name] == nil {
		return mirror.ErrNoMailbox
	}
	delete(a.boxes, name)
	a.list = slices.DeleteFunc(a.list, func(m mirror.MailboxInfo) bool { return m.Name == name })
	return a.failure
}

func (a *fakeAccount) Rename(_ context.Context, name, to string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.list {
		if a.list[i].Name == name {
			a.list[i].Name = to
			return a.failure
		}
	}
	return mirror.ErrNoMailbox
}

func (a *fakeAccount) Subscribe(_ context.Context, name string, on bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.list {
		if a.list[i].Name == name {
			a.list[i].Subscribed = on
		}
	}
	return a.failure
}

func (a *fakeAccount) MailboxQuota(_ context.Context, mailbox string) ([]mirror.Quota, error) {
	if _, err := a.box(mailbox); err != nil {
		return nil, err
	}
	q, err := a.Quota(context.Background(), "User quota")
	return []mirror.Quota{*q}, err
}

func (a *fakeAccount) Quota(_ context.Context, root string) (*mirror.Quota, error) {
	if root != "User quota" {
		return nil, nil
	}
	return &mirror.Quota{Root: root, Resources: []mirror.QuotaResource{{Name: "MESSAGE", Usage: 3, Limit: 100}, {Name: "STORAGE", Usage: 10, Limit: 2048}}}, nil
}

func (a *fakeAccount) Mailbox(_ context.Context, name string) (mailbox, error) {
	if name == "panic" {
		panic("a mailbox that panics")
	}
	b, err := a.box(name)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (a *fakeAccount) box(name string) (*fakeMailbox, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b := a.boxes[name]; b != nil {
		return b, a.failure
	}
	return nil, mirror.ErrNoMailbox
}

func (a *fakeAccount) Append(_ context.Context, name string, r io.Reader, size int64, o *imap.AppendOptions) (*imap.AppendData, error) {
	if a.appending != nil {
		return nil, a.appending
	}
	b, err := a.box(name)
	if err != nil {
		return nil, err
	}
	message, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if int64(len(message)) != size {
		return nil, &bridge.Refusal{Reason: bridge.ReasonLocal, Text: "cut short", Err: io.ErrUnexpectedEOF}
	}
	return &imap.AppendData{UID: b.put(string(message), o.Flags...), UIDValidity: 7}, nil
}

func (a *fakeAccount) MaxMessageSize() int64 { return a.limit }

// fakeMailbox is a mailbox in memory.
type fakeMailbox struct {
	account  *fakeAccount
	mu       sync.Mutex
	state    mirror.Snapshot
	messages map[imap.UID][]byte
	offline  map[imap.UID]bool
	watchers map[chan struct{}]bool
	searched mirror.Criterion
	digests  map[imap.UID]mirror.Digest
	found    []imap.UID
	refresh  func()
	storeErr error
	recent   imap.UID // messages from here on are
}

// put adds a message.
func (b *fakeMailbox) put(message string, flags ...imap.Flag) imap.UID {
	b.mu.Lock()
	uid := b.state.UIDNext
	b.mu.Unlock()
	b.putAt(uid, message, flags...)
	return uid
}

func (b *fakeMailbox) putAt(uid imap.UID, message string, flags ...imap.Flag) {
	b.change(func(s *mirror.Snapshot) {
		s.UIDNext = max(s.UIDNext, uid+1)
		b.messages[uid] = []byte(message)
		s.Messages = append(s.Messages, mirror.Message{UID: uid, Flags: flags, InternalDate: time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC), Size: -1})
		slices.SortFunc(s.Messages, func(a, b mirror.Message) int { return int(int64(a.UID) - int64(b.UID)) })
	})
}

func (b *fakeMailbox) remove(uids ...imap.UID) {
	b.change(func(s *mirror.Snapshot) {
		s.Messages = slices.DeleteFunc(s.Messages, func(m mirror.Message) bool { return slices.Contains(uids, m.UID) })
	})
}

// change makes a new snapshot and tells the watchers.
func (b *fakeMailbox) change(f func(s *mirror.Snapshot)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state.Messages = slices.Clone(b.state.Messages)
	b.state.Version++
	f(&b.state)
	for w := range b.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

func (b *fakeMailbox) Snapshot() *mirror.Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.state
	return &s
}

func (b *fakeMailbox) Watch() (<-chan struct{}, func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := make(chan struct{}, 1)
	b.watchers[w] = true
	return w, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.watchers, w)
	}
}

func (b *fakeMailbox) Refresh(context.Context) error {
	if b.refresh == nil {
		return mirror.ErrOffline
	}
	b.refresh()
	return nil
}

func (b *fakeMailbox) Recent(context.Context, bool) (from, to imap.UID, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if from, to = b.recent, b.state.UIDNext; from == 0 {
		from = to
	}
	return from, to, nil
}

type fakeBlob struct{ *bytes.Reader }

func (fakeBlob) Close() error { return nil }

func (b *fakeMailbox) Content(_ context.Context, uid imap.UID) (*mirror.Content, error) {
	b.mu.Lock()
	message, offline := b.messages[uid], b.offline[uid]
	b.mu.Unlock()
	if offline {
		return nil, mirror.ErrOffline
	}
	root, err := mimescan.Scan(bytes.NewReader(message))
	if err != nil {
		return nil, err
	}
	return &mirror.Content{Structure: root, Header: message[:root.Header.End], Message: fakeBlob{bytes.NewReader(message)}}, nil
}

func (b *fakeMailbox) Summaries(ctx context.Context, uids []imap.UID, f func(imap.UID, *mirror.Summary, error) error) error {
	for _, uid := range uids {
		var s *mirror.Summary
		c, err := b.Content(ctx, uid)
		if err == nil {
			s, err = mirror.Summarise(c.Header, c.Message.Size(), c.Kind, c.Structure)
		}
		if err := f(uid, s, err); err != nil {
			return err
		}
	}
	return nil
}

func (b *fakeMailbox) Store(_ context.Context, uids imap.UIDSet, stored *imap.StoreFlags) error {
	if b.storeErr != nil {
		return b.storeErr
	}
	b.change(func(s *mirror.Snapshot) {
		for i, m := range s.Messages {
			if uids.Contains(m.UID) {
				s.Messages[i].Flags = expected(m.Flags, stored)
			}
		}
	})
	return nil
}

func (b *fakeMailbox) Expunge(_ context.Context, uids *imap.UIDSet) error {
	if b.storeErr != nil {
		return b.storeErr
	}
	b.change(func(s *mirror.Snapshot) {
		s.Messages = slices.DeleteFunc(s.Messages, func(m mirror.Message) bool {
			return hasFlag(m.Flags, imap.FlagDeleted) && (uids == nil || uids.Contains(m.UID))
		})
	})
	return nil
}

func (b *fakeMailbox) Copy(_ context.Context, uids imap.UIDSet, to string) (*imap.CopyData, error) {
	dest, err := b.account.box(to)
	if err != nil {
		return nil, err
	}
	data := &imap.CopyData{UIDValidity: 7}
	for _, m := range b.Snapshot().Messages {
		if uids.Contains(m.UID) {
			data.SourceUIDs.AddNum(m.UID)
			data.DestUIDs.AddNum(dest.put(string(b.messages[m.UID]), m.Flags...))
		}
	}
	return data, nil
}

func (b *fakeMailbox) Move(ctx context.Context, uids imap.UIDSet, to string) (*imap.CopyData, error) {
	data, err := b.Copy(ctx, uids, to)
	if err != nil {
		return nil, err
	}
	moved, _ := data.SourceUIDs.Nums()
	b.remove(moved...)
	return data, nil
}

func (b *fakeMailbox) Search(_ context.Context, c mirror.Criterion, _ []imap.UID) ([]imap.UID, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.searched = c
	return b.found, nil
}

// Digests are those given with "@ digest", else of the UID alone.
func (b *fakeMailbox) Digests(_ context.Context, uids []imap.UID, _ mirror.DigestPart) ([]mirror.Digest, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []mirror.Digest
	for _, uid := range uids {
		d := b.digests[uid]
		d.UID = uid
		all = append(all, d)
	}
	return all, nil
}

// rig is a server on the loopback with one account.
type rig struct {
	t       testing.TB
	account *fakeAccount
	server  *Server
	plain   string // addresses
	secure  string
	tls     *tls.Config // of a client
}

func newRig(t testing.TB, insecure bool) *rig {
	t.Helper()
	certificate, pool := selfSigned(t)
	r := &rig{t: t, account: newFakeAccount(), tls: &tls.Config{RootCAs: pool, ServerName: "localhost"}}
	r.server = newServer(Options{
		TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}, AllowInsecureAuth: insecure, Log: slog.New(slog.NewTextHandler(logTo{t}, nil)),
	}, func(_ context.Context, username, password string) (account, error) {
		if username != "alice" || password != `pass "word\` {
			return nil, bridge.ErrCredentials
		}
		return r.account, nil
	})
	var wg sync.WaitGroup
	for i, address := range []*string{&r.plain, &r.secure} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		*address = l.Addr().String()
		serve := []func(net.Listener) error{r.server.Serve, r.server.ServeTLS}[i]
		wg.Go(func() {
			if err := serve(l); err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.server.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		wg.Wait()
	})
	return r
}

// logTo writes the server's log to the test's.
type logTo struct{ testing.TB }

func (l logTo) Write(p []byte) (int, error) {
	line := strings.TrimSpace(string(p))
	for _, secret := range []string{"pass ", "canary"} {
		if strings.Contains(line, secret) {
			l.Errorf("logged: %s", line)
		}
	}
	return len(p), nil
}

func selfSigned(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

var errDisk = errors.New("disk on fire")
