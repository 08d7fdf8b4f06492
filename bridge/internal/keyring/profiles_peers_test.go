//go:build peers

package keyring

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// program is an OpenPGP program. Each call gets files of its own; an error says that it cannot.
type program interface {
	encryptTo(t *testing.T, certificate, text []byte) ([]byte, error)
	decrypt(t *testing.T, secret, message []byte) ([]byte, error)
	sign(t *testing.T, secret, text []byte) ([]byte, error) // a detached signature
	verify(t *testing.T, certificate, signature, text []byte) error
}

// abilities are what a program of Debian 12 can do with a profile: e it encrypts to our certificate and we read that, d it
// decrypts with our exported key what we have encrypted, s it signs with our key and we find the signature good, v it
// verifies our signature; - where it cannot. An upgrade that changes one is noticed here.
var abilities = map[string]map[Profile]string{
	// GnuPG 2.2 knows neither version 6 nor ML-KEM: it writes to the X25519 subkey of pqc, and does not read the other one.
	"gpg":  {Compatible: "edsv", V6: "----", PQC: "e-sv", PQCV6: "----"},
	"sqop": {Compatible: "edsv", V6: "----", PQC: "e-sv", PQCV6: "----"}, // Sequoia 1.12 is older than RFC 9580
	"sq":   {Compatible: "edsv", V6: "----", PQC: "e-sv", PQCV6: "----"}, // as sqop
	// Their libraries, as old, refuse a whole key for one subkey of an algorithm that they do not know.
	"gosop": {Compatible: "edsv", V6: "----", PQC: "----", PQCV6: "----"},
	"rnp":   {Compatible: "edsv", V6: "----", PQC: "----", PQCV6: "----"},
}

// Those do not look whether the certificate that they encrypt to is revoked; sq inspect says that ours is.
var ignoreRevocation = map[string]bool{"sqop": true, "sq": true}

func TestProfilesElsewhere(t *testing.T) {
	need(t, "sqop", "sqop")
	need(t, "gosop", "gosop")
	need(t, "rnp", "rnp")
	need(t, "sq", "sq")
	programs := map[string]program{"sq": sequoia{}, "gpg": gnupg{}, "sqop": sop("sqop"), "gosop": sop("gosop"), "rnp": rnp{}}
	for name, p := range programs {
		for _, profile := range profiles {
			t.Run(name+" "+string(profile), func(t *testing.T) {
				r := newRig(t)
				k := r.generate(t, profile)
				if got, want := tried(t, p, r, k), abilities[name][profile]; got != want {
					t.Errorf("it can %q, expected was %q", got, want)
				}
			})
		}
	}
	// A key that was renewed and extended is as good as a new one; one that is revoked is not encrypted to.
	for name, p := range programs {
		t.Run(name+" renewed and revoked", func(t *testing.T) {
			r := newRig(t)
			k, err := r.ring.Generate(t.Context(), Compatible, []string{alice}, time.Now().Add(-800*24*time.Hour), false)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.ring.Maintain(t.Context(), []string{alice, "a@alpha.test"}, time.Now().Add(-time.Hour)); err != nil {
				t.Fatal(err)
			}
			if _, err := r.ring.Extend(t.Context(), "", time.Now().Add(5*365*24*time.Hour), time.Now().Add(-time.Minute)); err != nil {
				t.Fatal(err)
			}
			if got := tried(t, p, r, k); got != "edsv" {
				t.Errorf("renewed: it can %q", got)
			}
			if _, err := r.ring.Revoke(t.Context(), "", Superseded, "", time.Now().Add(-time.Second), true); err != nil {
				t.Fatal(err)
			}
			certificate, err := r.ring.ExportCertificate(k.Fingerprint)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.encryptTo(t, certificate, []byte("text")); (err == nil) != ignoreRevocation[name] {
				t.Errorf("encrypting to a revoked key: %v", err)
			}
			if told := run(t, nil, "sq", "inspect", file(t, certificate)); !bytes.Contains(told, []byte("Key is superseded")) {
				t.Errorf("sq does not see the revocation:\n%s", told)
			}
		})
	}
}

func tried(t *testing.T, p program, r *rig, k Key) string {
	t.Helper()
	certificate, err := r.ring.ExportCertificate(k.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := r.ring.Export(k.Fingerprint, nil)
	if err != nil {
		t.Fatal(err)
	}
	const text = "for the other\n"
	can := []byte("----")
	if message, err := p.encryptTo(t, certificate, []byte(text)); err == nil {
		if got := decrypt(t, r.ring, dearmored(t, message)); got != text {
			t.Errorf("we read %q", got)
		}
		can[0] = 'e'
	}
	if got, err := p.decrypt(t, secret, encrypt(t, r.ring, text)); err == nil {
		if string(got) != text {
			t.Errorf("it read %q", got)
		}
		can[1] = 'd'
	}
	if signature, err := p.sign(t, secret, []byte(text)); err == nil {
		if err := verified(t, r, signature, text); err != nil {
			t.Errorf("its signature: %v", err)
		}
		can[2] = 's'
	}
	if p.verify(t, certificate, signed(t, r, text), []byte(text)) == nil {
		if p.verify(t, certificate, signed(t, r, text), []byte("another text")) == nil {
			t.Error("it takes our signature for one of another text")
		}
		can[3] = 'v'
	}
	return string(can)
}

func dearmored(t *testing.T, data []byte) []byte {
	t.Helper()
	if !armored(data) {
		return data
	}
	block, err := armor.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(block.Body)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func signed(t *testing.T, r *rig, text string) []byte {
	t.Helper()
	signer, err := r.ring.Signer()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := openpgp.DetachSign(&b, []*openpgp.Entity{signer}, strings.NewReader(text), &packet.Config{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func verified(t *testing.T, r *rig, signature []byte, text string) error {
	t.Helper()
	signer, err := r.ring.Signer()
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = openpgp.VerifyDetachedSignature(openpgp.EntityList{signer}, strings.NewReader(text), bytes.NewReader(dearmored(t, signature)), nil)
	return err
}

// attempt runs a program that may fail.
func attempt(t *testing.T, stdin []byte, name string, args ...string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, name, args...)
	command.Stdin = bytes.NewReader(stdin)
	return command.Output()
}

func file(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sop speaks the Stateless OpenPGP command line (draft-dkg-openpgp-stateless-cli).
type sop string

func (s sop) encryptTo(t *testing.T, certificate, text []byte) ([]byte, error) {
	return attempt(t, text, string(s), "encrypt", file(t, certificate))
}

func (s sop) decrypt(t *testing.T, secret, message []byte) ([]byte, error) {
	return attempt(t, message, string(s), "decrypt", file(t, secret))
}

func (s sop) sign(t *testing.T, secret, text []byte) ([]byte, error) {
	return attempt(t, text, string(s), "sign", file(t, secret))
}

func (s sop) verify(t *testing.T, certificate, signature, text []byte) error {
	_, err := attempt(t, text, string(s), "verify", file(t, signature), file(t, certificate))
	return err
}

// sequoia is Sequoia's own command line.
type sequoia struct{}

func (sequoia) encryptTo(t *testing.T, certificate, text []byte) ([]byte, error) {
	return attempt(t, text, "sq", "encrypt", "--recipient-cert", file(t, certificate))
}

func (sequoia) decrypt(t *testing.T, secret, message []byte) ([]byte, error) {
	return attempt(t, message, "sq", "decrypt", "--recipient-key", file(t, secret))
}

func (sequoia) sign(t *testing.T, secret, text []byte) ([]byte, error) {
	return attempt(t, text, "sq", "sign", "--detached", "--signer-key", file(t, secret))
}

func (sequoia) verify(t *testing.T, certificate, signature, text []byte) error {
	_, err := attempt(t, text, "sq", "verify", "--signer-cert", file(t, certificate), "--detached", file(t, signature))
	return err
}

// gnupg takes a home of its own for every call.
type gnupg struct{}

func (gnupg) with(t *testing.T, keys, stdin []byte, args ...string) ([]byte, error) {
	t.Helper()
	home := newGPG(t)
	all := []string{"--homedir", string(home), "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", "", "--trust-model", "always"}
	if _, err := attempt(t, keys, "gpg", append(all, "--import")...); err != nil {
		return nil, err
	}
	return attempt(t, stdin, "gpg", append(all, args...)...)
}

func (g gnupg) encryptTo(t *testing.T, certificate, text []byte) ([]byte, error) {
	return g.with(t, certificate, text, "--encrypt", "--recipient", alice)
}

func (g gnupg) decrypt(t *testing.T, secret, message []byte) ([]byte, error) {
	return g.with(t, secret, message, "--decrypt")
}

func (g gnupg) sign(t *testing.T, secret, text []byte) ([]byte, error) {
	return g.with(t, secret, text, "--detach-sign")
}

func (g gnupg) verify(t *testing.T, certificate, signature, text []byte) error {
	_, err := g.with(t, certificate, text, "--verify", file(t, signature), "-")
	return err
}

// rnp is RNP's own command line.
type rnp struct{}

func (rnp) with(t *testing.T, keys []byte, args ...string) error {
	t.Helper()
	home := t.TempDir()
	if _, err := attempt(t, nil, "rnpkeys", "--homedir", home, "--import", file(t, keys)); err != nil {
		return err
	}
	_, err := attempt(t, nil, "rnp", append([]string{"--homedir", home, "--password", ""}, args...)...)
	return err
}

func (r rnp) encryptTo(t *testing.T, certificate, text []byte) ([]byte, error) {
	out := filepath.Join(t.TempDir(), "out")
	if err := r.with(t, certificate, "--encrypt", "--recipient", alice, "--output", out, file(t, text)); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

func (r rnp) decrypt(t *testing.T, secret, message []byte) ([]byte, error) {
	out := filepath.Join(t.TempDir(), "out")
	if err := r.with(t, secret, "--decrypt", "--output", out, file(t, message)); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

func (r rnp) sign(t *testing.T, secret, text []byte) ([]byte, error) {
	out := filepath.Join(t.TempDir(), "out")
	if err := r.with(t, secret, "--sign", "--detach", "--userid", alice, "--output", out, file(t, text)); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

func (r rnp) verify(t *testing.T, certificate, signature, text []byte) error {
	path := file(t, text)
	if err := os.WriteFile(path+".sig", signature, 0o600); err != nil {
		t.Fatal(err)
	}
	return r.with(t, certificate, "--verify", path+".sig")
}
