package export

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/mirror"
	"github.com/sealpost/sealpost/bridge/store"
)

func note(subject, id string) string {
	return fmt.Sprintf("From: bob@bravo.test\nTo: alice@alpha.test\nSubject: %s\nMessage-ID: <%s@bravo.test>\nDate: Mon, 23 Nov 2026 09:00:00 +0000\n\nMeet me at nine.\n", subject, id)
}

// hold opens one.
func (r *rig) hold(name, query string, custodians ...string) {
	r.t.Helper()
	_, err := r.desk(noon).AddHold(r.t.Context(), name, "a letter", Request{Query: query, Custodians: custodians})
	check(r.t, err)
}

func (r *rig) box(name string) *mirror.Mailbox {
	r.t.Helper()
	b, err := r.custodians[0].Mirror.Mailbox(r.t.Context(), name)
	check(r.t, err)
	check(r.t, b.Sync(r.t.Context()))
	return b
}

// expunge deletes messages of alice's as a client does.
func (r *rig) expunge(name string, uids ...imap.UID) error {
	r.t.Helper()
	b, set := r.box(name), imap.UIDSetNum(uids...)
	check(r.t, b.Store(r.t.Context(), set, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}))
	return b.Expunge(r.t.Context(), &set)
}

// atProvider are alice's messages at the provider, as "mailbox uid".
func (r *rig) atProvider() []string {
	found := []string{}
	for _, s := range r.provider.Stored(alice) {
		found = append(found, fmt.Sprint(s.Mailbox, " ", s.UID))
	}
	slices.Sort(found)
	return found
}

// found are the hits of a query over alice's mail, as "mailbox uid how".
func (r *rig) found(query string) []string {
	r.t.Helper()
	f, err := r.desk(noon).Search(r.t.Context(), Request{Query: query, Custodians: []string{alice}}, quiet)
	check(r.t, err)
	found := []string{}
	for _, h := range slices.Concat(f.Matching, f.Undecided) {
		how, _, _ := strings.Cut(h.Kept, " ")
		found = append(found, strings.TrimSpace(fmt.Sprint(h.Mailbox, " ", h.UID, " ", how)))
	}
	slices.Sort(found)
	return found
}

func equal(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, not %q", what, got, want)
	}
}

// count is how many rows a table has.
func (r *rig) count(table string) (n int) {
	r.t.Helper()
	check(r.t, r.db.Read().QueryRowContext(r.t.Context(), `SELECT count(*) FROM `+table).Scan(&n))
	return n
}

// export makes one of all that alice has about the harbour and verifies it.
func (r *rig) export(query string) (dir string, a *Accounting) {
	r.t.Helper()
	dir = filepath.Join(r.t.TempDir(), "out")
	a, err := r.desk(r.now.Add(time.Hour)).Export(r.t.Context(), Request{Query: query, Custodians: []string{alice}, Formats: Formats, Directory: dir}, quiet)
	check(r.t, err)
	if v := verify(r.t, dir, VerifyOptions{}); len(v.Problems) > 0 {
		r.t.Errorf("the export does not verify: %q", v.Problems)
	}
	return dir, a
}

// TestHoldKeepsWhatIsDeleted deletes in every way a client has; what matches stays, and an export has the very bytes.
func TestHoldKeepsWhatIsDeleted(t *testing.T) {
	for name, remove := range map[string]func(r *rig) error{
		"expunged": func(r *rig) error { return r.expunge("Archive", 1, 2, 3) },
		"moved": func(r *rig) error {
			set := imap.UIDSetNum(1, 2, 3)
			_, err := r.box("Archive").Move(r.t.Context(), set, "INBOX")
			return errors.Join(err, r.expunge("INBOX", 1, 2, 3))
		},
		"mailbox-deleted": func(r *rig) error { return r.custodians[0].Mirror.Delete(r.t.Context(), "Archive") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			raw := note("Harbour", "1")
			r.deliver(alice, "Archive", raw)
			r.deliver(alice, "Archive", note("Airport", "2"))
			r.deliver(alice, "Archive", lockedMark+note("Secret", "3"))
			r.hold("matter", "harbour")
			check(t, remove(r))
			equal(t, "at the provider", r.atProvider(), []string{})
			if found := r.found("harbour"); !slices.Contains(found, "Archive 1 "+name) || !slices.Contains(found, "Archive 3 "+name) || slices.Contains(found, "Archive 2 "+name) {
				t.Errorf("found %q", found)
			}
			dir, a := r.export("harbour")
			if a.Total.Exported != 1 || a.Total.Kept < 2 || a.Total.Undecided < 1 {
				t.Errorf("%+v", a.Total)
			}
			native, err := os.ReadFile(filepath.Join(dir, "native/DOC00000001.eml"))
			check(t, err)
			if string(native) != strings.ReplaceAll(raw, "\n", "\r\n") {
				t.Errorf("the native file is %q", native)
			}
			for _, file := range []string{documentsFile, exceptionsFile} {
				text, err := os.ReadFile(filepath.Join(dir, file))
				check(t, err)
				if !strings.Contains(string(text), "by a client at 2026-11-23T12:00:00Z") {
					t.Errorf("%s does not say when it was deleted: %s", file, text)
				}
			}
			holds, err := os.ReadFile(filepath.Join(dir, holdsFile))
			check(t, err)
			if !strings.HasPrefix(string(holds), "HOLD,REASON,OPENED,RELEASED,MESSAGES\nmatter,a letter,2026-11-23T12:00:00Z,,") {
				t.Errorf("%s", holds)
			}
		})
	}
}

// TestNoHoldKeepsNothing: without a hold, or under one of somebody else's, deleted is deleted.
func TestNoHoldKeepsNothing(t *testing.T) {
	r := newRig(t)
	r.deliver(alice, "INBOX", note("Harbour", "1"))
	r.hold("bobs", "harbour", bob)
	check(t, r.expunge("INBOX", 1))
	if n := r.count("held_message"); n != 0 {
		t.Errorf("%d messages were kept", n)
	}
}

// TestNothingIsDeletedThatCannotBeKept fills the disk.
func TestNothingIsDeletedThatCannotBeKept(t *testing.T) {
	r := newRig(t)
	r.deliver(alice, "INBOX", note("Harbour", "1")+strings.Repeat("The quay is long.\n", 1<<17))
	r.deliver(alice, "INBOX", note("Harbour", "2"))
	r.hold("matter", "harbour")
	r.box("INBOX")
	var pages int
	check(t, r.db.Writer().QueryRowContext(t.Context(), `PRAGMA page_count`).Scan(&pages))
	limit := func(n int) {
		_, err := r.db.Writer().ExecContext(t.Context(), fmt.Sprintf(`PRAGMA max_page_count = %d`, n))
		check(t, err)
	}
	b, set := r.box("INBOX"), imap.UIDSetNum(1, 2)
	check(t, b.Store(t.Context(), set, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}))
	limit(pages + 100)
	for what, remove := range map[string]func() error{
		"expunge": func() error { return b.Expunge(t.Context(), nil) },
		"move":    func() error { _, err := b.Move(t.Context(), set, "Trash"); return err },
	} {
		if err := remove(); !errors.Is(err, mirror.ErrNotKept) || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", what, err)
		}
	}
	equal(t, "at the provider", r.atProvider(), []string{"INBOX 1", "INBOX 2"})
	limit(1 << 30)
	check(t, b.Expunge(t.Context(), nil))
	equal(t, "at the provider", r.atProvider(), []string{})
	equal(t, "found", r.found("harbour"), []string{"INBOX 1 expunged", "INBOX 2 expunged"})
	problems, err := r.holds.Check(t.Context())
	check(t, err)
	equal(t, "problems", problems, nil)
}

// TestDeletionThatIsCutOff breaks the connection between the archive and the deletion: the message is not counted twice, and is there once it is gone.
func TestDeletionThatIsCutOff(t *testing.T) {
	r := newRig(t)
	r.deliver(alice, "INBOX", note("Harbour", "1"))
	r.hold("matter", "harbour")
	r.box("INBOX")
	r.provider.Inject(bridgetest.Fault{Protocol: "imap", Command: "UID EXPUNGE", Drop: true, Times: 1})
	if err := r.expunge("INBOX", 1); err == nil {
		t.Fatal("the connection did not break")
	}
	equal(t, "at the provider", r.atProvider(), []string{"INBOX 1"})
	if n := r.count("held_message"); n != 1 {
		t.Errorf("%d messages were kept", n)
	}
	equal(t, "found", r.found("harbour"), []string{"INBOX 1"})
	r.now = noon.Add(time.Minute)
	check(t, r.expunge("INBOX", 1))
	equal(t, "found", r.found("harbour"), []string{"INBOX 1 expunged"})
	if n := r.count("held_message"); n != 1 {
		t.Errorf("%d messages were kept", n)
	}
	dir, _ := r.export("harbour")
	text, err := os.ReadFile(filepath.Join(dir, documentsFile))
	check(t, err)
	if !strings.Contains(string(text), "expunged by a client at 2026-11-23T12:01:00Z") {
		t.Errorf("%s", text)
	}
}

// TestTwoHolds: what two holds want stays until both have ended, and until an export has it.
func TestTwoHolds(t *testing.T) {
	r := newRig(t)
	r.deliver(alice, "INBOX", note("Harbour", "1"))
	r.deliver(alice, "INBOX", note("Quay", "2"))
	r.hold("one", "harbour OR quay")
	r.hold("two", "nine -quay", alice)
	check(t, r.expunge("INBOX", 1, 2))
	for _, statement := range []string{`DELETE FROM hold`, `DELETE FROM held_by`, `DELETE FROM held_message`, `DELETE FROM held_body`, `DELETE FROM held_chunk`,
		`UPDATE held_chunk SET data = x''`, `DELETE FROM hold_custody`, `UPDATE hold_custody SET entry = ''`} {
		err := r.db.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.ExecContext(t.Context(), statement); return err })
		if err == nil {
			t.Errorf("%s was done while holds stand", statement)
		}
	}
	if _, err := r.holds.Release(t.Context(), ReleaseOptions{Name: "one", Purge: true}); !errors.Is(err, ErrNotExported) {
		t.Errorf("purged without an export: %v", err)
	}
	equal(t, "found", r.found("nine"), []string{"INBOX 1 expunged", "INBOX 2 expunged"})
	r.export("nine")
	done, err := r.holds.Release(t.Context(), ReleaseOptions{Name: "one", Purge: true})
	check(t, err)
	if done.Purged != 1 || done.Stay != 1 {
		t.Errorf("%+v", done)
	}
	equal(t, "found", r.found("nine"), []string{"INBOX 1 expunged"})
	done, err = r.holds.Release(t.Context(), ReleaseOptions{Name: "two"})
	check(t, err)
	equal(t, "found after the release", r.found("nine"), []string{"INBOX 1 expunged"})
	if _, err := r.holds.Release(t.Context(), ReleaseOptions{Name: "two"}); !errors.Is(err, ErrReleased) {
		t.Errorf("released twice: %v", err)
	}
	done, err = r.holds.Release(t.Context(), ReleaseOptions{Name: "two", Purge: true})
	check(t, err)
	if done.Purged != 1 || r.count("held_message")+r.count("held_body")+r.count("held_chunk")+r.count("held_by") != 0 {
		t.Errorf("something is left after %+v", done)
	}
	entries, err := r.holds.Custody(t.Context(), "two")
	check(t, err)
	var events []string
	for _, e := range entries {
		events = append(events, e.Event)
	}
	equal(t, "custody log", events, []string{"opened", "kept", "released", "purged"})
}

// TestMessageInTwoMailboxes is deleted from one: the other stays as it was, and its content is kept once.
func TestMessageInTwoMailboxes(t *testing.T) {
	r := newRig(t)
	r.deliver(alice, "INBOX", note("Harbour", "1"))
	r.deliver(alice, "Archive", note("Harbour", "1"))
	r.hold("matter", "harbour")
	check(t, r.expunge("INBOX", 1))
	equal(t, "found", r.found("harbour"), []string{"Archive 1", "INBOX 1 expunged"})
	_, a := r.export("harbour")
	if a.Total.Exported != 1 || a.Total.Duplicates != 1 || a.Total.Kept != 1 {
		t.Errorf("%+v", a.Total)
	}
	check(t, r.expunge("Archive", 1))
	if n := r.count("held_body"); n != 2 { // as stored, and as opened
		t.Errorf("%d contents were kept", n)
	}
	equal(t, "found", r.found("harbour"), []string{"Archive 1 expunged", "INBOX 1 expunged"})
}

// TestEncryptedExportOfKeptMail: the mbox file of an encrypted export has what the archive has.
func TestEncryptedExportOfKeptMail(t *testing.T) {
	r := newRig(t)
	r.deliver(alice, "INBOX", encryptedMark+note("Harbour", "1"))
	r.hold("matter", "harbour")
	check(t, r.expunge("INBOX", 1))
	dir := filepath.Join(t.TempDir(), "out")
	request := Request{Query: "harbour", Custodians: []string{alice}, Formats: Formats, Certificates: bridgetest.PublicKey(bob), Directory: dir}
	a, err := r.desk(noon).Export(t.Context(), request, quiet)
	check(t, err)
	if v := verify(t, dir, VerifyOptions{}); len(v.Problems) > 0 || a.Total.Exported != 1 {
		t.Errorf("%+v, %+v", v, a.Total)
	}
	if _, _, err := r.merge(dir, dir); !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), "it is encrypted") {
		t.Errorf("merged: %v", err)
	}
}

// TestRemovedElsewhere: what another device removes is kept as far as the cache has it, and what it does not have is said to be lost.
func TestRemovedElsewhere(t *testing.T) {
	r := newRig(t)
	r.deliver(alice, "INBOX", note("Harbour", "1"))
	r.deliver(alice, "INBOX", encryptedMark+note("Harbour", "2"))
	r.hold("matter", "harbour")
	r.found("harbour") // opens them
	r.deliver(alice, "INBOX", note("Harbour", "3"))
	r.box("INBOX")
	check(t, r.provider.Expunge(alice, "INBOX", 1, 2, 3))
	r.box("INBOX")
	equal(t, "found", r.found("harbour"), []string{"INBOX 1 removed", "INBOX 2 removed", "INBOX 3 removed"})
	dir, a := r.export("harbour")
	if a.Total.Exported != 2 || a.Total.Unavailable != 1 {
		t.Errorf("%+v", a.Total)
	}
	text, err := os.ReadFile(filepath.Join(dir, exceptionsFile))
	check(t, err)
	for _, want := range []string{"what the provider had stored is lost", lost} {
		if strings.Count(string(text), want) != 1 {
			t.Errorf("%q is not said once: %s", want, text)
		}
	}
	list, err := r.holds.List(t.Context())
	check(t, err)
	if list[0].Messages != 3 || list[0].Lost != 2 {
		t.Errorf("%+v", list[0])
	}
}

// TestWithheldMessageIsNotDeleted: what the provider lists and does not deliver cannot be kept, so it stays.
func TestWithheldMessageIsNotDeleted(t *testing.T) {
	r := newRig(t)
	r.deliver(alice, "INBOX", note("Harbour", "1"))
	r.hold("matter", "harbour")
	r.found("harbour")
	remove := r.provider.Inject(bridgetest.Fault{Protocol: "imap", Command: "UID FETCH", Match: "BODY", Reply: "OK done"})
	if err := r.expunge("INBOX", 1); !errors.Is(err, mirror.ErrNotKept) {
		t.Errorf("%v", err)
	}
	remove()
	equal(t, "at the provider", r.atProvider(), []string{"INBOX 1"})
	check(t, r.expunge("INBOX", 1))
	equal(t, "found", r.found("harbour"), []string{"INBOX 1 expunged"})
}

// newDevice is alice's account on another device, without holds.
func newDevice(r *rig) *mirror.Mirror {
	db, err := store.Open(r.t.Context(), filepath.Join(r.t.TempDir(), "other.db"), bytes.Repeat([]byte{7}, 32))
	check(r.t, err)
	r.t.Cleanup(func() { check(r.t, db.Close()) })
	other := *r
	other.db, other.holds = db, NewHolds(db, audit.New(db, time.Now), time.Now)
	return other.mirror(alice)
}

// TestMailboxThatIsGone: mailboxes that were deleted or replaced elsewhere, and INBOX before it is renamed, are kept as far as they are known.
func TestMailboxThatIsGone(t *testing.T) {
	for name, c := range map[string]struct {
		mailbox, want string
		remove        func(r *rig) error
	}{
		"INBOX to be renamed": {"INBOX", "INBOX 1", func(r *rig) error {
			if err := r.custodians[0].Mirror.Rename(r.t.Context(), "INBOX", "Old"); err == nil || r.count("held_message") != 1 {
				return fmt.Errorf("this provider refuses, and the message is kept before it is asked: %w", err)
			}
			return nil
		}},
		"new UIDVALIDITY": {"Archive", "Archive 1 removed", func(r *rig) error {
			check(r.t, r.provider.ResetUIDValidity(alice, "Archive"))
			r.box("Archive")
			return nil
		}},
		"deleted elsewhere": {"Archive", "Archive 1 removed", func(r *rig) error {
			return newDevice(r).Delete(r.t.Context(), "Archive")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.deliver(alice, c.mailbox, note("Harbour", "1"))
			r.hold("matter", "harbour")
			r.found("harbour")
			check(t, c.remove(r))
			if found := r.found("harbour"); !slices.Contains(found, c.want) {
				t.Errorf("found %q", found)
			}
		})
	}
}

// TestPurgeSparesALaterHold: what was deleted before a hold was opened is that hold's, too, once the other one ends.
func TestPurgeSparesALaterHold(t *testing.T) {
	r := newRig(t)
	r.deliver(alice, "INBOX", note("Harbour", "1"))
	r.hold("one", "harbour")
	check(t, r.expunge("INBOX", 1))
	r.hold("two", "harbour")
	done, err := r.holds.Release(t.Context(), ReleaseOptions{Name: "one", Purge: true, Unexported: true})
	if found := r.found("harbour"); len(found) != 1 {
		t.Errorf("purged %d (%v) while hold two stands and wants it; found %q", done.Purged, err, found)
	}
}

// TestRenamedMailbox: a hold on a mailbox keeps what leaves it with its name.
func TestRenamedMailbox(t *testing.T) {
	r := newRig(t)
	m := r.custodians[0].Mirror
	check(t, m.Create(t.Context(), "Plans", nil))
	r.deliver(alice, "Plans", note("Harbour", "1"))
	r.hold("matter", "harbour in:Plans")
	equal(t, "found", r.found("in:Plans"), []string{"Plans 1"})
	check(t, m.Rename(t.Context(), "Plans", "Stuff"))
	check(t, r.expunge("Stuff", 1))
	if r.count("held_message") == 0 {
		t.Errorf("at provider %q, found %q", r.atProvider(), r.found("harbour"))
	}
}

// TestEncryptedMailboxOfKeptMail: what is deleted while an encrypted export is made is put into its mbox from the archive.
func TestEncryptedMailboxOfKeptMail(t *testing.T) {
	r := newRig(t)
	r.deliver(alice, "Archive", note("Harbour", "1"))
	r.deliver(alice, "INBOX", note("Harbour", "2"))
	r.hold("m", "harbour")
	dir := filepath.Join(t.TempDir(), "out")
	gone := false
	for range 2 {
		_, err := r.desk(noon).Export(t.Context(), Request{Query: "harbour", Custodians: []string{alice}, Formats: Formats, Directory: dir, Certificates: bridgetest.PublicKey(bob)}, func(mailbox string, done, total int) {
			if mailbox == "INBOX" && !gone {
				gone = true
				check(t, r.expunge("Archive", 1))
			}
		})
		t.Log(err)
		if err != nil && gone && !strings.Contains(err.Error(), "finished") {
			t.Errorf("cannot be finished")
		}
	}
}
