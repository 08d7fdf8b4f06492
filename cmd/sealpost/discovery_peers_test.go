//go:build peers

package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
)

// TestHoldAtDovecot: what mail clients delete, move and drop with its mailbox is gone from a real server, whose copy nobody
// could search; under a hold the device keeps it, an export has it, and others verify that.
func TestHoldAtDovecot(t *testing.T) {
	s := newSite(t)
	a := s.newUser(alice, false)
	a.start()
	a.must("hold", "add", "harbour", "--query", "marmalade")
	for _, mailbox := range []string{"INBOX", "Matter"} {
		if mailbox != "INBOX" {
			if err := a.imap().Create(mailbox, nil).Wait(); err != nil {
				t.Fatal(err)
			}
		}
		for _, subject := range []string{"First", "Second"} {
			a.append(mailbox, withCRLF("From: bob@bravo.test\nTo: alice@alpha.test\nSubject: "+subject+" in "+mailbox+"\nDate: Mon, 23 Nov 2026 09:00:00 +0000\n\nmarmalade\n"))
		}
		a.append(mailbox, withCRLF("From: bob@bravo.test\nTo: alice@alpha.test\nSubject: Other in "+mailbox+"\nDate: Mon, 23 Nov 2026 09:00:00 +0000\n\nquince\n"))
	}
	a.expunge("INBOX")
	if err := a.imap().Delete("Matter").Wait(); err != nil {
		t.Fatal(err)
	}
	for _, mailbox := range []string{"INBOX", "Matter"} {
		if left := s.stored(alice, mailbox); len(left) != 0 {
			t.Errorf("%d messages are still in %s", len(left), mailbox)
		}
	}
	if found := a.must("search", "marmalade"); strings.Count(found, "kept by a hold") != 4 {
		t.Errorf("found: %s", found)
	}
	out := filepath.Join(a.home, "out")
	a.must("export", "--query", "marmalade", "--out", out)
	if verified := a.must("export", "verify", out); !strings.Contains(verified, "4 documents") {
		t.Errorf("verified: %s", verified)
	}
	if natives, err := os.ReadDir(filepath.Join(out, "native")); err != nil || len(natives) != 4 {
		t.Errorf("%d originals, %v", len(natives), err)
	}
	a.must("hold", "list", "--check")
	s.mustNotLeak("marmalade", "quince")
}

func withCRLF(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }

// expunge deletes all of a mailbox.
func (u *user) expunge(mailbox string) {
	u.t.Helper()
	c := u.imap()
	defer c.Close()
	_, err := c.Select(mailbox, nil).Wait()
	if err == nil {
		err = c.Store(imap.SeqSet{{Start: 1}}, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close()
	}
	if err == nil {
		err = c.Expunge().Close()
	}
	if err != nil {
		u.t.Fatal(err)
	}
}
