//go:build peers

package smtpd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/bridgetest/peers"
)

// TestSwaks: an ordinary client submits with STARTTLS and with implicit TLS, by PLAIN and LOGIN, and
// understands a refusal.
func TestSwaks(t *testing.T) {
	peers.Need(t, "swaks", "swaks")
	r := start(t, false)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	check(t, os.WriteFile(ca, bridgetest.CA().PEM(), 0o600))
	send := func(server, security, mechanism, to string) (string, error) {
		t.Helper()
		return peers.Try(t, "swaks", "--server", server, security, "--tls-verify", "--tls-ca-path", ca,
			"--auth", mechanism, "--auth-user", "alice@alpha.test", "--auth-password", "pass word", "--from", "alice@alpha.test",
			"--to", to, "--data", "Subject: x\\n\\n.dot\\n")
	}
	for _, try := range []struct{ server, security string }{{r.plain, "--tls"}, {r.implicit, "--tlsc"}} {
		for _, mechanism := range []string{"PLAIN", "LOGIN"} {
			if out, err := send(try.server, try.security, mechanism, "bob@x.test"); err != nil {
				t.Fatalf("%s %s: %v\n%s", try.security, mechanism, err, out)
			}
			if got, _ := r.fake.take(); !strings.HasPrefix(got, "alice@alpha.test|bob@x.test|Subject: x\r\n\r\n.dot\r\n") {
				t.Errorf("submitted %q", got)
			}
		}
	}
	if out, err := send(r.plain, "--tls", "PLAIN", "nocert@x.test"); err == nil || !strings.Contains(out, "550-5.7.1 <nocert@x.test>: no certificate") {
		t.Errorf("refusal: %v\n%s", err, out)
	}
}
