//go:build peers

package bridge

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/keydisc"
)

// wksServer is GnuPG's Web Key Service for a domain.
type wksServer struct {
	*testing.T
	home, tree string
}

const submissionAddress = "key-submission@keys.test"

// newWKSServer makes a service with a key of its own, and returns the key's certificate, too.
func newWKSServer(t *testing.T, domain string) (*wksServer, []byte) {
	t.Helper()
	for program, debian := range map[string]string{"gpg": "gnupg", "gpg-wks-server": "gpg-wks-server"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: apt-get install %s", program, debian)
		}
	}
	home, err := os.MkdirTemp("", "wks") // not t.TempDir(): gpg-agent's socket does not fit into a long path
	if err != nil {
		t.Fatal(err)
	}
	s := &wksServer{t, home, filepath.Join(home, "tree")}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	if err := os.MkdirAll(filepath.Join(s.tree, domain), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.tree, domain, "submission-address"), []byte(submissionAddress+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.run("", "gpg", "--batch", "--passphrase", "", "--quick-gen-key", submissionAddress)
	s.run("", "gpg-wks-server", "-C", s.tree, "--list-domains")
	return s, s.run("", "gpg", "--export", submissionAddress)
}

func (s *wksServer) run(input, name string, args ...string) []byte {
	s.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdin = append(os.Environ(), "GNUPGHOME="+s.home, "LC_ALL=C"), strings.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.Fatalf("%s %v: %v\n%s", name, args, err, &stderr)
	}
	s.Logf("%s %v\n%s", name, args, &stderr)
	return out
}

// receive lets the service process a mail and returns the mail that it sends.
func (s *wksServer) receive(mail []byte) []byte {
	s.Helper()
	return s.run(string(bytes.ReplaceAll(mail, []byte("\r\n"), []byte("\n"))), "gpg-wks-server", "-v", "-C", s.tree, "--receive", "-o", "-")
}

// TestPublishAtGnuPG runs the whole protocol with the reference implementation: what we submit ends in its tree.
func TestPublishAtGnuPG(t *testing.T) {
	w := newWorld(t)
	service, certificate := newWKSServer(t, "alpha.test")
	w.wkd.Publish(submissionAddress, certificate)
	w.wkd.Serve("alpha.test", "submission-address", []byte(submissionAddress+"\n"))
	a := w.start(alice)
	states := func() string { return publicationStates(t, a) }

	if _, err := a.Publish(t.Context(), alice, []Place{PlaceWKS}, ""); err != nil || states() != "alice@alpha.test wks requested" {
		t.Fatal(err, states())
	}
	question := service.receive(w.provider.Outside()[0].Bytes)
	if _, err := w.provider.Deliver(alice, "INBOX", question); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the question is answered", func() bool { return states() == "alice@alpha.test wks confirmed" })
	done := service.receive(w.provider.Outside()[1].Bytes)

	published, err := os.ReadFile(filepath.Join(service.tree, "alpha.test", "hu", keydisc.WKDHash("alice")))
	if err != nil {
		t.Fatal(err)
	}
	got, err := keydisc.ParseCertificates(published)
	own, missing := a.Certificate()
	if err != nil || missing != nil || !got[0].Has(own) {
		t.Fatal("the directory has another certificate", err)
	}
	w.wkd.Publish(alice, published)
	if _, err := w.provider.Deliver(alice, "INBOX", done); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is found", func() bool { return states() == "alice@alpha.test wks published" })
	if n := len(w.provider.Outside()); n != 2 {
		t.Errorf("%d mails were sent", n)
	}
	w.mustNotLeak("confirmation-response", "PUBLIC KEY BLOCK", string(bridgetest.PublicKey(alice)[100:140]))
}
