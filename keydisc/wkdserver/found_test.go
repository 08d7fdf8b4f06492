package wkdserver_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/keydisc"
	"github.com/sealpost/sealpost/keydisc/wkdserver"
)

// TestFoundByOurOwn: what keydisc looks for is there.
func TestFoundByOurOwn(t *testing.T) {
	certificates, err := keydisc.ParseCertificates(bridgetest.PublicKey("alice@alpha.test"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(wkdserver.New(wkdserver.Options{
		Domains: func() []string { return []string{"alpha.test"} }, Log: slog.New(slog.DiscardHandler),
		Find: func(_ context.Context, _, hash string) (string, []byte, error) {
			if hash != keydisc.WKDHash("alice") {
				return "", nil, wkdserver.ErrNone
			}
			return "alice@alpha.test", certificates[0].Bytes(), nil
		},
	}))
	identity, err := bridgetest.CA().Issue(time.Time{}, "openpgpkey.alpha.test", "alpha.test")
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{identity}}
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, bridgetest.CA().PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	finder, err := keydisc.New(keydisc.Options{
		Methods: []keydisc.Method{keydisc.WKD}, CAFile: ca, Timeout: 10 * time.Second, Log: slog.New(slog.DiscardHandler),
		Resolve: map[string]string{"openpgpkey.alpha.test:443": server.Listener.Addr().String()},
	})
	if err != nil {
		t.Fatal(err)
	}
	if a := finder.Find(t.Context(), "alice@alpha.test"); len(a.Found) != 1 || a.Found[0].Certificate.Fingerprint() != certificates[0].Fingerprint() {
		t.Errorf("found %+v", a)
	}
	if a := finder.Find(t.Context(), "bob@alpha.test"); len(a.Found) != 0 || !a.Conclusive {
		t.Errorf("for somebody unknown found %+v", a)
	}
	if found, err := finder.InDirectory(t.Context(), certificates[0].Fingerprint(), "alice@alpha.test"); err != nil || found == nil {
		t.Errorf("in the directory: %v, %v", found, err)
	}
}
