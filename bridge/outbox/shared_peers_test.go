//go:build peers

package outbox

import (
	"context"
	"fmt"
	"testing"

	"github.com/sealpost/sealpost/bridge/bridgetest/database"
	"github.com/sealpost/sealpost/bridge/bridgetest/peers"
	"github.com/sealpost/sealpost/bridge/store"
)

// TestGatewaysShareTheQueue: three gateways work one queue; one dies while it delivers. Every message goes out, and none
// but that one may go out twice.
func TestGatewaysShareTheQueue(t *testing.T) {
	url, err := database.NewSchema(t.Context(), peers.StartPostgres(t), "queue")
	if err != nil {
		t.Fatal(err)
	}
	open := func() (*rig, *store.DB) {
		db, err := store.OpenShared(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		return newRig(t, db), db
	}
	dying, dyingDB := open()
	stuck, death := make(chan struct{}), make(chan struct{})
	dying.submit = func(ctx context.Context, m Message, b *body) error {
		if m.To[0] != "bob@bravo.test" {
			return dying.deliver(ctx, m, b)
		}
		close(stuck)
		<-death // it never comes back
		return context.Canceled
	}
	m := dying.add(t, []byte("body"), "bob@bravo.test")
	stopDying := dying.start(t)
	<-stuck

	all, others := []*rig{dying}, []*rig{}
	for range 2 {
		r, db := open()
		defer db.Close()
		defer r.start(t)()
		all, others = append(all, r), append(others, r)
	}
	for i := range 30 {
		others[i%2].add(t, []byte("body"), fmt.Sprintf("r%d@bravo.test", i))
	}
	sent := func() map[string]int {
		n := map[string]int{}
		for _, r := range all {
			r.mu.Lock()
			for _, m := range r.sent {
				n[m.To[0]]++
			}
			r.mu.Unlock()
		}
		return n
	}
	eventually(t, "all but one delivered", func() bool { return len(sent()) == 30 })
	if err := others[0].Retry(t.Context(), m.ID); err != nil { // the user is impatient; another gateway is at work on it
		t.Fatal(err)
	}
	for _, r := range others {
		if err := r.recover(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := sent()["bob@bravo.test"]; n != 0 {
		t.Fatalf("%d deliveries while another gateway delivers", n)
	}

	closeHeld(t, others[0].options.DB)
	eventually(t, "the message of the dead gateway delivered", func() bool {
		if err := others[1].recover(t.Context()); err != nil {
			t.Error(err)
		}
		return sent()["bob@bravo.test"] == 1
	})
	for to, n := range sent() {
		if n != 1 {
			t.Errorf("%s: %d times", to, n)
		}
	}
	close(death)
	stopDying()
	_ = dyingDB.Close()
}

// closeHeld ends the connections that hold advisory locks on messages: what a process's death does.
func closeHeld(t *testing.T, db *store.DB) {
	t.Helper()
	_, err := db.Read().ExecContext(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND pid <> pg_backend_pid()`)
	if err != nil {
		t.Fatal(err)
	}
}
