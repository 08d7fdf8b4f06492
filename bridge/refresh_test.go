package bridge

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/keydisc"
)

// keyServer answers for keys.openpgp.org, by fingerprint alone.
type keyServer struct {
	mu    sync.Mutex
	pages map[string][]byte
}

func (k *keyServer) publish(c *keydisc.Certificate, data []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pages["/vks/v1/by-fingerprint/"+string(c.Fingerprint())] = data
}

func (k *keyServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	page, ok := k.pages[r.URL.Path]
	k.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(page)
}

// startKeyServer returns it and its address.
func startKeyServer(t *testing.T) (*keyServer, string) {
	t.Helper()
	leaf, err := bridgetest.CA().Issue(time.Time{}, "keys.openpgp.org")
	if err != nil {
		t.Fatal(err)
	}
	k := &keyServer{pages: map[string][]byte{}}
	server := httptest.NewUnstartedServer(k)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{leaf}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return k, server.Listener.Addr().String()
}

// revoked is the certificate of an address with a revocation and without user IDs, as key servers show it.
func revoked(t *testing.T, address string, at time.Time) []byte {
	t.Helper()
	list, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(bridgetest.SecretKey(address)))
	if err != nil {
		t.Fatal(err)
	}
	if err := list[0].Revoke(packet.KeyCompromised, "", &packet.Config{Time: func() time.Time { return at }}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := errors.Join(list[0].PrimaryKey.Serialize(&out), list[0].Revocations[0].Packet.Serialize(&out)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A revocation that is published at a key server alone is noticed without any mail being sent; the next message is refused
// and says why.
func TestRevocationIsNoticedWithoutSending(t *testing.T) {
	w := newWorld(t)
	server, address := startKeyServer(t)
	clock := bridgetest.NewClock()
	o := w.options(alice, t.TempDir())
	o.Now = clock.Now
	o.Keydisc.Methods = append(o.Keydisc.Methods, keydisc.VKS)
	o.Keydisc.Resolve["keys.openpgp.org:443"] = address
	a := w.run(o)
	if err := submit(t, a, message(alice, bob, "First", secretBody), bob); err != nil {
		t.Fatal(err)
	}
	server.publish(certificateFor(t, bob), revoked(t, bob, clock.Now()))
	var tending contacts.Tending
	isRevoked := func() bool {
		c, _, err := a.bridge.contacts.Get(t.Context(), bob)
		var unusable *keydisc.UnusableError
		return err == nil && errors.As(c.Certificate.Check(bob, clock.Now()), &unusable) && unusable.Reason == keydisc.ReasonRevoked
	}
	for hours := 0; hours < 24 && !isRevoked(); hours++ {
		clock.Advance(time.Hour)
		if err := a.bridge.contacts.Tend(t.Context(), &tending); err != nil {
			t.Fatal(err)
		}
	}
	if !isRevoked() {
		t.Fatal("a day later the revocation is not known")
	}
	err := submit(t, a, message(alice, bob, "Second", secretBody), bob)
	var refusal *Refusal
	if !errors.As(err, &refusal) || len(refusal.Recipients) != 1 || !strings.Contains(refusal.Recipients[0].Text, "revoked") {
		t.Errorf("the next message: %v", err)
	}
	w.mustNotLeak(secretBody)
}
