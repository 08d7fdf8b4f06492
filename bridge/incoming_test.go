package bridge

import (
	"strings"
	"testing"

	"github.com/sealpost/sealpost/bridge/bridgetest"
)

// Mail that came before its key: shown as it is, with the reason; readable once the key is there.
func TestImportedKeyOpensOlderMail(t *testing.T) {
	w := newWorld(t)
	from := w.start(alice)
	if err := submit(t, from, message(alice, bob, "Early", secretBody), bob); err != nil {
		t.Fatal(err)
	}
	o := w.options(bob, t.TempDir())
	b, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	a := b.Accounts()[0]
	if err := b.SetProviderPassword(t.Context(), bob, "secret of "+bob); err != nil {
		t.Fatal(err)
	}
	if _, err := a.GenerateKey(t.Context(), ProfileCompatible); err != nil {
		t.Fatal(err)
	}
	defer runUntilDone(t, a)()
	got := waitFor(t, a, "INBOX", "encryption=failed")
	if !strings.Contains(got, "reason=no-key") || !strings.Contains(got, "BEGIN PGP MESSAGE") {
		t.Errorf("without the key: %s", got)
	}
	if _, err := a.ImportKey(t.Context(), bridgetest.SecretKey(bob), nil); err != nil {
		t.Fatal(err)
	}
	got = waitFor(t, a, "INBOX", secretBody)
	if !strings.Contains(got, "encryption=openpgp; signature=good") {
		t.Errorf("with the key: %s", got)
	}
}
