package keydisc

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func certificatesOf(t *testing.T, names ...string) []*Certificate {
	t.Helper()
	var all []*Certificate
	for _, name := range names {
		all = append(all, load(t, name))
	}
	return all
}

// What is written lies where a client looks for it.
func TestWKDTreeIsFound(t *testing.T) {
	dir := t.TempDir()
	var tree WKDTree
	for _, address := range []string{"bob@bravo.test", "robert@other.test"} {
		if err := tree.Add(address, certificatesOf(t, "bob"), "advanced"); err != nil {
			t.Fatal(err)
		}
	}
	if err := tree.Add("bob@bravo.test", certificatesOf(t, "bob"), "direct"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // also over what is there
		if err := tree.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range tree.Paths() {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil || info.Mode().Perm() != 0o644 || strings.HasSuffix(path, "/policy") != (info.Size() == 0) {
			t.Errorf("%s: %v %v", path, info, err)
		}
	}
	for _, address := range []string{"BOB@bravo.test", "bob@bravo.test", "robert@other.test"} {
		location, _, err := WKDLocations(address)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(dir, location.Path))
		if err != nil {
			t.Fatal(err)
		}
		found, err := certificatesFor(data, address)
		if err != nil || len(found) != 1 || found[0].Fingerprint() != load(t, "bob").Fingerprint() {
			t.Errorf("%s: %v, %v", address, found, err)
		}
		want, _ := NormalizeAddress(address)
		if !slices.Equal(found[0].Addresses(), []string{want}) {
			t.Errorf("%s is published with %v", address, found[0].Addresses())
		}
	}
}

func TestWKDTreeRefuses(t *testing.T) {
	var tree WKDTree
	var unusable *UnusableError
	if err := tree.Add("alice@alpha.test", certificatesOf(t, "bob"), "advanced"); !errors.As(err, &unusable) {
		t.Errorf("another's certificate: %v", err)
	}
	if err := tree.Add("nobody", nil, "advanced"); err == nil {
		t.Error("not an address")
	}
	if len(tree.Paths()) > 0 {
		t.Error(tree.Paths())
	}
	if err := tree.Add("bob@bravo.test", certificatesOf(t, "bob"), "direct"); err != nil {
		t.Fatal(err)
	}
	if err := tree.Add("bob@bravo.test", certificatesOf(t, "bob2"), "direct"); err == nil {
		t.Error("two addresses with one place")
	}
	if err := tree.Write(filepath.Join(t.TempDir(), "file", "\x00")); err == nil {
		t.Error("written to where no folder can be")
	}
}
