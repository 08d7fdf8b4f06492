package keydisc

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

var now = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

func load(t testing.TB, name string) *Certificate {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name + ".asc")
	if err != nil {
		t.Fatal(err)
	}
	certificates, err := ParseCertificates(data)
	if err != nil || len(certificates) != 1 {
		t.Fatal(err, len(certificates))
	}
	return certificates[0]
}

// The certificates in testdata were made with GnuPG.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		file, address string
		want          Reason
	}{
		{"alice", "alice@alpha.test", ""},
		{"alice", "ALICE@alpha.TEST", ""},
		{"alice", "alice@other.test", ReasonAddress},
		{"alice", "not an address", ReasonAddress},
		{"bob", "bob@bravo.test", ""},
		{"bob", "robert@other.test", ""},
		{"weak", "weak@alpha.test", ReasonWeak},
		{"sha1", "sha1@alpha.test", ReasonWeak},
		{"expired", "expired@alpha.test", ReasonExpired},
		{"revoked", "revoked@alpha.test", ReasonRevoked},
		{"unrevoked", "revoked@alpha.test", ""},
		{"signonly", "signonly@alpha.test", ReasonNoEncrypt},
	} {
		err := load(t, c.file).Check(c.address, now)
		var unusable *UnusableError
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s for %s: %v", c.file, c.address, err)
		case c.want != "" && (!errors.As(err, &unusable) || unusable.Reason != c.want):
			t.Errorf("%s for %s: got %v, want %s", c.file, c.address, err, c.want)
		}
	}
	if err := load(t, "alice").Check("alice@alpha.test", now.AddDate(-10, 0, 0)); err == nil {
		t.Error("usable before it was made")
	}
}

func TestFacts(t *testing.T) {
	c := load(t, "alice")
	if !slices.Equal(c.Addresses(), []string{"alice@alpha.test"}) || len(c.Fingerprint()) != 40 || !c.Expires().IsZero() || c.Created().Year() != 2025 {
		t.Errorf("%v %v %v %v", c.Addresses(), c.Fingerprint(), c.Expires(), c.Created())
	}
	if e := load(t, "expired"); e.Expires().IsZero() || e.Expires().After(now) {
		t.Error(e.Expires())
	}
	if c.PostQuantum(now) {
		t.Error("claims to be post-quantum")
	}
	again, err := ParseCertificates(c.Bytes())
	if err != nil || !bytes.Equal(again[0].Bytes(), c.Bytes()) {
		t.Error("serialization is not stable", err)
	}
}

// A file holds several blocks, whatever its line ends and what stands between them.
func TestSeveralBlocks(t *testing.T) {
	for gap := range 110 {
		text := slices.Concat(armored(t, "bob"), bytes.Repeat([]byte("\n"), gap), armored(t, "bob2", "alice"))
		for _, data := range [][]byte{text, bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))} {
			if certificates, err := ParseCertificates(data); err != nil || len(certificates) != 3 {
				t.Fatalf("%d lines between: %d certificates, %v", gap, len(certificates), err)
			}
		}
	}
}

func generatedFor(t *testing.T, address string) *Certificate {
	t.Helper()
	return generatedWith(t, address, &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
}

func generated(t *testing.T, config *packet.Config, more ...packet.PublicKeyAlgorithm) *Certificate {
	t.Helper()
	return generatedWith(t, "pq@alpha.test", config, more...)
}

func generatedWith(t *testing.T, address string, config *packet.Config, more ...packet.PublicKeyAlgorithm) *Certificate {
	t.Helper()
	config.Time = func() time.Time { return now.AddDate(-1, 0, 0) }
	e, err := openpgp.NewEntity("", "", address, config)
	if err != nil {
		t.Fatal(err)
	}
	for _, algorithm := range more {
		sub := *config
		sub.Algorithm = algorithm
		if err := e.AddEncryptionSubkey(&sub); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	certificates, err := ParseCertificates(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return certificates[0]
}

func TestPostQuantum(t *testing.T) {
	v4 := generated(t, &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA}, packet.PubKeyAlgoMlkem768X25519)
	if !v4.PostQuantum(now) || v4.Check("pq@alpha.test", now) != nil || len(v4.Fingerprint()) != 40 {
		t.Error("a v4 certificate with an ML-KEM subkey is not post-quantum")
	}
	v6 := generated(t, &packet.Config{V6Keys: true, Algorithm: packet.PubKeyAlgoEd25519})
	if v6.PostQuantum(now) || v6.Check("pq@alpha.test", now) != nil || len(v6.Fingerprint()) != 64 {
		t.Error("v6 certificate")
	}
}

func TestForAddress(t *testing.T) {
	bob := load(t, "bob")
	only, err := bob.ForAddress("Robert@Other.test")
	if err != nil || !slices.Equal(only.Addresses(), []string{"robert@other.test"}) || bytes.Contains(only.Bytes(), []byte("bravo")) {
		t.Fatal(err, only.Addresses())
	}
	if err := only.Check("robert@other.test", now); err != nil {
		t.Error(err)
	}
	if _, err := bob.ForAddress("mallory@other.test"); err == nil {
		t.Error("a foreign address was accepted")
	}
}

func TestMergeBringsRevocation(t *testing.T) {
	merged, err := load(t, "unrevoked").Merge(load(t, "revoked"))
	var unusable *UnusableError
	if err != nil || !errors.As(merged.Check("revoked@alpha.test", now), &unusable) || unusable.Reason != ReasonRevoked {
		t.Fatal("the revocation was lost", err)
	}
	back, err := merged.Merge(load(t, "unrevoked"))
	if err != nil || back.Check("revoked@alpha.test", now) == nil {
		t.Error("an old copy undid the revocation")
	}
	if _, err := merged.Merge(load(t, "alice")); err == nil {
		t.Error("another certificate was merged")
	}
	bob := load(t, "bob")
	one, _ := bob.ForAddress("bob@bravo.test")
	two, _ := bob.ForAddress("robert@other.test")
	if both, err := one.Merge(two); err != nil || !bytes.Equal(both.Bytes(), bob.Bytes()) {
		t.Error("user IDs do not come together again", err)
	}
}

func TestParseRefuses(t *testing.T) {
	secret, err := os.ReadFile("testdata/secret.asc")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCertificates(secret); !errors.Is(err, ErrSecretKey) {
		t.Errorf("secret key: %v", err)
	}
	for name, data := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "huge": make([]byte, maxInput+1), "packet": {0xff, 0xff, 0xff}, "cut": load(t, "alice").Bytes()[:40],
	} {
		if c, err := ParseCertificates(data); err == nil {
			t.Errorf("%s: parsed as %v", name, c)
		}
	}
}

func TestParseSeveral(t *testing.T) {
	alice, _ := os.ReadFile("testdata/alice.asc")
	bob, _ := os.ReadFile("testdata/bob.asc")
	both, err := ParseCertificates(append(alice, bob...))
	if err != nil || len(both) != 2 {
		t.Fatal(len(both), err)
	}
	binary, err := ParseCertificates(append(bytes.Clone(both[0].Bytes()), both[1].Bytes()...))
	if err != nil || len(binary) != 2 {
		t.Fatal(len(binary), err)
	}
}

// TestParseCutOff: wherever armor ends early, nothing of it is taken for the whole.
func TestParseCutOff(t *testing.T) {
	alice, _ := os.ReadFile("testdata/alice.asc")
	bob, _ := os.ReadFile("testdata/bob.asc")
	begin := bytes.Index(bob, []byte("BLOCK-----")) + len("BLOCK-----")
	end := bytes.LastIndex(bob, []byte("-----END")) + len("-----END PGP PUBLIC KEY BLOCK")
	for cut := begin; cut < end; cut++ {
		if c, err := ParseCertificates(append(bytes.Clone(alice), bob[:cut]...)); err == nil {
			t.Fatalf("cut after %d octets: %d certificates", cut, len(c))
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	c := load(t, "bob")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := c.Check("bob@bravo.test", now); err != nil || c.PostQuantum(now) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func FuzzParseCertificates(f *testing.F) {
	for _, name := range []string{"alice", "bob", "revoked", "sha1"} {
		c := load(f, name)
		f.Add(c.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		certificates, err := ParseCertificates(data)
		if err != nil {
			return
		}
		for _, c := range certificates {
			for _, address := range c.Addresses() {
				_ = c.Check(address, now)
			}
		}
	})
}
