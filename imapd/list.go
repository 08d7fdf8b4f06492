package imapd

import (
	"errors"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/sealpost/sealpost/bridge/mirror"
)

const (
	maxPattern   = 1 << 10 // bytes of a LIST pattern
	defaultDelim = '/'     // while no mailbox is known
	inbox        = "INBOX"
)

// specialUses are the attributes of RFC 6154 §2.
var specialUses = []imap.MailboxAttr{
	imap.MailboxAttrAll, imap.MailboxAttrArchive, imap.MailboxAttrDrafts, imap.MailboxAttrFlagged,
	imap.MailboxAttrJunk, imap.MailboxAttrSent, imap.MailboxAttrTrash,
}

// List answers LIST with its extensions (RFC 9051 §6.3.9) and LSUB.
func (s *session) List(w *imapserver.ListWriter, ref string, patterns []string, o *imap.ListOptions) error {
	all, err := s.account.List(s.ctx)
	if err != nil {
		return s.failed(err)
	}
	if len(patterns) == 0 || len(patterns) == 1 && patterns[0] == "" { // only the delimiter is asked for
		return w.WriteList(&imap.ListData{Attrs: []imap.MailboxAttr{imap.MailboxAttrNoSelect}, Delim: delimOf(all)})
	}
	s.addSpecialUse(all)
	lsub := s.gate.command() == "LSUB"
	if endsInPercent(patterns) {
		all = withParents(all, lsub)
	}
	asked := func(m mirror.MailboxInfo) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return matches(m, ref, p) })
	}
	for _, info := range all {
		if !asked(info) {
			continue
		}
		data := listData(info, all, o, asked)
		if data == nil {
			continue
		}
		if lsub { // it knows none of the newer attributes (RFC 3501 §7.2.3)
			data.Attrs = slices.DeleteFunc(data.Attrs, func(a imap.MailboxAttr) bool { return hasAttr(specialUses, a) || a == imap.MailboxAttrSubscribed })
		}
		if o.ReturnStatus != nil && selectable(info) {
			if data.Status, err = s.Status(info.Name, o.ReturnStatus); err != nil {
				s.log.Debug("imap: no STATUS in LIST", "mailbox", info.Name, "cause", err) // RFC 5819 §2: left out
			}
		}
		if err := w.WriteList(data); err != nil {
			return err
		}
	}
	return nil
}

// addSpecialUse marks mailboxes that the provider does not mark but that are known by name.
func (s *session) addSpecialUse(all []mirror.MailboxInfo) {
	for _, attr := range specialUses {
		if slices.ContainsFunc(all, func(m mirror.MailboxInfo) bool { return hasAttr(m.Attrs, attr) }) {
			continue
		}
		name, ok := s.account.SpecialUse(s.ctx, attr)
		if !ok {
			continue
		}
		for i := range all {
			if all[i].Name == name {
				all[i].Attrs = append(slices.Clone(all[i].Attrs), attr)
			}
		}
	}
}

// listData is what is said about a mailbox, nil if it is not selected by the options. asked says
// which names the client asks for.
func listData(info mirror.MailboxInfo, all []mirror.MailboxInfo, o *imap.ListOptions, asked func(mirror.MailboxInfo) bool) *imap.ListData {
	below := prefixOf(info)
	data := &imap.ListData{Delim: info.Delim, Mailbox: info.Name, Attrs: attrsOf(info, all)}
	if !o.SelectSubscribed && hasAttr(info.Attrs, imap.MailboxAttrNonExistent) && !hasAttr(data.Attrs, imap.MailboxAttrHasChildren) {
		return nil // it is known for its subscription only
	}
	if o.SelectSpecialUse && !slices.ContainsFunc(info.Attrs, func(a imap.MailboxAttr) bool { return hasAttr(specialUses, a) }) {
		return nil
	}
	if info.Subscribed && (o.SelectSubscribed || o.ReturnSubscribed) {
		data.Attrs = append(data.Attrs, imap.MailboxAttrSubscribed)
	}
	if !o.SelectSubscribed {
		return data
	}
	if o.SelectRecursiveMatch && below != "" { // RFC 5258 §3.5
		if slices.ContainsFunc(all, func(m mirror.MailboxInfo) bool {
			return m.Subscribed && strings.HasPrefix(m.Name, below) && !asked(m)
		}) {
			data.ChildInfo = &imap.ListDataChildInfo{Subscribed: true}
		}
	}
	if !info.Subscribed && data.ChildInfo == nil {
		return nil
	}
	return data
}

// attrsOf is a mailbox's attributes, with one that says whether it has children.
func attrsOf(info mirror.MailboxInfo, all []mirror.MailboxInfo) []imap.MailboxAttr {
	attrs := []imap.MailboxAttr{}
	for _, a := range info.Attrs {
		name, ok := strings.CutPrefix(string(a), `\`)
		if ok && isFlag(name) && !hasAttr([]imap.MailboxAttr{imap.MailboxAttrHasChildren, imap.MailboxAttrHasNoChildren, imap.MailboxAttrSubscribed}, a) {
			attrs = append(attrs, a)
		}
	}
	below := prefixOf(info)
	switch {
	case hasAttr(info.Attrs, imap.MailboxAttrNoInferiors): // it cannot have any (RFC 9051 §7.3.1)
	case below != "" && slices.ContainsFunc(all, func(m mirror.MailboxInfo) bool { return strings.HasPrefix(m.Name, below) }):
		attrs = append(attrs, imap.MailboxAttrHasChildren)
	default:
		attrs = append(attrs, imap.MailboxAttrHasNoChildren)
	}
	return attrs
}

// listDataOf is the LIST response that is part of SELECT; nil for a mailbox not in the list.
func listDataOf(name string, all []mirror.MailboxInfo) *imap.ListData {
	for _, info := range all {
		if info.Name == name {
			return listData(info, all, &imap.ListOptions{}, func(mirror.MailboxInfo) bool { return false })
		}
	}
	return nil
}

// prefixOf is what the names of a mailbox's children begin with, "" if there are none.
func prefixOf(info mirror.MailboxInfo) string {
	if info.Delim == 0 {
		return ""
	}
	return info.Name + string(info.Delim)
}

func hasAttr(attrs []imap.MailboxAttr, wanted imap.MailboxAttr) bool {
	return slices.ContainsFunc(attrs, func(a imap.MailboxAttr) bool { return strings.EqualFold(string(a), string(wanted)) })
}

func selectable(info mirror.MailboxInfo) bool {
	return !hasAttr(info.Attrs, imap.MailboxAttrNoSelect) && !hasAttr(info.Attrs, imap.MailboxAttrNonExistent)
}

func delimOf(all []mirror.MailboxInfo) rune {
	for _, info := range all {
		if info.Delim != 0 {
			return info.Delim
		}
	}
	return defaultDelim
}

// matches says whether a mailbox matches reference and pattern. The library's MatchList takes
// time exponential in the number of wildcards.
func matches(info mirror.MailboxInfo, ref, pattern string) bool {
	pattern = ref + pattern // as Dovecot: the reference is what a relative name is relative to
	if len(pattern) > maxPattern {
		return false
	}
	if len(pattern) >= len(inbox) && strings.EqualFold(pattern[:len(inbox)], inbox) {
		pattern = inbox + pattern[len(inbox):] // RFC 9051 §5.1: INBOX in any case
	}
	name, delim := []rune(info.Name), info.Delim
	reached := make([]bool, len(name)+1) // which beginnings of the name the pattern so far matches
	reached[0] = true
	for _, p := range pattern {
		wild := p == '*' || p == '%'
		previous := reached[0]
		reached[0] = previous && wild
		for i, c := range name {
			here := reached[i+1]
			if wild {
				reached[i+1] = here || reached[i] && (p == '*' || c != delim)
			} else {
				reached[i+1] = previous && c == p
			}
			previous = here
		}
	}
	return reached[len(name)]
}

// Namespace is the provider's whole hierarchy (RFC 2342), or what lies below INBOX where there is
// nothing else: such providers let no mailbox be made elsewhere.
func (s *session) Namespace() (*imap.NamespaceData, error) {
	all, err := s.account.List(s.ctx)
	if err != nil {
		return nil, s.failed(err)
	}
	return &imap.NamespaceData{Personal: []imap.NamespaceDescriptor{{Prefix: namespacePrefix(all), Delim: delimOf(all)}}}, nil
}

func namespacePrefix(all []mirror.MailboxInfo) string {
	below := "INBOX" + string(delimOf(all))
	for _, info := range all {
		if info.Name != "INBOX" && !strings.HasPrefix(info.Name, below) {
			return ""
		}
	}
	if len(all) < 2 {
		return ""
	}
	return below
}

func (s *session) Delete(name string) error {
	return s.failed(s.account.Delete(s.ctx, name))
}

func (s *session) Rename(name, to string, _ *imap.RenameOptions) error {
	return s.failed(s.account.Rename(s.ctx, name, to))
}

func (s *session) Subscribe(name string) error {
	return s.failed(s.account.Subscribe(s.ctx, name, true))
}

func (s *session) Unsubscribe(name string) error {
	return s.failed(s.account.Subscribe(s.ctx, name, false))
}

// Status is for LIST RETURN (STATUS …); see answerStatus.
func (s *session) Status(name string, o *imap.StatusOptions) (*imap.StatusData, error) {
	data, _, err := s.status(name, o)
	return data, err
}

// status is what STATUS says about a mailbox (RFC 9051 §6.3.11), and its identifier.
func (s *session) status(name string, o *imap.StatusOptions) (_ *imap.StatusData, id string, err error) {
	b, err := s.account.Mailbox(s.ctx, name)
	if err != nil {
		return nil, "", s.failed(err)
	}
	snapshot := b.Snapshot()
	var unseen, deleted, recent uint32
	from, to, err := b.Recent(s.ctx, false)
	if err != nil {
		return nil, "", s.failed(err)
	}
	var all, marked []imap.UID
	for _, m := range snapshot.Messages {
		all = append(all, m.UID)
		if m.UID >= from && m.UID < to {
			recent++
		}
		if !hasFlag(m.Flags, imap.FlagSeen) {
			unseen++
		}
		if hasFlag(m.Flags, imap.FlagDeleted) {
			deleted++
			marked = append(marked, m.UID)
		}
	}
	messages, limit := uint32(len(snapshot.Messages)), uint32(min(s.account.MaxMessageSize(), 1<<32-1))
	data := &imap.StatusData{
		Mailbox: name, NumMessages: &messages, NumUnseen: &unseen, NumDeleted: &deleted, NumRecent: &recent,
		UIDNext: snapshot.UIDNext, UIDValidity: snapshot.UIDValidity, AppendLimit: &limit,
	}
	if o.Size { // RFC 8438: the sum of what RFC822.SIZE says, so every message has to be opened
		if data.Size, err = s.totalSize(b, all); err != nil {
			return nil, "", err
		}
	}
	if o.DeletedStorage {
		data.DeletedStorage, err = s.totalSize(b, marked)
	}
	return data, snapshot.ObjectID, err
}

// totalSize is the sum of the sizes of messages; those that are gone meanwhile do not count.
func (s *session) totalSize(b mailbox, uids []imap.UID) (*int64, error) {
	var total int64
	err := b.Summaries(s.ctx, uids, func(_ imap.UID, m *mirror.Summary, err error) error {
		if err == nil {
			total += m.Size
		} else if !errors.Is(err, mirror.ErrExpunged) {
			return err
		}
		return nil
	})
	return &total, s.failed(err)
}

// Append stores a message; its size is within the account's limit (gate.append).
func (s *session) Append(name string, r imap.LiteralReader, o *imap.AppendOptions) (*imap.AppendData, error) {
	wanted := *o
	wanted.Flags = validFlags(o.Flags, false)
	data, err := s.account.Append(s.ctx, name, r, r.Size(), &wanted)
	if err != nil {
		return nil, answer(s.log, err, imap.ResponseCodeTryCreate)
	}
	if data != nil && data.UID == 0 { // the provider did not say
		data = nil
	}
	return data, nil
}
