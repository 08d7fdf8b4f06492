package outbox

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"
)

// TestBodiesAreSealed: where the database is somebody else's, no chunk is kept as it is, and none passes as another.
func TestBodiesAreSealed(t *testing.T) {
	db := openDB(t, filepath.Join(t.TempDir(), "o.db"))
	t.Cleanup(func() { _ = db.Close() })
	r := newRig(t, db)
	r.options.Seal = func(name string, chunk []byte) ([]byte, error) { return append([]byte(name+"|"), flip(chunk)...), nil }
	r.options.Unseal = func(name string, sealed []byte) ([]byte, error) {
		chunk, ok := bytes.CutPrefix(sealed, []byte(name+"|"))
		if !ok {
			t.Errorf("chunk %s is another: %.30q", name, sealed)
		}
		return flip(chunk), nil
	}
	large := bytes.Repeat([]byte("0123456789abcdef"), 50_000)
	m := r.add(t, large, "bob@bravo.test")
	var found int
	if err := db.Read().QueryRow(`SELECT count(*) FROM outbox_body WHERE instr(data, '0123456789abcdef') > 0`).Scan(&found); err == nil && found > 0 {
		t.Errorf("%d chunks are readable", found)
	}
	defer r.start(t)()
	eventually(t, "delivered", r.empty(t))
	if !bytes.Equal(r.bodies[0], large) {
		t.Errorf("message %d: the body was changed", m.ID)
	}
}

func flip(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = ^c
	}
	return out
}

// TestRetryWhileTheOutboxBegins: what the user asks for between the look and the new job is not put off.
func TestRetryWhileTheOutboxBegins(t *testing.T) {
	r := newTestRig(t)
	m := Message{Account: "alice@alpha.test", From: "alice@alpha.test", To: []string{"bob@bravo.test"}, NextTry: time.Now().Add(time.Hour)}
	if err := r.Add(t.Context(), Item{m, bytes.NewReader(nil)}); err != nil {
		t.Fatal(err)
	}
	id := r.list(t)[0].ID
	if err := r.Retry(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := r.revive(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if due := r.list(t)[0].NextTry; time.Until(due) > time.Minute {
		t.Errorf("due %v", due)
	}
}
