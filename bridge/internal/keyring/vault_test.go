package keyring

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fixed is an unlocker that knows the passphrase.
type fixed string

func (f fixed) Name() string                               { return "fixed" }
func (f fixed) Passphrase(context.Context) ([]byte, error) { return []byte(f), nil }
func newVault(t *testing.T, dir string, u ...Unlocker) *Vault {
	t.Helper()
	return must(t)(CreateVault(t.Context(), dir, u))
}
func must(t *testing.T) func(v *Vault, err error) *Vault {
	return func(v *Vault, err error) *Vault {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestVaultOpensWithItsPassphraseOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if _, err := OpenVault(t.Context(), dir, nil); !errors.Is(err, ErrNoVault) {
		t.Fatal(err)
	}
	v := newVault(t, dir, prompt{}, fixed("correct horse"))
	again, err := OpenVault(t.Context(), dir, []Unlocker{prompt{}, fixed("wrong"), fixed("correct horse")})
	if err != nil || !bytes.Equal(v.DatabaseKey(), again.DatabaseKey()) || len(v.DatabaseKey()) != 32 {
		t.Fatal("another key", err)
	}
	info, err := os.Stat(filepath.Join(dir, vaultFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	_, err = OpenVault(t.Context(), dir, []Unlocker{prompt{}, fixed("wrong")})
	if !errors.Is(err, ErrLocked) || errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	for _, want := range []string{"prompt: not available here: there is no terminal", "fixed: the passphrase does not fit"} {
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q lacks %q, or is not one line", err, want)
		}
	}
}

func TestVaultIsNeverOverwritten(t *testing.T) {
	dir := t.TempDir()
	newVault(t, dir, fixed("one"))
	before := readFile(t, dir)
	if _, err := CreateVault(t.Context(), dir, []Unlocker{fixed("two")}); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	if err := (&sealedVault{}).write(filepath.Join(dir, vaultFile)); !errors.Is(err, ErrExists) {
		t.Error("two at the same time:", err)
	}
	if !bytes.Equal(before, readFile(t, dir)) {
		t.Error("the vault changed")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Error("left behind:", left)
	}
}

func readFile(t *testing.T, dir string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, vaultFile))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestNoPassphraseNoVault(t *testing.T) {
	dir := t.TempDir()
	for name, chain := range map[string][]Unlocker{
		"nothing available": {prompt{}, passphraseFile{"file", ""}},
		"empty passphrase":  {fixed("")},
		"refused":           {prompt{func(context.Context) ([]byte, error) { return nil, errors.New("cancelled") }}, fixed("not asked")},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := CreateVault(t.Context(), dir, chain)
			if !errors.Is(err, ErrLocked) || strings.Contains(err.Error(), "\n") {
				t.Error(err)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
				t.Error("left behind:", left)
			}
		})
	}
}

// No damage is taken for a wrong passphrase, and none is repaired by replacing anything.
func TestDamagedVault(t *testing.T) {
	dir := t.TempDir()
	newVault(t, dir, fixed("pass"))
	whole := readFile(t, dir)
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0x04
		if f, err := parseVault("v", damaged); err == nil && f.checksum() != mustParse(t, whole).checksum() || err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrLocked) {
			t.Fatalf("octet %d: %v", i, err)
		}
	}
	for _, n := range []int{0, 1, len(whole) / 2, len(whole) - 1} {
		path := filepath.Join(dir, vaultFile)
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenVault(t.Context(), dir, []Unlocker{fixed("pass")}); !errors.Is(err, ErrDamaged) || errors.Is(err, ErrLocked) {
			t.Errorf("%d octets: %v", n, err)
		}
		if !bytes.Equal(readFile(t, dir), whole[:n]) {
			t.Error("the file changed")
		}
	}
}

func mustParse(t *testing.T, data []byte) *sealedVault {
	t.Helper()
	f, err := parseVault("v", data)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A forged file cannot make the start eat the memory or the day.
func TestVaultLimits(t *testing.T) {
	for name, change := range map[string]func(f *sealedVault){
		"memory":       func(f *sealedVault) { f.Memory = maxArgonMemory + 1 },
		"time":         func(f *sealedVault) { f.Time = maxArgonTime + 1 },
		"no time":      func(f *sealedVault) { f.Time = 0 },
		"other kdf":    func(f *sealedVault) { f.KDF = "md5" },
		"version zero": func(f *sealedVault) { f.Version = 0 },
	} {
		f := &sealedVault{Version: 1, KDF: "argon2id", Time: 3, Memory: 64, Salt: make([]byte, 16)}
		change(f)
		f.Check = f.checksum()
		data, _ := json.Marshal(f)
		if _, err := parseVault("v", data); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := parseVault("v", []byte(`{"version":2}`)); err == nil || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "newer") {
		t.Error(err)
	}
}

func TestSealedSecretsCannotBeExchanged(t *testing.T) {
	v := &Vault{master: bytes.Repeat([]byte{1}, 32)}
	sealed, err := v.Seal("alice", []byte("secret"))
	if err != nil || bytes.Contains(sealed, []byte("secret")) {
		t.Fatal(err)
	}
	if got, err := v.Unseal("alice", sealed); err != nil || string(got) != "secret" {
		t.Fatal(err)
	}
	if twice, _ := v.Seal("alice", []byte("secret")); bytes.Equal(twice, sealed) {
		t.Error("the same nonce twice")
	}
	other := &Vault{master: bytes.Repeat([]byte{2}, 32)}
	if _, err := other.Unseal("alice", sealed); err == nil {
		t.Error("another vault opened it")
	}
	if _, err := v.Unseal("bob", sealed); err == nil {
		t.Error("it opened under another name")
	}
	for n := range sealed {
		if _, err := v.Unseal("alice", sealed[:n]); err == nil {
			t.Errorf("%d octets of it opened", n)
		}
	}
	v.Close()
	if _, err := v.Unseal("alice", sealed); err == nil {
		t.Error("a closed vault opened it")
	}
}

func FuzzParseVault(f *testing.F) {
	v := &sealedVault{Version: 1, KDF: "argon2id", Time: 3, Memory: 64, Salt: make([]byte, 16)}
	v.Check = v.checksum()
	data, _ := json.Marshal(v)
	f.Add(data)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := parseVault("v", data)
		if err == nil && (v.Memory > maxArgonMemory || v.Time > maxArgonTime || v.Check != v.checksum()) {
			t.Error("accepted")
		}
	})
}
