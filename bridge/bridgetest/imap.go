package bridgetest

import (
	"io"
	"math"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

const delimiter = '/'

func imapCaps() imap.CapSet {
	caps := imap.CapSet{}
	for _, c := range []imap.Cap{
		imap.CapIMAP4rev1, imap.CapUIDPlus, imap.CapMove, imap.CapNamespace, imap.CapSpecialUse, imap.CapChildren,
		imap.CapLiteralPlus, imap.CapListExtended, imap.CapListStatus, imap.CapESearch, imap.CapStatusSize,
	} {
		caps[c] = struct{}{}
	}
	return caps
}

// session is one IMAP connection.
type session struct {
	p    *Provider
	user *user
	view *view // nil: no mailbox selected; guarded by the store's lock
}

var (
	_ imapserver.SessionNamespace   = (*session)(nil)
	_ imapserver.SessionMove        = (*session)(nil)
	_ imapserver.SessionAppendLimit = (*session)(nil)
)

func (p *Provider) newIMAPSession(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
	p.sessions.Add(1)
	return &session{p: p}, nil, nil
}

func (s *session) Close() error {
	s.p.sessions.Done()
	return nil
}

func (s *session) Login(username, password string) error {
	if s.user = s.p.login(username, password); s.user == nil {
		return imapserver.ErrAuthFailed
	}
	return nil
}

func no(code imap.ResponseCode, text string) error {
	return &imap.Error{Type: imap.StatusResponseTypeNo, Code: code, Text: text}
}

// find returns the named mailbox; the lock is held.
func (s *session) find(name string, code imap.ResponseCode) (*mailbox, error) {
	if b := s.user.mailbox(name); b != nil {
		return b, nil
	}
	return nil, no(code, "No such mailbox")
}

func (s *session) Select(name string, _ *imap.SelectOptions) (*imap.SelectData, error) {
	s.p.store.mu.Lock()
	defer s.p.store.mu.Unlock()
	s.view = nil
	b, err := s.find(name, imap.ResponseCodeNonExistent)
	if err != nil {
		return nil, err
	}
	s.view = newView(b)
	flags := []imap.Flag{imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagSeen, imap.FlagDraft}
	for _, m := range b.messages {
		flags = append(flags, m.flags...)
	}
	flags = normalFlags(flags)
	return &imap.SelectData{
		Flags: flags, PermanentFlags: append(slices.Clone(flags), imap.FlagWildcard), NumMessages: uint32(len(b.messages)),
		FirstUnseenSeqNum: uint32(slices.IndexFunc(b.messages, func(m *message) bool { return !m.has(imap.FlagSeen) }) + 1),
		UIDNext:           b.next, UIDValidity: b.validity,
	}, nil
}

func (s *session) Unselect() error {
	s.p.store.mu.Lock()
	defer s.p.store.mu.Unlock()
	s.view = nil
	return nil
}

func (s *session) Namespace() (*imap.NamespaceData, error) {
	return &imap.NamespaceData{Personal: []imap.NamespaceDescriptor{{Delim: delimiter}}}, nil
}

// AppendLimit is advertised (RFC 7889); a larger literal is refused and, where it comes anyway,
// drained by the wire.
func (s *session) AppendLimit() uint32 { return uint32(min(s.p.o.MaxMessageSize, math.MaxUint32)) }

func (s *session) Append(name string, r imap.LiteralReader, o *imap.AppendOptions) (*imap.AppendData, error) {
	bytes := make([]byte, r.Size())
	if _, err := io.ReadFull(r, bytes); err != nil {
		return nil, err
	}
	date := o.Time
	if date.IsZero() {
		date = s.p.o.Now()
	}
	s.p.store.mu.Lock()
	defer s.p.store.mu.Unlock()
	b, err := s.find(name, imap.ResponseCodeTryCreate)
	if err != nil {
		return nil, err
	}
	return &imap.AppendData{UID: b.add(bytes, date, o.Flags).uid, UIDValidity: b.validity}, nil
}

// Poll tells the client what it does not know yet.
func (s *session) Poll(w *imapserver.UpdateWriter, expunges bool) error {
	list, _ := s.news(expunges)
	for _, tell := range list {
		if err := tell(w); err != nil {
			return err
		}
	}
	return nil
}

// news also returns the channel that is closed at the next change; nil without a mailbox.
func (s *session) news(expunges bool) ([]update, <-chan struct{}) {
	s.p.store.mu.Lock()
	defer s.p.store.mu.Unlock()
	if s.view == nil {
		return nil, nil
	}
	return s.view.news(expunges), s.view.box.changed
}

// Idle pushes every change as it happens (RFC 2177).
func (s *session) Idle(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	for {
		list, changed := s.news(true)
		for _, tell := range list {
			if err := tell(w); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-stop:
			return nil
		}
	}
}

func (s *session) Expunge(w *imapserver.ExpungeWriter, uids *imap.UIDSet) error {
	s.p.store.mu.Lock()
	defer s.p.store.mu.Unlock()
	var in func(uint32, imap.UID) bool
	if uids != nil {
		in = s.view.contains(*uids)
	}
	// The untagged EXPUNGE responses come from the Poll before the tagged one.
	s.view.box.remove(func(m *message) bool { return m.has(imap.FlagDeleted) && (in == nil || in(0, m.uid)) })
	return nil
}

func (s *session) Store(w *imapserver.FetchWriter, set imap.NumSet, flags *imap.StoreFlags, _ *imap.StoreOptions) error {
	if err := s.mark(set, flags); err != nil || flags.Silent {
		return err
	}
	return s.Fetch(w, set, &imap.FetchOptions{Flags: true, UID: true})
}

// mark changes flags; this session is told by the command's own answer.
func (s *session) mark(set imap.NumSet, flags *imap.StoreFlags) error {
	s.p.store.mu.Lock()
	defer s.p.store.mu.Unlock()
	list := s.view.pick(set)
	for _, p := range list {
		p.m.store(flags.Op, flags.Flags)
	}
	s.touched(list)
	return nil
}

// touched marks messages as changed by this session itself.
func (s *session) touched(list []picked) {
	if len(list) == 0 {
		return
	}
	changed := make([]*message, len(list))
	for i, p := range list {
		changed[i] = p.m
	}
	s.view.box.touch(changed...)
	for _, p := range list {
		s.view.rows[p.at].told = p.m.version
	}
}

func (s *session) Copy(set imap.NumSet, name string) (*imap.CopyData, error) {
	s.p.store.mu.Lock()
	defer s.p.store.mu.Unlock()
	data, _, err := s.copy(set, name)
	return data, err
}

// copy keeps flags and internal date (RFC 3501 §6.4.7); the lock is held.
func (s *session) copy(set imap.NumSet, name string) (*imap.CopyData, []picked, error) {
	to, err := s.find(name, imap.ResponseCodeTryCreate)
	if err != nil {
		return nil, nil, err
	}
	list := s.view.pick(set)
	data := &imap.CopyData{UIDValidity: to.validity}
	for _, p := range list {
		data.SourceUIDs.AddNum(p.m.uid)
		data.DestUIDs.AddNum(to.add(p.m.bytes, p.m.date, p.flags).uid)
	}
	return data, list, nil
}

// Move is RFC 6851; the EXPUNGE responses come from the Poll before the tagged answer.
func (s *session) Move(w *imapserver.MoveWriter, set imap.NumSet, name string) error {
	data, err := s.move(set, name)
	if err != nil || len(data.SourceUIDs) == 0 {
		return err
	}
	return w.WriteCopyData(data)
}

func (s *session) move(set imap.NumSet, name string) (*imap.CopyData, error) {
	s.p.store.mu.Lock()
	defer s.p.store.mu.Unlock()
	data, list, err := s.copy(set, name)
	if err != nil {
		return nil, err
	}
	s.view.box.remove(func(m *message) bool {
		return slices.ContainsFunc(list, func(p picked) bool { return p.m == m })
	})
	return data, nil
}

// Search returns all that match, by the kind of number asked for.
func (s *session) Search(kind imapserver.NumKind, criteria *imap.SearchCriteria, _ *imap.SearchOptions) (*imap.SearchData, error) {
	s.p.store.mu.Lock()
	defer s.p.store.mu.Unlock()
	data := &imap.SearchData{}
	seqs, uids := imap.SeqSet{}, imap.UIDSet{}
	for i, r := range s.view.rows {
		if r.m.gone || !s.view.matches(criteria, uint32(i)+1, r.m) {
			continue
		}
		n := uint32(i) + 1
		if kind == imapserver.NumKindUID {
			n = uint32(r.m.uid)
		}
		seqs.AddNum(uint32(i) + 1)
		uids.AddNum(r.m.uid)
		if data.Min == 0 {
			data.Min = n
		}
		data.Max = n
		data.Count++
	}
	// A nil set makes the library panic.
	data.All = seqs
	if kind == imapserver.NumKindUID {
		data.All = uids
	}
	return data, nil
}
