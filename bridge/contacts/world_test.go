package contacts

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/bridge/bridgetest/database"
	"github.com/sealpost/sealpost/keydisc"
)

var start = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// world is a book and the servers it asks.
type world struct {
	t        *testing.T
	book     *Book
	now      atomic.Int64 // Unix nanoseconds
	requests atomic.Int64

	tending Tending

	mu      sync.Mutex
	replies map[string]reply // by host and path
	looked  []string         // addresses that were looked for
	list    *keydisc.List    // of the staff; nil: it cannot be had
}

// staff is the list of the world: it may speak about bravo.test alone.
func staff(t *testing.T) List {
	return List{keydisc.ListSource{URL: "https://bravo.test/staff", Authority: certificate(t, "unrevoked"), Domains: []string{"bravo.test"}}, 30 * 24 * time.Hour}
}

// worldFinder is a Finder whose lists need no signature.
type worldFinder struct {
	*keydisc.Finder
	w *world
}

func (f worldFinder) Find(ctx context.Context, address string) keydisc.Answer {
	f.w.mu.Lock()
	f.w.looked = append(f.w.looked, address)
	f.w.mu.Unlock()
	return f.Finder.Find(ctx, address)
}

func (f worldFinder) List(context.Context, keydisc.ListSource) (*keydisc.List, error) {
	if f.w.list == nil {
		return nil, errors.New("503")
	}
	return f.w.list, nil
}

// reply is a server's, with status 404 where none is set.
type reply struct {
	status int
	body   []byte
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, replies: map[string]reply{}}
	w.now.Store(start.UnixNano())
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "contacts.db"))
	if err != nil {
		t.Fatal(err)
	}
	w.book = New(Options{
		DB: db, Finder: worldFinder{w.finder(), w}, Lists: []List{staff(t)}, VerifyEvery: 365 * 24 * time.Hour, UseAutocrypt: true, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Unix(0, w.now.Load()) },
	})
	// The list of the staff was taken in, and says nothing.
	if err := w.book.TakeList(t.Context(), staff(t), &keydisc.List{Signed: start.Add(-29 * 24 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.book.Close()
		_ = db.Close()
	})
	return w
}

// finder asks an HTTPS server that stands for every host the cases use.
func (w *world) finder() *keydisc.Finder {
	w.t.Helper()
	hosts := []string{"openpgpkey.alpha.test", "openpgpkey.bravo.test", "openpgpkey.other.test", "keys.openpgp.org"}
	server := httptest.NewUnstartedServer(w)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{serverCertificate(w.t, hosts)}}
	server.StartTLS()
	w.t.Cleanup(server.Close)
	ca := filepath.Join(w.t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		w.t.Fatal(err)
	}
	resolve := map[string]string{}
	for _, host := range hosts {
		resolve[host+":443"] = server.Listener.Addr().String()
	}
	finder, err := keydisc.New(keydisc.Options{
		Methods: []keydisc.Method{keydisc.WKD, keydisc.VKS}, CAFile: ca, Resolve: resolve, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return finder
}

func serverCertificate(t *testing.T, hosts []string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: hosts, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// ServeHTTP counts what the WKD is asked.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.Host, "openpgpkey.") {
		w.requests.Add(1)
	}
	w.mu.Lock()
	reply, ok := w.replies[r.Host+r.URL.Path]
	w.mu.Unlock()
	if !ok {
		reply.status = http.StatusNotFound
	}
	rw.WriteHeader(reply.status)
	_, _ = rw.Write(reply.body)
}

// answers sets what a server says of an address: names of certificates, or a status.
func (w *world) answers(method keydisc.Method, address, what string) error {
	place := "keys.openpgp.org/vks/v1/by-email/" + address
	if method == keydisc.WKD {
		advanced, _, err := keydisc.WKDLocations(address)
		if err != nil {
			return err
		}
		place = advanced.Host + advanced.Path
	}
	return w.answersAt(place, what)
}

func (w *world) answersAt(place, what string) error {
	r := reply{status: http.StatusOK}
	if status, err := strconv.Atoi(what); err == nil {
		r.status = status
	} else {
		for name := range strings.SplitSeq(what, ",") {
			r.body = append(r.body, certificate(w.t, name).Bytes()...)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.replies[place] = r
	return nil
}

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
