package localtls

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"time"
)

type memory map[string][]byte

func (m memory) Lookup(_ context.Context, name string) ([]byte, error) { return m[name], nil }
func (m memory) Set(_ context.Context, name string, value []byte) error {
	m[name] = value
	return nil
}

func TestClientsTrustEveryName(t *testing.T) {
	id, err := Ensure(t.Context(), memory{}, "box.example.org", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(id.CAPEM()) {
		t.Fatal("no CA")
	}
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "box.example.org"} {
		if err := handshake(t, id, &tls.Config{RootCAs: roots, ServerName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := handshake(t, id, &tls.Config{RootCAs: roots, ServerName: "other.example.org"}); err == nil {
		t.Error("another name was accepted")
	}
	if err := handshake(t, id, &tls.Config{RootCAs: roots, ServerName: "localhost", MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	if id.leaf.Leaf.IsCA || !id.ca.certificate.IsCA {
		t.Error("leaf and authority are not separate")
	}
}

func handshake(t *testing.T, id *Identity, client *tls.Config) error {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	server := make(chan error, 1)
	go func() { server <- tls.Server(b, id.TLSConfig()).HandshakeContext(t.Context()) }()
	err := tls.Client(a, client).HandshakeContext(t.Context())
	_ = a.Close()
	return errors.Join(err, <-server)
}

func TestAuthorityStaysLeafIsRenewed(t *testing.T) {
	secrets, now := memory{}, time.Now()
	first, err := Ensure(t.Context(), secrets, "", now)
	if err != nil {
		t.Fatal(err)
	}
	same, err := Ensure(t.Context(), secrets, "", now.Add(300*24*time.Hour))
	if err != nil || !bytes.Equal(same.leaf.Certificate[0], first.leaf.Certificate[0]) {
		t.Fatal("a good leaf was replaced", err)
	}
	later := now.Add(380 * 24 * time.Hour)
	renewed, err := Ensure(t.Context(), secrets, "", later)
	if err != nil || bytes.Equal(renewed.leaf.Certificate[0], first.leaf.Certificate[0]) || !renewed.leaf.Leaf.NotAfter.After(later.Add(300*24*time.Hour)) {
		t.Fatal("an ending leaf was not renewed", err)
	}
	if !bytes.Equal(renewed.CAPEM(), first.CAPEM()) {
		t.Error("the authority changed")
	}
	named, err := Ensure(t.Context(), secrets, "box.example.org", later)
	if err != nil || named.leaf.Leaf.VerifyHostname("box.example.org") != nil {
		t.Error("a new host name is not in the leaf", err)
	}
	if _, soon := first.CAExpiresSoon(now); soon {
		t.Error("warns too early")
	}
	if _, soon := first.CAExpiresSoon(now.Add(caLife - 100*24*time.Hour)); !soon {
		t.Error("does not warn")
	}
}

func TestDamagedIsNotReplaced(t *testing.T) {
	secrets := memory{"local-ca": []byte("garbage")}
	if _, err := Ensure(t.Context(), secrets, "", time.Now()); err == nil {
		t.Fatal("damaged authority was accepted or replaced")
	}
	if string(secrets["local-ca"]) != "garbage" {
		t.Error("damaged authority was replaced")
	}
}
