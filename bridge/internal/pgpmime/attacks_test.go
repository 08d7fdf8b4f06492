package pgpmime

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the testdata/attacks/*.eml that are missing")

// TestAttacks opens each testdata/attacks/*.eml as bob and compares with the .want beside it: the
// verdict on the first line, then "shows TEXT" and "hides TEXT" about what is served, and "as stored".
func TestAttacks(t *testing.T) {
	if *update {
		writeAttacks(t)
	}
	files, err := filepath.Glob("testdata/attacks/*.eml")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".eml")
		t.Run(name, func(t *testing.T) { checkAttack(t, file) })
	}
}

func checkAttack(t *testing.T, file string) {
	message, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(strings.TrimSuffix(file, ".eml") + ".want")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(want)), "\n")
	r, shown := opened(t, string(message))
	if got := verdictLine(t, r); got != lines[0] {
		t.Errorf("verdict is %s, want %s", got, lines[0])
	}
	for _, line := range lines[1:] {
		what, text, _ := strings.Cut(line, " ")
		switch {
		case what == "shows" && !strings.Contains(shown, text):
			t.Errorf("does not show %q", text)
		case what == "hides" && strings.Contains(shown, text):
			t.Errorf("shows %q", text)
		case what == "as" && r.Message != nil:
			t.Error("is not served as stored")
		case what != "shows" && what != "hides" && what != "as":
			t.Errorf("unknown expectation %q", line)
		}
	}
	if t.Failed() {
		t.Logf("%.1500s", shown)
	}
}

func verdictLine(t *testing.T, r *Result) string {
	signer := "-"
	for _, name := range []string{"alice", "mallory", "two", "expired", "revoked"} {
		if r.Signer == cert(t, name).Fingerprint() {
			signer = name
		}
	}
	return fmt.Sprintf("encryption=%s signature=%s signer=%s reason=%s", r.Encryption, r.Signature, signer, r.Reason)
}
