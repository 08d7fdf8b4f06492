package bridgetest

import (
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// view is a mailbox as one session knows it: its rows are the session's sequence numbers. What
// changed is found by comparing, so that nothing a session must be told can get lost. (The
// library's tracker miscounts when EXISTS jumps and forgets what happens just before IDLE.)
type view struct {
	box     *mailbox
	rows    []row
	version uint64 // of the mailbox when last compared; everything up to it is told
}

// row is a message and the version of it that the session was told of.
type row struct {
	m    *message
	told uint64
}

func newView(b *mailbox) *view {
	v := &view{box: b, version: b.version}
	for _, m := range b.messages {
		v.rows = append(v.rows, row{m, m.version})
	}
	return v
}

// update is something to tell the client.
type update func(*imapserver.UpdateWriter) error

// news compares the view with the mailbox and brings it up to date. Expunged messages keep their
// row while expunges are not allowed (RFC 3501 §7.4.1). The store's lock is held.
func (v *view) news(expunges bool) []update {
	if v.version == v.box.version {
		return nil
	}
	var list []update
	held := false
	for i := len(v.rows) - 1; i >= 0; i-- {
		if !v.rows[i].m.gone {
			continue
		}
		if held = !expunges; held {
			break
		}
		v.rows = slices.Delete(v.rows, i, i+1)
		list = append(list, func(w *imapserver.UpdateWriter) error { return w.WriteExpunge(uint32(i) + 1) })
	}
	known := imap.UID(0)
	for i := range v.rows {
		list = v.flagNews(list, i)
		known = max(known, v.rows[i].m.uid)
	}
	list = v.arrivals(list, known)
	if !held {
		v.version = v.box.version
	}
	return list
}

func (v *view) flagNews(list []update, i int) []update {
	r := &v.rows[i]
	if r.told == r.m.version {
		return list
	}
	r.told = r.m.version
	uid, flags := r.m.uid, r.m.flags
	return append(list, func(w *imapserver.UpdateWriter) error { return w.WriteMessageFlags(uint32(i)+1, uid, flags) })
}

func (v *view) arrivals(list []update, known imap.UID) []update {
	before := len(v.rows)
	for _, m := range v.box.messages {
		if m.uid > known {
			v.rows = append(v.rows, row{m, m.version})
		}
	}
	n := uint32(len(v.rows))
	if len(v.rows) == before {
		return list
	}
	return append(list, func(w *imapserver.UpdateWriter) error { return w.WriteNumMessages(n) })
}

// picked is a message of a set with its sequence number, and its flags at that time.
type picked struct {
	at    int // index of its row
	m     *message
	flags []imap.Flag
}

func (p picked) seq() uint32 { return uint32(p.at) + 1 }

// pick finds the messages of a set in the view; those already expunged are left out.
func (v *view) pick(set imap.NumSet) []picked {
	in := v.contains(set)
	var list []picked
	for i, r := range v.rows {
		if !r.m.gone && in(uint32(i)+1, r.m.uid) {
			list = append(list, picked{i, r.m, r.m.flags})
		}
	}
	return list
}

// contains resolves "*" and says whether a message is in the set. (The library's own Contains
// takes "*" for infinity, and its Nums never returns at 4294967295.)
func (v *view) contains(set imap.NumSet) func(seq uint32, uid imap.UID) bool {
	last, lastUID := uint32(len(v.rows)), imap.UID(0)
	if last > 0 {
		lastUID = v.rows[last-1].m.uid
	}
	return func(seq uint32, uid imap.UID) bool {
		switch set := set.(type) {
		case imap.SeqSet:
			return slices.ContainsFunc(set, func(r imap.SeqRange) bool { return within(seq, r.Start, r.Stop, last) })
		case imap.UIDSet:
			return slices.ContainsFunc(set, func(r imap.UIDRange) bool { return within(uid, r.Start, r.Stop, lastUID) })
		}
		return false
	}
}

// within is RFC 3501 §9, seq-range: "*" (0 here) is the largest number in use, and the order of
// the ends does not matter.
func within[N ~uint32](n, start, stop, last N) bool {
	if start == 0 {
		start = last
	}
	if stop == 0 {
		stop = last
	}
	return n >= min(start, stop) && n <= max(start, stop)
}
