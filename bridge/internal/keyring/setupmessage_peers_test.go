//go:build peers

package keyring

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestGPGOpensASetup: a stock program opens the payload with the code, and takes the key.
func TestGPGOpensASetup(t *testing.T) {
	r, gpg := newRig(t), newGPG(t)
	k := r.generate(t, Compatible)
	page, code, err := r.ring.Setup("", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	passphrase := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(passphrase, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	key := gpg.run(t, setupBlock.Find(page), "--batch", "--pinentry-mode", "loopback", "--passphrase-file", passphrase, "--decrypt")
	gpg.run(t, key, "--batch", "--import")
	if list := gpg.run(t, nil, "--list-secret-keys", "--with-colons"); !bytes.Contains(list, []byte(k.Fingerprint)) {
		t.Errorf("gpg has not taken the key:\n%s", list)
	}
}

// TestGPGTakesARevocation: the certificate in advance ends the key, without the key.
func TestGPGTakesARevocation(t *testing.T) {
	r, gpg := newRig(t), newGPG(t)
	k := r.generate(t, Compatible)
	public, err := r.ring.ExportCertificate(k.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	revocation, err := r.ring.Revocation("", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	gpg.run(t, public, "--batch", "--import")
	if list := gpg.run(t, nil, "--list-keys", "--with-colons"); bytes.Contains(list, []byte("pub:r:")) {
		t.Fatalf("revoked already:\n%s", list)
	}
	gpg.run(t, nil, "--trust-model", "pgp", "--check-trustdb") // makes the file that importing a revocation needs
	gpg.run(t, revocation, "--batch", "--import")
	if list := gpg.run(t, nil, "--list-keys", "--with-colons"); !bytes.Contains(list, []byte("pub:r:")) {
		t.Errorf("not revoked:\n%s", list)
	}
	if r.ring.List()[0].Revoked {
		t.Error("making the certificate has revoked the key here")
	}
}
