package contacts

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/keydisc"
)

const bob = "bob@bravo.test"

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestListGetUsed(t *testing.T) {
	w := newWorld(t)
	w.imports("bob,alice")
	later := start.Add(time.Minute)
	w.must(w.book.Used(t.Context(), "Bob@Bravo.test", later))
	w.must(w.book.Used(t.Context(), bob, start)) // an older use does not turn the clock back
	w.must(w.book.Used(t.Context(), "stranger@alpha.test", later))
	w.lookup("nobody@alpha.test")
	list, err := w.book.List(t.Context())
	if err != nil || len(list) != 3 || list[0].Address != "alice@alpha.test" || list[1].Address != bob || list[2].Address != "robert@other.test" {
		t.Fatalf("%v %+v", err, list)
	}
	if !list[0].LastUsed.IsZero() || !list[1].LastUsed.Equal(later) || !list[1].FirstSeen.Equal(start) || !list[1].Ever {
		t.Errorf("%+v", list)
	}
	w.imports("bob2")
	c, ok, err := w.book.Get(t.Context(), "BOB@bravo.test")
	if err != nil || !ok || !c.LastUsed.Equal(later) || c.Certificate.Fingerprint() != certificate(t, "bob2").Fingerprint() {
		t.Errorf("%v %v %+v", err, ok, c)
	}
	if _, ok, err := w.book.Get(t.Context(), "nobody@alpha.test"); ok || err != nil {
		t.Error("a contact without certificate", err)
	}
	if _, _, err := w.book.Get(t.Context(), "nobody"); err == nil {
		t.Error("not an address")
	}
}

func TestForVerification(t *testing.T) {
	w := newWorld(t)
	w.must(w.step("learn bob@bravo.test bob"))
	got := w.book.ForVerification(t.Context(), "Bob@bravo.test")
	if len(got) != 1 || got[0].Trust != Pinned || got[0].Source != SourceAutocrypt {
		t.Fatalf("%+v", got)
	}
	w.must(w.step("learn bob@bravo.test bob2"))
	got = w.book.ForVerification(t.Context(), bob)
	if len(got) != 2 || got[0].Trust != Pinned || got[1].Trust != Changed || got[1].Source != SourceAutocrypt ||
		got[0].Certificate.Fingerprint() != certificate(t, "bob").Fingerprint() || got[1].Certificate.Fingerprint() != got[1].Pending {
		t.Errorf("%+v", got)
	}
	if got := w.book.ForVerification(t.Context(), "nobody"); got != nil {
		t.Errorf("%+v", got)
	}
}

// The network is asked about contacts, now and then, and never about strangers: mail must not be able to
// tell its sender that it has arrived.
func TestForVerificationAsksAboutContacts(t *testing.T) {
	const address = "carol@alpha.test"
	w := newWorld(t)
	ask := func(want int, known bool) {
		t.Helper()
		for range 3 { // a mailbox full of mail by one sender asks once
			if got := w.book.ForVerification(t.Context(), address); (len(got) > 0) != known {
				t.Errorf("%+v", got)
			}
		}
		if n := int(w.requests.Swap(0)); n != want {
			t.Errorf("asked %d times, not %d", n, want)
		}
	}
	w.must(w.answers(keydisc.WKD, address, "extended"))
	ask(0, false)
	w.must(w.answers(keydisc.WKD, address, "lapsed"))
	w.must(w.step("lookup carol@alpha.test = none unknown expired"))
	w.must(w.step("asked 1"))
	w.must(w.answers(keydisc.WKD, address, "500"))
	w.must(w.clock("61m"))
	ask(1, false)
	w.must(w.answers(keydisc.WKD, address, "extended"))
	w.must(w.clock("61m"))
	ask(1, true)
}

func TestLearnSwitchedOff(t *testing.T) {
	w := newWorld(t)
	w.book.options.UseAutocrypt = false
	w.must(w.step("learn bob@bravo.test bob"))
	if _, ok, _ := w.book.Get(t.Context(), bob); ok {
		t.Error("learned although Autocrypt is off")
	}
}

// A field from the future must not shut out all that come until then.
func TestLearnFromTheFuture(t *testing.T) {
	w := newWorld(t)
	w.must(w.step("learn bob@bravo.test bob 1000h"))
	w.must(w.step("clock +1h"))
	w.must(w.step("learn bob@bravo.test bob2"))
	w.must(w.step("lookup bob@bravo.test = bob autocrypt changed changed-bob2"))
}

func TestWithoutNetwork(t *testing.T) {
	w := newWorld(t)
	w.book.options.Finder = nil
	w.must(w.step("lookup bob@bravo.test = none unknown none-never"))
	w.imports("bob")
	w.must(w.step("lookup bob@bravo.test = bob import pinned usable"))
	if got := w.book.ForVerification(t.Context(), "alice@alpha.test"); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// No failure may look like "there is none".
func TestFailuresAreInconclusive(t *testing.T) {
	failed := func(name string, l Lookup) {
		t.Helper()
		if l.Conclusive || l.Usable == nil || l.Cause == nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
	w := newWorld(t)
	failed("no address", w.book.Lookup(t.Context(), "nobody"))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	failed("cancelled", w.book.Lookup(cancelled, bob))
	w.book.running.Wait()

	w = newWorld(t)
	w.must(w.answers(keydisc.WKD, bob, "bob"))
	w.must(w.book.options.DB.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`CREATE TRIGGER full BEFORE INSERT ON contact BEGIN SELECT raise(ABORT, 'full'); END`)
		return err
	}))
	failed("not stored", w.book.Lookup(t.Context(), bob))

	w.must(w.book.options.DB.Close())
	failed("no database", w.book.Lookup(t.Context(), bob))
	if l := w.book.Lookup(t.Context(), bob); !l.Ever {
		t.Error("without database it is not known that there was none")
	}
	_ = w.book.Close()
	w = newWorld(t)
	_ = w.book.Close()
	failed("closed", w.book.Lookup(t.Context(), bob))
}

// A damaged row is an error for its address, not a missing certificate.
func TestDamagedRow(t *testing.T) {
	w := newWorld(t)
	w.imports("bob")
	w.must(w.book.options.DB.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE contact SET certificate = x'00'`)
		return err
	}))
	if l := w.book.Lookup(t.Context(), bob); l.Usable == nil || l.Conclusive || !l.Ever {
		t.Errorf("%+v", l)
	}
	if _, err := w.book.List(t.Context()); err == nil {
		t.Error("listed")
	}
}

// Recipients of many messages at once share one search, and agree on the pin.
func TestConcurrentUse(t *testing.T) {
	w := newWorld(t)
	w.must(w.answers(keydisc.WKD, bob, "bob"))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if l := w.book.Lookup(t.Context(), bob); l.Usable != nil {
				t.Error(l.Usable, l.Cause)
			}
			_ = w.book.ForVerification(t.Context(), bob)
			if err := w.book.Used(t.Context(), bob, start); err != nil {
				t.Error(err)
			}
			if err := w.book.Learn(t.Context(), "alice@alpha.test", certificate(t, "alice"), SourceAutocrypt, start.Add(time.Duration(i))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if l := w.book.Lookup(t.Context(), bob); l.Usable != nil || l.Source != "wkd" {
		t.Errorf("%+v", l)
	}
}

// between does something before the second query.
type between struct {
	ready
	queries *int
	do      func()
}

func (b between) next() {
	if *b.queries++; *b.queries == 2 {
		b.do()
	}
}

func (b between) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	b.next()
	return b.ready.QueryContext(ctx, query, args...)
}

func (b between) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	b.next()
	return b.ready.QueryRowContext(ctx, query, args...)
}

// TestFindMeanwhileIsNoDefiniteNone: a search that finds a certificate while a lookup reads the database must not look to that as if it
// had found none: mail would go clear.
func TestFindMeanwhileIsNoDefiniteNone(t *testing.T) {
	w := newWorld(t)
	w.must(w.answers(keydisc.WKD, bob, "bob"))
	found := func() {
		if l := w.book.Lookup(t.Context(), bob); l.Usable != nil {
			t.Error(l.Usable)
		}
	}
	r, last, err := w.book.recallFrom(t.Context(), between{ready{w.book.options.DB}, new(int), found}, bob)
	if err != nil || r.pinned == nil && !last.concluded.IsZero() {
		t.Errorf("known %v, concluded %v, %v", r.pinned, last.concluded, err)
	}
}

func TestSearchIsShared(t *testing.T) {
	w := newWorld(t)
	first := w.book.search(bob)
	if second := w.book.search("Bob@bravo.test"); second != first {
		select {
		case <-first.done: // it was over before the second began
		default:
			t.Error("two searches for one address at once")
		}
	}
	<-first.done
}

func TestChangedErrorNamesBoth(t *testing.T) {
	err := error(&ChangedError{bob, "AA", "BB"})
	var changed *ChangedError
	if !errors.As(err, &changed) || err.Error() != "bob@bravo.test now shows the certificate BB instead of AA" {
		t.Error(err)
	}
}
