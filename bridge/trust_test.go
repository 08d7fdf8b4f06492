package bridge

import (
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/keydisc"
)

// The signer's certificate comes to be known after the mail: the keyword follows, also over a restart,
// the message stays what it was.
func TestKeywordsFollowTrust(t *testing.T) {
	w := newWorld(t)
	from := w.start(alice)
	if err := submit(t, from, message(alice, bob, "From nobody known", secretBody), bob); err != nil {
		t.Fatal(err)
	}
	o := w.options(bob, t.TempDir())
	o.UseAutocrypt, o.Keydisc.Methods = false, nil
	b := opened(t, o)
	if err := b.bridge.SetProviderPassword(t.Context(), bob, "secret of "+bob); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ImportKey(t.Context(), bridgetest.SecretKey(bob), nil); err != nil {
		t.Fatal(err)
	}
	stop := runUntilDone(t, b)
	before := waitFor(t, b, "INBOX", "signature=unknown-key")
	if flags := flagsIn(t, b, "INBOX"); slices.Contains(flags, KeywordSignedGood) || !slices.Contains(flags, KeywordEncrypted) {
		t.Fatalf("before: %v", flags)
	}
	stop()
	b = opened(t, o) // a contact is imported while the daemon does not run
	certificates, err := keydisc.ParseCertificates(bridgetest.PublicKey(alice))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.bridge.ImportContacts(t.Context(), certificates); err != nil {
		t.Fatal(err)
	}
	defer runUntilDone(t, b)()
	eventually(t, "the keyword follows", func() bool { return slices.Contains(flagsIn(t, b, "INBOX"), KeywordSignedGood) })
	if after := waitFor(t, b, "INBOX", "signature=unknown-key"); after != before {
		t.Errorf("the message has changed:\n%s\n%s", before, after)
	}
	for _, m := range w.provider.Stored(bob) {
		if strings.Contains(strings.Join(m.Flags, " "), "$Signed") {
			t.Errorf("the provider stores %v", m.Flags)
		}
	}
	if changes, err := b.bridge.contacts.Changes(t.Context()); err != nil || len(changes) > 0 {
		eventually(t, "the change is settled", func() bool {
			changes, err := b.bridge.contacts.Changes(t.Context())
			return err == nil && len(changes) == 0
		})
	}
}

func opened(t *testing.T, o Options) *Account {
	t.Helper()
	b, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return b.Accounts()[0]
}

// flagsIn are the flags of the only message.
func flagsIn(t *testing.T, a *Account, mailbox string) []imap.Flag {
	t.Helper()
	box, err := a.Mirror().Mailbox(t.Context(), mailbox)
	if err != nil {
		t.Fatal(err)
	}
	messages := box.Snapshot().Messages
	if len(messages) != 1 {
		t.Fatalf("%d messages", len(messages))
	}
	return messages[0].Flags
}
