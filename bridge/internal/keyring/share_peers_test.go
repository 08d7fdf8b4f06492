//go:build peers

package keyring

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sealpost/sealpost/bridge/bridgetest/database"
	"github.com/sealpost/sealpost/bridge/bridgetest/peers"
	"github.com/sealpost/sealpost/bridge/store"
)

// TestGatewaysShareOneVault: the first gateway makes it, the second gets it, a third with one of its own is refused.
func TestGatewaysShareOneVault(t *testing.T) {
	url, err := database.NewSchema(t.Context(), peers.StartPostgres(t), "vault")
	if err != nil {
		t.Fatal(err)
	}
	passphrase := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(passphrase, []byte("open sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	chain, err := Chain(UnlockOptions{Methods: []string{"file"}, PassphraseFile: passphrase})
	if err != nil {
		t.Fatal(err)
	}
	gateway := func(dir string) (*Vault, error) {
		db, err := store.OpenShared(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		create := func() error { _, err := CreateVault(t.Context(), dir, chain); return err }
		if err := ShareVault(t.Context(), db, dir, create); err != nil {
			return nil, err
		}
		return OpenVault(t.Context(), dir, chain)
	}
	one, err := gateway(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	two, err := gateway(t.TempDir())
	if err != nil || !bytes.Equal(one.master, two.master) {
		t.Fatalf("the second gateway has another vault: %v", err)
	}
	other := t.TempDir()
	if _, err := CreateVault(t.Context(), other, chain); err != nil {
		t.Fatal(err)
	}
	if _, err := gateway(other); !errors.Is(err, ErrOtherVault) {
		t.Fatalf("a gateway with a vault of its own: %v", err)
	}
}
