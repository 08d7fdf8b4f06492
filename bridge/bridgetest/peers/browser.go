//go:build peers

package peers

import (
	"encoding/json"
	"path/filepath"
	"testing"
)

// Shown is what a browser makes of a page.
type Shown struct {
	Title, Text string   // as seen
	Fits        bool     // nothing is wider than the window
	Drawn       int      // shapes of charts
	Loaded      []string // addresses of what was loaded besides the page
	Scripts     int
}

// ShowPage has Firefox show a file and print it; pdf is the file with the print. No network can be reached from it.
func ShowPage(t testing.TB, page string) (s Shown, pdf string) {
	t.Helper()
	Need(t, "firefox-esr", "firefox-esr")
	Need(t, "python3", "python3")
	dir := Dir(t)
	pdf = filepath.Join(dir, "page.pdf")
	out := Run(t, nil, nil, "python3", script(t, dir, "browser.py"), page, pdf)
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return s, pdf
}
