package bridgetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
)

// firstValidity is the first UIDVALIDITY: far from small numbers, so that mixing it up with a UID shows.
const firstValidity = 1_700_000_000

// store is what the provider keeps. One lock guards it all; it is never held while writing to a
// connection.
type store struct {
	mu       sync.Mutex
	users    map[string]*user
	validity uint32 // the last one given out
}

type user struct {
	User
	mailboxes map[string]*mailbox
}

type mailbox struct {
	name       string
	attrs      []imap.MailboxAttr
	subscribed bool
	validity   uint32
	next       imap.UID
	messages   []*message
	version    uint64        // grows with every change
	changed    chan struct{} // closed at the next change
}

// message is immutable but for flags (replaced, never changed in place), version and gone.
type message struct {
	uid     imap.UID
	date    time.Time
	bytes   []byte
	flags   []imap.Flag
	version uint64 // of the mailbox at the last change
	gone    bool
}

// specialUse of the default mailboxes (RFC 6154 §2).
var specialUse = map[string]imap.MailboxAttr{
	"Drafts": imap.MailboxAttrDrafts, "Sent": imap.MailboxAttrSent, "Trash": imap.MailboxAttrTrash,
	"Junk": imap.MailboxAttrJunk, "Archive": imap.MailboxAttrArchive,
}

func newStore(o ProviderOptions) *store {
	s := &store{users: map[string]*user{}, validity: firstValidity}
	names := o.Mailboxes
	if names == nil {
		names = []string{"Drafts", "Sent", "Trash", "Junk", "Archive"}
	}
	for _, u := range o.Users {
		account := &user{User: u, mailboxes: map[string]*mailbox{}}
		s.users[normal(u.Address)] = account
		for _, name := range append([]string{"INBOX"}, names...) {
			s.create(account, name).subscribed = true
		}
	}
	return s
}

// create makes the mailbox and those above it (RFC 3501 §6.3.3); the lock is held or not yet needed.
func (s *store) create(u *user, name string) *mailbox {
	if at := strings.LastIndexByte(name, delimiter); at > 0 && u.mailboxes[name[:at]] == nil {
		s.create(u, name[:at])
	}
	s.validity++
	b := &mailbox{name: name, validity: s.validity, next: 1, changed: make(chan struct{})}
	if use, ok := specialUse[name]; ok {
		b.attrs = []imap.MailboxAttr{use}
	}
	u.mailboxes[name] = b
	return b
}

func (s *store) user(address string) *user {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.users[normal(address)]
}

// canonical is the name under which a mailbox is kept: INBOX is case-insensitive (RFC 3501 §5.1).
func canonical(name string) string {
	if strings.EqualFold(name, "INBOX") {
		return "INBOX"
	}
	return strings.TrimSuffix(name, string(delimiter))
}

func (u *user) mailbox(name string) *mailbox { return u.mailboxes[canonical(name)] }

// touch marks a change of messages and wakes whoever idles.
func (b *mailbox) touch(changed ...*message) {
	b.version++
	for _, m := range changed {
		m.version = b.version
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *mailbox) add(bytes []byte, date time.Time, flags []imap.Flag) *message {
	m := &message{uid: b.next, date: date, bytes: bytes, flags: normalFlags(flags)}
	b.next++
	b.messages = append(b.messages, m)
	b.touch(m)
	return m
}

// remove expunges the messages for which which is true and returns them.
func (b *mailbox) remove(which func(*message) bool) []*message {
	var gone []*message
	b.messages = slices.DeleteFunc(b.messages, func(m *message) bool {
		if which(m) {
			m.gone = true
			gone = append(gone, m)
		}
		return m.gone
	})
	if len(gone) > 0 {
		b.touch()
	}
	return gone
}

func (m *message) has(flag imap.Flag) bool {
	return slices.ContainsFunc(m.flags, func(f imap.Flag) bool { return strings.EqualFold(string(f), string(flag)) })
}

// store applies a STORE command.
func (m *message) store(op imap.StoreFlagsOp, flags []imap.Flag) {
	old := m.flags
	switch op {
	case imap.StoreFlagsSet:
		m.flags = normalFlags(flags)
	case imap.StoreFlagsAdd:
		m.flags = normalFlags(append(slices.Clone(old), flags...))
	case imap.StoreFlagsDel:
		removed := &message{flags: flags}
		m.flags = slices.DeleteFunc(slices.Clone(old), removed.has)
	}
}

// normalFlags is a sorted copy without duplicates. \Recent is the server's alone (RFC 3501 §2.3.2).
func normalFlags(flags []imap.Flag) []imap.Flag {
	fold := func(a, b imap.Flag) int {
		return strings.Compare(strings.ToLower(string(a)), strings.ToLower(string(b)))
	}
	kept := slices.DeleteFunc(slices.Clone(flags), func(f imap.Flag) bool { return strings.EqualFold(string(f), `\Recent`) })
	slices.SortStableFunc(kept, fold)
	return slices.CompactFunc(kept, func(a, b imap.Flag) bool { return fold(a, b) == 0 })
}

// with finds a mailbox by address and name and runs do under the lock.
func (s *store) with(address, name string, do func(*mailbox) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[normal(address)]
	if u == nil {
		return fmt.Errorf("the provider has no user %s", address)
	}
	b := u.mailbox(name)
	if b == nil {
		return fmt.Errorf("%s has no mailbox %q", address, name)
	}
	return do(b)
}

func (s *store) stored(address string) []Stored {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[normal(address)]
	if u == nil {
		return nil
	}
	var all []Stored
	for _, name := range sortedNames(u) {
		for _, m := range u.mailboxes[name].messages {
			flags := make([]string, len(m.flags))
			for i, f := range m.flags {
				flags[i] = string(f)
			}
			all = append(all, Stored{Mailbox: name, UID: uint32(m.uid), Flags: flags, InternalDate: m.date, Bytes: m.bytes})
		}
	}
	return all
}

func sortedNames(u *user) []string {
	var names []string
	for name := range u.mailboxes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (s *store) deliver(address, name string, bytes []byte, date time.Time, flags []string) (uid uint32, err error) {
	err = s.with(address, name, func(b *mailbox) error {
		uid = uint32(b.add(slices.Clone(bytes), date, imapFlags(flags)).uid)
		return nil
	})
	return uid, err
}

func (s *store) setFlags(address, name string, uid uint32, flags []string) error {
	return s.with(address, name, func(b *mailbox) error {
		at := slices.IndexFunc(b.messages, func(m *message) bool { return uint32(m.uid) == uid })
		if at < 0 {
			return fmt.Errorf("%s %s has no UID %d", address, name, uid)
		}
		b.messages[at].store(imap.StoreFlagsSet, imapFlags(flags))
		b.touch(b.messages[at])
		return nil
	})
}

func (s *store) expunge(address, name string, uids []uint32) error {
	return s.with(address, name, func(b *mailbox) error {
		gone := b.remove(func(m *message) bool { return slices.Contains(uids, uint32(m.uid)) })
		if len(gone) != len(uids) {
			return fmt.Errorf("%s %s has only %d of the UIDs %v", address, name, len(gone), uids)
		}
		return nil
	})
}

// resetUIDValidity is what a provider does after a restore: every view of the mailbox is worthless, so
// its sessions see all messages go and come again.
func (s *store) resetUIDValidity(address, name string) error {
	return s.with(address, name, func(b *mailbox) error {
		old := b.remove(func(*message) bool { return true })
		s.validity++
		b.validity, b.next = s.validity, 1
		for _, m := range old {
			b.add(m.bytes, m.date, m.flags)
		}
		return nil
	})
}

func imapFlags(flags []string) []imap.Flag {
	list := make([]imap.Flag, len(flags))
	for i, f := range flags {
		list[i] = imap.Flag(f)
	}
	return list
}

// Replace changes the bytes of a message under its UID, as only a hostile provider does.
func (p *Provider) Replace(address, name string, uid uint32, bytes []byte) error {
	return p.store.with(address, name, func(b *mailbox) error {
		for _, m := range b.messages {
			if uint32(m.uid) == uid {
				m.bytes = bytes
				return nil
			}
		}
		return fmt.Errorf("no UID %d", uid)
	})
}
