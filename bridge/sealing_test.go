package bridge

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/bridgetest"
)

// stored is what the provider holds of a user's mailbox.
func (w *world) stored(address, mailbox string) []bridgetest.Stored {
	var found []bridgetest.Stored
	for _, m := range w.provider.Stored(address) {
		if m.Mailbox == mailbox {
			found = append(found, m)
		}
	}
	return found
}

func (w *world) deliver(address, mailbox, text string, flags ...string) uint32 {
	w.t.Helper()
	uid, err := w.provider.Deliver(address, mailbox, []byte(text), flags...)
	if err != nil {
		w.t.Fatal(err)
	}
	return uid
}

func TestAppendIsSealed(t *testing.T) {
	w := newWorld(t)
	w.seal = Seal{} // what a client appends is sealed whatever the configuration says of mail that arrives
	a := w.start(alice)
	text := message(alice, bob, "Canary draft", secretBody, "Bcc: <"+carol+">")
	data, err := a.Append(t.Context(), "Drafts", strings.NewReader(text), int64(len(text)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagDraft, imap.FlagSeen}})
	if err != nil || data.UID == 0 {
		t.Fatal(err, data)
	}
	w.mustNotLeak(secretBody, "Canary draft", carol)
	got := seen(t, a, "Drafts")
	if len(got) != 1 || !strings.HasSuffix(got[0], text) || !strings.HasPrefix(got[0], "X-Sealpost-Status: encryption=sealed; signature=none;") {
		t.Errorf("the client sees\n%q", got)
	}
	m := w.stored(alice, "Drafts")[0]
	if len(m.Flags) != 2 || m.UID != uint32(data.UID) {
		t.Errorf("%+v", m)
	}
}

// New mail that arrived clear: the client sees it once, sealed, under the copy's UID.
func TestArrivingMailIsSealedBeforeItIsShown(t *testing.T) {
	w := newWorld(t)
	old := w.deliver(bob, "INBOX", message(dave, bob, "Old", "was there before"))
	a := w.start(bob)
	waitFor(t, a, "INBOX", "was there before", "encryption=none")
	box, err := a.Mirror().Mailbox(t.Context(), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	uid := w.deliver(bob, "INBOX", message(dave, bob, "New canary", secretBody), `\Flagged`, "keyword")
	for {
		view := box.Snapshot()
		if len(view.Messages) > 1 && uint32(view.Messages[1].UID) == uid {
			t.Fatal("the clear original was shown")
		}
		if len(view.Messages) > 2 {
			t.Fatal("shown twice")
		}
		if len(view.Messages) == 2 {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("never shown")
		}
	}
	got := waitFor(t, a, "INBOX", secretBody)
	if !strings.Contains(got, "encryption=sealed") || !strings.HasSuffix(got, message(dave, bob, "New canary", secretBody)) {
		t.Errorf("the client sees\n%s", got)
	}
	w.mustNotLeak(secretBody, "New canary")
	all := w.stored(bob, "INBOX")
	if len(all) != 2 || all[0].UID != old || all[1].UID == uid || strings.Join(all[1].Flags, " ") != `\Flagged keyword` && strings.Join(all[1].Flags, " ") != `keyword \Flagged` {
		t.Errorf("%+v", all)
	}
}

func TestBacklogSealsAndUnseals(t *testing.T) {
	w := newWorld(t)
	texts := []string{
		message(dave, bob, "One", secretBody),
		message(dave, bob, "One", secretBody), // the same bytes twice are two messages
		"Subject: bare line feeds\n\n" + secretBody + "\nno end",
		"no header at all " + secretBody,
		message(dave, bob, "Bytes \xff\xfe", "\x00\x01"+secretBody+"\r.\r\n.\r\n"),
	}
	for _, text := range texts {
		w.deliver(bob, "Archive", text)
	}
	a := w.start(bob)
	quiet := func(string, int, int) {}
	dry, err := a.SealBacklog(t.Context(), "Archive", true, quiet)
	if err != nil || dry.Left != len(texts) || dry.Done != 0 {
		t.Fatal(err, dry)
	}
	result, err := a.SealBacklog(t.Context(), "", false, quiet)
	if err != nil || result.Done != len(texts) || len(result.Failures) > 0 {
		t.Fatal(err, result)
	}
	w.mustNotLeak(secretBody)
	proven, err := a.Prove(t.Context(), "", quiet)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range proven {
		if len(m.Readable) > 0 || m.Messages != m.Ciphertext {
			t.Errorf("%+v", m)
		}
	}
	again, err := a.SealBacklog(t.Context(), "", false, quiet)
	if err != nil || again.Done != 0 || again.Left != 0 {
		t.Fatal(err, again)
	}
	if _, err := a.UnsealBacklog(t.Context(), "", false, quiet); err == nil {
		t.Error("unsealed what would be sealed again")
	}
	a.options.Seal = Seal{}
	var back BacklogResult
	eventually(t, "all are unsealed", func() bool {
		result, err := a.UnsealBacklog(t.Context(), "Archive", false, quiet)
		if err != nil {
			t.Fatal(err)
		}
		back.Done += result.Done
		return back.Done == len(texts)
	})
	left := map[string]int{}
	for _, text := range texts {
		left[text]++
	}
	for _, m := range w.stored(bob, "Archive") {
		left[string(m.Bytes)]--
	}
	for text, n := range left {
		if n != 0 {
			t.Errorf("%d of %q missing", n, text)
		}
	}
}

// Whatever fails at whatever step: the original or its equal is always there, and a later
// attempt ends with exactly one sealed copy.
func TestSealingSurvivesFailures(t *testing.T) {
	for name, fault := range map[string]bridgetest.Fault{
		"append refused":           {Command: "APPEND", Reply: "NO [OVERQUOTA] full", Times: 1},
		"lost at append":           {Command: "APPEND", Drop: true, Times: 1},
		"lost after append":        {Command: "APPEND", Drop: true, After: true, Times: 1},
		"read back refused":        {Command: "UID FETCH", Match: "BODY.PEEK[]", Reply: "NO not now", Times: 1},
		"lost at delete":           {Command: "UID STORE", Drop: true, Times: 1},
		"lost after delete":        {Command: "UID STORE", Drop: true, After: true, Times: 1},
		"expunge refused":          {Command: "UID EXPUNGE", Reply: "NO not now", Times: 1},
		"lost after expunge":       {Command: "UID EXPUNGE", Drop: true, After: true, Times: 1},
		"lost while looking again": {Command: "UID SEARCH", Drop: true, Times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			text := message(dave, bob, "One", secretBody)
			w.deliver(bob, "Archive", text)
			dir := t.TempDir()
			fault.Protocol = "imap"
			func() {
				a := w.openUntilCrash(w.options(bob, dir))
				defer a.bridge.Close()
				box, err := a.Mirror().Mailbox(t.Context(), "Archive")
				if err != nil {
					t.Fatal(err)
				}
				defer w.provider.Inject(fault)()
				_ = a.sealMessage(t.Context(), "Archive", box.Snapshot().UIDValidity, box.Snapshot().Messages[0].UID)
			}()
			all := w.stored(bob, "Archive")
			if len(all) == 0 {
				t.Fatal("nothing is left")
			}
			a := w.run(w.options(bob, dir))
			eventually(t, "one sealed copy is left", func() bool {
				if _, err := a.SealBacklog(t.Context(), "Archive", false, func(string, int, int) {}); err != nil {
					t.Fatal(err)
				}
				all = w.stored(bob, "Archive")
				return len(all) == 1 && !bytes.Contains(all[0].Bytes, []byte(secretBody))
			})
			if got := waitFor(t, a, "Archive", secretBody); !strings.HasSuffix(got, text) {
				t.Errorf("the client sees\n%s", got)
			}
			eventually(t, "the journal is empty", func() bool {
				rows, err := a.bridge.journal.replacements(t.Context(), bob)
				return err == nil && len(rows) == 0
			})
		})
	}
}

// openUntilCrash is open without the cleanup: the caller closes.
func (w *world) openUntilCrash(o Options) *Account {
	w.t.Helper()
	b, err := Open(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	a := b.Accounts()[0]
	if err := b.SetProviderPassword(w.t.Context(), a.Address(), "secret of "+a.Address()); err != nil {
		w.t.Fatal(err)
	}
	if len(a.Keys()) == 0 {
		if _, err := a.ImportKey(w.t.Context(), bridgetest.SecretKey(a.Address()), nil); err != nil {
			w.t.Fatal(err)
		}
	}
	return a
}

// A provider that changes what it stores: the original stays, the bad copy goes.
func TestSealingNoticesAChangedCopy(t *testing.T) {
	w := newWorld(t)
	w.deliver(bob, "Archive", message(dave, bob, "One", secretBody))
	a := w.open(w.options(bob, t.TempDir()))
	box, err := a.Mirror().Mailbox(t.Context(), "Archive")
	if err != nil {
		t.Fatal(err)
	}
	view := box.Snapshot()
	r, err := a.fetchForReplacement(t.Context(), journalRow{account: a.Address(), mailbox: "Archive", validity: view.UIDValidity, uid: view.Messages[0].UID, verb: verbSeal})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.copy, r.row.sealID, err = a.seal(r.original, randomInstance()); err != nil {
		t.Fatal(err)
	}
	other, err := a.spoolExactly(strings.NewReader("other"), 5)
	if err != nil {
		t.Fatal(err)
	}
	genuine := r.original
	defer genuine.Close()
	r.original, r.sameMessage = other, a.opensTo
	if err := r.run(context.Background()); err == nil {
		t.Fatal("a copy that differs was accepted")
	}
	all := w.stored(bob, "Archive")
	if len(all) != 1 || !bytes.Contains(all[0].Bytes, []byte(secretBody)) {
		t.Errorf("%d messages are left", len(all))
	}
}
