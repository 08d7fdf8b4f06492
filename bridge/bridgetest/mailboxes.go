package bridgetest

import (
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

func (s *session) Create(name string, _ *imap.CreateOptions) error {
	s.p.store.mu.Lock()
	defer s.p.store.mu.Unlock()
	if s.user.mailbox(name) != nil {
		return no(imap.ResponseCodeAlreadyExists, "Mailbox already exists")
	}
	s.p.store.create(s.user, canonical(name))
	return nil
}

// Delete refuses INBOX (RFC 3501 §6.3.4) and, as many providers do, a mailbox with others below it.
func (s *session) Delete(name string) error {
	s.p.store.mu.Lock()
	defer s.p.store.mu.Unlock()
	b, err := s.find(name, imap.ResponseCodeNonExistent)
	if err != nil {
		return err
	}
	if b.name == "INBOX" {
		return no(imap.ResponseCodeCannot, "INBOX cannot be deleted")
	}
	if s.user.hasChildren(b.name) {
		return no(imap.ResponseCodeHasChildren, "Mailbox has children")
	}
	b.remove(func(*message) bool { return true })
	delete(s.user.mailboxes, b.name)
	return nil
}

// Rename takes the mailboxes below along (RFC 3501 §6.3.5).
func (s *session) Rename(name, newName string, _ *imap.RenameOptions) error {
	s.p.store.mu.Lock()
	defer s.p.store.mu.Unlock()
	b, err := s.find(name, imap.ResponseCodeNonExistent)
	if err != nil {
		return err
	}
	newName = canonical(newName)
	if b.name == "INBOX" {
		return no(imap.ResponseCodeCannot, "INBOX cannot be renamed")
	}
	if s.user.mailboxes[newName] != nil {
		return no(imap.ResponseCodeAlreadyExists, "Mailbox already exists")
	}
	old := b.name
	for _, each := range sortedNames(s.user) {
		if each != old && !strings.HasPrefix(each, old+string(delimiter)) {
			continue
		}
		moved := s.user.mailboxes[each]
		delete(s.user.mailboxes, each)
		moved.name = newName + each[len(old):]
		s.user.mailboxes[moved.name] = moved
	}
	return nil
}

func (u *user) hasChildren(name string) bool {
	for each := range u.mailboxes {
		if strings.HasPrefix(each, name+string(delimiter)) {
			return true
		}
	}
	return false
}

func (s *session) Subscribe(name string) error   { return s.subscribe(name, true) }
func (s *session) Unsubscribe(name string) error { return s.subscribe(name, false) }

func (s *session) subscribe(name string, yes bool) error {
	s.p.store.mu.Lock()
	defer s.p.store.mu.Unlock()
	b, err := s.find(name, imap.ResponseCodeNonExistent)
	if err == nil {
		b.subscribed = yes
	}
	return err
}

func (s *session) List(w *imapserver.ListWriter, ref string, patterns []string, o *imap.ListOptions) error {
	if len(patterns) == 0 { // asks for the delimiter (RFC 3501 §6.3.8)
		return w.WriteList(&imap.ListData{Attrs: []imap.MailboxAttr{imap.MailboxAttrNoSelect}, Delim: delimiter})
	}
	for _, data := range s.listed(ref, patterns, o) {
		if err := w.WriteList(data); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) listed(ref string, patterns []string, o *imap.ListOptions) []*imap.ListData {
	s.p.store.mu.Lock()
	defer s.p.store.mu.Unlock()
	var list []*imap.ListData
	for _, name := range sortedNames(s.user) {
		b := s.user.mailboxes[name]
		if !matchesAny(name, ref, patterns) || (o.SelectSubscribed && !b.subscribed) || (o.SelectSpecialUse && len(b.attrs) == 0) {
			continue
		}
		data := &imap.ListData{Mailbox: name, Delim: delimiter, Attrs: s.attributes(b, o)}
		if o.ReturnStatus != nil {
			data.Status = b.status(o.ReturnStatus)
		}
		list = append(list, data)
	}
	return list
}

func matchesAny(name, ref string, patterns []string) bool {
	for _, pattern := range patterns {
		if imapserver.MatchList(name, delimiter, ref, pattern) || (name == "INBOX" && strings.EqualFold(pattern, name)) {
			return true
		}
	}
	return false
}

// attributes always has the special use, as Dovecot's LIST does (RFC 6154 §3 permits it).
func (s *session) attributes(b *mailbox, o *imap.ListOptions) []imap.MailboxAttr {
	attrs := []imap.MailboxAttr{imap.MailboxAttrHasNoChildren}
	if s.user.hasChildren(b.name) {
		attrs[0] = imap.MailboxAttrHasChildren
	}
	if b.subscribed && (o.ReturnSubscribed || o.SelectSubscribed) {
		attrs = append(attrs, imap.MailboxAttrSubscribed)
	}
	return append(attrs, b.attrs...)
}

func (s *session) Status(name string, o *imap.StatusOptions) (*imap.StatusData, error) {
	s.p.store.mu.Lock()
	defer s.p.store.mu.Unlock()
	b, err := s.find(name, imap.ResponseCodeNonExistent)
	if err != nil {
		return nil, err
	}
	return b.status(o), nil
}

// status has every item; the library writes those asked for.
func (b *mailbox) status(*imap.StatusOptions) *imap.StatusData {
	var unseen, deleted, recent uint32
	var size int64
	for _, m := range b.messages {
		if !m.has(imap.FlagSeen) {
			unseen++
		}
		if m.has(imap.FlagDeleted) {
			deleted++
		}
		size += int64(len(m.bytes))
	}
	total := uint32(len(b.messages))
	return &imap.StatusData{
		Mailbox: b.name, NumMessages: &total, UIDNext: b.next, UIDValidity: b.validity,
		NumUnseen: &unseen, NumDeleted: &deleted, NumRecent: &recent, Size: &size,
	}
}
