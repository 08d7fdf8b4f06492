//go:build peers

package main_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/bridge/bridgetest/peers"
)

// reader is a user with an encrypted and a sealed message in INBOX and a clear one in Clear.
type reader struct {
	*user
	bridge, provider *peers.Curl // what the user's programs see, and what is really there
}

func newReader(t *testing.T) *reader {
	s := newSite(t)
	u := s.newUser(alice, false)
	u.reconfigure("smtp ", "seal = [\"INBOX\"]\nsmtp ")
	r := &reader{user: u, provider: peers.NewCurl(t, s.provider.IMAPOptions(alice))}
	r.provider.Command("", "CREATE Clear")
	r.provider.Append("Clear", clearMessage("Canary clear"))
	r.provider.Append("INBOX", s.encryptedMessage(alice, "Canary encrypted"))
	u.start()
	s.submitAtMX(carol, alice, clearMessage("Canary sealed"))
	eventually(t, "the message that arrived clear is sealed", func() bool {
		return len(r.provider.UIDs("INBOX", "ALL")) == 2 && len(r.provider.UIDs("INBOX", `BODY "sealed canary"`)) == 0
	})
	r.bridge = peers.NewCurl(t, u.clientOptions(true))
	return r
}

func clearMessage(subject string) string {
	return "From: Carol <" + carol + ">\r\nTo: " + alice + "\r\nSubject: " + subject + "\r\nMessage-ID: <" + strings.ReplaceAll(subject, " ", ".") +
		"@charlie.test>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Content-Transfer-Encoding: 8bit\r\n\r\n" + reversed(subject) + " with K\u00e4se\r\n"
}

// reversed is what the text of a message says: not its subject, so that either can be looked for.
func reversed(subject string) string {
	first, second, _ := strings.Cut(subject, " ")
	return second + " " + strings.ToLower(first)
}

// encryptedMessage is PGP/MIME by gpg.
func (s *site) encryptedMessage(to, subject string) string {
	s.t.Helper()
	gpg := peers.NewGPG(s.t)
	certificate, err := os.ReadFile(filepath.Join(s.wkd.Dir, "keys", to+".pub.asc"))
	if err != nil {
		s.t.Fatal(err)
	}
	gpg.Import(certificate)
	inner := "Content-Type: text/plain; charset=utf-8; protected-headers=\"v1\"\r\nSubject: " + subject + "\r\n\r\n" + reversed(subject) + " with K\u00e4se\r\n"
	armor := strings.ReplaceAll(gpg.Run([]byte(inner), "--armor", "--encrypt", "-r", to), "\n", "\r\n")
	return "From: Carol <" + carol + ">\r\nTo: " + to + "\r\nSubject: ...\r\nMessage-ID: <" + strings.ReplaceAll(subject, " ", ".") +
		"@charlie.test>\r\nDate: Mon, 23 Nov 2026 11:00:00 +0000\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b\r\n\r\n--b\r\n" +
		"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n" + armor + "\r\n--b--\r\n"
}

// names are the files of the provider's Maildir, which change with every change of flags.
func (r *reader) names() []string {
	r.t.Helper()
	var names []string
	for _, kind := range []string{"cur/*", "new/*", ".*/cur/*", ".*/new/*"} {
		found, err := filepath.Glob(filepath.Join(r.site.provider.Maildir(r.address), kind))
		if err != nil {
			r.t.Fatal(err)
		}
		names = append(names, found...)
	}
	return names
}

var uidvalidity = regexp.MustCompile(`UIDVALIDITY (\d+)`)

// OfflineIMAP synchronises both ways, moves nothing twice, and takes the mailboxes for the same after the bridge
// was started again.
func TestOfflineIMAP(t *testing.T) {
	r := newReader(t)
	local := peers.NewOfflineIMAP(t)
	inbox, clear := filepath.Join(local.Mail, "INBOX"), filepath.Join(local.Mail, "Clear")
	sync := func() string { return local.Sync(r.clientOptions(true), "INBOX", "Clear") }
	files := func() []string {
		return slices.Sorted(maps.Keys(peers.Maildir(t, inbox)))
	}
	nothing := func(when string) {
		t.Helper()
		near, far := files(), r.names()
		if said := sync(); strings.Contains(said, "Copy message") || !slices.Equal(files(), near) || !slices.Equal(r.names(), far) {
			t.Errorf("%s, a run changes something: %s", when, said)
		}
	}

	sync()
	nothing("having run before")
	r.mustHold(inbox, "INBOX", "Canary encrypted", "Canary sealed")
	r.mustHold(clear, "Clear", "Canary clear")
	sync() // curl has read them

	t.Run("flag goes up", func(t *testing.T) {
		file := fileOf(t, inbox, "Canary encrypted")
		name, flags, _ := strings.Cut(filepath.Base(file), ":2,")
		if err := os.Rename(file, filepath.Join(inbox, "cur", name+":2,F"+flags)); err != nil {
			t.Fatal(err)
		}
		sync()
		if flags := r.provider.Flags("INBOX", r.provider.UID("INBOX", "FLAGGED")); !strings.Contains(flags, `\Seen`) {
			t.Errorf("the provider has %s", flags)
		}
	})
	t.Run("message goes up", func(t *testing.T) {
		message := clearMessage("Canary local")
		if err := os.WriteFile(filepath.Join(clear, "new", "1.local.host"), []byte(strings.ReplaceAll(message, "\r\n", "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		sync()
		if shown := r.bridge.Message("Clear", r.bridge.UID("Clear", `SUBJECT "Canary local"`)); !strings.HasSuffix(shown, message) {
			t.Errorf("curl sees %q", shown)
		}
		stored := r.stored(alice, ".Clear")
		if len(stored) != 2 {
			t.Errorf("the provider stores %d messages", len(stored))
		}
		for _, m := range stored {
			if regexp.MustCompile("Canary local|local canary").Match(m.Bytes) {
				t.Errorf("the provider can read %q", m.Bytes)
			}
		}
		sync()
	})
	t.Run("remote delete comes down", func(t *testing.T) {
		r.provider.Delete("INBOX", r.provider.UID("INBOX", "FLAGGED"))
		eventually(t, "the bridge knows", func() bool { return len(r.bridge.UIDs("INBOX", "ALL")) == 1 })
		sync()
		r.mustHold(inbox, "INBOX", "Canary sealed")
	})
	t.Run("restart of the bridge", func(t *testing.T) {
		before := r.provider.Command("", "STATUS INBOX (UIDVALIDITY UIDNEXT)")
		r.stop()
		r.start()
		r.bridge = peers.NewCurl(t, r.clientOptions(true))
		if after := r.bridge.Command("", "STATUS INBOX (UIDVALIDITY UIDNEXT)"); uidvalidity.FindString(after) != uidvalidity.FindString(before) {
			t.Errorf("%s became %s", before, after)
		}
		nothing("after a restart of the bridge")
	})
}

// mustHold compares a local Maildir with what curl is shown.
func (r *reader) mustHold(maildir, mailbox string, subjects ...string) {
	r.t.Helper()
	local := peers.Maildir(r.t, maildir)
	if len(local) != len(subjects) {
		r.t.Errorf("%s holds %d messages", maildir, len(local))
	}
	for _, subject := range subjects {
		shown := r.bridge.Message(mailbox, r.bridge.UID(mailbox, `SUBJECT "`+subject+`"`))
		if !strings.Contains(shown, reversed(subject)) {
			r.t.Errorf("curl sees %q", shown)
		}
		if !slices.Contains(slices.Collect(maps.Values(local)), strings.ReplaceAll(shown, "\r\n", "\n")) {
			r.t.Errorf("%s is not in %s: %q", subject, maildir, local)
		}
	}
}

// fileOf is the local file of a message.
func fileOf(t *testing.T, maildir, subject string) string {
	t.Helper()
	for file, message := range peers.Maildir(t, maildir) {
		if strings.Contains(message, "\nSubject: "+subject+"\n") {
			return file
		}
	}
	t.Fatalf("no %s in %s", subject, maildir)
	return ""
}

// getmailAdds are a field of its own, one that it moves to the top, and the folding of long lines.
var getmailAdds = regexp.MustCompile(`(?m)^(X-getmail-retrieved-from-mailbox|Return-Path): .*\n|\n? `)

// getmail fetches each message once, as curl is shown it.
func TestGetmail(t *testing.T) {
	r := newReader(t)
	local := peers.NewGetmail(t)
	fetch := func() string { return local.Fetch(r.clientOptions(true), "INBOX", "Clear") }
	before := r.names()
	if said := fetch(); len(peers.Maildir(t, local.Mail)) != 3 {
		t.Fatalf("fetched %d: %s", len(peers.Maildir(t, local.Mail)), said)
	}
	fetched := peers.Maildir(t, local.Mail)
	if !slices.Equal(r.names(), before) {
		t.Errorf("the flags at the provider are other ones: %v", r.names())
	}
	for file, message := range fetched {
		_, subject, _ := strings.Cut(message, "\nSubject: ")
		subject, _, _ = strings.Cut(subject, "\n")
		mailbox := map[string]string{"Canary clear": "Clear", "Canary encrypted": "INBOX", "Canary sealed": "INBOX"}[subject]
		shown := r.bridge.Message(mailbox, r.bridge.UID(mailbox, `SUBJECT "`+subject+`"`))
		if getmailAdds.ReplaceAllString(message, "") != getmailAdds.ReplaceAllString(strings.ReplaceAll(shown, "\r\n", "\n"), "") {
			t.Errorf("%s is %q, but curl sees %q", file, message, shown)
		}
	}
	if said := fetch(); len(peers.Maildir(t, local.Mail)) != 3 {
		t.Errorf("the second run fetches: %s", said)
	}
}

// imaplib lists, searches, sorts, reads, changes, appends and removes; the provider has what it left.
func TestImaplib(t *testing.T) {
	r := newReader(t)
	for _, how := range []string{"STARTTLS", "TLS"} {
		t.Run(how, func(t *testing.T) {
			said := peers.RunImaplib(t, r.clientOptions(how == "TLS"))
			if !strings.HasSuffix(said, "done\n") || strings.Contains(said, "not offered") {
				t.Error(said)
			}
			kept := r.stored(alice, ".Clear.Kept")
			if len(kept) != 1 || kept[0].Flags != "S" || strings.Contains(string(kept[0].Bytes), "anary") {
				t.Errorf("the provider keeps %+v", kept)
			}
			if flagged := r.provider.UIDs("INBOX", "FLAGGED"); len(flagged) != 1 || len(r.provider.UIDs("INBOX", "ANSWERED")) != 0 {
				t.Errorf("flagged at the provider: %v", flagged)
			}
			r.bridge.Command("INBOX", "STORE 1:* -FLAGS.SILENT (\\Flagged)")
			r.bridge.Command("", "DELETE Clear/Kept")
		})
	}
}

// Alpine, whose IMAP is c-client's, lists, sorts, opens and deletes.
func TestAlpine(t *testing.T) {
	r := newReader(t)
	sealed := r.provider.UID("INBOX", "UNSEEN")
	if said := peers.RunAlpine(t, r.clientOptions(true)); said != "done\n" {
		t.Error(said)
	}
	if left := r.provider.UIDs("INBOX", "ALL"); !slices.Equal(left, []string{sealed}) {
		t.Errorf("%v is left at the provider, not %s", left, sealed)
	}
	if flags := r.provider.Flags("INBOX", sealed); flags != `\Seen` {
		t.Errorf("what was opened has %s", flags)
	}
}
