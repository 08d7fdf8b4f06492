package audit

import (
	"strings"
	"testing"
)

func TestNewest(t *testing.T) {
	l, db := open(t)
	appendSome(t, l)
	for _, c := range []struct {
		before int64
		stop   string // the walk ends there
		want   string
	}{{0, "", "d@x c@x b@x a@x"}, {3, "", "b@x a@x"}, {1, "", ""}, {0, "c@x", "d@x c@x"}, {99, "", "d@x c@x b@x a@x"}} {
		var got []string
		err := l.Newest(t.Context(), c.before, func(e Entry) bool {
			got = append(got, e.Recipient)
			if e.Hash == "" || e.Seq == 0 {
				t.Errorf("incomplete: %+v", e)
			}
			return e.Recipient != c.stop
		})
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("before %d until %q: %v %v", c.before, c.stop, got, err)
		}
	}
	if _, err := db.Writer().Exec(`UPDATE audit SET entry = '{' WHERE seq = 2`); err != nil {
		t.Fatal(err)
	}
	if err := l.Newest(t.Context(), 0, func(Entry) bool { return true }); err == nil || !strings.Contains(err.Error(), "log verify") {
		t.Errorf("a broken entry: %v", err)
	}
}
