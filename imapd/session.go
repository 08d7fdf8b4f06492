package imapd

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/sealpost/sealpost/bridge/mirror"
)

// session answers the commands of one connection. Commands come one at a time; only IDLE
// runs in a goroutine of its own, which Close may overlap.
type session struct {
	server *Server
	conn   *imapserver.Conn
	gate   *gate
	log    *slog.Logger
	ctx    context.Context // of the connection
	cancel context.CancelFunc

	account account

	mu    sync.Mutex // for what IDLE and Close share with commands
	box   *selected
	saved []imap.UID // RFC 5182: the result a SEARCH has saved
}

// selected is the mailbox that is open.
type selected struct {
	mailbox
	view     *view
	validity uint32
	readOnly bool
	changes  <-chan struct{}
	unwatch  func()
}

var _ imapserver.SessionIMAP4rev2 = (*session)(nil)
var _ imapserver.SessionAppendLimit = (*session)(nil)

// errNotSelected cannot happen unless the library lets a command through in the wrong state.
var errNotSelected = bad("No mailbox is selected")

func (s *Server) newSession(conn *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
	g, ok := conn.NetConn().(*gate)
	if !ok {
		return nil, nil, errors.New("a connection without a gate")
	}
	ctx, cancel := context.WithCancel(s.ctx)
	log := s.log.With("client", g.RemoteAddr().String())
	made := &session{server: s, conn: conn, gate: g, log: log, ctx: ctx, cancel: cancel}
	g.session.Store(made)
	return made, nil, nil
}

// Close ends the session; a command that runs is cancelled.
func (s *session) Close() error {
	s.cancel()
	return s.Unselect()
}

// Login also serves AUTHENTICATE PLAIN.
func (s *session) Login(username, password string) error {
	a, err := s.server.login(s.ctx, username, password)
	if err != nil {
		s.log.Warn("imap: login failed", "user", username, "cause", err)
		return translate(err, imap.ResponseCodeNonExistent)
	}
	objectIDs, err := a.HasObjectIDs(s.ctx)
	if err != nil {
		return s.failed(err)
	}
	s.account = a
	s.gate.loggedIn(a.MaxMessageSize(), objectIDs)
	return nil
}

// AppendLimit is for the library, which would not read the rest of a message over its
// limit: the gate enforces the account's.
func (s *session) AppendLimit() uint32 { return ^uint32(0) }

// selected is the open mailbox.
func (s *session) selected() (*selected, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.box == nil {
		return nil, errNotSelected
	}
	return s.box, nil
}

// writable is the open mailbox if it may be changed.
func (s *session) writable() (*selected, error) {
	box, err := s.selected()
	if err == nil && box.readOnly {
		err = no(imap.ResponseCodeNoPerm, "The mailbox is open for reading only")
	}
	return box, err
}

// failed is answer for a command that names no destination.
func (s *session) failed(err error) error {
	return answer(s.log, err, imap.ResponseCodeNonExistent)
}

// resolve is the messages of the client's set in the open mailbox.
func (s *session) resolve(box *selected, set imap.NumSet) ([]numbered, error) {
	return box.view.resolve(set, s.savedResult())
}

// Select opens a mailbox (RFC 9051 §6.3.2).
func (s *session) Select(name string, options *imap.SelectOptions) (*imap.SelectData, error) {
	b, err := s.account.Mailbox(s.ctx, name)
	if err != nil {
		return nil, s.failed(err)
	}
	box := &selected{mailbox: b}
	box.changes, box.unwatch = b.Watch()
	snapshot := b.Snapshot()
	box.view = newView(snapshot)
	box.validity = snapshot.UIDValidity
	box.readOnly = options.ReadOnly || snapshot.ReadOnly
	s.gate.selected(box.readOnly)
	s.claimRecent(box)
	if err := s.tellMailboxID(snapshot.ObjectID); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.box, s.saved = box, nil
	s.mu.Unlock()
	return s.selectData(name, box, snapshot)
}

func (s *session) selectData(name string, box *selected, snapshot *mirror.Snapshot) (*imap.SelectData, error) {
	data := &imap.SelectData{
		Flags:       flagsOf(snapshot),
		NumMessages: uint32(len(snapshot.Messages)),
		NumRecent:   box.view.countRecent(),
		UIDNext:     snapshot.UIDNext,
		UIDValidity: snapshot.UIDValidity,
	}
	if !box.readOnly {
		data.PermanentFlags = validFlags(snapshot.PermanentFlags, true)
	}
	for i, m := range snapshot.Messages {
		if !hasFlag(m.Flags, imap.FlagSeen) {
			data.FirstUnseenSeqNum = uint32(i + 1)
			break
		}
	}
	if s.conn.EnabledCaps().Has(imap.CapIMAP4rev2) { // RFC 9051 §6.3.2 requires LIST
		list, err := s.account.List(s.ctx)
		if err != nil {
			return nil, s.failed(err)
		}
		data.List = listDataOf(name, list)
	}
	return data, nil
}

// Unselect closes the mailbox without expunging.
func (s *session) Unselect() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.box != nil {
		s.box.unwatch()
		s.box = nil
	}
	s.saved = nil
	s.gate.selected(false)
	return nil
}

// Poll tells the client what has changed, before a command's tagged answer. NOOP and CHECK
// ask the provider first.
func (s *session) Poll(w *imapserver.UpdateWriter, allowExpunge bool) error {
	box, err := s.selected()
	if err != nil {
		return nil
	}
	if c := s.gate.command(); c == "NOOP" || c == "CHECK" {
		if err := box.Refresh(s.ctx); err != nil {
			s.log.Debug("imap: the provider could not be asked", "cause", err)
		}
	}
	return s.update(w, box, allowExpunge)
}

// Idle tells the client of changes as they come (RFC 2177), until stop.
func (s *session) Idle(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	box, err := s.selected()
	if err != nil {
		<-stop
		return nil
	}
	for {
		if err := s.update(w, box, true); err != nil {
			return err
		}
		select {
		case <-box.changes:
		case <-stop:
			return nil
		case <-s.ctx.Done():
			return nil
		}
	}
}

// update writes the difference between what the client knows and what is.
func (s *session) update(w updateWriter, box *selected, allowExpunge bool) error {
	snapshot := box.Snapshot()
	if snapshot.UIDValidity != box.validity {
		// The UIDs that the client knows mean nothing any more, and it can only learn that by
		// selecting the mailbox again (RFC 9051 §2.3.1.1).
		return s.gate.bye("The mailbox was replaced at the provider; connect again")
	}
	if box.view.isNews(snapshot) {
		s.claimRecent(box)
	}
	return box.view.update(w, snapshot, allowExpunge)
}

// Expunge removes messages; the library's Poll after it tells the client.
func (s *session) Expunge(_ *imapserver.ExpungeWriter, uids *imap.UIDSet) error {
	box, err := s.writable()
	if err != nil {
		if s.gate.command() == "CLOSE" { // RFC 9051 §6.4.1: no error if it is read-only
			return nil
		}
		return err
	}
	if uids != nil {
		messages, err := s.resolve(box, *uids)
		found := uidSet(messages)
		if err != nil || len(found) == 0 {
			return err
		}
		uids = &found
	}
	return s.failed(box.Expunge(s.ctx, uids))
}

// Copy copies messages to another mailbox.
func (s *session) Copy(set imap.NumSet, dest string) (*imap.CopyData, error) {
	box, err := s.selected()
	if err != nil {
		return nil, err
	}
	messages, err := s.resolve(box, set)
	if err != nil || len(messages) == 0 {
		return nil, err
	}
	data, err := box.Copy(s.ctx, uidSet(messages), dest)
	if err != nil {
		return nil, answer(s.log, err, imap.ResponseCodeTryCreate)
	}
	return copyData(data), nil
}

// Move moves messages (RFC 6851); the library's Poll after it writes the EXPUNGEs.
func (s *session) Move(w *imapserver.MoveWriter, set imap.NumSet, dest string) error {
	box, err := s.writable()
	if err != nil {
		return err
	}
	messages, err := s.resolve(box, set)
	if err != nil || len(messages) == 0 {
		return err
	}
	data, err := box.Move(s.ctx, uidSet(messages), dest)
	if err != nil {
		return answer(s.log, err, imap.ResponseCodeTryCreate)
	}
	if data = copyData(data); data == nil {
		return nil
	}
	return w.WriteCopyData(data)
}

// copyData is nil if there is nothing to say: the library's writer fails on empty sets.
func copyData(data *imap.CopyData) *imap.CopyData {
	if data == nil || len(data.SourceUIDs) == 0 || len(data.DestUIDs) == 0 {
		return nil
	}
	return data
}
