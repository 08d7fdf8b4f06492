package keydisc

import (
	"bytes"
	"crypto"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// withoutUserIDs is the certificate as keys.openpgp.org sends it where its owner has agreed to nothing.
func withoutUserIDs(t testing.TB, c *Certificate) []byte {
	t.Helper()
	e, err := c.Entity()
	if err != nil {
		t.Fatal(err)
	}
	clear(e.Identities)
	data, err := serialize(e)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseUpdate(t *testing.T) {
	lapsed, bob := load(t, "lapsed"), load(t, "bob")
	bobAlone, err := bob.ForAddress("bob@bravo.test")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		known   *Certificate
		news    []byte
		address string
		want    Reason
	}{
		"revocation":                   {load(t, "unrevoked"), load(t, "revoked").Bytes(), "revoked@alpha.test", ReasonRevoked},
		"revocation, no user ID":       {load(t, "unrevoked"), withoutUserIDs(t, load(t, "revoked")), "revoked@alpha.test", ReasonRevoked},
		"armored":                      {load(t, "unrevoked"), mustRead(t, "testdata/revoked.asc"), "revoked@alpha.test", ReasonRevoked},
		"an old copy":                  {load(t, "revoked"), withoutUserIDs(t, load(t, "unrevoked")), "revoked@alpha.test", ReasonRevoked},
		"extended":                     {lapsed, load(t, "extended").Bytes(), lapsed.Addresses()[0], ""},
		"nothing new":                  {bob, withoutUserIDs(t, bob), "bob@bravo.test", ""},
		"a user ID that was not asked": {bobAlone, bob.Bytes(), "robert@other.test", ReasonAddress},
		"among others":                 {bob, append(withoutUserIDs(t, load(t, "alice")), withoutUserIDs(t, bob)...), "bob@bravo.test", ""},
	} {
		after, err := ParseUpdate(c.news, c.known)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var unusable *UnusableError
		got := Reason("")
		if errors.As(after.Check(c.address, now), &unusable) {
			got = unusable.Reason
		}
		if got != c.want || after.Fingerprint() != c.known.Fingerprint() || !slices.Equal(after.Addresses(), c.known.Addresses()) {
			t.Errorf("%s: %q %v", name, got, after.Addresses())
		}
	}
}

func TestParseUpdateRefuses(t *testing.T) {
	alice := load(t, "alice")
	for name, data := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "huge": make([]byte, maxInput+1), "packet": {0xff, 0xff, 0xff}, "cut": alice.Bytes()[:40],
		"another certificate": load(t, "bob").Bytes(), "another without user ID": withoutUserIDs(t, load(t, "bob")),
		"secret key": mustRead(t, "testdata/secret.asc"),
	} {
		if after, err := ParseUpdate(data, alice); err == nil {
			t.Errorf("%s: parsed as %v", name, after)
		}
	}
	if _, err := ParseUpdate(mustRead(t, "testdata/secret.asc"), alice); !errors.Is(err, ErrSecretKey) {
		t.Error(err)
	}
	if _, err := alice.Update(load(t, "bob")); err == nil {
		t.Error("another certificate is no news of this one")
	}
}

// A certificate without user ID is news, and never a certificate.
func TestPartialIsNoCertificate(t *testing.T) {
	alice := load(t, "alice")
	bare := withoutUserIDs(t, alice)
	if _, err := ParseCertificates(bare); err == nil {
		t.Error("parsed")
	}
	updates, err := updatesOf(bare, alice.Fingerprint())
	if err != nil || len(updates) != 1 {
		t.Fatal(err)
	}
	if updates[0].Check("alice@alpha.test", now) == nil {
		t.Error("usable")
	}
	if _, err := updates[0].ForAddress("alice@alpha.test"); err == nil {
		t.Error("for an address that it does not name")
	}
	if _, err := updates[0].Update(updates[0]); err == nil {
		t.Error("two halves make no certificate")
	}
	if both, err := updates[0].Merge(alice); err != nil || !bytes.Equal(both.Bytes(), alice.Bytes()) {
		t.Error(err)
	}
}

// A new subkey arrives; one that another key is made to own does not.
func TestUpdateSubkeys(t *testing.T) {
	e, forger := entity(t, "bob@bravo.test"), entity(t, "mallory@bravo.test")
	known := parseOne(t, public(t, e))
	if err := e.AddEncryptionSubkey(at(now.AddDate(0, -1, 0))); err != nil {
		t.Fatal(err)
	}
	e.Subkeys = append(e.Subkeys, forger.Subkeys...)
	clear(e.Identities)
	news, err := serialize(e)
	if err != nil {
		t.Fatal(err)
	}
	after, err := ParseUpdate(news, known)
	if err != nil {
		t.Fatal(err)
	}
	got, err := after.Entity()
	if err != nil || len(got.Subkeys) != 2 {
		t.Fatal("not exactly its own subkeys", err)
	}
	key, ok := got.EncryptionKey(now, verifying())
	if !ok || key.PublicKey.KeyId != e.Subkeys[1].PublicKey.KeyId {
		t.Error("the new subkey is not used")
	}
}

// Forged news neither revokes a certificate nor pushes what it has out of the limits.
func TestForgedUpdate(t *testing.T) {
	e, forger := entity(t, "bob@bravo.test"), entity(t, "mallory@bravo.test")
	known := parseOne(t, public(t, e))
	var news bytes.Buffer
	if err := e.PrimaryKey.Serialize(&news); err != nil {
		t.Fatal(err)
	}
	for i := range maxForged + 10 {
		revocation := packet.Signature{
			Version: 4, SigType: packet.SigTypeKeyRevocation, PubKeyAlgo: e.PrimaryKey.PubKeyAlgo, Hash: crypto.SHA256,
			CreationTime: now.Add(time.Duration(i) * time.Second), IssuerKeyId: &e.PrimaryKey.KeyId,
		}
		if err := revocation.RevokeKey(e.PrimaryKey, inTheNameOf(e.PrimaryKey, forger), at(revocation.CreationTime)); err != nil {
			t.Fatal(err)
		}
		if err := revocation.Serialize(&news); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := readPartial(bytes.NewReader(news.Bytes()))
	if err != nil || len(raw) != 1 || len(raw[0].Revocations) != maxForged+10 {
		t.Fatal("the forged ones do not look like its own", err)
	}
	after, err := ParseUpdate(news.Bytes(), known)
	if err != nil || !bytes.Equal(after.Bytes(), known.Bytes()) {
		t.Error("something of it was taken in", err)
	}
}

func TestUpdateV6(t *testing.T) {
	config := &packet.Config{V6Keys: true, Algorithm: packet.PubKeyAlgoEd25519}
	config.Time = func() time.Time { return now.AddDate(-1, 0, 0) }
	e, err := openpgp.NewEntity("", "", "bob@bravo.test", config)
	if err != nil {
		t.Fatal(err)
	}
	known := parseOne(t, public(t, e))
	if err := e.Revoke(packet.KeyCompromised, "", at(now.AddDate(0, -1, 0))); err != nil {
		t.Fatal(err)
	}
	clear(e.Identities)
	e.DirectSignatures = nil
	news, err := serialize(e)
	if err != nil {
		t.Fatal(err)
	}
	after, err := ParseUpdate(news, known)
	var unusable *UnusableError
	if err != nil || !errors.As(after.Check("bob@bravo.test", now), &unusable) || unusable.Reason != ReasonRevoked {
		t.Error("the revocation was not learnt", err)
	}
}

func FuzzParseUpdate(f *testing.F) {
	known := load(f, "unrevoked")
	f.Add(load(f, "revoked").Bytes())
	f.Add(withoutUserIDs(f, load(f, "revoked")))
	f.Add(mustRead(f, "testdata/revoked.asc"))
	f.Add(load(f, "bob").Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		after, err := ParseUpdate(data, known)
		if err != nil {
			return
		}
		if after.Fingerprint() != known.Fingerprint() || len(after.Addresses()) > len(known.Addresses()) {
			t.Errorf("%s %v", after.Fingerprint(), after.Addresses())
		}
		if _, err := ParseCertificates(after.Bytes()); err != nil {
			t.Error(err)
		}
	})
}
