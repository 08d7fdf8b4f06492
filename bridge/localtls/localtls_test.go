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
	if usage := id.leaf.Leaf.ExtKeyUsage; len(usage) != 1 || usage[0] != x509.ExtKeyUsageServerAuth || !id.ca.certificate.MaxPathLenZero {
		t.Error("usages are wrong")
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

// A daemon that is never restarted shows a leaf that holds, under the same authority.
func TestRunningRenewal(t *testing.T) {
	start := time.Now()
	id, err := Ensure(t.Context(), memory{}, "box.example.org", start)
	if err != nil {
		t.Fatal(err)
	}
	first, err := id.current(start)
	if again, _ := id.current(start.Add(300 * 24 * time.Hour)); err != nil || again != first {
		t.Fatal("renewed too early", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(id.CAPEM())
	for _, at := range []time.Time{start.Add(380 * 24 * time.Hour), start.Add(3 * 380 * 24 * time.Hour), start} {
		leaf, err := id.current(at)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "box.example.org", CurrentTime: at}); err != nil {
			t.Error(at, err)
		}
	}
}

// A clock that was wrong when the leaf was made does not leave one that is not valid yet.
func TestClockSetBack(t *testing.T) {
	secrets, now := memory{}, time.Now()
	if _, err := Ensure(t.Context(), secrets, "", now); err != nil {
		t.Fatal(err)
	}
	secrets["local-leaf"] = nil
	if _, err := Ensure(t.Context(), secrets, "", now.Add(24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	id, err := Ensure(t.Context(), secrets, "", now)
	if err != nil || id.leaf.Leaf.NotBefore.After(now) {
		t.Error("the leaf is not valid yet", err)
	}
}

func TestAddressAsHost(t *testing.T) {
	id, err := Ensure(t.Context(), memory{}, "192.0.2.7", time.Now())
	if err != nil || id.leaf.Leaf.VerifyHostname("192.0.2.7") != nil {
		t.Error(err)
	}
}

// failing is a store that is not there.
type failing struct{ memory }

func (failing) Set(context.Context, string, []byte) error { return errors.New("disk full") }

func TestNotKeptIsAnError(t *testing.T) {
	if _, err := Ensure(t.Context(), failing{memory{}}, "", time.Now()); err == nil {
		t.Error("an authority that is not kept was used")
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
