package bridge

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/keydisc"
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
	if _, err := a.GenerateKey(t.Context(), ProfileCompatible, false); err != nil {
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

// stranger is somebody with a fresh key that says it is the address's.
func (w *world) stranger(address string) *Account {
	w.t.Helper()
	a := opened(w.t, w.options(address, w.t.TempDir()))
	w.t.Cleanup(func() { _ = a.bridge.Close() })
	if _, err := a.GenerateKey(w.t.Context(), ProfileCompatible, false); err != nil {
		w.t.Fatal(err)
	}
	return a
}

// writes is signed and encrypted mail as a sender of his choice, with his certificate in the Autocrypt field.
func (a *Account) writes(t *testing.T, as, to string) string {
	t.Helper()
	own, err := a.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := a.ring.Signer()
	if err != nil {
		t.Fatal(err)
	}
	autocrypt, err := autocryptFor(as, own)
	if err != nil {
		t.Fatal(err)
	}
	text := "From: <" + as + ">\r\nTo: <" + to + ">\r\nSubject: x\r\nMessage-ID: <f@x>\r\n\r\n" + secretBody + "\r\n"
	var out bytes.Buffer
	if err := pgpmime.Encrypt(&out, strings.NewReader(text), pgpmime.EncryptOptions{
		Recipients: []*keydisc.Certificate{certificateOf(t, to)}, Signer: signer, Autocrypt: autocrypt}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// One mail that anybody may have written claims nothing about a contact the user has imported, and does
// not stop the sending to him.
func TestMailDoesNotContestAnImport(t *testing.T) {
	w := newWorld(t)
	a := w.open(w.options(alice, t.TempDir()))
	if _, err := a.bridge.ImportContacts(t.Context(), []*keydisc.Certificate{certificateOf(t, bob)}); err != nil {
		t.Fatal(err)
	}
	shown := opensTo(t, a, w.stranger(bob).writes(t, bob, alice))
	if !strings.Contains(shown, "signature=unknown-key; signer=-; trust=unknown") {
		t.Errorf("a stranger's mail:\n%s", shown)
	}
	if err := submit(t, a, message(alice, bob, "x", "y"), bob); err != nil {
		t.Errorf("and then: %v", err)
	}
}

// Where the pin came with mail, too, the user has to decide; until then the newer signature is not good.
func TestContestedSignatureIsNotGood(t *testing.T) {
	w := newWorld(t)
	o := w.options(alice, t.TempDir())
	o.Keydisc.Methods = nil
	a := w.open(o)
	first, second := w.stranger(bob).writes(t, bob, alice), w.stranger(bob).writes(t, bob, alice)
	for _, c := range []struct {
		text, status string
		keyword      imap.Flag
	}{
		{first, "signature=good; signer=", KeywordSignedGood},
		{second, "signature=mismatch; signer=", KeywordSignedBad},
		{first, "signature=good; signer=", KeywordSignedGood},
	} {
		opened, err := a.openStored(t.Context(), strings.NewReader(c.text))
		if err != nil {
			t.Fatal(err)
		}
		_ = opened.Message.Close()
		if shown := opensTo(t, a, c.text); !strings.Contains(shown, c.status) {
			t.Errorf("want %s in\n%s", c.status, shown)
		}
		if len(opened.Keywords) != 2 || opened.Keywords[1] != c.keyword {
			t.Errorf("keywords %v, want %v", opened.Keywords, c.keyword)
		}
	}
	if shown := opensTo(t, a, second); !strings.Contains(shown, "trust=changed") {
		t.Errorf("the contested signer:\n%s", shown)
	}
}

// Signed mail from strangers arrives without a word to their servers.
func TestStrangersMailIsNoBeacon(t *testing.T) {
	w := newWorld(t)
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	called := make(chan struct{}, 10)
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			called <- struct{}{}
			_ = c.Close()
		}
	}()
	o := w.options(bob, t.TempDir())
	for _, host := range []string{"openpgpkey.id-4711.evil.test:443", "id-4711.evil.test:443"} {
		o.Keydisc.Resolve[host] = server.Addr().String()
	}
	a := w.open(o)
	const spam = "spam@id-4711.evil.test"
	shown := opensTo(t, a, w.stranger(carol).writes(t, spam, bob))
	if !strings.Contains(shown, "signature=unknown-key") {
		t.Errorf("shown as:\n%s", shown)
	}
	if len(called) > 0 {
		t.Error("the sender's host was asked")
	}
	if l := a.bridge.certificateOf(t.Context(), spam); l.Conclusive || len(called) == 0 {
		t.Errorf("writing to the sender asks nobody: %+v", l)
	}
}
