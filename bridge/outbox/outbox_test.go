package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/bridge/bridgetest/database"
	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/bridge/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is an outbox with a provider that answers as told.
type rig struct {
	*Outbox
	mu      sync.Mutex
	answers []error // to the next deliveries; then nil
	sent    []Message
	bodies  [][]byte
	bounces []Message
	refuse  error // what Undeliverable returns
	ctx     context.Context
}

func openDB(t *testing.T, path string) *store.DB {
	t.Helper()
	db, err := database.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func newRig(t *testing.T, db *store.DB) *rig {
	t.Helper()
	r := &rig{ctx: t.Context()}
	o, err := open(Options{DB: db, Undeliverable: r.bounced, Lifetime: time.Hour, Log: quietLog}, 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	o.submit = r.deliver
	r.Outbox = o
	return r
}

func newTestRig(t *testing.T) *rig {
	db := openDB(t, filepath.Join(t.TempDir(), "o.db"))
	t.Cleanup(func() { _ = db.Close() })
	return newRig(t, db)
}

func (r *rig) deliver(_ context.Context, m Message, b *body) error {
	content, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent, r.bodies = append(r.sent, m), append(r.bodies, content)
	if len(r.answers) == 0 {
		return nil
	}
	answer := r.answers[0]
	r.answers = r.answers[1:]
	return answer
}

func (r *rig) bounced(_ context.Context, m Message, _ error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bounces = append(r.bounces, m)
	return r.refuse
}

func (r *rig) counts() (sent, bounces int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sent), len(r.bounces)
}

// start runs the outbox until the result is called.
func (r *rig) start(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func (r *rig) add(t *testing.T, content []byte, to ...string) Message {
	t.Helper()
	m := Message{Account: "alice@alpha.test", MessageID: "<1@alpha.test>", From: "alice@alpha.test", To: to, NextTry: time.Now()}
	if err := r.Add(t.Context(), Item{m, bytes.NewReader(content)}); err != nil {
		t.Fatal(err)
	}
	all := r.list(t)
	return all[len(all)-1]
}

func (r *rig) list(t *testing.T) []Message {
	t.Helper()
	all, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("never happened: " + what)
		}
	}
}

func (r *rig) empty(t *testing.T) func() bool {
	return func() bool {
		n, err := r.Len(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n == 0
	}
}

func rejected(code int) error {
	return &upstream.Error{Kind: upstream.KindRejected, Op: "submit", Host: "provider.test", Code: code}
}

func temporary() error {
	return &upstream.Error{Kind: upstream.KindTemporary, Op: "submit", Host: "provider.test", Code: 451}
}

func TestDeliveredOnceAndForgotten(t *testing.T) {
	r := newTestRig(t)
	defer r.start(t)()
	large := bytes.Repeat([]byte("0123456789abcdef"), 50_000) // more than three chunks
	r.add(t, large, "bob@bravo.test")
	r.add(t, nil, "carol@charlie.test")
	eventually(t, "both delivered", r.empty(t))
	if sent, bounces := r.counts(); sent != 2 || bounces != 0 {
		t.Errorf("%d deliveries, %d bounces", sent, bounces)
	}
	sizes := map[int]bool{len(r.bodies[0]): true, len(r.bodies[1]): true}
	if !sizes[0] || !sizes[len(large)] {
		t.Errorf("bodies of %v bytes", sizes)
	}
	if rows := countBodies(t, r); rows != 0 {
		t.Errorf("%d chunks are left", rows)
	}
}

func countBodies(t *testing.T, r *rig) (n int) {
	t.Helper()
	if err := r.options.DB.Read().QueryRow(`SELECT count(*) FROM outbox_body`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// What an answer of the provider leads to: another try, a bounce, or one of each.
func TestAnswers(t *testing.T) {
	both := []string{"bob@bravo.test", "carol@charlie.test"}
	some := &upstream.RecipientError{Replies: map[string]*upstream.Error{"bob@bravo.test": rejected(550).(*upstream.Error)}}
	later := &upstream.RecipientError{Replies: map[string]*upstream.Error{"bob@bravo.test": temporary().(*upstream.Error)}}
	for _, c := range []struct {
		name    string
		answer  error
		bounced []string
		waits   []string
		second  []string // recipients of the second delivery, if there is one at once
	}{
		{"rejected body", rejected(554), both, nil, nil},
		{"temporary", temporary(), nil, both, nil},
		{"offline", &upstream.Error{Kind: upstream.KindUnreachable, Op: "connect"}, nil, both, nil},
		{"wrong password", &upstream.Error{Kind: upstream.KindAuth, Op: "login", Code: 535}, nil, both, nil},
		{"turned away at the door", &upstream.Error{Kind: upstream.KindRejected, Op: "connect", Code: 554}, nil, both, nil},
		{"unknown", errors.New("strange"), nil, both, nil},
		{"one recipient refused", some, both[:1], nil, both[1:]},
		{"one recipient deferred", later, nil, both, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newTestRig(t)
			r.answers = []error{c.answer}
			defer r.start(t)()
			r.add(t, []byte("body\r\n"), both...)
			eventually(t, "the plan is made", func() bool {
				all := r.list(t)
				return (len(all) == 0 && c.waits == nil) || (len(all) == 1 && all[0].Attempts == 1 && c.waits != nil)
			})
			if c.waits != nil {
				m := r.list(t)[0]
				if !reflect.DeepEqual(m.To, c.waits) || m.LastError == "" || time.Until(m.NextTry) < 30*time.Second {
					t.Errorf("waiting: %+v", m)
				}
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if (len(r.bounces) == 1) != (c.bounced != nil) || (c.bounced != nil && !reflect.DeepEqual(r.bounces[0].To, c.bounced)) {
				t.Errorf("bounces: %+v", r.bounces)
			}
			if c.second != nil && (len(r.sent) != 2 || !reflect.DeepEqual(r.sent[1].To, c.second)) {
				t.Errorf("sent: %+v", r.sent)
			}
		})
	}
}

// What the client asked for is asked of the provider, whatever the addresses look like.
func TestKeepsSMTPUTF8(t *testing.T) {
	r := newTestRig(t)
	defer r.start(t)()
	m := Message{Account: "alice@alpha.test", From: "alice@alpha.test", To: []string{"bob@bravo.test"}, UTF8: true, NextTry: time.Now()}
	if err := r.Add(t.Context(), Item{m, bytes.NewReader(nil)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "delivered", r.empty(t))
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sent) != 1 || !r.sent[0].UTF8 {
		t.Errorf("%+v", r.sent)
	}
}

func TestRetryMakesItDue(t *testing.T) {
	r := newTestRig(t)
	r.answers = []error{temporary()}
	defer r.start(t)()
	r.add(t, []byte("x\r\n"), "bob@bravo.test")
	eventually(t, "a failed try", func() bool { all := r.list(t); return len(all) == 1 && all[0].Attempts == 1 })
	if err := r.Retry(t.Context(), r.list(t)[0].ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "delivered", r.empty(t))
	if err := r.Retry(t.Context(), 99); !errors.Is(err, ErrNotQueued) {
		t.Errorf("retry of nothing: %v", err)
	}
}

func TestGivenUpAfterItsLifetime(t *testing.T) {
	r := newTestRig(t)
	r.answers = []error{temporary()}
	r.now = func() time.Time { return time.Now().Add(-time.Second) }
	m := Message{Account: "a@b", From: "a@b", To: []string{"c@d"}, Queued: time.Now().Add(-2 * time.Hour), NextTry: time.Now().Add(-time.Minute)}
	if err := r.Add(t.Context(), Item{m, bytes.NewReader(nil)}); err != nil {
		t.Fatal(err)
	}
	defer r.start(t)()
	eventually(t, "given up", r.empty(t))
	if sent, bounces := r.counts(); sent != 1 || bounces != 1 {
		t.Errorf("%d tries, %d bounces", sent, bounces)
	}
}

// The message stays until the bounce is safe, and is not sent again meanwhile.
func TestBounceThatFails(t *testing.T) {
	r := newTestRig(t)
	r.answers = []error{rejected(550)}
	r.refuse = errors.New("INBOX is full")
	defer r.start(t)()
	m := r.add(t, []byte("x\r\n"), "bob@bravo.test")
	eventually(t, "a failed bounce", func() bool { all := r.list(t); return len(all) == 1 && all[0].Attempts == 2 })
	r.mu.Lock()
	r.refuse = nil
	r.mu.Unlock()
	if err := r.Retry(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "bounced", r.empty(t))
	if sent, bounces := r.counts(); sent != 1 || bounces != 2 {
		t.Errorf("%d deliveries, %d bounces", sent, bounces)
	}
}

// A process that ends in the middle of a delivery leaves a job that counts as running.
func TestSurvivesACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db := openDB(t, path)
	first := newRig(t, db)
	first.add(t, []byte("x\r\n"), "bob@bravo.test")
	if _, err := db.Writer().Exec(`UPDATE river_job SET state = 'running', attempted_at = CURRENT_TIMESTAMP`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openDB(t, path)
	defer db.Close()
	second := newRig(t, db)
	defer second.start(t)()
	eventually(t, "delivered by the next process", second.empty(t))
	if sent, _ := second.counts(); sent != 1 {
		t.Errorf("%d deliveries", sent)
	}
}

// Other writers and the queue share one connection without starving each other.
func TestBesideOtherWriters(t *testing.T) {
	r := newTestRig(t)
	defer r.start(t)()
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- keepWriting(r.options.DB.Writer(), stop) }()
	for i := range 20 {
		r.add(t, fmt.Appendf(nil, "%d\r\n", i), "bob@bravo.test")
	}
	eventually(t, "all delivered", r.empty(t))
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if sent, _ := r.counts(); sent != 20 {
		t.Errorf("%d deliveries", sent)
	}
}

func TestDelay(t *testing.T) {
	for attempts, want := range map[int]time.Duration{1: time.Minute, 2: 2 * time.Minute, 6: 32 * time.Minute, 7: time.Hour, 1000: time.Hour} {
		if got := delay(attempts); got != want {
			t.Errorf("delay after %d attempts: %s, want %s", attempts, got, want)
		}
	}
}
