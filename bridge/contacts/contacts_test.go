package contacts

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/keydisc"
)

var now = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

func certificate(t *testing.T, name string) *keydisc.Certificate {
	t.Helper()
	data, err := os.ReadFile("../../keydisc/testdata/" + name + ".asc")
	if err != nil {
		t.Fatal(err)
	}
	list, err := keydisc.ParseCertificates(data)
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

func book(t *testing.T, o Options) *Book {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "c.db"), make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	o.DB, o.Log = db, slog.New(slog.DiscardHandler)
	if o.Now == nil {
		o.Now = func() time.Time { return now }
	}
	b := New(o)
	t.Cleanup(func() {
		_ = b.Close()
		_ = db.Close()
	})
	return b
}

func answer(conclusive bool, certs ...*keydisc.Certificate) keydisc.Answer {
	a := keydisc.Answer{Conclusive: conclusive}
	for _, c := range certs {
		a.Found = append(a.Found, keydisc.Found{Certificate: c, Source: keydisc.WKD})
	}
	return a
}

const address = "bob@bravo.test"

// other is a usable certificate for bob's address that is not his.
func other(t *testing.T) *keydisc.Certificate {
	t.Helper()
	return certificate(t, "bob2")
}

func TestFirstUseIsPinnedAndChangeWaits(t *testing.T) {
	b, bob := book(t, Options{}), certificate(t, "bob")
	if l := b.Lookup(t.Context(), address); !errors.Is(l.Usable, ErrNone) || l.Ever || !l.Conclusive {
		t.Fatalf("%+v", l)
	}
	if _, err := b.take(t.Context(), address, answer(true, bob)); err != nil {
		t.Fatal(err)
	}
	l := b.Lookup(t.Context(), "Bob@Bravo.test")
	if l.Usable != nil || l.Trust != Pinned || l.Source != "wkd" || !l.Ever || l.FirstSeen != now {
		t.Fatalf("%+v", l)
	}
	if _, err := b.take(t.Context(), address, answer(true, other(t))); err != nil {
		t.Fatal(err)
	}
	l = b.Lookup(t.Context(), address)
	var changed *ChangedError
	if !errors.As(l.Usable, &changed) || l.Certificate.Fingerprint() != bob.Fingerprint() || changed.Pending != other(t).Fingerprint() || l.Trust != Changed {
		t.Fatalf("%+v", l)
	}
	if got := b.ForVerification(t.Context(), address); len(got) != 2 || got[0].Trust != Pinned || got[1].Trust != Changed {
		t.Errorf("%+v", got)
	}
	if _, err := b.Import(t.Context(), []*keydisc.Certificate{other(t)}); err != nil {
		t.Fatal(err)
	}
	if l = b.Lookup(t.Context(), address); l.Usable != nil || l.Certificate.Fingerprint() != other(t).Fingerprint() || l.Pending != "" || l.Source != SourceImport {
		t.Errorf("%+v", l)
	}
}

func TestPinThatIsStillAnnouncedStays(t *testing.T) {
	b, bob := book(t, Options{}), certificate(t, "bob")
	for range 2 {
		if _, err := b.take(t.Context(), address, answer(true, bob, other(t))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.take(t.Context(), address, answer(true, other(t), bob)); err != nil {
		t.Fatal(err)
	}
	c, _, err := b.Get(t.Context(), address)
	if err != nil || c.Certificate.Fingerprint() != bob.Fingerprint() || c.Trust == Unknown {
		t.Errorf("%v %+v", err, c)
	}
}

func TestUnusableNeverPinnedAndNeverInTheWay(t *testing.T) {
	for _, name := range []string{"expired", "revoked", "weak", "signonly", "sha1"} {
		b, a := book(t, Options{}), name+"@alpha.test"
		if _, err := b.take(t.Context(), a, answer(true, certificate(t, name))); err != nil {
			t.Fatal(err)
		}
		if l := b.Lookup(t.Context(), a); !errors.Is(l.Usable, ErrNone) || l.Certificate != nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

func TestRevocationReachesThePin(t *testing.T) {
	b := book(t, Options{})
	const a = "revoked@alpha.test"
	for _, name := range []string{"unrevoked", "revoked"} {
		if _, err := b.take(t.Context(), a, answer(true, certificate(t, name))); err != nil {
			t.Fatal(err)
		}
	}
	l := b.Lookup(t.Context(), a)
	var unusable *keydisc.UnusableError
	if !errors.As(l.Usable, &unusable) || unusable.Reason != keydisc.ReasonRevoked || !l.Ever {
		t.Errorf("%+v", l)
	}
}

func TestInconclusiveIsNeverKept(t *testing.T) {
	finder, err := keydisc.New(keydisc.Options{
		Methods: []keydisc.Method{keydisc.WKD}, Resolve: map[string]string{"openpgpkey.bravo.test:443": "127.0.0.1:1"},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	b := book(t, Options{Finder: finder})
	for range 2 {
		if l := b.Lookup(t.Context(), address); l.Conclusive || l.Cause == nil || !errors.Is(l.Usable, ErrNone) {
			t.Fatalf("%+v", l)
		}
	}
	if got := b.ForVerification(t.Context(), address); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestDefiniteNoneIsKeptForAnHour(t *testing.T) {
	clock := now
	b := book(t, Options{Now: func() time.Time { return clock }})
	if _, err := b.take(t.Context(), address, answer(true)); err != nil {
		t.Fatal(err)
	}
	r, err := b.get(t.Context(), address)
	if err != nil || r.asked != now {
		t.Fatal(err, r.asked)
	}
	if l := b.Lookup(t.Context(), address); !l.Conclusive || l.Ever {
		t.Errorf("%+v", l)
	}
}

func TestLearn(t *testing.T) {
	off := book(t, Options{})
	if err := off.Learn(t.Context(), address, certificate(t, "bob"), SourceAutocrypt, now); err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := off.Get(t.Context(), address); ok {
		t.Error("learned although Autocrypt is off")
	}
	b := book(t, Options{UseAutocrypt: true})
	if err := b.Learn(t.Context(), address, certificate(t, "alice"), SourceAutocrypt, now); err == nil {
		t.Error("a certificate for another address was taken")
	}
	if err := b.Learn(t.Context(), address, certificate(t, "bob"), SourceAutocrypt, now); err != nil {
		t.Fatal(err)
	}
	if err := b.Learn(t.Context(), address, other(t), SourceAutocrypt, now.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if l := b.Lookup(t.Context(), address); l.Usable != nil || l.Source != SourceAutocrypt {
		t.Errorf("an old field changed something: %+v", l)
	}
	if err := b.Learn(t.Context(), address, other(t), SourceAutocrypt, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if l := b.Lookup(t.Context(), address); l.Trust != Changed || l.Usable == nil {
		t.Errorf("a change passed silently: %+v", l)
	}
}

func TestListAndUsed(t *testing.T) {
	b := book(t, Options{})
	imported, err := b.Import(t.Context(), []*keydisc.Certificate{certificate(t, "bob"), certificate(t, "alice")})
	if err != nil || len(imported) != 3 {
		t.Fatal(err, imported)
	}
	if err := b.Used(t.Context(), address, now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.take(t.Context(), "nobody@alpha.test", answer(true)); err != nil {
		t.Fatal(err)
	}
	list, err := b.List(t.Context())
	if err != nil || len(list) != 3 || list[0].Address != "alice@alpha.test" || list[1].LastUsed != now.Add(time.Minute) || !list[0].LastUsed.IsZero() {
		t.Errorf("%v %+v", err, list)
	}
}
