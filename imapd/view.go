package imapd

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/mirror"
)

// view is the mailbox as the client knows it: what it has been told with EXISTS, EXPUNGE and
// FETCH, whatever has happened since. The library's MailboxTracker is not used: it needs
// every change as it happens, and numbers messages wrongly when several appear at once.
type view struct {
	mu       sync.Mutex // IDLE may still be writing when the next command comes
	version  uint64
	uids     []imap.UID // ascending; the message with sequence number n is at n-1
	flags    [][]imap.Flag
	recent   imap.UIDSet
	complete bool // nothing of that version is still to be told

	announced uint64             // the version whose flags the client knows of
	known     map[imap.Flag]bool // those it knows of
}

// updateWriter is what of *imapserver.UpdateWriter is used.
type updateWriter interface {
	WriteExpunge(seqNum uint32) error
	WriteNumMessages(n uint32) error
	WriteNumRecent(n uint32) error
	WriteMessageFlags(seqNum uint32, uid imap.UID, flags []imap.Flag) error
	WriteMailboxFlags(flags []imap.Flag) error
}

func newView(s *mirror.Snapshot) *view {
	v := &view{version: s.Version, complete: true, announced: s.Version, known: map[imap.Flag]bool{}}
	for _, f := range flagsOf(s) {
		v.known[f] = true
	}
	for _, m := range s.Messages {
		v.uids = append(v.uids, m.UID)
		v.flags = append(v.flags, m.Flags)
	}
	return v
}

// isNews says whether there is anything the client has not been told.
func (v *view) isNews(s *mirror.Snapshot) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return !v.complete || v.version != s.Version
}

// update tells the client what has changed: what is gone, what is new, which flags differ.
func (v *view) update(w updateWriter, s *mirror.Snapshot, allowExpunge bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.complete && v.version == s.Version {
		return nil
	}
	v.version, v.complete = s.Version, true
	if err := v.expunge(w, s, allowExpunge); err != nil {
		return err
	}
	if err := v.extend(w, s); err != nil {
		return err
	}
	if err := v.announce(w, s); err != nil {
		return err
	}
	for i, uid := range v.uids {
		m := find(s, uid)
		if m == nil || sameFlags(v.flags[i], m.Flags) {
			continue
		}
		v.flags[i] = m.Flags
		if err := w.WriteMessageFlags(uint32(i+1), uid, validFlags(v.withRecent(uid, m.Flags), false)); err != nil {
			return err
		}
	}
	return nil
}

// expunge tells of the messages that are gone, from the last to the first so that each number
// still means what it did (RFC 9051 §7.5.1). Where that is not allowed they stay in the view.
func (v *view) expunge(w updateWriter, s *mirror.Snapshot, allowed bool) error {
	cut := v.firstAfterGap(s)
	var gone []int
	for i := len(v.uids) - 1; i >= 0; i-- {
		if i >= cut || find(s, v.uids[i]) == nil {
			gone = append(gone, i)
		}
	}
	if len(gone) == 0 || !allowed {
		v.complete = len(gone) == 0
		return nil
	}
	for _, i := range gone {
		if err := w.WriteExpunge(uint32(i + 1)); err != nil {
			return err
		}
		v.uids[i] = 0
	}
	v.flags = keep(v.flags, func(i int) bool { return v.uids[i] != 0 })
	v.uids = slices.DeleteFunc(v.uids, func(uid imap.UID) bool { return uid == 0 })
	return nil
}

// keep is the elements of a slice whose index f approves of.
func keep[T any](all []T, f func(i int) bool) []T {
	kept := all[:0]
	for i, x := range all {
		if f(i) {
			kept = append(kept, x)
		}
	}
	return kept
}

// firstAfterGap is the index of the first message whose UID is above that of a message the
// client does not know yet, len(v.uids) if there is none. A message can appear late, when it
// was held back for sealing; sequence numbers must follow UIDs (RFC 9051 §2.3.1.2), so those above
// it have to be withdrawn and shown again.
func (v *view) firstAfterGap(s *mirror.Snapshot) int {
	i := 0
	for _, m := range s.Messages {
		for i < len(v.uids) && v.uids[i] < m.UID {
			i++
		}
		if i == len(v.uids) {
			break
		}
		if v.uids[i] != m.UID {
			return i
		}
	}
	return len(v.uids)
}

// extend tells of new messages: those with UIDs above all that the client knows.
func (v *view) extend(w updateWriter, s *mirror.Snapshot) error {
	before := len(v.uids)
	for _, m := range s.Messages {
		if before == 0 || m.UID > v.uids[before-1] {
			v.uids = append(v.uids, m.UID)
			v.flags = append(v.flags, m.Flags)
		}
	}
	if len(v.uids) == before {
		return nil
	}
	if err := w.WriteNumMessages(uint32(len(v.uids))); err != nil || len(v.recent) == 0 {
		return err
	}
	return w.WriteNumRecent(v.countRecent())
}

// announce tells of keywords that were not in use before, ahead of the first message that has them
// (RFC 9051 §7.3.5). v.mu is held.
func (v *view) announce(w updateWriter, s *mirror.Snapshot) error {
	if v.announced == s.Version {
		return nil
	}
	v.announced = s.Version
	all, more := flagsOf(s), false
	for _, f := range all {
		more = more || !v.known[f]
		v.known[f] = true
	}
	if !more {
		return nil
	}
	return w.WriteMailboxFlags(all)
}

// beforeFlags is announce for a command that shows flags as they are now.
func (v *view) beforeFlags(o *output, s *mirror.Snapshot) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.announce(o, s)
}

// afterStore tells the new flags of messages that the client has changed, unless it knows
// (RFC 9051 §6.4.6). What another client has changed meanwhile is left for update.
func (v *view) afterStore(o *output, s *mirror.Snapshot, messages []numbered, stored *imap.StoreFlags, withUID bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.announce(o, s); err != nil {
		return err
	}
	for _, n := range messages {
		m := find(s, n.uid)
		if m == nil {
			continue
		}
		if !stored.Silent {
			v.flags[n.seq-1] = m.Flags
			o.stored(n, v.withRecent(n.uid, m.Flags), withUID)
		} else if sameFlags(expected(v.flags[n.seq-1], stored), m.Flags) {
			v.flags[n.seq-1] = m.Flags
		}
	}
	return nil
}

// expected is what the client believes the flags to be after its STORE.
func expected(before []imap.Flag, stored *imap.StoreFlags) []imap.Flag {
	switch stored.Op {
	case imap.StoreFlagsAdd:
		after := slices.Clone(before)
		for _, f := range stored.Flags {
			if !hasFlag(after, f) {
				after = append(after, f)
			}
		}
		return after
	case imap.StoreFlagsDel:
		return slices.DeleteFunc(slices.Clone(before), func(f imap.Flag) bool { return hasFlag(stored.Flags, f) })
	}
	return stored.Flags
}

// numbered is a message with its sequence number in the view.
type numbered struct {
	seq uint32
	uid imap.UID
}

// span is a range of sequence numbers or UIDs, both ends included.
type span struct{ first, last uint32 }

// errNoSuchNumber is the answer to a sequence number that no message has (RFC 9051 §6.4).
var errNoSuchNumber = bad("There is no message with that sequence number")

// resolve is the messages of the client's set that are in its view, in order. "*" is the last
// message (RFC 9051 §9, seq-number); "$" is the saved result (RFC 5182).
func (v *view) resolve(set imap.NumSet, saved []imap.UID) ([]numbered, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	uids, isUID := set.(imap.UIDSet)
	last := uint32(len(v.uids))
	var spans []span
	switch {
	case isUID && imap.IsSearchRes(uids):
		for _, uid := range saved {
			spans = append(spans, span{uint32(uid), uint32(uid)})
		}
	case isUID:
		highest := uint32(0)
		if last > 0 {
			highest = uint32(v.uids[last-1])
		}
		for _, r := range uids {
			spans = append(spans, spanOf(uint32(r.Start), uint32(r.Stop), highest))
		}
	default:
		for _, r := range set.(imap.SeqSet) {
			s := spanOf(r.Start, r.Stop, last)
			if star := r.Start == 0 || r.Stop == 0; s.last > last && !star {
				return nil, errNoSuchNumber
			}
			spans = append(spans, s)
		}
	}
	return v.within(spans, isUID), nil
}

// spanOf orders the ends of a range; 0 is "*".
func spanOf(start, stop, last uint32) span {
	if start == 0 {
		start = last
	}
	if stop == 0 {
		stop = last
	}
	return span{min(start, stop), max(start, stop)}
}

// within is the messages whose UIDs, or else sequence numbers, are in one of the spans.
func (v *view) within(spans []span, byUID bool) []numbered {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	var found []numbered
	i := 0
	for index, uid := range v.uids {
		n := numbered{uint32(index + 1), uid}
		number := n.seq
		if byUID {
			number = uint32(uid)
		}
		for i < len(spans) && spans[i].last < number {
			i++
		}
		if i < len(spans) && spans[i].first <= number {
			found = append(found, n)
		}
	}
	return found
}

// list is a copy of the UIDs in order of their sequence numbers.
func (v *view) list() []imap.UID {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.uids)
}

func uidSet(messages []numbered) imap.UIDSet {
	var set imap.UIDSet
	for _, n := range messages {
		set.AddNum(n.uid)
	}
	return set
}

// find is the state of a message in a snapshot, nil if it is not there.
func find(s *mirror.Snapshot, uid imap.UID) *mirror.Message {
	i, ok := slices.BinarySearchFunc(s.Messages, uid, func(m mirror.Message, uid imap.UID) int {
		return int(int64(m.UID) - int64(uid))
	})
	if !ok {
		return nil
	}
	return &s.Messages[i]
}

func hasFlag(flags []imap.Flag, wanted imap.Flag) bool {
	return slices.ContainsFunc(flags, func(f imap.Flag) bool { return strings.EqualFold(string(f), string(wanted)) })
}

func sameFlags(a, b []imap.Flag) bool {
	if slices.Equal(a, b) {
		return true
	}
	return len(a) == len(b) && !slices.ContainsFunc(a, func(f imap.Flag) bool { return !hasFlag(b, f) })
}

// flagsOf is all flags that are in use in a mailbox or may be set (RFC 9051 §7.3.5).
func flagsOf(s *mirror.Snapshot) []imap.Flag {
	all := []imap.Flag{imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagSeen, imap.FlagDraft}
	known := map[imap.Flag]bool{}
	for _, f := range all {
		known[f] = true
	}
	add := func(flags []imap.Flag) {
		for _, f := range flags {
			if !known[f] {
				known[f] = true
				all = append(all, f)
			}
		}
	}
	add(s.PermanentFlags)
	seen := map[*imap.Flag]bool{} // most messages share a few sets
	for _, m := range s.Messages {
		if len(m.Flags) > 0 && !seen[&m.Flags[0]] {
			seen[&m.Flags[0]] = true
			add(m.Flags)
		}
	}
	return validFlags(all, false)
}

// validFlags is the flags that can be written: one that is not an atom makes the library's
// encoder drop the connection. \* only means something among permanent flags.
func validFlags(flags []imap.Flag, wildcard bool) []imap.Flag {
	valid := make([]imap.Flag, 0, len(flags))
	for _, f := range flags {
		switch {
		case f == imap.FlagWildcard:
			if wildcard {
				valid = append(valid, f)
			}
		case isFlag(strings.TrimPrefix(string(f), `\`)):
			valid = append(valid, f)
		}
	}
	return valid
}

// isFlag checks an atom (RFC 9051 §9).
func isFlag(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte(`(){%*"\]`, s[i]) >= 0 {
			return false
		}
	}
	return s != ""
}
