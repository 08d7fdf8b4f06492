package contacts

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/keydisc"
)

// countingFinder never finds anything.
type countingFinder struct {
	asked      []string
	conclusive bool
}

func (f *countingFinder) Find(_ context.Context, address string) keydisc.Answer {
	f.asked = append(f.asked, address)
	return keydisc.Answer{Address: address, Conclusive: f.conclusive}
}

func (f *countingFinder) Refresh(context.Context, keydisc.Fingerprint) ([]keydisc.Found, error) {
	return nil, nil
}

func (f *countingFinder) List(context.Context, keydisc.ListSource) (*keydisc.List, error) {
	return nil, fmt.Errorf("there is none")
}

// crowd is a book with many contacts who were written to.
func crowd(t *testing.T, size int) (*world, *countingFinder) {
	t.Helper()
	w, f := newWorld(t), &countingFinder{conclusive: true}
	w.book.options.Finder = f
	w.book.SetLists(nil)
	var more []string
	for i := range size {
		more = append(more, fmt.Sprintf("c%d@bravo.test", i))
	}
	w.must(w.book.options.DB.Write(t.Context(), func(tx *sql.Tx) error {
		for _, address := range more {
			r := record{address: address}
			r.pin(certificate(t, "bob"), SourceImport, start)
			if err := r.save(t.Context(), tx); err != nil {
				return err
			}
		}
		return nil
	}))
	return w, f
}

// pass lets hours pass, twenty minutes at a time, and returns how many were asked about in each.
func (w *world) pass(f *countingFinder, hours int) (each []int) {
	w.t.Helper()
	for range hours {
		before := len(f.asked)
		w.tick(3, 20*time.Minute)
		each = append(each, len(f.asked)-before)
	}
	return each
}

func (w *world) tick(times int, span time.Duration) {
	w.t.Helper()
	for range times {
		w.now.Add(int64(span))
		w.must(w.book.Tend(w.t.Context(), &w.tending))
	}
}

// All are looked at again before their answers are stale, each once a day.
func TestLooksAreSpread(t *testing.T) {
	const size = 20
	w, f := crowd(t, size)
	w.pass(f, 24)
	f.asked = nil
	each := w.pass(f, 24)
	if got := len(unique(f.asked)); got != size || len(f.asked) > 2*size {
		t.Errorf("%d of %d were looked at within a day, in each hour %v", got, size, each)
	}
}

// However many are due, a few are looked at in ten minutes.
func TestLooksAreFew(t *testing.T) {
	w, f := crowd(t, 40)
	w.now.Add(int64(24 * time.Hour))
	w.tick(60, 10*time.Second)
	if got := len(f.asked); got < 10 || got > 31 || got != len(unique(f.asked)) {
		t.Errorf("%d looks at %d contacts", got, len(unique(f.asked)))
	}
}

func unique(all []string) []string {
	all = slices.Clone(all)
	slices.Sort(all)
	return slices.Compact(all)
}

// Without answers the looks become rare; after sleep, or as soon as there is an answer, they go on as before.
func TestLooksBackOff(t *testing.T) {
	w, f := crowd(t, 40)
	f.conclusive = false
	w.now.Add(int64(24 * time.Hour))
	w.tick(6*60, 10*time.Second)
	if n := len(f.asked); n < 5 || n > 8 { // they began 20 s apart
		t.Errorf("%d looks in an hour without any answer", n)
	}
	f.asked, f.conclusive = nil, true
	w.now.Add(int64(8 * time.Hour))
	w.tick(60, 10*time.Second)
	if n := len(f.asked); n < 10 {
		t.Errorf("%d looks in ten minutes after sleep", n)
	}
}

// What was asked is remembered over restarts: they do not ask all again.
func TestLooksSurviveRestarts(t *testing.T) {
	w, f := crowd(t, 3)
	w.pass(f, 2)
	f.asked = nil
	w.tending = Tending{}
	if w.pass(f, 8); len(f.asked) > 0 {
		t.Errorf("asked again about %v", f.asked)
	}
}

func TestReminder(t *testing.T) {
	w := newWorld(t)
	var log bytes.Buffer
	w.book.options.Log = slog.New(slog.NewTextHandler(&log, nil))
	w.imports("bob,alice")
	w.must(w.step("verify bob@bravo.test bob"))
	w.must(w.step("block alice@alpha.test"))
	reminded := func() int { return strings.Count(log.String(), "compare again") }
	for _, c := range []struct {
		pass      time.Duration
		reminders int
		due       []string
	}{
		{364 * 24 * time.Hour, 0, nil}, {25 * time.Hour, 1, []string{bob}}, {time.Hour, 1, []string{bob}}, {24 * time.Hour, 2, []string{bob}},
	} {
		w.now.Add(int64(c.pass))
		w.must(w.book.remind(t.Context()))
		w.must(w.book.remind(t.Context()))
		due, err := w.book.VerifyAgain(t.Context())
		if err != nil || !slices.Equal(due, c.due) || reminded() != c.reminders {
			t.Errorf("after %s: %v %v, %d reminders, not %d", c.pass, due, err, reminded(), c.reminders)
		}
	}
	contact, _, err := w.book.Get(t.Context(), bob)
	if err != nil || !contact.VerifyBy.Equal(start.Add(365*24*time.Hour)) {
		t.Errorf("%s %v", contact.VerifyBy, err)
	}
	w.book.options.VerifyEvery = 0
	w.now.Add(int64(48 * time.Hour))
	if due, err := w.book.VerifyAgain(t.Context()); due != nil || err != nil || w.book.remind(t.Context()) != nil || reminded() != 2 {
		t.Errorf("switched off: %v %v", due, err)
	}
	if contact, _, _ := w.book.Get(t.Context(), bob); !contact.VerifyBy.IsZero() || contact.Trust != Verified {
		t.Errorf("%+v", contact)
	}
}

// The keywords of a contact's mail follow a list: when it begins to vouch, when it lapses, and when it leaves the configuration.
func TestListsChangeStanding(t *testing.T) {
	w := newWorld(t)
	var told atomic.Int64
	w.book.options.Changed = func() { told.Add(1) }
	w.must(w.step("learn bob@bravo.test bob"))
	follows := func(what string, trust Trust, voucher string) {
		t.Helper()
		changes, err := w.book.Changes(t.Context())
		w.must(err)
		if len(changes) != 1 || changes[0].Address != bob || told.Swap(0) == 0 {
			t.Errorf("%s: changes %v", what, changes)
		}
		for _, c := range changes {
			w.must(w.book.Settled(t.Context(), c))
		}
		c, _, err := w.book.Get(t.Context(), bob)
		if err != nil || c.Trust != trust || c.VouchedBy != voucher {
			t.Errorf("%s: %+v %v", what, c, err)
		}
	}
	follows("learnt", Pinned, "")
	w.must(w.step("list bob"))
	follows("listed", Verified, staff(t).URL)
	w.must(w.step("list bob"))
	if changes, _ := w.book.Changes(t.Context()); len(changes) > 0 {
		t.Errorf("the same list again: %v", changes)
	}
	w.now.Add(int64(staff(t).MaxAge))
	w.list = nil
	w.must(w.book.FollowLists(t.Context()))
	follows("lapsed", Pinned, "")
	w.must(w.step("list bob"))
	follows("signed again", Verified, staff(t).URL)
	w.book.SetLists(nil)
	w.must(w.book.FollowLists(t.Context()))
	follows("no longer configured", Pinned, "")
	w.book.SetLists([]List{staff(t)})
	if c, _, _ := w.book.Get(t.Context(), bob); c.Trust != Pinned {
		t.Error("what it said is still known")
	}
}

// As long as nobody knows what a list says there is no definite answer about those whom it may name.
func TestListIsAwaited(t *testing.T) {
	w := newWorld(t)
	w.must(w.step("lookup bob@bravo.test = none unknown none-never"))
	another := staff(t)
	another.URL = "https://bravo.test/another"
	w.book.SetLists([]List{another})
	w.must(w.step("lookup bob@bravo.test = none unknown inconclusive-never"))
	w.must(w.step("lookup alice@alpha.test = none unknown none-never"))
	w.must(w.step("import bob2 = bob@bravo.test"))
	w.must(w.step("lookup bob@bravo.test = bob2 import pinned usable"))
}

// What a list said while the organisation could speak about more domains, or by another certificate of it, counts no more.
func TestListsAreHeldToTheConfiguration(t *testing.T) {
	for name, change := range map[string]func(*List){
		"domains":   func(l *List) { l.Domains = []string{"alpha.test"} },
		"authority": func(l *List) { l.Authority = certificate(t, "alice") },
		"max_age":   func(l *List) { l.MaxAge = time.Minute },
	} {
		w := newWorld(t)
		w.must(w.step("list bob"))
		w.must(w.step("lookup bob@bravo.test = bob list verified usable"))
		w.now.Add(int64(time.Hour))
		changed := staff(t)
		change(&changed)
		w.book.SetLists([]List{changed})
		if c, _, err := w.book.Get(t.Context(), bob); err != nil || c.Trust != Pinned {
			t.Errorf("%s: %+v %v", name, c, err)
		}
	}
}
