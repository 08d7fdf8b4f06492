package upstream

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/emersion/go-imap/v2"
)

// go-imap knows nothing of OBJECTID (RFC 8474) and has no way to send a command of one's own: such a
// command is sent between its commands, and what the filter reads in answer goes to who asked.

// ObjectID is what a provider knows a message by in every mailbox, and the thread it belongs to; Thread is
// "" where it knows no threads.
type ObjectID struct{ Email, Thread string }

// ObjectIDs asks for the identifiers of messages of the selected mailbox. Messages that are gone are left
// out. The provider must offer OBJECTID; no other command may be under way.
func (c *Conn) ObjectIDs(uids imap.UIDSet) (map[imap.UID]ObjectID, error) {
	found := map[imap.UID]ObjectID{}
	err := c.wire.ask(c.Closed(), "UID FETCH "+uids.String()+" (UID EMAILID THREADID)", func(uid imap.UID, id ObjectID) {
		if id.Email != "" {
			found[uid] = id
		}
	})
	if err != nil {
		return nil, fmt.Errorf("ask for object identifiers: %w", err)
	}
	return found, nil
}

// inquiry is a command of our own under way.
type inquiry struct {
	tag     string
	fetched func(imap.UID, ObjectID)
	done    chan error
}

// ask sends a command of our own and waits for its end.
func (c *imapConn) ask(closed <-chan struct{}, command string, fetched func(imap.UID, ObjectID)) error {
	q := &inquiry{tag: "O" + strconv.FormatUint(uint64(c.asked.Add(1)), 10), fetched: fetched, done: make(chan error, 1)}
	c.inquiry.Store(q)
	defer c.inquiry.Store(nil)
	if _, err := c.Write([]byte(q.tag + " " + command + "\r\n")); err != nil {
		return err
	}
	select {
	case err := <-q.done:
		return err
	case <-closed:
		return errEnded
	}
}

// inquiries is where the filter finds the one under way.
type inquiries struct{ atomic.Pointer[inquiry] }

// answered takes the tagged response to the inquiry; false if it is to another command.
func (i *inquiries) answered(tag, word, text string) bool {
	q := i.Load()
	if q == nil || q.tag != tag {
		return false
	}
	i.Store(nil) // what comes now is not meant for who asked
	var err error
	if word != "OK" {
		err = &imap.Error{Type: imap.StatusResponseType(word), Text: strings.TrimPrefix(status(text), " ")}
	}
	q.done <- err
	return true
}

// fetched passes on what a FETCH response has said of a message.
func (i *inquiries) fetched(uid []byte, id ObjectID) {
	q := i.Load()
	if q == nil {
		return
	}
	_, number, _ := strings.Cut(string(uid), " ")
	if n, err := strconv.ParseUint(number, 10, 32); err == nil {
		q.fetched(imap.UID(n), id)
	}
}

var errObjectID = errors.New("not an object identifier")

// objectID reads "(id)" (RFC 8474 §7); NIL is "".
func objectID(value string) (string, error) {
	if strings.EqualFold(value, "NIL") {
		return "", nil
	}
	id := strings.TrimSuffix(strings.TrimPrefix(value, "("), ")")
	odd := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	}
	if len(value) != len(id)+2 || id == "" || len(id) > 255 || strings.ContainsFunc(id, odd) {
		return "", errObjectID
	}
	return id, nil
}

// mailboxID is the last MAILBOXID that the server has named in a response code (RFC 8474 §4).
type mailboxID struct {
	mu sync.Mutex
	id string
}

func (m *mailboxID) read(text string) {
	code, _, ok := cutCode(strings.TrimPrefix(text, "["))
	name, value, _ := strings.Cut(code, " ")
	if !ok || !strings.EqualFold(name, "MAILBOXID") {
		return
	}
	id, err := objectID(value)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.id = id
}

// take is what has been read since the last call.
func (m *mailboxID) take() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.id
	m.id = ""
	return id
}
