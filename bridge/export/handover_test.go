package export

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/bridge/audit"
)

// TestHandOver: the records are chained, signed and checked; nothing in them can be changed, and none can be put before another.
func TestHandOver(t *testing.T) {
	r := newRig(t)
	r.deliverAll()
	dir := filepath.Join(t.TempDir(), "export")
	_, err := r.desk(noon).Export(t.Context(), request(dir), quiet)
	check(t, err)
	half := filepath.Join(dir, "handover-1.json.asc") // of a crash, or of a record that somebody has removed
	check(t, os.WriteFile(half, []byte("half"), 0o600))
	if _, err := r.desk(noon).HandOver(t.Context(), dir, "R. Roe", ""); err == nil || !strings.Contains(err.Error(), half) {
		t.Errorf("a record that is not there is gone without a trace: %v", err)
	}
	check(t, os.Remove(half))
	for _, to := range []string{"R. Roe", "the court"} {
		_, err := r.desk(noon).HandOver(t.Context(), dir, to, "by courier")
		check(t, err)
	}
	v := verify(t, dir, VerifyOptions{Trusted: fingerprintOf(t, alice)})
	if len(v.Problems) > 0 || len(v.HandOvers) != 2 || v.HandOvers[1].To != "the court" || v.HandOvers[1].Prev == "" {
		t.Fatalf("%+v", v)
	}
	entries, err := audit.New(r.db, nil).List(t.Context(), 0, 1000)
	check(t, err)
	logged := 0
	for _, e := range entries {
		if e.Event == "export" && e.Decision == "handed over" && strings.Contains(e.Detail, v.HandOvers[0].Sums) {
			logged++
		}
	}
	if logged != 2 {
		t.Errorf("the decision log has %d entries", logged)
	}
	files := contentsOf(t, dir)
	for _, name := range []string{"handover-1.json", "handover-1.json.asc", "handover-2.json", "handover-2.json.asc"} {
		path := filepath.Join(dir, name)
		for how, change := range map[string]func() error{
			"changed": func() error { return os.WriteFile(path, flip(files[name], len(files[name])/2), 0o600) },
			"copied":  func() error { return os.WriteFile(filepath.Join(dir, "handover-3.json"), []byte(files[name]), 0o600) },
			"removed": func() error { return os.Remove(path) },
		} {
			check(t, change())
			if v := verify(t, dir, VerifyOptions{}); len(v.Problems) == 0 && !(how == "removed" && name == "handover-2.json.asc" && len(v.HandOvers) == 1) {
				t.Errorf("%s %s: not found", name, how)
			}
			_ = os.Remove(filepath.Join(dir, "handover-3.json"))
			check(t, os.WriteFile(path, []byte(files[name]), 0o600))
		}
	}
	check(t, os.WriteFile(filepath.Join(dir, "native", "added.eml"), nil, 0o600))
	if _, err := r.desk(noon).HandOver(t.Context(), dir, "nobody", ""); err == nil {
		t.Error("a changed export is handed over")
	}
}

// TestTimestampThatIsNone: what an authority says is believed only if it is a token over this list.
func TestTimestampThatIsNone(t *testing.T) {
	r := newRig(t)
	r.deliverAll()
	dir := filepath.Join(t.TempDir(), "export")
	if _, err := Timestamp(t.Context(), t.TempDir(), "http://127.0.0.1:1/", nil); err == nil || !strings.Contains(err.Error(), "no export") {
		t.Errorf("an empty folder: %v", err)
	}
	_, err := r.desk(noon).Export(t.Context(), request(dir), quiet)
	check(t, err)
	for name, answer := range map[string]http.HandlerFunc{
		"error": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) },
		"junk": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/timestamp-reply")
			_, _ = w.Write([]byte("junk"))
		},
	} {
		server := httptest.NewServer(answer)
		if _, err := Timestamp(t.Context(), dir, server.URL, nil); err == nil {
			t.Errorf("%s is a time stamp", name)
		}
		server.Close()
	}
	if v := verify(t, dir, VerifyOptions{}); len(v.Problems) > 0 || v.Stamp != nil {
		t.Errorf("%+v", v)
	}
	check(t, os.WriteFile(filepath.Join(dir, tokenFile), []byte("junk"), 0o600))
	if v := verify(t, dir, VerifyOptions{}); len(v.Problems) != 1 {
		t.Errorf("%+v", v.Problems)
	}
	if _, err := Timestamp(t.Context(), dir, "http://127.0.0.1:1/", nil); err == nil || !strings.Contains(err.Error(), ErrStamped.Error()) {
		t.Errorf("a second one: %v", err)
	}
}
