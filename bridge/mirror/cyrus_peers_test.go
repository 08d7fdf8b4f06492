//go:build peers

package mirror

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/bridgetest/peers"
	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/bridge/upstream"
)

// cyrusRig is a mirror of an account at Cyrus, and another client of the same account.
type cyrusRig struct {
	*rig
	other *upstream.Provider
}

func newCyrusRig(t *testing.T) *cyrusRig {
	t.Helper()
	c := peers.StartCyrus(t)
	at, err := upstream.ParseEndpoint(c.IMAPURL)
	check(t, err)
	pem, err := os.ReadFile(c.CAFile)
	check(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	connect := func() *upstream.Provider {
		p := upstream.New(upstream.Options{IMAP: at, Username: c.Username, TLS: &tls.Config{RootCAs: roots},
			Password: func(context.Context) (string, error) { return c.Password, nil }})
		t.Cleanup(func() { _ = p.Close() })
		return p
	}
	r := &cyrusRig{&rig{t: t, path: filepath.Join(t.TempDir(), "sealpost.db")}, connect()}
	db, err := store.Open(t.Context(), r.path, bytes.Repeat([]byte{7}, 32))
	check(t, err)
	t.Cleanup(func() { check(t, db.Close()) })
	r.Mirror, err = New(t.Context(), Options{DB: db, Account: "alice", Provider: connect(), Open: r.open, SpoolDir: t.TempDir()})
	check(t, err)
	r.stop = func() {}
	t.Cleanup(r.run())
	return r
}

// others does something as the other client.
func (r *cyrusRig) others(mailbox string, f func(c *upstream.Conn) error) {
	r.t.Helper()
	c, err := r.other.Acquire(r.t.Context(), mailbox)
	check(r.t, err)
	defer r.other.Release(c)
	check(r.t, f(c))
}

func (r *cyrusRig) store(mailbox string, uid imap.UID, op imap.StoreFlagsOp, flags ...imap.Flag) {
	r.t.Helper()
	r.others(mailbox, func(c *upstream.Conn) error {
		return c.Store(imap.UIDSetNum(uid), &imap.StoreFlags{Op: op, Flags: flags}, nil).Close()
	})
}

// TestCyrus mirrors an account at a server that has what Dovecot has not.
func TestCyrus(t *testing.T) {
	r := newCyrusRig(t)
	inbox := r.refreshed("INBOX")
	check(t, r.Create(t.Context(), "Later", &imap.CreateOptions{SpecialUse: []imap.MailboxAttr{imap.MailboxAttrJunk}}))
	if name, ok := r.SpecialUse(t.Context(), imap.MailboxAttrJunk); name != "Later" || !ok {
		t.Errorf("junk goes to %q", name)
	}
	for i := range 3 {
		_, err := r.Append(t.Context(), "INBOX", source(letter(strings.Repeat("x", i+1), "text")), nil)
		check(t, err)
	}
	r.changes(inbox)
	r.identifiers(inbox)
	quota, err := r.MailboxQuota(t.Context(), "INBOX")
	check(t, err)
	if len(quota) != 1 || len(quota[0].Resources) != 1 || quota[0].Resources[0].Name != "STORAGE" || quota[0].Resources[0].Limit != 100_000 {
		t.Errorf("quota %+v", quota)
	}
}

// changes are seen as they come, with CHANGEDSINCE of CONDSTORE (RFC 7162 §3.1.4.1).
func (r *cyrusRig) changes(inbox *Mailbox) {
	r.store("INBOX", 2, imap.StoreFlagsAdd, imap.FlagFlagged, "$Mine")
	s := r.await(inbox, "the flag", func(s *Snapshot) bool { return len(s.Messages) == 3 && hasFlag(s.Messages[1].Flags, imap.FlagFlagged) })
	if !hasFlag(s.Messages[1].Flags, "$Mine") || hasFlag(s.Messages[0].Flags, imap.FlagFlagged) {
		r.t.Errorf("flags %v", s.Messages)
	}
	if now := inbox.metaNow(); now.modseq == 0 {
		r.t.Error("CONDSTORE is not used")
	}
	r.store("INBOX", 2, imap.StoreFlagsDel, imap.FlagFlagged)
	r.await(inbox, "the flag's end", func(s *Snapshot) bool { return !hasFlag(s.Messages[1].Flags, imap.FlagFlagged) })
	r.store("INBOX", 1, imap.StoreFlagsAdd, imap.FlagDeleted)
	r.others("INBOX", func(c *upstream.Conn) error { return c.UIDExpunge(imap.UIDSetNum(1)).Close() })
	r.await(inbox, "the removal", func(s *Snapshot) bool { return slices.Equal(uidsOf(s), []imap.UID{2, 3}) })
}

// identifiers follow messages and mailboxes (RFC 8474 §4, §5).
func (r *cyrusRig) identifiers(inbox *Mailbox) {
	t := r.t
	if has, err := r.HasObjectIDs(t.Context()); !has || err != nil {
		t.Fatal("no identifiers", err)
	}
	_, err := inbox.Copy(t.Context(), imap.UIDSetNum(3), "Later")
	check(t, err)
	before := r.refreshed("Later").Snapshot().ObjectID
	check(t, r.Rename(t.Context(), "Later", "Sooner"))
	sooner := r.refreshed("Sooner")
	if id := sooner.Snapshot().ObjectID; id == "" || id != before || id == inbox.Snapshot().ObjectID {
		t.Errorf("the mailbox was %q and is %q", before, id)
	}
	for range 2 { // asked for, and kept
		here, err := inbox.ObjectIDs(t.Context(), []imap.UID{2, 3, 99})
		check(t, err)
		there, err := sooner.ObjectIDs(t.Context(), []imap.UID{1})
		check(t, err)
		if len(here) != 2 || here[3].Email == "" || here[3] != there[1] || here[2].Email == here[3].Email || here[3].Thread == "" {
			t.Errorf("%+v, copied %+v", here, there)
		}
	}
	found, err := inbox.Search(t.Context(), Or{EmailID("none"), ThreadID(r.idOf(inbox, 2).Thread)}, uidsOf(inbox.Snapshot()))
	if err != nil || !slices.Equal(found, []imap.UID{2}) {
		t.Errorf("found %v, %v", found, err)
	}
}

func (r *cyrusRig) idOf(b *Mailbox, uid imap.UID) ObjectID {
	ids, err := b.ObjectIDs(r.t.Context(), []imap.UID{uid})
	check(r.t, err)
	return ids[uid]
}
