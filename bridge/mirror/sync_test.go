package mirror

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/bridge/bridgetest"
)

// compare fails unless the mirror shows exactly what the provider has.
func (r *rig) compare(t interface{ Fatalf(string, ...any) }, mailbox string) {
	b, err := r.Mailbox(context.Background(), mailbox)
	if err == nil {
		err = b.sync(context.Background())
	}
	if err != nil {
		t.Fatalf("%s: %v", mailbox, err)
	}
	s := b.Snapshot()
	uids, flags := r.atProvider(mailbox)
	if got := uidsOf(s); !slices.Equal(got, uids) {
		t.Fatalf("%s: UIDs %v, at the provider %v", mailbox, got, uids)
	}
	for _, m := range s.Messages {
		if got := strings.Join(sorted(splitFlags[string](joinFlags(foreign(m.Flags)))), " "); !strings.EqualFold(got, flags[m.UID]) {
			t.Fatalf("%s: flags of %d: %q, at the provider %q", mailbox, m.UID, got, flags[m.UID])
		}
	}
	c, err := r.o.Provider.Acquire(context.Background(), mailbox)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer r.o.Provider.Release(c)
	if c.Selected.UIDValidity != s.UIDValidity || c.Selected.UIDNext != s.UIDNext {
		t.Fatalf("%s: UIDVALIDITY %d UIDNEXT %d, at the provider %d %d", mailbox, s.UIDValidity, s.UIDNext, c.Selected.UIDValidity, c.Selected.UIDNext)
	}
}

// TestServesTheProvidersUIDs lets two clients change mailboxes, one through the mirror and
// one at the provider, with restarts, faults and new UIDVALIDITYs between.
func TestServesTheProvidersUIDs(t *testing.T) {
	check(t, flag.Set("rapid.checks", "8")) // each starts a provider
	rapid.Check(t, func(rt *rapid.T) {
		c := &clients{newRig(t)}
		defer c.stop()
		rt.Repeat(rapid.StateMachineActions(c))
	})
}

// clients are the two of them: each method is something one of them does.
type clients struct{ *rig }

var (
	twoMailboxes = rapid.SampledFrom([]string{"INBOX", "Archive"})
	someFlag     = rapid.SampledFrom([]imap.Flag{imap.FlagSeen, imap.FlagDeleted, imap.FlagFlagged})
	someOp       = rapid.SampledFrom([]imap.StoreFlagsOp{imap.StoreFlagsSet, imap.StoreFlagsAdd, imap.StoreFlagsDel})
	someCommand  = rapid.SampledFrom([]string{"SELECT", "UID FETCH", "UID SEARCH", "UID STORE", "UID COPY", "UID MOVE", "UID EXPUNGE"})
)

// pick chooses a mailbox and one of its messages, 0 if it has none.
func (c *clients) pick(rt *rapid.T) (name string, uid imap.UID) {
	name = twoMailboxes.Draw(rt, "mailbox")
	if uids, _ := c.atProvider(name); len(uids) > 0 {
		uid = rapid.SampledFrom(uids).Draw(rt, "uid")
	}
	return name, uid
}

func (c *clients) handle(rt *rapid.T, name string) *Mailbox {
	b, err := c.Mailbox(c.t.Context(), name)
	if err != nil {
		rt.Fatalf("%s: %v", name, err)
	}
	return b
}

// done accepts what may happen to a client: the mailbox was replaced, the connection broke.
func (c *clients) done(rt *rapid.T, err error) {
	if err != nil && !errors.Is(err, errReplaced) && !errors.Is(err, ErrOffline) {
		rt.Fatalf("%v", err)
	}
}

func (c *clients) Check(rt *rapid.T) {
	c.compare(rt, "INBOX")
	c.compare(rt, "Archive")
}

func (c *clients) Deliver(rt *rapid.T) {
	name := twoMailboxes.Draw(rt, "mailbox")
	for range rapid.IntRange(1, 5).Draw(rt, "n") {
		c.deliver(name, letter("x", "y"))
	}
}

func (c *clients) FlagAtProvider(rt *rapid.T) {
	if name, uid := c.pick(rt); uid != 0 {
		c.done(rt, c.provider.SetFlags(alice, name, uint32(uid), string(someFlag.Draw(rt, "flag"))))
	}
}

func (c *clients) ExpungeAtProvider(rt *rapid.T) {
	if name, uid := c.pick(rt); uid != 0 {
		c.done(rt, c.provider.Expunge(alice, name, uint32(uid)))
		if rapid.Bool().Draw(rt, "replaced by another") {
			c.deliver(name, letter("x", "y"))
		}
	}
}

func (c *clients) Renumber(rt *rapid.T) {
	c.done(rt, c.provider.ResetUIDValidity(alice, twoMailboxes.Draw(rt, "mailbox")))
}

func (c *clients) StoreFlags(rt *rapid.T) {
	name, uid := c.pick(rt)
	change := &imap.StoreFlags{Op: someOp.Draw(rt, "op"), Flags: []imap.Flag{someFlag.Draw(rt, "flag")}}
	c.done(rt, c.handle(rt, name).Store(c.t.Context(), imap.UIDSet{{Start: uid, Stop: 0}}, change))
}

func (c *clients) Expunge(rt *rapid.T) {
	c.done(rt, c.handle(rt, twoMailboxes.Draw(rt, "mailbox")).Expunge(c.t.Context(), nil))
}

func (c *clients) CopyOrMove(rt *rapid.T) {
	name, uid := c.pick(rt)
	to := twoMailboxes.Draw(rt, "to")
	b := c.handle(rt, name)
	transfer := b.Copy
	if rapid.Bool().Draw(rt, "move") && to != name {
		transfer = b.Move
	}
	_, err := transfer(c.t.Context(), imap.UIDSetNum(uid), to)
	c.done(rt, err)
}

func (c *clients) AppendOne(rt *rapid.T) {
	_, err := c.Append(c.t.Context(), twoMailboxes.Draw(rt, "mailbox"), source(letter("x", "y")), nil)
	c.done(rt, err)
}

func (c *clients) MoveOverABrokenConnection(rt *rapid.T) {
	name, uid := c.pick(rt)
	defer c.provider.Inject(bridgetest.Fault{Protocol: "imap", Command: someCommand.Draw(rt, "command"), Drop: true,
		After: rapid.Bool().Draw(rt, "after"), Times: 1})()
	b, err := c.Mailbox(c.t.Context(), name)
	if err == nil && uid != 0 {
		_, err = b.Move(c.t.Context(), imap.UIDSetNum(uid), "INBOX")
	}
	c.done(rt, err)
}

func (c *clients) Restart(*rapid.T) { c.restart() }

func TestFirstFillIsResumed(t *testing.T) {
	r := newRig(t)
	for i := range 3*stateBatch + 100 {
		r.deliver("INBOX", letter(fmt.Sprint(i), ""))
	}
	// The third batch breaks.
	r.provider.Inject(bridgetest.Fault{Protocol: "imap", Command: "UID FETCH", Match: " 101:600 ", Drop: true, Times: 1})
	if _, err := r.Mailbox(t.Context(), "INBOX"); !errors.Is(err, ErrOffline) {
		t.Fatalf("first selection: %v", err)
	}
	var rows int
	check(t, r.o.DB.Read().QueryRow(`SELECT count(*) FROM message`).Scan(&rows))
	if rows != 2*stateBatch {
		t.Errorf("%d rows were kept", rows)
	}
	check(t, r.provider.SetFlags(alice, "INBOX", 3*stateBatch, `\Flagged`)) // of a row that is there
	r.restart()
	r.compare(t, "INBOX")
}

func TestCapabilitiesDoNotMatter(t *testing.T) {
	r := newRig(t)
	for range 5 {
		r.deliver("INBOX", letter("x", ""))
	}
	b := r.mailbox("INBOX")
	check(t, r.provider.Expunge(alice, "INBOX", 2))
	c, err := r.o.Provider.Acquire(t.Context(), "INBOX")
	check(t, err)
	defer r.o.Provider.Release(c)
	delete(c.Caps(), imap.CapESearch)
	s := &stateSync{box: b.box, conn: c, selected: c.Selected}
	check(t, s.run(t.Context()))
	if got := uidsOf(b.Snapshot()); !slices.Equal(got, []imap.UID{1, 3, 4, 5}) {
		t.Errorf("UIDs %v", got)
	}
}

func TestSnapshotsAndWatchers(t *testing.T) {
	r := newRig(t)
	b := r.refreshed("INBOX")
	changed, end := b.Watch()
	before := b.Snapshot()
	if b.Snapshot() != before {
		t.Error("a snapshot without a change is another")
	}
	r.deliver("INBOX", letter("x", ""))
	check(t, b.sync(t.Context()))
	<-changed
	after := b.Snapshot()
	if len(before.Messages) != 0 || len(after.Messages) != 1 || after.Version <= before.Version {
		t.Errorf("before %v, after %v", before, after)
	}
	end()
	if b.watched() {
		t.Error("still watched")
	}
}
