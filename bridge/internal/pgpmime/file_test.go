package pgpmime

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/keydisc"
)

// fileKey is a fixed key and its certificate.
func fileKey(t *testing.T, address string) (*openpgp.Entity, []*keydisc.Certificate) {
	t.Helper()
	ring, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(bridgetest.SecretKey(address)))
	if err != nil {
		t.Fatal(err)
	}
	certificates, err := keydisc.ParseCertificates(bridgetest.PublicKey(address))
	if err != nil {
		t.Fatal(err)
	}
	return ring[0], certificates
}

func TestSignFile(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	key, certificates := fileKey(t, "alice@alpha.test")
	_, others := fileKey(t, "bob@bravo.test")
	data := []byte("digest  file\n")
	var signature bytes.Buffer
	if err := SignFile(&signature, bytes.NewReader(data), key, at); err != nil {
		t.Fatal(err)
	}
	f, made, err := CheckFile(append(others, certificates...), data, signature.Bytes(), at.AddDate(30, 0, 0))
	if err != nil || f != certificates[0].Fingerprint() || !made.Equal(at) {
		t.Error(f, made, err)
	}
	for name, c := range map[string]struct {
		certificates    []*keydisc.Certificate
		data, signature []byte
		now             time.Time
	}{
		"other data":      {certificates, []byte("digest  file"), signature.Bytes(), at},
		"another's":       {others, data, signature.Bytes(), at},
		"no signature":    {certificates, data, data, at},
		"nothing":         {certificates, data, nil, at},
		"from the future": {certificates, data, signature.Bytes(), at.AddDate(0, 0, -2)},
	} {
		if _, _, err := CheckFile(c.certificates, c.data, c.signature, c.now); !errors.Is(err, ErrNotSigned) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEncryptFile(t *testing.T) {
	key, certificates := fileKey(t, "bob@bravo.test")
	var out bytes.Buffer
	w, err := EncryptFile(&out, certificates, time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	text := bytes.Repeat([]byte("canary "), 20_000)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out.Bytes(), []byte("canary")) {
		t.Error("it is in clear")
	}
	md, err := openpgp.ReadMessage(&out, openpgp.EntityList{key}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(md.UnverifiedBody); err != nil || !bytes.Equal(got, text) {
		t.Error(err)
	}
	if _, err := EncryptFile(io.Discard, nil, time.Time{}); err == nil {
		t.Error("encrypted to nobody")
	}
}
