package imapd

import (
	"slices"

	"github.com/emersion/go-imap/v2"
)

// \Recent is of RFC 3501 §2.3.2; RFC 9051 knows it no more, but programs that speak the older
// protocol tell new mail from unread mail by it.
const flagRecent imap.Flag = `\Recent`

// claimRecent makes new messages this client's recent ones; a client that only examines the
// mailbox leaves them to others.
func (s *session) claimRecent(box *selected) {
	if s.conn.EnabledCaps().Has(imap.CapIMAP4rev2) {
		return
	}
	from, to, err := box.Recent(s.ctx, !box.readOnly)
	if err != nil {
		s.log.Debug("imap: what is recent is not known", "cause", err)
	} else if from < to {
		box.view.addRecent(imap.UIDRange{Start: from, Stop: to - 1})
	}
}

func (v *view) addRecent(r imap.UIDRange) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.recent.AddRange(r.Start, r.Stop)
}

// recents are the UIDs of this client's recent messages.
func (v *view) recents() imap.UIDSet {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.recent)
}

// flagsOf is what a FETCH shows, and the client knows from then on.
func (v *view) flagsOf(r *reply) []imap.Flag {
	v.mu.Lock()
	defer v.mu.Unlock()
	if int(r.seq) <= len(v.uids) && v.uids[r.seq-1] == r.uid {
		v.flags[r.seq-1] = r.state.Flags
	}
	return v.withRecent(r.uid, r.state.Flags)
}

// countRecent is how many there are; v.mu is held.
func (v *view) countRecent() uint32 {
	n := uint32(0)
	for _, r := range v.recent {
		first, _ := slices.BinarySearch(v.uids, r.Start)
		end, _ := slices.BinarySearch(v.uids, r.Stop+1)
		n += uint32(max(0, end-first))
	}
	return n
}

// withRecent adds the flag where it belongs; v.mu is held.
func (v *view) withRecent(uid imap.UID, flags []imap.Flag) []imap.Flag {
	if len(v.recent) == 0 || !v.recent.Contains(uid) {
		return flags
	}
	return append(slices.Clone(flags), flagRecent)
}
