package pgpmime

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/keydisc"
)

// testNow is when the tests happen; the keys under testdata/keys are of 1 January 2026.
var testNow = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// key is a fresh copy of the secret key in testdata/keys.
func key(t testing.TB, name string) *openpgp.Entity {
	t.Helper()
	f, err := os.Open("testdata/keys/" + name + ".asc")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := openpgp.ReadArmoredKeyRing(f)
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// cert is the certificate of the key in testdata/keys.
func cert(t testing.TB, name string) *keydisc.Certificate {
	t.Helper()
	var public bytes.Buffer
	if err := key(t, name).Serialize(&public); err != nil {
		t.Fatal(err)
	}
	certs, err := keydisc.ParseCertificates(public.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return certs[0]
}

func certs(t testing.TB, names ...string) []*keydisc.Certificate {
	t.Helper()
	var list []*keydisc.Certificate
	for _, name := range names {
		list = append(list, cert(t, name))
	}
	return list
}

// directory finds the certificates of an address among those named.
func directory(t testing.TB, names ...string) Certificates {
	t.Helper()
	list := certs(t, names...)
	return func(from string) (found []*keydisc.Certificate) {
		for _, c := range list {
			for _, a := range c.Addresses() {
				if a == from {
					found = append(found, c)
				}
			}
		}
		return found
	}
}

func source(s string) mimescan.Source { return strings.NewReader(s) }

// crlf is a message written in a test with LF.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func encrypted(t testing.TB, message string, o EncryptOptions) string {
	t.Helper()
	if o.Time.IsZero() {
		o.Time = testNow
	}
	var out bytes.Buffer
	if err := Encrypt(&out, source(message), o); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

var testSealKey = []byte("seal key of the tests, 32 bytes.")

// opened is what Open says of a message to bob, and what it shows.
func opened(t testing.TB, message string, decrypters ...string) (*Result, string) {
	t.Helper()
	k := Keys{SealKeys: [][]byte{[]byte("an older key"), testSealKey}}
	if len(decrypters) == 0 {
		decrypters = []string{"bob"}
	}
	for _, name := range decrypters {
		k.Decrypters = append(k.Decrypters, key(t, name))
	}
	dir := directory(t, "alice", "bob", "two", "aead", "v6", "rsa", "pq", "expired", "revoked")
	r, err := Open(source(message), k, dir, testNow, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if r.Message == nil {
		return r, message
	}
	t.Cleanup(func() { _ = r.Message.Close() })
	return r, content(t, r.Message)
}

func content(t testing.TB, s *spool.Spool) string {
	t.Helper()
	b, err := io.ReadAll(s.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// split is the header and the body of a message.
func split(t testing.TB, message string) (mimescan.Header, string) {
	t.Helper()
	h, err := readHead(source(message))
	if err != nil {
		t.Fatal(err)
	}
	return h.fields, message[h.body:]
}

func spooled(t testing.TB, b []byte) *spool.Spool {
	t.Helper()
	s, err := spool.FromReader(t.TempDir(), bytes.NewReader(b), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
