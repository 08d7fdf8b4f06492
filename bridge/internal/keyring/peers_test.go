//go:build peers

package keyring

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// need fails where a peer is missing and names its Debian package.
func need(t *testing.T, program, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is missing: apt install %s", program, pkg)
	}
}

// gpgHome is a GnuPG of its own. Its path is short: it holds a socket.
type gpgHome string

func newGPG(t *testing.T) gpgHome {
	t.Helper()
	need(t, "gpg", "gnupg")
	dir, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = exec.CommandContext(ctx, "gpgconf", "--homedir", dir, "--kill", "all").Run()
		_ = os.RemoveAll(dir)
	})
	return gpgHome(dir)
}

func (h gpgHome) run(t *testing.T, stdin []byte, args ...string) []byte {
	t.Helper()
	return run(t, stdin, "gpg", append([]string{"--homedir", string(h), "--batch", "--yes", "--pinentry-mode", "loopback", "--trust-model", "always"}, args...)...)
}

func run(t *testing.T, stdin []byte, program string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, program, args...)
	var out, errs bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(stdin), &out, &errs
	if err := command.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, errs.String())
	}
	return out.Bytes()
}

// What we export, gpg imports, and with it alone reads what was encrypted to the certificate;
// what gpg exports again is the same key with the same seal key.
func TestGPGTakesOurKeys(t *testing.T) {
	for _, p := range []Profile{Compatible, PQC} {
		for _, passphrase := range []string{"", "open sesame"} {
			t.Run(string(p)+" "+passphrase, func(t *testing.T) {
				t.Parallel()
				gpg, ours := newGPG(t), newRig(t)
				k := ours.generate(t, p)
				exported, err := ours.ring.Export(k.Fingerprint, []byte(passphrase))
				if err != nil {
					t.Fatal(err)
				}
				gpg.run(t, exported, "--passphrase", passphrase, "--import")
				listing := string(gpg.run(t, nil, "--with-colons", "--list-secret-keys"))
				if !strings.Contains(listing, string(k.Fingerprint)) || !strings.Contains(listing, alice) {
					t.Fatal(listing)
				}
				if p == Compatible { // to the other, what we send prefers the subkey that gpg 2.2 does not know
					if got := gpg.run(t, encrypt(t, ours.ring, "for gpg"), "--passphrase", passphrase, "--decrypt"); string(got) != "for gpg" {
						t.Errorf("gpg read %q", got)
					}
				}
				back := gpg.run(t, nil, "--passphrase", passphrase, "--armor", "--export-secret-keys", alice)
				other := newRig(t)
				if _, err := other.ring.Import(t.Context(), back, []byte(passphrase), []string{alice}, time.Now()); err != nil {
					t.Fatal(err)
				}
				one, _ := ours.ring.SealKey()
				two, err := other.ring.SealKey()
				if err != nil || !bytes.Equal(one, two) {
					t.Error("another seal key", err)
				}
				if got := decrypt(t, other.ring, gpg.run(t, []byte("for us"), "--encrypt", "--recipient", alice)); got != "for us" {
					t.Errorf("we read %q", got)
				}
			})
		}
	}
}

// Keys made by gpg, of the kinds that are about.
func TestWeTakeKeysOfGPG(t *testing.T) {
	for name, parameters := range map[string]string{
		"ed25519":  "Key-Type: eddsa\nKey-Curve: ed25519\nSubkey-Type: ecdh\nSubkey-Curve: cv25519",
		"rsa3072":  "Key-Type: rsa\nKey-Length: 3072\nSubkey-Type: rsa\nSubkey-Length: 3072",
		"nistp256": "Key-Type: ecdsa\nKey-Curve: nistp256\nSubkey-Type: ecdh\nSubkey-Curve: nistp256",
	} {
		for _, passphrase := range []string{"", "open sesame"} {
			t.Run(name+" "+passphrase, func(t *testing.T) {
				t.Parallel()
				gpg, ours := newGPG(t), newRig(t)
				protection := "%no-protection"
				if passphrase != "" {
					protection = "Passphrase: " + passphrase
				}
				gpg.run(t, []byte(parameters+"\nName-Real: Alice\nName-Email: "+alice+"\nExpire-Date: 1y\n"+protection+"\n%commit\n"), "--generate-key")
				exported := gpg.run(t, nil, "--passphrase", passphrase, "--export-secret-keys", alice)
				k, err := ours.ring.Import(t.Context(), exported, []byte(passphrase), []string{alice}, time.Now())
				if err != nil || len(k) != 1 || k[0].Expires.IsZero() {
					t.Fatal(err, k)
				}
				if got := decrypt(t, ours.open(t), gpg.run(t, []byte("for us"), "--encrypt", "--recipient", alice)); got != "for us" {
					t.Errorf("we read %q", got)
				}
				if got := gpg.run(t, encrypt(t, ours.ring, "for gpg"), "--passphrase", passphrase, "--decrypt"); string(got) != "for gpg" {
					t.Errorf("gpg read %q", got)
				}
				backInGPG(t, ours, k[0])
			})
		}
	}
}

// backInGPG exports an imported key into another gpg.
func backInGPG(t *testing.T, ours *rig, k Key) {
	t.Helper()
	exported, err := ours.ring.Export(k.Fingerprint, []byte("another"))
	if err != nil {
		t.Fatal(err)
	}
	gpg := newGPG(t)
	gpg.run(t, exported, "--passphrase", "another", "--import")
	if got := gpg.run(t, encrypt(t, ours.ring, "again"), "--passphrase", "another", "--decrypt"); string(got) != "again" {
		t.Errorf("gpg read %q", got)
	}
}

// A key without its primary secret cannot be used, and the refusal says what to export.
func TestSubkeysAloneAreRefused(t *testing.T) {
	gpg, ours := newGPG(t), newRig(t)
	gpg.run(t, []byte("%no-protection\nKey-Type: eddsa\nKey-Curve: ed25519\nSubkey-Type: ecdh\nSubkey-Curve: cv25519\nName-Email: "+alice+"\n%commit\n"), "--generate-key")
	exported := gpg.run(t, nil, "--export-secret-subkeys", alice)
	if _, err := ours.ring.Import(t.Context(), exported, nil, []string{alice}, time.Now()); err == nil || !strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

func TestWeTakeKeysOfSequoia(t *testing.T) {
	need(t, "sq", "sq")
	for _, suite := range []string{"cv25519", "rsa3k"} {
		path := filepath.Join(t.TempDir(), "key.pgp")
		run(t, nil, "sq", "key", "generate", "--userid", "Alice <"+alice+">", "--cipher-suite", suite, "--export", path)
		exported, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		ours := newRig(t)
		if _, err := ours.ring.Import(t.Context(), exported, nil, []string{alice}, time.Now()); err != nil {
			t.Fatalf("%s: %v", suite, err)
		}
		if got := string(run(t, encrypt(t, ours.ring, "for sq"), "sq", "decrypt", "--recipient-key", path)); got != "for sq" {
			t.Errorf("%s: sq read %q", suite, got)
		}
	}
}
