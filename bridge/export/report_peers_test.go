//go:build peers

package export

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/bridge/bridgetest/peers"
)

// TestReportInABrowser: a lawyer opens index.html and prints it. What stands there is what the manifest says.
func TestReportInABrowser(t *testing.T) {
	peers.Need(t, "pdftotext", "poppler-utils")
	dir := exported(t)
	var m Manifest
	check(t, json.Unmarshal([]byte(contentsOf(t, dir)[manifestFile]), &m))
	s, pdf := peers.ShowPage(t, filepath.Join(dir, reportFile))
	if s.Title != "Export of mail: report" || !s.Fits || s.Scripts != 0 || len(s.Loaded) > 0 {
		t.Errorf("title %q, fits %v, %d scripts, loaded %v", s.Title, s.Fits, s.Scripts, s.Loaded)
	}
	if s.Drawn < 4 {
		t.Errorf("the funnel has %d bars", s.Drawn)
	}
	printed := peers.Run(t, nil, nil, "pdftotext", "-layout", pdf, "-")
	for name, text := range map[string]string{"seen": s.Text, "printed": printed} {
		words := strings.Join(strings.Fields(text), " ")
		for _, c := range m.Accounting.Custodians {
			want := fmt.Sprintf("%s %d %d %d %d %d %d %d %d %d", c.Custodian, c.Held, c.OutOfRange, c.NotMatching, c.Undecided, c.Unavailable, c.Matching, c.Duplicates, c.Withheld, c.Exported)
			if !strings.Contains(words, want) {
				t.Errorf("%s: %q is missing in %s", name, want, words)
			}
		}
		for _, want := range []string{fmt.Sprintf("are %d documents", m.Accounting.Total.Documents), "harbour", "exported", m.Fingerprint[:8]} {
			if !strings.Contains(words, want) {
				t.Errorf("%s: %q is missing in %s", name, want, words)
			}
		}
	}
}
