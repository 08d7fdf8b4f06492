//go:build peers

package dnssec

import (
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// The built-in anchors are those that Debian ships.
func TestAnchorsAgreeWithDebian(t *testing.T) {
	const file = "/usr/share/dns/root.ds"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: apt-get install dns-root-data", err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != len(rootAnchors) {
		t.Fatalf("%s has %d anchors, we %d", file, len(lines), len(rootAnchors))
	}
	for i, line := range lines {
		if ds, ok := rr(line).(*dns.DS); !ok || !dns.IsDuplicate(ds, rootAnchors[i]) && !strings.EqualFold(ds.Digest, rootAnchors[i].Digest) || ds.KeyTag != rootAnchors[i].KeyTag {
			t.Errorf("%s has %q, we %q", file, line, rootAnchors[i])
		}
	}
}
