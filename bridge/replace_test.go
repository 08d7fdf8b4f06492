package bridge

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/bridgetest"
)

// archive is an account with one clear message in Archive that it may replace.
type archive struct {
	*world
	account  *Account
	uid      imap.UID
	validity uint32
}

func newArchive(t *testing.T, flags ...string) *archive {
	t.Helper()
	w := newWorld(t)
	w.seal = Seal{}
	uid := w.deliver(bob, "Archive", message(dave, bob, "Two", secretBody), flags...)
	a := w.open(w.options(bob, t.TempDir()))
	box, err := a.Mirror().Mailbox(t.Context(), "Archive")
	if err != nil {
		t.Fatal(err)
	}
	return &archive{w, a, imap.UID(uid), box.Snapshot().UIDValidity}
}

func (a *archive) seal() error {
	return a.account.sealMessage(a.t.Context(), "Archive", a.validity, a.uid)
}

func (a *archive) fault(f bridgetest.Fault) (remove func()) {
	f.Protocol, f.Times = "imap", 1
	return a.provider.Inject(f)
}

// kept says whether a message with the text is there and not about to go.
func (a *archive) kept(text string) bool {
	return slices.ContainsFunc(a.stored(bob, "Archive"), func(m bridgetest.Stored) bool {
		return bytes.Contains(m.Bytes, []byte(text)) && !slices.Contains(m.Flags, `\Deleted`)
	})
}

// opens says whether a message that opens to the original's text is there and not about to go.
func (a *archive) opens() bool {
	return a.kept(secretBody) || a.kept("BEGIN PGP MESSAGE")
}

// A provider that answers APPEND with the UID of another message loses us none.
func TestOnlyCopiesOfOurMakingAreExpunged(t *testing.T) {
	for name, c := range map[string]struct {
		unseal bool
		stored bool // the copy really was
		names  func(original, innocent uint32) uint32
	}{
		"the original's, nothing stored": {false, false, func(original, _ uint32) uint32 { return original }},
		"another's":                      {false, true, func(_, innocent uint32) uint32 { return innocent }},
		"another's, nothing stored":      {false, false, func(_, innocent uint32) uint32 { return innocent }},
		"another's while unsealing":      {true, true, func(_, innocent uint32) uint32 { return innocent }},
		"one that is to come":            {false, false, func(original, _ uint32) uint32 { return original + 2 }},
	} {
		t.Run(name, func(t *testing.T) {
			a := newArchive(t)
			innocent := a.deliver(bob, "Archive", message(dave, bob, "Innocent", "precious innocent text"))
			replace := a.seal
			if c.unseal {
				if err := a.seal(); err != nil {
					t.Fatal(err)
				}
				copied := a.uid + 2
				replace = func() error { return a.account.unsealMessage(t.Context(), "Archive", a.validity, copied) }
			}
			a.fault(bridgetest.Fault{Command: "APPEND", After: c.stored,
				Reply: fmt.Sprintf("OK [APPENDUID %d %d] done", a.validity, c.names(uint32(a.uid), innocent))})
			if err := replace(); err == nil {
				t.Error("no error")
			}
			if !a.kept("precious innocent text") || !a.opens() {
				t.Errorf("left: %+v", a.stored(bob, "Archive"))
			}
		})
	}
}

// A copy that another client, or an earlier attempt, has marked for removal does not last.
func TestCopyMarkedDeletedReplacesNothing(t *testing.T) {
	a := newArchive(t)
	remove := a.fault(bridgetest.Fault{Command: "UID STORE", Drop: true})
	if err := a.seal(); err == nil {
		t.Fatal("sealed")
	}
	remove()
	if err := a.provider.SetFlags(bob, "Archive", uint32(a.uid)+1, `\Deleted`); err != nil {
		t.Fatal(err)
	}
	if err := a.seal(); err != nil {
		t.Error(err)
	}
	if !a.opens() {
		t.Errorf("left: %+v", a.stored(bob, "Archive"))
	}
}

// The copy gets the flags that the original has in the end.
func TestCopyGetsTheFlagsOfTheEnd(t *testing.T) {
	a := newArchive(t, `\Flagged`)
	remove := a.fault(bridgetest.Fault{Command: "UID STORE", Drop: true})
	_ = a.seal()
	remove()
	if err := a.provider.SetFlags(bob, "Archive", uint32(a.uid), `\Seen`); err != nil {
		t.Fatal(err)
	}
	if err := a.seal(); err != nil {
		t.Fatal(err)
	}
	all := a.stored(bob, "Archive")
	if len(all) != 1 || !slices.Equal(all[0].Flags, []string{`\Seen`}) {
		t.Errorf("left: %+v", all)
	}
}

// That the copy could not be opened here says nothing about the copy.
func TestLocalFailureIsNotADifference(t *testing.T) {
	a := newArchive(t)
	r, err := a.account.fetchForReplacement(t.Context(),
		journalRow{account: bob, mailbox: "Archive", validity: a.validity, uid: a.uid, verb: verbSeal})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.copy, r.row.sealID, err = a.account.seal(r.original, randomInstance()); err != nil {
		t.Fatal(err)
	}
	a.account.ring.Close() // the vault is locked between APPEND and comparison
	if err := r.run(t.Context()); err == nil {
		t.Error("no error")
	}
	if n := len(a.stored(bob, "Archive")); n != 2 {
		t.Errorf("%d messages", n)
	}
}

// What the last step has left is finished by the next attempt, without a restart.
func TestUnfinishedReplacementIsFinished(t *testing.T) {
	for name, fault := range map[string]bridgetest.Fault{
		"expunge refused":   {Command: "UID EXPUNGE", Reply: "NO not now"},
		"lost after delete": {Command: "UID STORE", Drop: true, After: true},
	} {
		t.Run(name, func(t *testing.T) {
			a := newArchive(t)
			a.fault(fault)
			if err := a.seal(); err == nil {
				t.Fatal("no error")
			}
			result, err := a.account.SealBacklog(t.Context(), "Archive", false, func(string, int, int) {})
			if err != nil || result.Done != 1 || result.Left != 0 {
				t.Errorf("%+v, %v", result, err)
			}
			if all := a.stored(bob, "Archive"); len(all) != 1 || a.kept(secretBody) || !a.opens() {
				t.Errorf("left: %+v", all)
			}
		})
	}
}

func TestSkippedMessagesAreLeft(t *testing.T) {
	a := newArchive(t, `\Deleted`)
	result, err := a.account.SealBacklog(t.Context(), "Archive", false, func(string, int, int) {})
	if err != nil || result.Done != 0 || result.Left != 1 || len(result.Failures) != 0 {
		t.Errorf("%+v, %v", result, err)
	}
}

// Unsealing whose APPEND took effect without our learning of it: the next start finds what came of it.
func TestUnsealingWithoutAnAnswerIsFinished(t *testing.T) {
	w := newWorld(t)
	w.seal = Seal{}
	uid := imap.UID(w.deliver(bob, "Archive", message(dave, bob, "Two", secretBody)))
	dir := t.TempDir()
	func() {
		a := w.openUntilCrash(w.options(bob, dir))
		defer a.bridge.Close()
		box, err := a.Mirror().Mailbox(t.Context(), "Archive")
		if err != nil {
			t.Fatal(err)
		}
		validity := box.Snapshot().UIDValidity
		if err := a.sealMessage(t.Context(), "Archive", validity, uid); err != nil {
			t.Fatal(err)
		}
		w.provider.Inject(bridgetest.Fault{Protocol: "imap", Command: "APPEND", After: true, Drop: true, Times: 1})
		if err := a.unsealMessage(t.Context(), "Archive", validity, uid+1); err == nil {
			t.Fatal("no error")
		}
	}()
	a := w.run(w.options(bob, dir))
	eventually(t, "the journal is empty", func() bool {
		rows, err := a.bridge.journal.replacements(t.Context(), bob)
		return err == nil && len(rows) == 0
	})
	if all := w.stored(bob, "Archive"); len(all) != 1 || !bytes.Contains(all[0].Bytes, []byte(secretBody)) {
		t.Errorf("left: %+v", all)
	}
}
