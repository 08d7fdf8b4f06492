package bridge

import (
	"bytes"
	"database/sql"
	"strings"
	"testing"
)

// forget makes the cache forget all bodies, as it may at any time.
func (a *Account) forgetBodies(t *testing.T) {
	t.Helper()
	err := a.bridge.db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`DELETE FROM chunk`)
		if err == nil {
			_, err = tx.Exec(`UPDATE content SET cached = 0`)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A provider that serves other bytes under a UID later gets no verdict for them.
func TestVerdictIsAboutTheBytesThatWereOpened(t *testing.T) {
	w := newWorld(t)
	w.seal = Seal{}
	if err := submit(t, w.open(w.options(alice, t.TempDir())), message(alice, bob, "Deal", "pay 100 to account A"), bob); err != nil {
		t.Fatal(err)
	}
	a := w.start(bob)
	first := waitFor(t, a, "INBOX", "pay 100", "signature=good")
	box, err := a.Mirror().Mailbox(t.Context(), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	uid := box.Snapshot().Messages[0].UID
	a.forgetBodies(t)
	// A clear message that opens to the same number of bytes.
	status := "X-Sealpost-Status: encryption=none; signature=none; signer=-; trust=-; pq=-; reason=-\r\n"
	head := "From: <" + alice + ">\r\nSubject: Deal\r\n\r\npay 900 to account M "
	forged := head + strings.Repeat(".", len(first)-len(status)-len(head)-2) + "\r\n"
	if err := w.provider.Replace(bob, "INBOX", uint32(uid), []byte(forged)); err != nil {
		t.Fatal(err)
	}
	c, err := box.Content(t.Context(), uid)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Message.Close()
	body := make([]byte, c.Message.Size())
	if n, err := c.Message.ReadAt(body, 0); err == nil || bytes.Contains(body[:n], []byte("account M")) {
		t.Errorf("%d bytes of another message, %v", n, err)
	}
}
