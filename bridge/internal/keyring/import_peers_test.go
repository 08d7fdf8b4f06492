//go:build peers

package keyring

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBackupOfAMailProgram: a mail program with several accounts writes all its keys into one file, as gpg does: those for this
// account are taken.
func TestBackupOfAMailProgram(t *testing.T) {
	gpg, ours := newGPG(t), newRig(t)
	for _, address := range []string{"work@elsewhere.test", alice, "club@elsewhere.test", "a@alpha.test"} {
		gpg.run(t, nil, "--passphrase", "open sesame", "--quick-generate-key", address, "future-default", "default", "1y")
	}
	backup := gpg.run(t, nil, "--passphrase", "open sesame", "--armor", "--export-secret-keys")
	keys, err := ours.ring.Import(t.Context(), backup, []byte("open sesame"), []string{alice, "a@alpha.test"}, time.Now())
	if err != nil || len(keys) != 2 || len(ours.open(t).List()) != 2 {
		t.Fatalf("%+v, %v", keys, err)
	}
	if _, err := ours.ring.Import(t.Context(), backup, []byte("open sesame"), []string{"nobody@alpha.test"}, time.Now()); err == nil {
		t.Error("keys of others were taken")
	}
}

// TestKeyGrowsInGPG: a key that was imported is changed in gpg and imported again; what was done to it here meanwhile stays.
func TestKeyGrowsInGPG(t *testing.T) {
	gpg, ours := newGPG(t), newRig(t)
	gpg.run(t, nil, "--passphrase", "", "--quick-generate-key", alice, "future-default", "default", "1y")
	take := func() Key {
		t.Helper()
		keys, err := ours.ring.Import(t.Context(), gpg.run(t, nil, "--passphrase", "", "--export-secret-keys", alice), nil, []string{alice}, time.Now())
		if err != nil || len(keys) != 1 {
			t.Fatal(keys, err)
		}
		return keys[0]
	}
	first := take()
	if _, err := ours.ring.Rotate(t.Context(), "", time.Now()); err != nil {
		t.Fatal(err)
	}
	here := encryptAt(t, ours.ring, "to the subkey made here", time.Now().Add(time.Second))
	gpg.run(t, nil, "--passphrase", "", "--quick-add-key", string(first.Fingerprint), "cv25519", "encr", "1y")
	gpg.run(t, nil, "--passphrase", "", "--quick-add-uid", string(first.Fingerprint), "a@alpha.test")
	gpg.run(t, nil, "--passphrase", "", "--quick-set-expire", string(first.Fingerprint), "3y")
	second := take()
	if len(second.Addresses) != 2 || !second.Expires.After(first.Expires) || len(subkeys(t, ours.ring)) != 3 {
		t.Errorf("%+v", second)
	}
	if text := decrypt(t, ours.open(t), here); text != "to the subkey made here" {
		t.Errorf("we read %q", text)
	}
	if text := decrypt(t, ours.open(t), gpg.run(t, []byte("for us"), "--encrypt", "--recipient", alice)); text != "for us" {
		t.Errorf("we read %q", text)
	}
}

// TestRevokedInGPG: a key that we hold is revoked in gpg; its copy ends ours, and another of the ring takes its place. The other way
// round gpg takes our revocation.
func TestRevokedInGPG(t *testing.T) {
	gpg, ours := newGPG(t), newRig(t)
	gpg.run(t, nil, "--passphrase", "", "--quick-generate-key", alice, "future-default", "default", "1y")
	take := func() Key {
		t.Helper()
		keys, err := ours.ring.Import(t.Context(), gpg.run(t, nil, "--passphrase", "", "--export-secret-keys", alice), nil, []string{alice}, time.Now())
		if err != nil || len(keys) != 1 {
			t.Fatal(keys, err)
		}
		return keys[0]
	}
	k := take()
	message := gpg.run(t, []byte("for us"), "--encrypt", "--recipient", alice)
	next := ours.generate(t, Compatible)
	revocation, err := os.ReadFile(filepath.Join(string(gpg), "openpgp-revocs.d", string(k.Fingerprint)+".rev"))
	if err != nil {
		t.Fatal(err)
	}
	gpg.run(t, nil, "--trust-model", "pgp", "--check-trustdb") // makes the file that importing a revocation needs
	gpg.run(t, bytes.Replace(revocation, []byte(":-----BEGIN"), []byte("-----BEGIN"), 1), "--import")
	if revoked := take(); !revoked.Revoked || revoked.Primary {
		t.Errorf("%+v", revoked)
	}
	if list := ours.open(t).List(); list[0].Fingerprint != next.Fingerprint {
		t.Errorf("%+v", list)
	}
	if text := decrypt(t, ours.open(t), message); text != "for us" {
		t.Errorf("older mail: %q", text)
	}

	exported, err := ours.ring.Export(next.Fingerprint, nil)
	if err != nil {
		t.Fatal(err)
	}
	gpg.run(t, exported, "--import")
	if _, err := ours.ring.Revoke(t.Context(), next.Fingerprint, Superseded, "", time.Now(), true); err != nil {
		t.Fatal(err)
	}
	certificate, err := ours.ring.ExportCertificate(next.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	gpg.run(t, certificate, "--import")
	if list := gpg.run(t, nil, "--list-keys", "--with-colons", string(next.Fingerprint)); !bytes.Contains(list, []byte("pub:r:")) {
		t.Errorf("gpg has not taken the revocation:\n%s", list)
	}
}

// TestCopyWithoutPrimary: of a key that we hold gpg exports new subkeys without the primary secret, which stays elsewhere.
func TestCopyWithoutPrimary(t *testing.T) {
	for _, passphrase := range []string{"", "open sesame"} {
		gpg, ours := newGPG(t), newRig(t)
		gpg.run(t, nil, "--passphrase", passphrase, "--quick-generate-key", alice, "future-default", "default", "1y")
		whole := gpg.run(t, nil, "--passphrase", passphrase, "--export-secret-keys", alice)
		keys, err := ours.ring.Import(t.Context(), whole, []byte(passphrase), []string{alice}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		gpg.run(t, nil, "--passphrase", passphrase, "--quick-add-key", string(keys[0].Fingerprint), "cv25519", "encr", "1y")
		stubs := gpg.run(t, nil, "--passphrase", passphrase, "--export-secret-subkeys", alice)
		if _, err := ours.ring.Import(t.Context(), stubs, []byte(passphrase), []string{alice}, time.Now()); err != nil {
			t.Fatalf("passphrase %q: %v", passphrase, err)
		}
		if n := len(subkeys(t, ours.open(t))); n != 2 {
			t.Errorf("%d subkeys", n)
		}
		for _, r := range []*Ring{ours.ring, ours.open(t)} { // the primary secret is still here: it signs
			if got := gpg.run(t, encrypt(t, r, "signed"), "--passphrase", passphrase, "--decrypt"); string(got) != "signed" {
				t.Errorf("gpg read %q", got)
			}
			if text := decrypt(t, r, gpg.run(t, []byte("for us"), "--encrypt", "--recipient", alice)); text != "for us" {
				t.Errorf("we read %q", text)
			}
		}
		if _, err := newRig(t).ring.Import(t.Context(), stubs, []byte(passphrase), []string{alice}, time.Now()); err == nil || !strings.Contains(err.Error(), "primary secret key is missing") {
			t.Errorf("passphrase %q: stubs of an unknown key: %v", passphrase, err)
		}
	}
}

// TestWeTakeKeysOfRNP: RNP is the engine of Thunderbird. Keys in several armored blocks, under a passphrase.
func TestWeTakeKeysOfRNP(t *testing.T) {
	need(t, "rnpkeys", "rnp")
	home, ours := t.TempDir(), newRig(t)
	var backup []byte
	for _, address := range []string{alice, "a@alpha.test"} {
		run(t, nil, "rnpkeys", "--homedir", home, "--password", "open sesame", "--generate-key", "--userid", "Alice <"+address+">")
		backup = append(backup, run(t, nil, "rnpkeys", "--homedir", home, "--password", "open sesame", "--export-key", "--secret", address)...)
	}
	keys, err := ours.ring.Import(t.Context(), backup, []byte("open sesame"), []string{alice, "a@alpha.test"}, time.Now())
	if err != nil || len(keys) != 2 {
		t.Fatal(keys, err)
	}
	path, out := file(t, []byte("for us")), filepath.Join(home, "out")
	run(t, nil, "rnp", "--homedir", home, "--encrypt", "--recipient", alice, "--output", out, path)
	message, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if text := decrypt(t, ours.open(t), message); text != "for us" {
		t.Errorf("we read %q", text)
	}
}
