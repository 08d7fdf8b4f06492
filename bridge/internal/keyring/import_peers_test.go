//go:build peers

package keyring

import (
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
