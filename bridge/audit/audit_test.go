package audit

import (
	"context"
	"database/sql"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/bridge/bridgetest/database"
	"github.com/sealpost/sealpost/bridge/store"
)

func open(t *testing.T) (*Log, *store.DB) {
	t.Helper()
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return New(db, time.Now), db
}

func appendSome(t *testing.T, l *Log) {
	t.Helper()
	for _, to := range []string{"a@x", "b@x", "c@x", "d@x"} {
		if err := l.Append(t.Context(), Entry{Account: "me@x", Event: "submit", Recipient: to, Decision: "encrypt"}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAppendListVerify(t *testing.T) {
	l, _ := open(t)
	if n, broken, err := l.Verify(t.Context()); n != 0 || broken != 0 || err != nil {
		t.Fatal(n, broken, err)
	}
	appendSome(t, l)
	entries, err := l.List(t.Context(), 1, 2)
	if err != nil || len(entries) != 2 || entries[0].Recipient != "b@x" || entries[1].Prev != entries[0].Hash || entries[0].Time.IsZero() {
		t.Fatalf("%v %+v", err, entries)
	}
	if n, broken, err := l.Verify(t.Context()); n != 4 || broken != 0 || err != nil {
		t.Fatal(n, broken, err)
	}
}

func TestVerifyFindsTampering(t *testing.T) {
	for name, c := range map[string]struct {
		statement string
		broken    int64
	}{
		"changed entry":          {`UPDATE audit SET entry = replace(entry, 'b@x', 'e@x') WHERE seq = 2`, 2},
		"changed with own hash":  {`UPDATE audit SET hash = 'x' WHERE seq = 2`, 2},
		"removed from the front": {`DELETE FROM audit WHERE seq = 1`, 1},
		"removed in the middle":  {`DELETE FROM audit WHERE seq = 3`, 3},
		"removed at the end":     {`DELETE FROM audit WHERE seq = 4`, 4},
		"removed altogether":     {`DELETE FROM audit`, 1},
		"exchanged": {`UPDATE audit SET entry = (SELECT entry FROM audit b WHERE b.seq = 5 - audit.seq),
			hash = (SELECT hash FROM audit b WHERE b.seq = 5 - audit.seq) WHERE seq IN (2, 3)`, 2},
		"head removed":       {`DELETE FROM audit_head`, 1},
		"head moved back":    {`UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit WHERE seq = 2)`, 2},
		"head of another":    {`UPDATE audit_head SET hash = 'x'`, 4},
		"added at the end":   {`INSERT INTO audit SELECT 5, replace(entry, '"seq":4', '"seq":5'), hash FROM audit WHERE seq = 4`, 5},
		"added at the front": {`INSERT INTO audit SELECT 0, entry, hash FROM audit WHERE seq = 1`, 1},
		"not JSON":           {`UPDATE audit SET entry = '{' WHERE seq = 4`, 4},
	} {
		t.Run(name, func(t *testing.T) {
			l, db := open(t)
			appendSome(t, l)
			err := db.Write(t.Context(), func(tx *sql.Tx) error {
				_, err := tx.Exec(c.statement)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, broken, err := l.Verify(t.Context()); broken != c.broken || err != nil {
				t.Errorf("broken at %d, want %d (%v)", broken, c.broken, err)
			}
		})
	}
}

func TestConcurrentAppend(t *testing.T) {
	l, _ := open(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				if err := l.Append(context.Background(), Entry{Event: "submit"}, Entry{Event: "seal"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n, broken, err := l.Verify(t.Context()); n != 160 || broken != 0 || err != nil {
		t.Fatal(n, broken, err)
	}
}

// Entries that cannot be written take nobody else's with them.
func TestGroupOfWhichOneFails(t *testing.T) {
	l, _ := open(t)
	entries := []Entry{{Event: "submit"}, {Event: "submit", Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, {Event: "seal"}} // JSON has no such year
	var group []*batch
	for _, e := range entries {
		group = append(group, &batch{[]Entry{e}, make(chan error, 1)})
	}
	l.writeGroup(group)
	for i, b := range group {
		if err := <-b.done; (err != nil) != (i == 1) {
			t.Errorf("batch %d: %v", i, err)
		}
	}
	if n, broken, err := l.Verify(t.Context()); n != 2 || broken != 0 || err != nil {
		t.Error(n, broken, err)
	}
}
