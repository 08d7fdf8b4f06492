package mirror

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/bridgetest"
)

func TestRunKeepsMailboxesLive(t *testing.T) {
	r := newRig(t)
	r.run()
	inbox, archive := r.mailbox("INBOX"), r.mailbox("Archive")
	_, end := archive.Watch()
	defer end()
	for i := range 3 {
		a, b := r.deliver("INBOX", letter(fmt.Sprint(i), "")), r.deliver("Archive", letter(fmt.Sprint(i), ""))
		r.await(inbox, "news in INBOX", func(s *Snapshot) bool { return slices.Contains(uidsOf(s), a) })
		r.await(archive, "news in Archive", func(s *Snapshot) bool { return slices.Contains(uidsOf(s), b) })
		check(t, r.provider.SetFlags(alice, "INBOX", uint32(a), `\Flagged`))
		r.await(inbox, "the flag", func(s *Snapshot) bool { return hasFlag(s.Messages[len(s.Messages)-1].Flags, imap.FlagFlagged) })
		r.provider.Disconnect()
	}
	check(t, r.provider.Expunge(alice, "INBOX", 1))
	r.await(inbox, "the removal", func(s *Snapshot) bool { return len(s.Messages) == 2 })
}

// However many mailboxes clients watch, the provider sees no more connections than it is meant to.
func TestConnectionsStayFew(t *testing.T) {
	r := newRig(t)
	r.poll = 50 * time.Millisecond
	r.run()
	for i := range 30 {
		name := fmt.Sprint("Box ", i)
		check(t, r.Create(t.Context(), name, nil))
		_, end := r.mailbox(name).Watch()
		defer end()
	}
	done := make(chan struct{})
	var most atomic.Int64
	go func() {
		defer close(done)
		for i := range 60 {
			most.Store(max(most.Load(), int64(r.provider.Connections())))
			r.deliver(fmt.Sprint("Box ", i%30), letter(fmt.Sprint(i), ""))
		}
	}()
	<-done
	for i := range 30 {
		r.await(r.mailbox(fmt.Sprint("Box ", i)), "both messages", func(s *Snapshot) bool {
			most.Store(max(most.Load(), int64(r.provider.Connections())))
			return len(s.Messages) == 2
		})
	}
	if n := most.Load(); n > 5 || n < 2 {
		t.Errorf("%d connections", n)
	}
}

func TestRunFindsNewsElsewhere(t *testing.T) {
	r := newRig(t)
	r.poll = 20 * time.Millisecond
	r.mailbox("Archive")
	r.run()
	uid := r.deliver("Archive", letter("x", ""))
	deadline := time.Now().Add(20 * time.Second)
	for opened := 0; opened == 0; {
		check(t, r.o.DB.Read().QueryRow(`SELECT count(*) FROM message WHERE uid = ? AND content IS NOT NULL`, uid).Scan(&opened))
		if time.Now().After(deadline) {
			t.Fatal("not found")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestMailboxesAreUsableWhileTheyFill: 5,000 messages can be listed and read while the
// background opens them; the fill survives faults and a restart.
func TestMailboxesAreUsableWhileTheyFill(t *testing.T) {
	const n = 5000
	r := newRig(t)
	for i := range n {
		mark := ""
		if i%3 == 0 {
			mark = encryptedMark
		}
		r.deliver("INBOX", mark+letter(fmt.Sprint("message ", i), "text"))
	}
	b := r.mailbox("INBOX")
	if s := b.Snapshot(); len(s.Messages) != n || r.opens.Load() != 0 {
		t.Fatalf("%d messages, %d opened", len(s.Messages), r.opens.Load())
	}
	end := r.run()
	r.provider.Inject(bridgetest.Fault{Protocol: "imap", Command: "UID FETCH", Match: "BODY", Drop: true, Times: 1})
	c, err := b.Content(t.Context(), 1) // the last to be filled
	check(t, err)
	check(t, c.Message.Close())
	r.awaitOpened(n / 4)
	end()
	before := r.opens.Load()
	r.restart()
	r.run()
	r.awaitOpened(n)
	if again := r.opens.Load() - n; again > 10*batchMessages || before < n/4 {
		t.Errorf("%d messages were opened twice", again)
	}
	if s := r.mailbox("INBOX").Snapshot(); !hasFlag(s.Messages[0].Flags, "$Encrypted") {
		t.Error("keywords are not shown")
	}
}

func (r *rig) awaitOpened(n int) {
	r.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		c, err := r.Counts(r.t.Context())
		check(r.t, err)
		if c.Opened >= n {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%d of %d messages are opened", c.Opened, n)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestOneBadMessageDoesNotStopTheFill(t *testing.T) {
	r := newRig(t)
	for i := range 100 {
		mark := map[int]string{40: brokenMark, 60: panicMark}[i]
		r.deliver("INBOX", mark+letter(fmt.Sprint(i), ""))
	}
	// This one ends the connection whenever it is fetched.
	r.provider.Inject(bridgetest.Fault{Protocol: "imap", Command: "UID FETCH", Match: "FETCH 51 ", Drop: true})
	r.provider.Inject(bridgetest.Fault{Protocol: "imap", Command: "UID FETCH", Match: "37:100 (UID BODY", Drop: true})
	r.mailbox("INBOX")
	r.run()
	r.awaitOpened(97)
	b := r.mailbox("INBOX")
	failed := b.demand(t.Context(), []imap.UID{51, 41, 61, 1})
	if len(failed) != 3 {
		t.Errorf("failed: %v", failed)
	}
}

// A device that slept connects anew, although its connections look alive.
func TestWakingLooksAtOnce(t *testing.T) {
	r := newRig(t)
	var slept atomic.Int64
	began := time.Now()
	r.clock = func() (wall, steady time.Duration) {
		steady = time.Since(began)
		return steady + time.Duration(slept.Load()), steady
	}
	r.sleepCheck = 10 * time.Millisecond
	r.run()
	inbox := r.mailbox("INBOX")
	for range 3 {
		r.await(inbox, "being live", func(*Snapshot) bool { return inbox.live.Load() })
		logins := r.provider.Logins()
		uid := r.deliver("INBOX", letter("while asleep", ""))
		slept.Add(int64(time.Hour))
		r.await(inbox, "what came meanwhile", func(s *Snapshot) bool {
			return slices.Contains(uidsOf(s), uid) && r.provider.Logins() > logins
		})
	}
}

func TestWakeEndsRetries(t *testing.T) {
	m := &Mirror{}
	delay := &countedDelay{}
	done := make(chan struct{})
	go func() { m.retry(t.Context(), delay); close(done) }()
	for {
		m.awake.broadcast()
		select {
		case <-done:
			if delay.resets != 1 {
				t.Errorf("reset %d times", delay.resets)
			}
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// countedDelay would wait for an hour.
type countedDelay struct{ resets int }

func (*countedDelay) NextBackOff() time.Duration { return time.Hour }
func (d *countedDelay) Reset()                   { d.resets++ }
