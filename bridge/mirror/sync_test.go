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
	check(t, flag.Set("rapid.checks", "12")) // each starts a provider
	names := []string{"INBOX", "Archive"}
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t)
		defer r.stop()
		pick := func(rt *rapid.T) (name string, uid imap.UID) {
			name = rapid.SampledFrom(names).Draw(rt, "mailbox")
			if uids, _ := r.atProvider(name); len(uids) > 0 {
				uid = rapid.SampledFrom(uids).Draw(rt, "uid")
			}
			return name, uid
		}
		handle := func(name string) *Mailbox {
			b, err := r.Mailbox(t.Context(), name)
			if err != nil {
				rt.Fatalf("%s: %v", name, err)
			}
			return b
		}
		flags := rapid.SampledFrom([]imap.Flag{imap.FlagSeen, imap.FlagDeleted, imap.FlagFlagged})
		ok := func(err error) {
			if err != nil && !errors.Is(err, errReplaced) && !errors.Is(err, ErrOffline) {
				rt.Fatalf("%v", err)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"": func(rt *rapid.T) {
				for _, name := range names {
					r.compare(rt, name)
				}
			},
			"deliver": func(rt *rapid.T) {
				name, _ := pick(rt)
				for range rapid.IntRange(1, 5).Draw(rt, "n") {
					r.deliver(name, letter("x", "y"))
				}
			},
			"provider sets flags": func(rt *rapid.T) {
				if name, uid := pick(rt); uid != 0 {
					ok(r.provider.SetFlags(alice, name, uint32(uid), string(flags.Draw(rt, "flag"))))
				}
			},
			"provider expunges": func(rt *rapid.T) {
				if name, uid := pick(rt); uid != 0 {
					ok(r.provider.Expunge(alice, name, uint32(uid)))
				}
			},
			"provider expunges and gets another": func(rt *rapid.T) {
				if name, uid := pick(rt); uid != 0 {
					ok(r.provider.Expunge(alice, name, uint32(uid)))
					r.deliver(name, letter("x", "y"))
				}
			},
			"new UIDVALIDITY": func(rt *rapid.T) { name, _ := pick(rt); ok(r.provider.ResetUIDValidity(alice, name)) },
			"store": func(rt *rapid.T) {
				name, uid := pick(rt)
				op := rapid.SampledFrom([]imap.StoreFlagsOp{imap.StoreFlagsSet, imap.StoreFlagsAdd, imap.StoreFlagsDel}).Draw(rt, "op")
				ok(handle(name).Store(t.Context(), imap.UIDSet{{Start: uid, Stop: 0}}, &imap.StoreFlags{Op: op, Flags: []imap.Flag{flags.Draw(rt, "flag")}}))
			},
			"expunge": func(rt *rapid.T) { name, _ := pick(rt); ok(handle(name).Expunge(t.Context(), nil)) },
			"copy or move": func(rt *rapid.T) {
				name, uid := pick(rt)
				to, _ := pick(rt)
				b, move := handle(name), rapid.Bool().Draw(rt, "move")
				if uid == 0 || move && to == name {
					return
				}
				var err error
				if move {
					_, err = b.Move(t.Context(), imap.UIDSetNum(uid), to)
				} else {
					_, err = b.Copy(t.Context(), imap.UIDSetNum(uid), to)
				}
				ok(err)
			},
			"append": func(rt *rapid.T) {
				name, _ := pick(rt)
				_, err := r.Append(t.Context(), name, source(letter("x", "y")), nil)
				ok(err)
			},
			"a connection breaks": func(rt *rapid.T) {
				name, uid := pick(rt)
				command := rapid.SampledFrom([]string{"SELECT", "UID FETCH", "UID SEARCH", "UID STORE", "UID COPY", "UID MOVE", "UID EXPUNGE"}).Draw(rt, "command")
				defer r.provider.Inject(bridgetest.Fault{Protocol: "imap", Command: command, Drop: true, After: rapid.Bool().Draw(rt, "after"), Times: 1})()
				b, err := r.Mailbox(t.Context(), name)
				ok(err)
				if err == nil && uid != 0 {
					_, err := b.Move(t.Context(), imap.UIDSetNum(uid), names[0])
					ok(err)
				}
			},
			"restart": func(rt *rapid.T) { r.restart() },
		})
	})
}

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
