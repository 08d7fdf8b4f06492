package upstream

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"
)

// objectIDServer answers as RFC 8474 §4.2 and §5 show it, with other things between.
func objectIDServer(w io.Writer, tag, command string) bool {
	switch command {
	case `SELECT INBOX`, `SELECT "INBOX"`:
		fmt.Fprintf(w, "* 3 EXISTS\r\n* OK [UIDVALIDITY 9] fine\r\n* OK [MAILBOXID (F2212ea87-6097-4256-9d51-71338625)] Ok\r\n%s OK [READ-WRITE] done\r\n", tag)
	case "UID FETCH 1:3,9 (UID EMAILID THREADID)":
		fmt.Fprintf(w, "* 1 FETCH (UID 1 EMAILID (M6d99ac3275bb4e) THREADID (T64b478a75b7ea9))\r\n* 3 FETCH (FLAGS (\\Seen))\r\n"+
			"* 2 FETCH (EMAILID (M288836c4c7a762) THREADID NIL UID 2)\r\n* 3 FETCH (UID 3 EMAILID (no good) THREADID (T1))\r\n* 4 EXISTS\r\n%s OK done\r\n", tag)
	case "UID FETCH 5 (UID EMAILID THREADID)":
		fmt.Fprintf(w, "%s NO [SERVERBUG] not now\r\n", tag)
	default:
		fmt.Fprintf(w, "%s OK done\r\n", tag)
	}
	return true
}

func TestObjectIDs(t *testing.T) {
	p := newProvider(t, Options{IMAP: scripted(t, objectIDServer)})
	c := acquire(t, p, "INBOX")
	defer p.Release(c)
	if c.ObjectID != "F2212ea87-6097-4256-9d51-71338625" {
		t.Errorf("the mailbox is %q", c.ObjectID)
	}
	want := map[imap.UID]ObjectID{1: {"M6d99ac3275bb4e", "T64b478a75b7ea9"}, 2: {"M288836c4c7a762", ""}}
	for range 2 {
		got, err := c.ObjectIDs(imap.UIDSet{{Start: 1, Stop: 3}, {Start: 9, Stop: 9}})
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Error(err, diff)
		}
		if err := c.Noop().Wait(); err != nil {
			t.Fatal("the library's commands do not go on:", err)
		}
	}
	_, err := c.ObjectIDs(imap.UIDSetNum(5))
	var refused *imap.Error
	if !errors.As(err, &refused) {
		t.Errorf("got %v", err)
	}
	if c.wire.busy() {
		t.Error("the connection is taken for busy")
	}
}

func TestObjectIDsWhenTheConnectionEnds(t *testing.T) {
	p := newProvider(t, Options{IMAP: scripted(t, func(w io.Writer, tag, command string) bool {
		fmt.Fprintf(w, "%s OK done\r\n", tag)
		return command != "NOOP"
	})})
	c := acquire(t, p, "INBOX")
	_ = c.wire.Conn.Close()
	if _, err := c.ObjectIDs(imap.UIDSetNum(1)); err == nil {
		t.Error("no error")
	}
	p.Release(c)
}
