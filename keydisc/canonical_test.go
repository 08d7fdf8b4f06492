package keydisc

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

func entity(t *testing.T, address string) *openpgp.Entity {
	t.Helper()
	config := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return now.AddDate(-1, 0, 0) }}
	e, err := openpgp.NewEntity("", "", address, config)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// at is the configuration for making signatures at a time.
func at(when time.Time) *packet.Config { return &packet.Config{Time: func() time.Time { return when }} }

func public(t *testing.T, e *openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func parseOne(t *testing.T, data []byte) *Certificate {
	t.Helper()
	certificates, err := ParseCertificates(data)
	if err != nil || len(certificates) != 1 {
		t.Fatal(err, len(certificates))
	}
	return certificates[0]
}

// inTheNameOf is the forger's private key whose signatures claim to be by the victim's.
func inTheNameOf(victim *packet.PublicKey, forger *openpgp.Entity) *packet.PrivateKey {
	key := *forger.PrivateKey
	key.KeyId, key.Fingerprint = victim.KeyId, victim.Fingerprint
	return &key
}

// Signatures that others made in the key's name neither revoke it nor push its own out of the limits.
func TestForgedSignatures(t *testing.T) {
	e, forger := entity(t, "bob@bravo.test"), entity(t, "mallory@bravo.test")
	for i := range maxSignatures + 10 {
		forged := *forger.Identities["<mallory@bravo.test>"].SelfCertifications[0].Packet
		forged.CreationTime = now.Add(time.Duration(i) * time.Second)
		if err := forged.SignUserId("<bob@bravo.test>", e.PrimaryKey, inTheNameOf(e.PrimaryKey, forger), at(forged.CreationTime)); err != nil {
			t.Fatal(err)
		}
		id := e.Identities["<bob@bravo.test>"]
		id.SelfCertifications = append(id.SelfCertifications, packet.NewVerifiableSig(&forged))
	}
	if err := forger.Revoke(packet.KeyCompromised, "", at(now)); err != nil {
		t.Fatal(err)
	}
	e.Revocations = forger.Revocations
	raw, err := openpgp.ReadKeyRing(bytes.NewReader(public(t, e)))
	if err != nil || len(raw[0].Identities["<bob@bravo.test>"].SelfCertifications) != maxSignatures+11 {
		t.Fatal("the forged ones do not look like its own", err)
	}
	c := parseOne(t, public(t, e))
	if err := c.Check("bob@bravo.test", now.Add(time.Hour)); err != nil {
		t.Error(err)
	}
	if len(c.Bytes()) > 1000 {
		t.Errorf("%d bytes: the forged ones were kept", len(c.Bytes()))
	}
}

func TestFloodedCertificate(t *testing.T) {
	e := entity(t, "bob@bravo.test")
	for i := range maxUserIDs + 20 {
		if err := e.AddUserId("", "", fmt.Sprintf("z%d@bravo.test", i), at(now.AddDate(0, -1, 0))); err != nil {
			t.Fatal(err)
		}
	}
	for range maxSubkeys + 5 {
		if err := e.AddEncryptionSubkey(&packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return now.AddDate(0, -1, 0) }}); err != nil {
			t.Fatal(err)
		}
	}
	c := parseOne(t, public(t, e))
	got, err := c.Entity()
	if err != nil || len(got.Identities) != maxUserIDs || len(got.Subkeys) != maxSubkeys {
		t.Fatalf("%v: %d user IDs, %d subkeys", err, len(got.Identities), len(got.Subkeys))
	}
	if err := c.Check("bob@bravo.test", now); err != nil {
		t.Error(err)
	}
}

// A subkey that another key is made to own could read the mail: its binding does not verify.
func TestForeignSubkey(t *testing.T) {
	e, forger := entity(t, "bob@bravo.test"), entity(t, "mallory@bravo.test")
	e.Subkeys = append(e.Subkeys, forger.Subkeys...)
	got, err := parseOne(t, public(t, e)).Entity()
	if err != nil || len(got.Subkeys) != 1 || got.Subkeys[0].PublicKey.KeyId == forger.Subkeys[0].PublicKey.KeyId {
		t.Error("a foreign subkey was kept", err)
	}
}

// A user ID that the key did not sign is not an address of it.
func TestForeignUserID(t *testing.T) {
	e, bob := entity(t, "mallory@bravo.test"), entity(t, "bob@bravo.test")
	stolen := bob.Identities["<bob@bravo.test>"]
	if err := stolen.SelfCertifications[0].Packet.SignUserId(stolen.Name, e.PrimaryKey, inTheNameOf(e.PrimaryKey, bob), at(now)); err != nil {
		t.Fatal(err)
	}
	e.Identities[stolen.Name] = stolen
	c := parseOne(t, public(t, e))
	if _, err := c.ForAddress("bob@bravo.test"); err == nil || c.Check("bob@bravo.test", now) == nil {
		t.Error("a stolen user ID counts")
	}
	delete(e.Identities, "<mallory@bravo.test>")
	if _, err := ParseCertificates(public(t, e)); err == nil || !strings.Contains(err.Error(), "signed no user ID") {
		t.Errorf("a certificate without a user ID of its own: %v", err)
	}
	both := append(public(t, e), load(t, "alice").Bytes()...)
	if parseOne(t, both).Fingerprint() != load(t, "alice").Fingerprint() {
		t.Error("a broken certificate hides the next one")
	}
}

func TestSecretSubkeyIsRefused(t *testing.T) {
	e := entity(t, "bob@bravo.test")
	var b bytes.Buffer
	if err := e.PrimaryKey.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	if err := e.Identities["<bob@bravo.test>"].Serialize(&b); err != nil {
		t.Fatal(err)
	}
	if err := e.Subkeys[0].Serialize(&b, true); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCertificates(b.Bytes()); !errors.Is(err, ErrSecretKey) {
		t.Error(err)
	}
}

// The key lives on, its subkey for encryption does not.
func TestExpiredSubkey(t *testing.T) {
	e := entity(t, "bob@bravo.test")
	e.Subkeys = nil
	short := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: 3600, Time: func() time.Time { return now.AddDate(-1, 0, 0) }}
	if err := e.AddEncryptionSubkey(short); err != nil {
		t.Fatal(err)
	}
	c := parseOne(t, public(t, e))
	var unusable *UnusableError
	if err := c.Check("bob@bravo.test", now); !errors.As(err, &unusable) || unusable.Reason != ReasonExpired {
		t.Error(err)
	}
	if err := c.Check("bob@bravo.test", now.AddDate(-1, 0, 0).Add(time.Minute)); err != nil {
		t.Error(err)
	}
}

// A revoked user ID is no address any more, and a copy from before does not bring it back.
func TestRevokedUserID(t *testing.T) {
	e := entity(t, "bob@bravo.test")
	if err := e.AddUserId("", "", "old@bravo.test", at(now.AddDate(0, -2, 0))); err != nil {
		t.Fatal(err)
	}
	before := parseOne(t, public(t, e))
	id := e.Identities["<old@bravo.test>"]
	revocation := *id.SelfCertifications[0].Packet
	revocation.SigType, revocation.CreationTime = packet.SigTypeCertificationRevocation, now.AddDate(0, -1, 0)
	if err := revocation.SignUserId("<old@bravo.test>", e.PrimaryKey, e.PrivateKey, at(revocation.CreationTime)); err != nil {
		t.Fatal(err)
	}
	id.Revocations = append(id.Revocations, packet.NewVerifiableSig(&revocation))
	after := parseOne(t, public(t, e))
	for name, pair := range map[string][2]*Certificate{"new": {after, after}, "old, then new": {before, after}, "new, then old": {after, before}} {
		merged, err := pair[0].Merge(pair[1])
		if err != nil || merged.Check("old@bravo.test", now) == nil || merged.Check("bob@bravo.test", now) != nil {
			t.Errorf("%s: %v %v", name, err, merged.Addresses())
		}
	}
}

// A key whose signatures take very long to verify must not keep the program busy.
func TestCostlyKeys(t *testing.T) {
	forger := entity(t, "mallory@bravo.test")
	huge := packet.NewRSAPublicKey(now, &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 16383), E: 65537})
	id := forger.Identities["<mallory@bravo.test>"]
	signature := *id.SelfCertifications[0].Packet
	if err := signature.SignUserId(id.Name, huge, inTheNameOf(huge, forger), at(now)); err != nil {
		t.Fatal(err)
	}
	id.SelfCertifications = []*packet.VerifiableSignature{packet.NewVerifiableSig(&signature)}
	primary := &openpgp.Entity{PrimaryKey: huge, Identities: forger.Identities}
	for name, data := range map[string][]byte{"RSA of 16384 bits": public(t, primary), "DSA": mustRead(t, "testdata/dsa.asc")} {
		if _, err := ParseCertificates(data); err == nil || !strings.Contains(err.Error(), "not supported") {
			t.Errorf("%s: %v", name, err)
		}
	}
	e := entity(t, "bob@bravo.test")
	e.Subkeys[0].PublicKey = huge
	if costlyLeft, err := parseOne(t, public(t, e)).Entity(); err != nil || len(costlyLeft.Subkeys) != 0 {
		t.Error("a huge subkey was kept", err)
	}
}
