package pgpmime

import (
	"bytes"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/keydisc"
)

// preferring is a certificate whose owner wants AES-128.
func preferring(t *testing.T, aead bool) *keydisc.Certificate {
	t.Helper()
	config := &packet.Config{DefaultCipher: packet.CipherAES128, Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519, Time: clock(testNow.AddDate(0, -1, 0))}
	if aead {
		config.AEADConfig = &packet.AEADConfig{DefaultMode: packet.AEADModeOCB}
	}
	e, err := openpgp.NewEntity("", "", "carol@charlie.test", config)
	if err != nil {
		t.Fatal(err)
	}
	var public bytes.Buffer
	if err := e.Serialize(&public); err != nil {
		t.Fatal(err)
	}
	list, err := keydisc.ParseCertificates(public.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// One recipient's preferences must not weaken the ciphertext of all.
func TestAlwaysAES256(t *testing.T) {
	for _, c := range []struct {
		reader string
		other  *keydisc.Certificate
	}{
		{"bob", preferring(t, false)}, {"bob", preferring(t, true)}, {"aead", preferring(t, true)}, {"v6", preferring(t, true)},
		{"pq", preferring(t, false)}, {"rsa", preferring(t, false)}, {"aead", cert(t, "v6")}, {"bob", cert(t, "pq")},
	} {
		sent := source(encrypted(t, letter, EncryptOptions{Recipients: append(certs(t, c.reader), c.other)}))
		s, err := classify(sent)
		if err != nil {
			t.Fatal(err)
		}
		m, err := readCiphertext(mimescan.DecodeBody(sent, s.ciphertext))
		if err != nil {
			t.Fatal(err)
		}
		if size := sessionKeySize(t, m, c.reader); size != packet.CipherAES256.KeySize() {
			t.Errorf("%s and %s: session key of %d bytes", c.reader, c.other.Addresses(), size)
		}
		if data, ok := m.data.(*packet.SymmetricallyEncrypted); ok && data.Version == 2 && data.Cipher != packet.CipherAES256 {
			t.Errorf("%s and %s: cipher %d", c.reader, c.other.Addresses(), data.Cipher)
		}
	}
}

func sessionKeySize(t *testing.T, m *ciphertext, reader string) int {
	t.Helper()
	for _, esk := range m.keys {
		for _, k := range key(t, reader).DecryptionKeys(esk.KeyId, testNow, nil) {
			if esk.Decrypt(k.PrivateKey, nil) == nil {
				return len(esk.Key)
			}
		}
	}
	t.Fatalf("%s has no session key", reader)
	return 0
}
