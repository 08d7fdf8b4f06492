package export

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/emersion/go-imap/v2"
)

func TestSearch(t *testing.T) {
	r := newRig(t)
	r.deliverAll()
	found, err := r.desk(noon).Search(t.Context(), Request{Query: "from:counsel", Custodians: []string{"BOB@bravo.test"}}, quiet)
	check(t, err)
	if len(found.Matching) != 1 || found.Matching[0].Subject != "the harbour" || found.Matching[0].Custodian != bob || found.Accounting.Total.Held != 7 {
		t.Errorf("%+v", found)
	}
	found, err = r.desk(noon).Search(t.Context(), Request{Query: "nobody", Custodians: []string{alice}}, quiet)
	check(t, err)
	if len(found.Matching) != 0 || len(found.Undecided) != 2 || !found.Accounting.NeedsAttention() {
		t.Errorf("%+v", found) // what is locked, and winmail.dat, may say it
	}
	if _, err := r.desk(noon).Search(t.Context(), Request{Query: "("}, quiet); !errors.Is(err, ErrRequest) {
		t.Error(err)
	}
}

func TestCount(t *testing.T) {
	r := newRig(t)
	r.deliverAll()
	counted, err := r.desk(noon).Count(t.Context(), Request{Query: "harbour OR advice", Since: "2026-01-06", Until: "2026-01-08", Timezone: "Europe/Berlin"}, 3, quiet)
	check(t, err)
	want := Numbers{Held: 15, OutOfRange: 5, Undecided: 2, Matching: 8}
	if counted.Total != want || fmt.Sprint(counted.Terms) != `[{"harbour" [4 4]} {"advice" [1 1]}]` {
		t.Errorf("%+v %v", counted.Total, counted.Terms)
	}
	again, err := r.desk(noon).Count(t.Context(), Request{Query: "harbour OR advice", Since: "2026-01-06", Until: "2026-01-08", Timezone: "Europe/Berlin"}, 3, quiet)
	check(t, err)
	if len(counted.Sample) != 3 || !slices.Equal(counted.Sample, again.Sample) {
		t.Errorf("%+v", counted.Sample)
	}
}

// What has arrived is found at once; without the provider what is known is, and that is said.
func TestFreshAndStale(t *testing.T) {
	r := newRig(t)
	for n := 1; n <= 3; n++ {
		r.deliver(alice, "INBOX", fmt.Sprintf("Subject: harbour %d\n\nx", n))
		found, err := r.desk(noon).Search(t.Context(), Request{Query: "harbour"}, quiet)
		check(t, err)
		if len(found.Matching) != n || found.Accounting.NeedsAttention() {
			t.Errorf("%d: %+v", n, found)
		}
	}
	check(t, r.provider.Close())
	found, err := r.desk(noon).Search(t.Context(), Request{Query: "harbour", Custodians: []string{alice}}, quiet)
	check(t, err)
	if len(found.Matching) != 3 || !slices.Contains(found.Accounting.Stale, alice+" INBOX") || !found.Accounting.NeedsAttention() {
		t.Errorf("%+v %+v", found, found.Accounting)
	}
}

// TestMovedWhileAsked: a client files a message in a mailbox that was looked at already.
func TestMovedWhileAsked(t *testing.T) {
	r := newRig(t)
	r.deliver(alice, "Archive", note("Harbour old", "1"))
	r.deliver(alice, "INBOX", note("Harbour new", "2"))
	moved := false
	f, err := r.desk(noon).Search(t.Context(), Request{Query: "harbour", Custodians: []string{alice}}, func(mailbox string, done, total int) {
		if mailbox == "Archive" && done == total && !moved {
			moved = true
			_, err := r.box("INBOX").Move(t.Context(), imap.UIDSetNum(1), "Archive")
			check(t, err)
		}
	})
	check(t, err)
	if len(f.Matching)+len(f.Undecided) != 2 {
		t.Errorf("%+v; held %+v stale %v; at the provider: %q", f.Matching, f.Accounting.Total, f.Accounting.Stale, r.atProvider())
	}
}
