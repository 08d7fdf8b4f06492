package bridge

import (
	"slices"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/keydisc"
)

func certificateFor(t *testing.T, address string) *keydisc.Certificate {
	t.Helper()
	certificates, err := keydisc.ParseCertificates(bridgetest.PublicKey(address))
	if err != nil {
		t.Fatal(err)
	}
	return certificates[0]
}

// What a contact tells of the other recipients makes an answer to all possible; the network is asked first. A stranger tells
// nothing, however well the mail is signed.
func TestGossip(t *testing.T) {
	w := newWorld(t)
	from, stranger, friend := w.start(alice), w.open(w.options(bob, t.TempDir())), w.open(w.options(bob, t.TempDir()))
	if _, err := friend.bridge.ImportContacts(t.Context(), []*keydisc.Certificate{certificateFor(t, alice)}); err != nil {
		t.Fatal(err)
	}
	if err := submit(t, from, message(alice, bob+">, <"+carol, "To both of you", secretBody), bob, carol); err != nil {
		t.Fatal(err)
	}
	w.wkd.Withdraw(carol)
	for _, a := range []*Account{stranger, friend} {
		defer runOnly(t, a)()
		waitFor(t, a, "INBOX", "signature=good", secretBody)
	}
	if c, known, err := stranger.bridge.contacts.Get(t.Context(), carol); err != nil || known {
		t.Errorf("a stranger's word was taken: %+v %v", c, err)
	}
	c, _, err := friend.bridge.contacts.Get(t.Context(), carol)
	if err != nil || c.Source != contacts.SourceGossip || c.Trust != contacts.Pinned || c.Certificate.Fingerprint() != certificateFor(t, carol).Fingerprint() {
		t.Fatalf("%+v %v", c, err)
	}
	if c, known, _ := friend.bridge.contacts.Get(t.Context(), bob); known {
		t.Errorf("learnt of itself: %+v", c)
	}
	before := len(w.wkd.Requests())
	if l := friend.bridge.contacts.Lookup(t.Context(), carol); l.Usable != nil || l.Source != contacts.SourceGossip {
		t.Errorf("%+v", l)
	}
	if asked := w.wkd.Requests()[before:]; !slices.ContainsFunc(asked, func(r string) bool { return strings.Contains(r, "charlie.test") }) {
		t.Error("used without asking the network first")
	}
}

func spooled(t *testing.T, a *Account, text string) *spool.Spool {
	t.Helper()
	s, err := spool.FromReader(a.bridge.spoolDir, strings.NewReader(text), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// learntFrom is the addresses of which a contact's message made a contact, if opening it came to that result.
func learntFrom(t *testing.T, a *Account, change func(*pgpmime.Result, *verdict, *contacts.Contact), gossip ...string) (learnt []string) {
	t.Helper()
	signer := contacts.Contact{Address: alice, Certificate: certificateFor(t, alice), Trust: contacts.Pinned, InUse: true}
	r := &pgpmime.Result{Encryption: pgpmime.EncryptionOpenPGP, Gossip: gossip, Message: spooled(t, a, message(alice, carol, "s", "b", "Cc: "+dave+", "+bob))}
	v := verdict{signature: pgpmime.SignatureGood, signer: signer.Certificate.Fingerprint()}
	change(r, &v, &signer)
	a.learnGossip(t.Context(), r, v, map[keydisc.Fingerprint]contacts.Contact{signer.Certificate.Fingerprint(): signer})
	list, err := a.bridge.contacts.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		learnt = append(learnt, c.Address)
		if err := a.bridge.contacts.Forget(t.Context(), c.Address); err != nil {
			t.Fatal(err)
		}
	}
	return learnt
}

func TestGossipIsLearntFromFewMessages(t *testing.T) {
	w := newWorld(t)
	a := w.open(w.options(bob, t.TempDir()))
	about := func(address string) string {
		value, err := pgpmime.AutocryptValue(address, certificateFor(t, address))
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	all := []string{about(alice), about(bob), about(carol), "addr=" + dave + "; keydata=AAAA"}
	for name, c := range map[string]struct {
		change func(*pgpmime.Result, *verdict, *contacts.Contact)
		gossip []string
		want   []string
	}{
		"good":       {func(*pgpmime.Result, *verdict, *contacts.Contact) {}, all, []string{carol}},
		"told twice": {func(*pgpmime.Result, *verdict, *contacts.Contact) {}, append(all, about(carol)), nil},
		"not signed": {func(_ *pgpmime.Result, v *verdict, _ *contacts.Contact) {
			v.signature, v.signer = pgpmime.SignatureNone, ""
		}, all, nil},
		"signed by another":     {func(_ *pgpmime.Result, v *verdict, _ *contacts.Contact) { v.signature = pgpmime.SignatureMismatch }, all, nil},
		"header not signed":     {func(_ *pgpmime.Result, v *verdict, _ *contacts.Contact) { v.reason = "outer-only" }, all, nil},
		"a stranger":            {func(_ *pgpmime.Result, _ *verdict, c *contacts.Contact) { c.InUse = false }, all, nil},
		"not encrypted":         {func(r *pgpmime.Result, _ *verdict, _ *contacts.Contact) { r.Encryption = pgpmime.EncryptionNone }, all, nil},
		"sealed, not encrypted": {func(r *pgpmime.Result, _ *verdict, _ *contacts.Contact) { r.Encryption = pgpmime.EncryptionSealed }, all, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := learntFrom(t, a, c.change, c.gossip...); !slices.Equal(got, c.want) {
				t.Errorf("learnt of %v, not %v", got, c.want)
			}
		})
	}
}
