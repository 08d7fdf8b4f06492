//go:build peers

package keydisc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The description of the number suffices to compute it: a program in another language does.
func TestSafetyNumberAgreesWithItsDescription(t *testing.T) {
	file := func(name string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, load(t, name).Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, other := range []string{"bob", "bob2", "revoked", "lapsed"} {
		n, err := NewSafetyNumber("Alice@alpha.test", load(t, "alice"), "bob@bravo.test", load(t, other))
		if err != nil {
			t.Fatal(err)
		}
		out := run(t, "python3", nil, "python3", "testdata/safetynumber.py", "alice@alpha.test", file("alice"), "bob@bravo.test", file(other))
		if strings.TrimSpace(out) != string(n) {
			t.Errorf("%s: %s, by its description %s", other, string(n), out)
		}
	}
}
