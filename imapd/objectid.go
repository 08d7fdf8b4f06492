package imapd

import (
	"fmt"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/mirror"
)

// The provider's object identifiers (RFC 8474) are passed on, if it has any.

// tellMailboxID adds the identifier to the answer to SELECT (RFC 8474 §4.2).
func (s *session) tellMailboxID(id string) error {
	if id == "" {
		return nil
	}
	o := newOutput(gateWriter{s.gate}, false)
	o.raw("* OK [MAILBOXID (", id, ")] Identifier\r\n")
	return o.Flush()
}

// Create creates a mailbox; the answer names it by its identifier (RFC 8474 §4.1).
func (s *session) Create(name string, o *imap.CreateOptions) error {
	if err := s.account.Create(s.ctx, name, o); err != nil {
		return s.failed(err)
	}
	if !s.gate.objectIDs.Load() {
		return nil
	}
	b, err := s.account.Mailbox(s.ctx, name)
	if err != nil {
		s.log.Debug("imap: the new mailbox has no identifier yet", "cause", err)
		return nil
	}
	if id := b.Snapshot().ObjectID; id != "" {
		s.gate.created(id)
	}
	return nil
}

// created is the answer to a CREATE with the identifier in it; g.mu is held.
func (g *gate) createdAnswer() []byte {
	id := g.newID
	g.newID = ""
	return fmt.Appendf(nil, "%s OK [MAILBOXID (%s)] CREATE completed\r\n", g.tag, id)
}

// created keeps the identifier for the answer to the CREATE under way.
func (g *gate) created(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.newID = id
}

// lookUpIDs asks for the identifiers of messages, if the FETCH does.
func (f *fetching) lookUpIDs(uids []imap.UID) (err error) {
	if !f.items.emailID && !f.items.threadID {
		return nil
	}
	f.ids, err = f.box.ObjectIDs(f.session.ctx, uids)
	return err
}

// objectID writes an identifier (RFC 8474 §7); a thread may have none.
func (o *output) objectID(id string) {
	if id == "" {
		o.raw("NIL")
		return
	}
	o.raw("(", id, ")")
}

// objectKey reads the key of a search by identifier (RFC 8474 §5.4).
func objectKey(key func(id string) mirror.Criterion) func(k *searchKeys) (mirror.Criterion, error) {
	return func(k *searchKeys) (mirror.Criterion, error) {
		id, err := k.astring()
		return key(id), err
	}
}
