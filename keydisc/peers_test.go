//go:build peers

package keydisc

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// run runs a peer with a home of its own. A missing one is a failure that names its Debian package.
func run(t *testing.T, debian string, stdin []byte, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: apt-get install %s", name, debian)
	}
	home := filepath.Join(t.TempDir(), "gnupg")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+home, "LC_ALL=C")
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}

func TestWKDHashAgreesWithGnuPG(t *testing.T) {
	for _, local := range []string{"Joe.Doe", "alice", "BOB", "a", "bob+tag", "x_y-z", "0", "first.middle.last", "o'brien", strings.Repeat("l", 64)} {
		out := run(t, "gpg-wks-client", nil, "/usr/lib/gnupg/gpg-wks-client", "--print-wkd-hash", local+"@example.org")
		if got := strings.Fields(out); len(got) == 0 || got[0] != WKDHash(local) {
			t.Errorf("%s: GnuPG says %q, we say %s", local, out, WKDHash(local))
		}
	}
}

// What we keep of a certificate is still the same certificate to others, with the user IDs we think it has.
func TestSerializationAgreesWithPeers(t *testing.T) {
	for _, name := range []string{"alice", "bob", "bob2", "carol2", "extended", "revoked"} {
		c := load(t, name)
		fingerprint, addresses := gnupgOf(t, c)
		slices.Sort(addresses)
		want := c.Addresses()
		slices.Sort(want)
		if fingerprint != string(c.Fingerprint()) || name != "revoked" && !slices.Equal(addresses, want) {
			t.Errorf("%s: GnuPG reads %s %v, we %s %v", name, fingerprint, addresses, c.Fingerprint(), want)
		}
		if out := run(t, "sq", c.Bytes(), "sq", "inspect"); !strings.Contains(out, string(c.Fingerprint())) {
			t.Errorf("%s: Sequoia reads %s", name, out)
		}
	}
	only, err := load(t, "bob").ForAddress("robert@other.test")
	if err != nil {
		t.Fatal(err)
	}
	if _, addresses := gnupgOf(t, only); !slices.Equal(addresses, []string{"robert@other.test"}) {
		t.Errorf("%v", addresses)
	}
}

// gnupgOf is the fingerprint of the primary key and the addresses, as GnuPG reads them.
func gnupgOf(t *testing.T, c *Certificate) (fingerprint string, addresses []string) {
	t.Helper()
	for line := range strings.Lines(run(t, "gnupg", c.Bytes(), "gpg", "--batch", "--with-colons", "--show-keys")) {
		fields := strings.Split(line, ":")
		switch {
		case fields[0] == "fpr" && fingerprint == "":
			fingerprint = fields[9]
		case fields[0] == "uid":
			addresses = append(addresses, addressOf(fields[9]))
		}
	}
	return fingerprint, addresses
}

// TestDirectoryMadeByGnuPG: a Web Key Directory that gpg-wks-client has written is served over HTTPS, and what it published is
// found, as gpg reads it.
func TestDirectoryMadeByGnuPG(t *testing.T) {
	tree := t.TempDir()
	if err := os.Mkdir(filepath.Join(tree, "example.com"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"bob@example.com", "Joe.Doe@example.com"} {
		key := filepath.Join(t.TempDir(), "key.pgp")
		if err := os.WriteFile(key, generatedFor(t, address).Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "gpg-wks-client", nil, "/usr/lib/gnupg/gpg-wks-client", "-C", tree, "--install-key", key, address)
	}
	files := http.FileServer(http.Dir(filepath.Join(tree, "example.com")))
	w := serve(t, http.StripPrefix("/.well-known/openpgpkey/example.com", files).ServeHTTP)
	f := w.finder(t, w.bravo(), WKD)
	for _, address := range []string{"bob@example.com", "joe.doe@example.com"} {
		answer := f.Find(t.Context(), address)
		if !answer.Conclusive || len(answer.Found) != 1 {
			t.Fatalf("%s: %+v", address, answer)
		}
		if _, addresses := gnupgOf(t, answer.Found[0].Certificate); len(addresses) != 1 || !strings.EqualFold(addresses[0], address) {
			t.Errorf("gpg reads %v", addresses)
		}
	}
	if answer := f.Find(t.Context(), "nobody@example.com"); !answer.Conclusive || len(answer.Found) != 0 {
		t.Errorf("nobody: %+v", answer)
	}
}
