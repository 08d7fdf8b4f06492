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

// TestSetupOfGPG: a payload that a stock program has made, in the form of Autocrypt 1.1 §4.4, opens with its code.
func TestSetupOfGPG(t *testing.T) {
	r, gpg := newRig(t), newGPG(t)
	gpg.run(t, nil, "--passphrase", "", "--quick-generate-key", alice, "future-default", "default", "1y")
	key := gpg.run(t, nil, "--passphrase", "", "--armor", "--export-secret-keys", alice)
	code := filepath.Join(t.TempDir(), "code")
	const digits = "1742-0185-6197-1303-7016-8412-3581-4441-0597"
	if err := os.WriteFile(code, []byte(digits), 0o600); err != nil {
		t.Fatal(err)
	}
	message := gpg.run(t, key, "--passphrase-file", code, "--symmetric", "--cipher-algo", "AES128", "--armor")
	page := bytes.Replace(message, []byte("MESSAGE-----\n"), []byte("MESSAGE-----\nPassphrase-Format: numeric9x4\nPassphrase-Begin: 17\n"), 1)
	opened, err := OpenSetup(page, digits)
	if err != nil || !bytes.Equal(opened, key) {
		t.Fatalf("%d octets instead of %d: %v", len(opened), len(key), err)
	}
	if keys, err := r.ring.Import(t.Context(), opened, nil, []string{alice}, time.Now()); err != nil || len(keys) != 1 {
		t.Error(keys, err)
	}
}
