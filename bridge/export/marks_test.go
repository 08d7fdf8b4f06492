package export

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const marksHeader = "id,privilege,redacted,confidentiality,withhold\n"

func natives(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "native"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return len(entries)
}

// TestWithheldInEveryCopy: a mark by digest is about one copy; the others must not go in its place, whichever comes first.
func TestWithheldInEveryCopy(t *testing.T) {
	for _, marked := range []string{"one", "two"} {
		r := newRig(t)
		for _, copied := range []string{"one", "two"} {
			r.deliver(alice, map[string]string{"one": "Archive", "two": "INBOX"}[copied], "Received: "+copied+"\n"+note("Harbour privileged", "1"))
		}
		sha := hashOf([]byte(strings.ReplaceAll("Received: "+marked+"\n"+note("Harbour privileged", "1"), "\n", "\r\n")))
		dir := r.exportOf("harbour", []Mark{{ID: sha, Privilege: "attorney-client", Withhold: true}}, alice)
		if n := natives(t, dir); n != 0 {
			t.Errorf("copy %s is marked, and %d are delivered", marked, n)
		}
		if v := verify(t, dir, VerifyOptions{}); len(v.Problems) > 0 {
			t.Error(v.Problems)
		}
	}
}

// TestMarksWithhold: however an id is written; what either id withholds is withheld; a mark of nothing is said.
func TestMarksWithhold(t *testing.T) {
	raw := note("Harbour privileged", "1")
	sha := hashOf([]byte(strings.ReplaceAll(raw, "\n", "\r\n")))
	for name, c := range map[string]struct {
		csv       string
		delivered int
		attention bool
	}{
		"digest in capitals": {strings.ToUpper(sha) + ",attorney-client,,,yes\n", 0, false},
		"domain in capitals": {"1@BRAVO.test,attorney-client,,,yes\n", 0, false},
		"two ids":            {"1@bravo.test,attorney-client,,,yes\n" + sha + ",,,confidential,no\n", 0, false},
		"of no message":      {"nobody@bravo.test,attorney-client,,,yes\n", 1, true},
	} {
		r := newRig(t)
		r.deliver(alice, "INBOX", raw)
		marks, err := ReadMarks(strings.NewReader(marksHeader + c.csv))
		check(t, err)
		dir := filepath.Join(t.TempDir(), "out")
		a, err := r.desk(noon).Export(t.Context(), Request{Query: "harbour", Custodians: []string{alice}, Marks: marks, Directory: dir}, quiet)
		check(t, err)
		if n := natives(t, dir); n != c.delivered || a.NeedsAttention() != c.attention {
			t.Errorf("%s: %d delivered, attention %v", name, n, a.NeedsAttention())
		}
	}
	if _, err := ReadMarks(strings.NewReader(marksHeader + "1@b,x,,,yes\n<1@B>,,,,no\n")); err == nil {
		t.Error("two marks for one id are taken")
	}
}
