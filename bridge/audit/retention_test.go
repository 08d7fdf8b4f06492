package audit

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// aged is a log with an entry a day.
func aged(t *testing.T, days int) (*Log, time.Time) {
	t.Helper()
	l, _ := open(t)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for day := range days {
		if err := l.Append(t.Context(), Entry{Time: start.AddDate(0, 0, day), Event: "submit", Recipient: "a@x"}); err != nil {
			t.Fatal(err)
		}
	}
	return l, start
}

func whole(t *testing.T, l *Log, want int64) {
	t.Helper()
	if n, broken, err := l.Verify(t.Context()); n != want || broken != 0 || err != nil {
		t.Errorf("%d entries, broken at %d, %v; want %d", n, broken, err, want)
	}
}

func TestPruneKeepsTheChain(t *testing.T) {
	l, start := aged(t, 10)
	for _, c := range []struct {
		until         int
		removed, left int64
	}{{0, 0, 10}, {4, 4, 7}, {4, 0, 7}, {8, 4, 4}} { // each pruning that removes something adds an entry
		removed, err := l.Prune(t.Context(), start.AddDate(0, 0, c.until))
		if err != nil || removed != c.removed {
			t.Fatalf("until day %d: %d removed, %v", c.until, removed, err)
		}
		whole(t, l, c.left)
	}
	entries, err := l.List(t.Context(), 0, 100)
	if err != nil || entries[0].Seq != 9 || !strings.Contains(entries[len(entries)-1].Detail, "4 entries until 2026-01-08") {
		t.Errorf("%+v, %v", entries, err)
	}
	if err := l.Append(t.Context(), Entry{Event: "submit"}); err != nil {
		t.Fatal(err)
	}
	whole(t, l, 5)
}

// TestPruneStopsAtNewerEntries: an entry behind them with an old date, of a clock that went back, is no reason to remove newer ones.
func TestPruneStopsAtNewerEntries(t *testing.T) {
	l, start := aged(t, 5)
	if err := l.Append(t.Context(), Entry{Time: start.AddDate(-1, 0, 0), Event: "submit"}); err != nil {
		t.Fatal(err)
	}
	if removed, err := l.Prune(t.Context(), start.AddDate(0, 0, 2)); removed != 2 || err != nil {
		t.Fatal(removed, err)
	}
	whole(t, l, 5)
}

func exported(t *testing.T, l *Log) []byte {
	t.Helper()
	entries, err := l.List(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, e := range entries {
		if err := json.NewEncoder(&b).Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestVerifyExport(t *testing.T) {
	l, start := aged(t, 6)
	all := exported(t, l)
	if n, broken, last, err := VerifyExport(bytes.NewReader(all)); n != 6 || broken != 0 || err != nil || len(last) != 64 {
		t.Fatal(n, broken, last, err)
	}
	lines := bytes.SplitAfter(all, []byte("\n"))
	join := func(some ...[]byte) []byte { return bytes.Join(some, nil) }
	for name, c := range map[string]struct {
		data   []byte
		broken int64
	}{
		"a line changed":    {bytes.Replace(all, []byte("a@x"), []byte("b@x"), 1), 1},
		"a line removed":    {join(lines[0], lines[2], lines[3]), 2},
		"two exchanged":     {join(lines[0], lines[2], lines[1]), 2},
		"a line twice":      {join(lines[0], lines[1], lines[1]), 3},
		"a hash changed":    {bytes.Replace(all, []byte(`"hash":"`), []byte(`"hash":"0`), 1), 1},
		"from some line on": {join(lines[3], lines[4]), 0},
	} {
		if _, broken, _, err := VerifyExport(bytes.NewReader(c.data)); broken != c.broken || err != nil {
			t.Errorf("%s: broken at %d, %v; want %d", name, broken, err, c.broken)
		}
	}
	if _, _, _, err := VerifyExport(strings.NewReader("hello")); err == nil {
		t.Error("no log was verified")
	}
	if _, err := l.Prune(t.Context(), start.AddDate(0, 0, 3)); err != nil {
		t.Fatal(err)
	}
	if n, broken, _, err := VerifyExport(bytes.NewReader(exported(t, l))); n != 4 || broken != 0 || err != nil {
		t.Error(n, broken, err)
	}
}

func FuzzVerifyExport(f *testing.F) {
	f.Add([]byte(`{"seq":1,"time":"2026-01-01T00:00:00Z","account":"","event":"submit","prev":"","hash":"00"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n, broken, last, err := VerifyExport(bytes.NewReader(data)); broken < 0 || n < 0 || err != nil && last != "" {
			t.Error(n, broken, last, err)
		}
	})
}
