//go:build peers

package main_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/sealpost/sealpost/bridge/bridgetest/peers"
)

// gpg finds the certificate in the tree that is written.
func TestWKDExportIsFoundByGnuPG(t *testing.T) {
	u := newSite(t).newUser(alice, false)
	tree := filepath.Join(u.home, "tree")
	u.must("wkd", "export", tree)
	var keys []struct{ Fingerprint string }
	if err := json.Unmarshal([]byte(u.must("key", "list", "--json")), &keys); err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	fingerprint, err := peers.Locate(t, tree, alice)
	if err != nil || fingerprint != keys[0].Fingerprint {
		t.Errorf("gpg found %q, %v", fingerprint, err)
	}
	if _, err := peers.Locate(t, tree, "nobody@alpha.test"); err == nil {
		t.Error("gpg found a certificate of nobody")
	}
}
