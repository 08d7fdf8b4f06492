package bridge

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/keydisc"
)

// lived is an account that was given time to live in, and its clock.
func lived(t *testing.T, w *world, address string) (*Account, *time.Time) {
	t.Helper()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	o := w.options(address, t.TempDir())
	o.Now = func() time.Time { return now }
	return w.open(o), &now
}

// keyEvents are what the log says of keys.
func keyEvents(t *testing.T, a *Account) (details []string) {
	t.Helper()
	entries, err := a.bridge.audit.List(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Event == "key" {
			details = append(details, e.Detail)
		}
	}
	return details
}

func certificate(t *testing.T, a *Account) *keydisc.Certificate {
	t.Helper()
	c, err := a.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestKeysAreLookedAfter: in ten years of the daemon's routine a generated key never becomes unusable, each change is in the log, and
// there are no others; an imported key is left alone.
func TestKeysAreLookedAfter(t *testing.T) {
	a, now := lived(t, newWorld(t), "reader@zulu.test")
	if _, err := a.GenerateKey(t.Context(), ProfileCompatible, false); err != nil {
		t.Fatal(err)
	}
	fingerprint, start := certificate(t, a).Fingerprint(), *now
	changes := 0
	for week := range 10 * 52 {
		*now = start.Add(time.Duration(week) * 7 * 24 * time.Hour)
		before := certificate(t, a)
		if err := a.maintainKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(before.Bytes(), certificate(t, a).Bytes()) {
			changes++
		}
		if err := certificate(t, a).Check(a.Address(), now.Add(7*24*time.Hour)); err != nil || certificate(t, a).Fingerprint() != fingerprint {
			t.Fatalf("week %d: %v", week, err)
		}
	}
	if events := keyEvents(t, a); len(events) != 1+changes || events[1] != "renewed" || changes < 9 || changes > 14 {
		t.Errorf("%d changes, but %q", changes, events)
	}

	b, now := lived(t, newWorld(t), alice)
	imported := certificate(t, b)
	*now = now.Add(5 * 365 * 24 * time.Hour)
	if err := b.maintainKeys(t.Context()); err != nil || !bytes.Equal(imported.Bytes(), certificate(t, b).Bytes()) {
		t.Error("an imported key was changed", err)
	}
}

// TestOwnMailTellsOfTheKey: what one device does to a key another one learns from the mail that the first sends; from mail that
// only looks so it learns nothing.
func TestOwnMailTellsOfTheKey(t *testing.T) {
	w := newWorld(t)
	first, now := lived(t, w, alice)
	second, later := lived(t, w, alice)
	*now, *later = now.Add(time.Minute), later.Add(time.Hour)
	if _, err := first.RotateKey(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	*now = now.Add(time.Minute)
	if bytes.Equal(certificate(t, first).Bytes(), certificate(t, second).Bytes()) {
		t.Fatal("nothing has changed")
	}
	forged, err := keydisc.ParseCertificates(bridgetest.PublicKey(bob))
	if err != nil {
		t.Fatal(err)
	}
	value, err := pgpmime.AutocryptValue(bob, forged[0])
	if err != nil {
		t.Fatal(err)
	}
	before := certificate(t, second)
	opensTo(t, second, message(alice, alice, "forged", "hello", "Autocrypt: "+strings.Replace(value, bob, alice, 1)))
	if len(second.Keys()) != 1 || !bytes.Equal(before.Bytes(), certificate(t, second).Bytes()) {
		t.Error("a forged field has changed the key")
	}
	toNew := encryptedBody(t, first, []string{bob}, message(alice, bob, "hello", "the text"))
	if shown := opensTo(t, second, string(toNew)); !strings.Contains(shown, "the text") {
		t.Errorf("the mail that tells of the new subkey, and is encrypted to it, does not open:\n%.400s", shown)
	}
	if !bytes.Equal(certificate(t, first).Bytes(), certificate(t, second).Bytes()) {
		t.Error("the devices have different certificates")
	}
	if events := keyEvents(t, second); events[len(events)-1] != "renewed by another device" {
		t.Errorf("%q", events)
	}
}

// TestAliasWithAKeyOfItsOwn: mail from an alias is signed by the key that has it, mail to it is encrypted to that; where no key has
// the alias, the one in use serves.
func TestAliasWithAKeyOfItsOwn(t *testing.T) {
	w := newWorld(t)
	o := w.options("main@zulu.test", t.TempDir())
	o.Accounts[0].Aliases = []string{alice, "other@zulu.test"}
	a := w.open(o)
	if _, err := a.ImportKey(t.Context(), bridgetest.SecretKey(alice), nil); err != nil {
		t.Fatal(err)
	}
	ofAlias := certificate(t, a).Fingerprint()
	main, err := a.ring.Generate(t.Context(), ProfileCompatible, []string{"main@zulu.test"}, a.bridge.now(), true)
	if err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]keydisc.Fingerprint{alice: ofAlias, "main@zulu.test": main.Fingerprint, "other@zulu.test": main.Fingerprint} {
		own, signer, _, err := a.ring.For(from, a.bridge.now())
		if err != nil || own.Fingerprint() != want || fmt.Sprintf("%X", signer.PrimaryKey.Fingerprint) != string(want) {
			t.Errorf("%s is spoken for by %s: %v", from, own.Fingerprint(), err)
		}
		lookup := a.bridge.certificateOf(t.Context(), from)
		if lookup.Usable != nil || lookup.Contact.Certificate.Fingerprint() != want {
			t.Errorf("mail to %s: %v", from, lookup.Usable)
		}
	}
	if _, err := a.RevokeKey(t.Context(), ofAlias, "retired", "", false); err != nil {
		t.Fatal(err)
	}
	if own, _, _, err := a.ring.For(alice, a.bridge.now()); err != nil || own.Fingerprint() != main.Fingerprint {
		t.Error("a revoked key speaks for the alias", err)
	}
}
