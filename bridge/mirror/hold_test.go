package mirror

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
)

func TestNewClearMailIsSealedBeforeItIsShown(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Seal, o.HoldBack = nil, time.Minute })
	old := r.deliver("INBOX", letter("old", ""))
	r.refreshed("INBOX")
	r.restart(r.withSeal)
	b := r.refreshed("INBOX")
	r.run()
	seen := map[imap.UID]bool{}
	changed, end := b.Watch()
	defer end()
	clear1 := r.deliver("INBOX", letter("clear", "one"))
	cipher := r.deliver("INBOX", encryptedMark+letter("cipher", ""))
	clear2 := r.deliver("INBOX", letter("clear", "two"))
	limit := time.After(20 * time.Second)
	for {
		s := b.Snapshot()
		for _, uid := range uidsOf(s) {
			seen[uid] = true
		}
		for uid := range seen {
			if !slices.Contains(uidsOf(s), uid) {
				t.Fatalf("%d was shown and is gone: %s", uid, describe(s))
			}
			if uid >= s.UIDNext {
				t.Fatalf("UIDNEXT is not beyond %d: %s", uid, describe(s))
			}
		}
		if len(s.Messages) == 4 {
			break
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("not sealed: %s", describe(s))
		}
	}
	if seen[clear1] || seen[clear2] || !seen[old] || !seen[cipher] {
		t.Errorf("shown: %v", seen)
	}
	r.compare(t, "INBOX")
	if n := r.seals.Load(); n != 2 {
		t.Errorf("%d messages were sealed", n)
	}
}

func TestFailedSealingShowsTheOriginal(t *testing.T) {
	r := newRig(t, r0Seal)
	r.sealing.Store(false)
	r.restart(r.withSeal)
	b := r.refreshed("INBOX")
	r.run()
	uid := r.deliver("INBOX", letter("clear", ""))
	r.await(b, "the original", func(s *Snapshot) bool { return slices.Equal(uidsOf(s), []imap.UID{uid}) })
	r.sealing.Store(true)
	// The time for another attempt has come.
	_, err := r.o.DB.Writer().Exec(`UPDATE message SET retry = 0`)
	check(t, err)
	r.wake.seal.set()
	r.await(b, "the sealed copy", func(s *Snapshot) bool { return len(s.Messages) == 1 && s.Messages[0].UID > uid })
}

func r0Seal(o *Options) {
	o.Seal = func(context.Context, string, uint32, imap.UID) error { return errors.New("never") }
}

func TestHoldBackEndsAndOutlivesARestart(t *testing.T) {
	r := newRig(t, r0Seal)
	r.refreshed("INBOX")
	r.restart(r.withSeal)
	r.refreshed("INBOX")
	uid := r.deliver("INBOX", letter("clear", ""))
	if s := r.refreshed("INBOX").Snapshot(); len(s.Messages) != 0 || s.UIDNext != uid {
		t.Fatalf("shown at once: %s", describe(s))
	}
	r.restart(r.withSeal)
	b := r.mailbox("INBOX")
	if s := b.Snapshot(); len(s.Messages) != 0 || s.UIDNext != uid {
		t.Fatalf("shown after a restart: %s", describe(s))
	}
	r.o.HoldBack = time.Nanosecond
	_, err := b.tend(t.Context())
	check(t, err)
	if s := b.Snapshot(); !slices.Equal(uidsOf(s), []imap.UID{uid}) || s.UIDNext <= uid {
		t.Fatalf("not shown when it is time: %s", describe(s))
	}
	r.restart(r.withSeal)
	if s := r.mailbox("INBOX").Snapshot(); !slices.Equal(uidsOf(s), []imap.UID{uid}) {
		t.Errorf("hidden again: %s", describe(s))
	}
}

func TestWhatTheClientStoresIsShownAtOnce(t *testing.T) {
	r := newRig(t, r0Seal)
	r.restart(r.withSeal)
	r.refreshed("Drafts")
	b := r.refreshed("INBOX")
	data, err := r.Append(t.Context(), "Drafts", source(letter("clear", "")), nil)
	check(t, err)
	drafts := r.mailbox("Drafts")
	if got := uidsOf(drafts.Snapshot()); !slices.Equal(got, []imap.UID{data.UID}) {
		t.Errorf("drafts: %v", got)
	}
	copied, err := drafts.Copy(t.Context(), imap.UIDSetNum(data.UID), "INBOX")
	check(t, err)
	into, _ := copied.DestUIDs.Nums()
	if got := uidsOf(b.Snapshot()); !slices.Equal(got, into) || len(got) != 1 {
		t.Errorf("copies: %v, told %v", got, into)
	}
}

func TestMailThatIsNotClearIsShownWhenItIsOpen(t *testing.T) {
	r := newRig(t, r0Seal)
	r.restart(r.withSeal)
	b := r.refreshed("INBOX")
	r.unready.Store(true)
	uid := r.deliver("INBOX", encryptedMark+letter("cipher", ""))
	check(t, b.sync(t.Context()))
	_, err := b.tend(t.Context())
	check(t, err)
	if s := b.Snapshot(); len(s.Messages) != 0 {
		t.Fatalf("shown before it is known: %s", describe(s))
	}
	r.unready.Store(false)
	b.opening = map[imap.UID]*flight{} // as if ten seconds had passed
	_, err = b.tend(t.Context())
	check(t, err)
	if got := uidsOf(b.Snapshot()); !slices.Equal(got, []imap.UID{uid}) {
		t.Errorf("shown: %v", got)
	}
}
