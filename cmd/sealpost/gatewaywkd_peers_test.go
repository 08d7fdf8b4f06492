//go:build peers

package main_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/bridge/bridgetest/peers"
	"github.com/sealpost/sealpost/keydisc"
)

// directory is a gateway that serves its Web Key Directory over TLS; more is added to its configuration.
type directory struct {
	*company
}

func newDirectory(t *testing.T, more string) directory {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	d := directory{&company{user: &user{site: &site{t: t, program: program}, address: "the gateway", home: t.TempDir(), log: &bytes.Buffer{}}}}
	d.gatewayConfig("[gateway]\ndomains = [\"alpha.test\"]\nwkd = \"127.0.0.1:443\"\nwkd_certificate = \"cert.pem\"\nwkd_key = \"key.pem\"\n" + more)
	return d
}

// serve is its command, with the certificate in dir.
func (d directory) serve(dir string) []string {
	text, err := os.ReadFile(d.path(".config/sealpost/config.toml"))
	if err != nil {
		d.t.Fatal(err)
	}
	placed := strings.NewReplacer(`"cert.pem"`, fmt.Sprintf("%q", filepath.Join(dir, "cert.pem")), `"key.pem"`, fmt.Sprintf("%q", filepath.Join(dir, "key.pem"))).Replace(string(text))
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(placed), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return []string{"env", "HOME=" + d.home, d.program, "--config", filepath.Join(dir, "config.toml"), "run"}
}

// TestOthersFindHostedCertificates: gpg and sq find the certificates of the gateway's users in its directory, and nobody else's.
func TestOthersFindHostedCertificates(t *testing.T) {
	d := newDirectory(t, "")
	d.must("key", "generate", "--account", alice)
	certificates, err := keydisc.ParseCertificates([]byte(d.must("key", "export", "--account", alice)))
	if err != nil {
		t.Fatal(err)
	}
	want := string(certificates[0].Fingerprint())
	out, err := peers.LocateAt(t, "gpg", alice, d.serve)
	if err != nil || !strings.Contains(out, ":"+want+":") {
		t.Errorf("gpg finds %v: %s", err, out)
	}
	out, err = peers.LocateAt(t, "sq", alice, d.serve)
	if err != nil {
		t.Fatal(err)
	}
	found, err := keydisc.ParseCertificates([]byte(out))
	if err != nil || string(found[0].Fingerprint()) != want {
		t.Errorf("sq finds %v: %s", err, out)
	}
	if out, err := peers.LocateAt(t, "gpg", erin, d.serve); err == nil {
		t.Errorf("gpg finds one of a user without a key: %s", out)
	}
}

// TestGnuPGPublishesAtTheGateway: a user's own key, by GnuPG's client.
func TestGnuPGPublishesAtTheGateway(t *testing.T) {
	d := newDirectory(t, "wkd_submission = \"key-submission@alpha.test\"\ninbound = \"lmtp://127.0.0.1:10024\"\nnext_hop_inbound = \"lmtp://127.0.0.1:10027\"\n")
	fingerprint, found, err := peers.PublishByGnuPG(t, alice, d.serve)
	if err != nil || len(fingerprint) != 40 || !strings.Contains(found, ":"+fingerprint+":") {
		t.Errorf("%v: %s is published as %s", err, fingerprint, found)
	}
}
