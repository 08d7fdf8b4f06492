package keyring

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zalando/go-keyring"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sealpost-passphrase")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestChain(t *testing.T) {
	path := write(t, "of systemd\n")
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(path))
	chain, err := Chain(UnlockOptions{
		Methods: []string{"systemd", "file", "prompt"}, PassphraseFile: write(t, " of file \r\n"),
		Prompt: func(context.Context) ([]byte, error) { return []byte("of prompt"), nil },
	})
	if err != nil || len(chain) != 3 {
		t.Fatal(chain, err)
	}
	for i, want := range []string{"of systemd", " of file ", "of prompt"} {
		if got, err := chain[i].Passphrase(t.Context()); err != nil || string(got) != want {
			t.Errorf("%s: %q %v", chain[i].Name(), got, err)
		}
	}
	if _, err := Chain(UnlockOptions{Methods: []string{"guess"}}); err == nil || !strings.Contains(err.Error(), "guess") {
		t.Error(err)
	}
}

func TestUnavailableIsToldFromBroken(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	for name, c := range map[string]struct {
		unlocker    Unlocker
		unavailable bool
	}{
		"no file named":   {passphraseFile{"file", ""}, true},
		"no credential":   {passphraseFile{"systemd", credentialPath()}, true},
		"no such file":    {passphraseFile{"file", filepath.Join(t.TempDir(), "x")}, true},
		"a folder":        {passphraseFile{"file", t.TempDir()}, false},
		"endless":         {passphraseFile{"file", "/dev/zero"}, false},
		"no terminal":     {prompt{}, true},
		"prompt failed":   {prompt{func(context.Context) ([]byte, error) { return nil, errors.New("boom") }}, false},
		"no keyring here": {osKeyring{"u", func() error { return errors.New("no bus") }, time.Minute}, true},
	} {
		if _, err := c.unlocker.Passphrase(t.Context()); err == nil || errors.Is(err, ErrUnavailable) != c.unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func present() error { return nil }

// The vault's passphrase is made by the keyring, and found there again.
func TestKeyringKeepsThePassphrase(t *testing.T) {
	keyring.MockInit()
	dir := t.TempDir()
	chain := []Unlocker{osKeyring{dir, present, time.Minute}}
	v, err := CreateVault(t.Context(), dir, chain)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := keyring.Get(keyringService, dir)
	if err != nil || len(secret) != 64 {
		t.Fatal(len(secret), err)
	}
	again, err := OpenVault(t.Context(), dir, chain)
	if err != nil || !bytes.Equal(v.master, again.master) {
		t.Fatal(err)
	}
	if _, err := OpenVault(t.Context(), dir, []Unlocker{osKeyring{"other", present, time.Minute}}); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
}

// What the keyring holds stays, whatever happens while a vault is made.
func TestKeyringIsNeverOverwritten(t *testing.T) {
	keyring.MockInit()
	k := osKeyring{"u", present, time.Minute}
	if err := keyring.Set(keyringService, "u", "old"); err != nil {
		t.Fatal(err)
	}
	if got, err := k.create(t.Context()); err != nil || string(got) != "old" {
		t.Error(string(got), err)
	}
	keyring.MockInitWithError(errors.New("the collection is locked"))
	if got, err := k.create(t.Context()); !errors.Is(err, ErrUnavailable) || len(got) != 0 {
		t.Error(string(got), err)
	}
}

func TestSilentKeyring(t *testing.T) {
	never := make(chan struct{})
	defer close(never)
	k := osKeyring{"u", present, time.Millisecond}
	_, err := k.ask(t.Context(), func() ([]byte, error) { <-never; return nil, nil })
	if !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}
