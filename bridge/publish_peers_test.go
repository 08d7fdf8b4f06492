//go:build peers

package bridge

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// TestPublishAtGnuPG runs the whole protocol with the reference implementation, and again when the certificate has changed:
// what we submit ends in its tree.
func TestPublishAtGnuPG(t *testing.T) {
	w := newWorld(t)
	service, certificate := newWKSServer(t, "alpha.test")
	w.wkd.Publish(submissionAddress, certificate)
	w.wkd.Serve("alpha.test", "submission-address", []byte(submissionAddress+"\n"))
	a := w.start(alice)
	// The certificate has a history, which must come out of the service whole.
	if _, err := a.ExtendKey(t.Context(), "", time.Now().AddDate(5, 0, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Publish(t.Context(), alice, []Place{PlaceWKS}, ""); err != nil {
		t.Fatal(err)
	}
	service.round(w, a, 0)
	if _, err := a.RotateKey(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	service.round(w, a, 1)
	if n := len(w.provider.Outside()); n != 4 {
		t.Errorf("%d mails were sent", n)
	}
	w.mustNotLeak("confirmation-response", "PUBLIC KEY BLOCK", string(bridgetest.PublicKey(alice)[100:140]))
}

// round carries the mail of one publication between the two, from the submission to the directory.
func (s *wksServer) round(w *world, a *Account, n int) {
	s.Helper()
	state := func(want PublicationState) func() bool {
		return func() bool { return publicationStates(s.T, a) == "alice@alpha.test wks "+string(want) }
	}
	deliver := func(mail []byte) {
		if _, err := w.provider.Deliver(alice, "INBOX", mail); err != nil {
			s.Fatal(err)
		}
	}
	eventually(s.T, "the service is asked", func() bool { return len(w.provider.Outside()) == 2*n+1 && state(PublicationRequested)() })
	deliver(s.receive(w.provider.Outside()[2*n].Bytes))
	eventually(s.T, "its question is answered", state(PublicationConfirmed))
	done := s.receive(w.provider.Outside()[2*n+1].Bytes)

	published, err := os.ReadFile(filepath.Join(s.tree, "alpha.test", "hu", keydisc.WKDHash("alice")))
	if err != nil {
		s.Fatal(err)
	}
	got, err := keydisc.ParseCertificates(published)
	own, missing := a.Certificate()
	if err != nil || missing != nil || !got[0].Has(own) {
		s.Fatal("the directory has another certificate", err, missing)
	}
	w.wkd.Publish(alice, published)
	deliver(done)
	eventually(s.T, "it is found", state(PublicationPublished))
}
