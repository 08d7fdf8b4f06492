package mirror

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/sealpost/sealpost/bridge/upstream"
)

const (
	stateBatch = 500     // messages per FETCH of a first fill, committed as they come
	setLength  = 4 << 10 // bytes of a UID set in one command: servers limit lines
)

// sync brings the state of the mailbox up to date with the provider. It returns once a sync
// that began after the call is complete, no matter whose.
func (b *box) sync(ctx context.Context) error {
	asked := time.Now()
	select {
	case b.lock <- struct{}{}:
	case <-ctx.Done():
		return offline(context.Cause(ctx))
	}
	defer func() { <-b.lock }()
	if b.fresh.Load() >= asked.UnixNano() {
		return nil
	}
	_, done, err := b.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	began := time.Now()
	if err := b.syncNow(ctx); err != nil {
		return err
	}
	b.fresh.Store(began.UnixNano())
	b.m.wake.fill.set()
	return nil
}

func (b *box) syncNow(ctx context.Context) error {
	c, err := b.m.o.Provider.Acquire(ctx, b.Name())
	if err != nil {
		return b.refused(ctx, err)
	}
	defer b.m.o.Provider.Release(c)
	s := &stateSync{box: b, conn: c, selected: c.Selected}
	if err := s.run(ctx); err != nil {
		return fmt.Errorf("sync mailbox %q: %w", b.Name(), err)
	}
	return nil
}

// refused finds out whether a mailbox that cannot be selected is gone.
func (b *box) refused(ctx context.Context, err error) error {
	if !isRefusal(err) {
		return offline(err)
	}
	if listErr := b.m.refreshList(ctx); listErr == nil && b.gone.Load() {
		return fmt.Errorf("%w: %q", ErrNoMailbox, b.Name())
	}
	return err
}

// stateSync is one comparison of the rows with the provider, on one lease.
type stateSync struct {
	*box
	conn     *upstream.Conn
	selected *imap.SelectData
	modseq   uint64 // that the rows' flags are of; 0: unknown
}

func (s *stateSync) run(ctx context.Context) error {
	if s.selected.UIDValidity == 0 {
		return errors.New("the provider gives no UIDVALIDITY")
	}
	if err := s.replace(ctx); err != nil {
		return err
	}
	now := s.metaNow()
	s.modseq = now.modseq
	if !now.synced {
		if err := s.fill(ctx); err != nil {
			return err
		}
	}
	return s.update(ctx)
}

// replace starts anew when UIDVALIDITY says that no UID means what it did (RFC 9051 §2.3.1.1).
func (s *stateSync) replace(ctx context.Context) error {
	now := s.metaNow()
	if now.validity == s.selected.UIDValidity {
		return nil
	}
	next := meta{validity: s.selected.UIDValidity, modseq: s.selected.HighestModSeq,
		permanent: joinFlags(s.selected.PermanentFlags), baseline: s.selected.UIDNext}
	if now.validity == 0 {
		next.recent = now.recent
	}
	if err := s.keepGone(ctx, s.notIn(nil)); err != nil {
		return err
	}
	s.write.Lock()
	defer s.write.Unlock()
	_, rows := s.state()
	e := edit{meta: &next}
	for _, r := range rows {
		e.drop = append(e.drop, r.uid)
	}
	return s.commit(ctx, e, nil)
}

// fill fetches the state of all messages that have no row, the newest first. What an
// interrupted fill has committed is not fetched again.
func (s *stateSync) fill(ctx context.Context) error {
	present, err := s.searchAll()
	if err != nil {
		return err
	}
	missing := s.missing(present)
	slices.Reverse(missing)
	for batch := range slices.Chunk(missing, stateBatch) {
		found, err := s.fetchState(imap.UIDSetNum(batch...))
		if err != nil {
			return err
		}
		if err := s.add(ctx, found, nil); err != nil {
			return err
		}
	}
	done := s.metaNow()
	done.synced, done.uidnext = true, s.uidnext(done)
	s.write.Lock()
	defer s.write.Unlock()
	return s.commit(ctx, edit{meta: &done}, nil)
}

// uidnext is the provider's UIDNEXT, or what the rows say if it gives none.
func (s *stateSync) uidnext(now meta) imap.UID {
	next := max(now.uidnext, s.selected.UIDNext, 1)
	s.mem.Lock()
	defer s.mem.Unlock()
	if n := len(s.rows); n > 0 {
		next = max(next, s.rows[n-1].uid+1)
	}
	return next
}

// missing are the UIDs that have no row.
func (s *stateSync) missing(present imap.UIDSet) []imap.UID {
	_, rows := s.state()
	var missing []imap.UID
	for _, r := range present {
		for uid := uint64(r.Start); uid <= uint64(r.Stop); uid++ {
			if _, ok := findRow(rows, imap.UID(uid)); !ok {
				missing = append(missing, imap.UID(uid))
			}
		}
	}
	return missing
}

// update fetches what is new, what flags changed, and finds out what is gone, and shows it
// all at once. New messages come by UID from the UIDNEXT last seen.
func (s *stateSync) update(ctx context.Context) error {
	now, rows := s.state()
	found, err := s.newMessages(now)
	if err != nil {
		return err
	}
	flags, err := s.changedFlags(rows)
	if err != nil {
		return err
	}
	next := now
	next.modseq, next.permanent, next.object = s.selected.HighestModSeq, joinFlags(s.selected.PermanentFlags), s.conn.ObjectID
	next.uidnext = s.uidnext(now)
	for _, m := range found {
		next.uidnext = max(next.uidnext, m.UID+1)
	}
	drop, more, err := s.compare(rows, found)
	if err == nil {
		err = s.keepGone(ctx, drop)
	}
	if err != nil {
		return err
	}
	return s.show(ctx, now, next, append(found, more...), flags, drop)
}

// show commits the outcome of an update. Rows that others changed meanwhile keep what is theirs.
func (s *stateSync) show(ctx context.Context, now, next meta, found, flags []*imapclient.FetchMessageBuffer, drop []imap.UID) error {
	s.write.Lock()
	defer s.write.Unlock()
	e := edit{drop: drop}
	if next != now {
		e.meta = &next
	}
	for _, m := range flags {
		if r, ok := s.row(m.UID); ok {
			if stored := foreign(m.Flags); joinFlags(stored) != joinFlags(r.flags) {
				e.put = append(e.put, s.m.with(r, stored, r.words))
			}
		}
	}
	e.put = append(e.put, s.newRows(found)...)
	return s.commit(ctx, e, nil)
}

// add commits rows for new messages.
func (s *stateSync) add(ctx context.Context, found []*imapclient.FetchMessageBuffer, extra func(*sql.Tx) error) error {
	s.write.Lock()
	defer s.write.Unlock()
	return s.commit(ctx, edit{put: s.newRows(found)}, extra)
}

// newRows makes the rows of messages that have none. What came after the mailbox was first
// seen is held back if it may have to be sealed.
func (s *stateSync) newRows(found []*imapclient.FetchMessageBuffer) []row {
	now := s.metaNow()
	hold := s.m.shouldSeal(s.Name())
	var rows []row
	for _, m := range found {
		if _, ok := s.row(m.UID); ok {
			continue
		}
		_, zone := m.InternalDate.Zone()
		r := row{uid: m.UID, date: m.InternalDate.Unix(), zone: int32(zone), size: m.RFC822Size}
		if hold && m.UID >= now.baseline {
			r.held = time.Now().UnixNano()
			s.m.wake.hold.set()
		}
		rows = append(rows, s.m.with(r, foreign(m.Flags), ""))
	}
	return rows
}

// newMessages are those from the known UIDNEXT on.
func (s *stateSync) newMessages(now meta) ([]*imapclient.FetchMessageBuffer, error) {
	if s.selected.NumMessages == 0 || s.selected.UIDNext != 0 && s.selected.UIDNext <= now.uidnext {
		return nil, nil
	}
	var set imap.UIDSet
	set.AddRange(now.uidnext, 0)
	found, err := s.fetchState(set)
	// "n:*" includes the last message even if n is beyond it (RFC 9051 §9, seq-range).
	return slices.DeleteFunc(found, func(m *imapclient.FetchMessageBuffer) bool { return m.UID < now.uidnext }), err
}

// changedFlags asks for flags that changed since the last sync: exactly those with CONDSTORE
// (RFC 7162 §3.1.4.1), else all.
func (s *stateSync) changedFlags(rows []row) ([]*imapclient.FetchMessageBuffer, error) {
	if len(rows) == 0 || s.selected.NumMessages == 0 {
		return nil, nil
	}
	o := &imap.FetchOptions{UID: true, Flags: true}
	if s.selected.HighestModSeq != 0 && s.modseq != 0 && s.conn.Caps().Has(imap.CapCondStore) {
		if s.selected.HighestModSeq == s.modseq {
			return nil, nil
		}
		o.ModSeq, o.ChangedSince = true, s.modseq
	}
	return fetchAll(s.conn, imap.UIDSet{{Start: rows[0].uid, Stop: rows[len(rows)-1].uid}}, o)
}

// compare finds messages that are gone, and messages whose announcement got lost: by comparing
// UIDs, but only when the numbers of messages differ.
func (s *stateSync) compare(rows []row, found []*imapclient.FetchMessageBuffer) (drop []imap.UID, more []*imapclient.FetchMessageBuffer, err error) {
	if uint32(len(rows)+len(found)) == s.selected.NumMessages {
		return nil, nil, nil
	}
	present, err := s.searchAll()
	if err != nil {
		return nil, nil, err
	}
	for _, r := range rows {
		if !present.Contains(r.uid) {
			drop = append(drop, r.uid)
		}
	}
	lost := s.missing(present)
	lost = slices.DeleteFunc(lost, func(uid imap.UID) bool {
		return slices.ContainsFunc(found, func(m *imapclient.FetchMessageBuffer) bool { return m.UID == uid })
	})
	more, err = s.fetchStates(lost)
	return drop, more, err
}

// searchAll are the UIDs at the provider. An answer that could not be true is refused before
// it is spelled out: a range is cheap to send.
func (s *stateSync) searchAll() (imap.UIDSet, error) {
	var o *imap.SearchOptions
	if s.conn.Caps().Has(imap.CapESearch) {
		o = &imap.SearchOptions{ReturnAll: true}
	}
	data, err := s.conn.UIDSearch(&imap.SearchCriteria{}, o).Wait()
	if err != nil {
		return nil, offline(err)
	}
	set, _ := data.All.(imap.UIDSet) // nil if there is none
	total := uint64(0)
	for _, r := range set {
		if r.Start == 0 || r.Stop < r.Start {
			return nil, errors.New("the provider answers UID SEARCH with a set that has no end")
		}
		total += uint64(r.Stop-r.Start) + 1
	}
	if total > 2*uint64(s.selected.NumMessages)+100_000 {
		return nil, fmt.Errorf("the provider lists %d messages where it counts %d", total, s.selected.NumMessages)
	}
	return set, nil
}

// fetchState fetches all that a row holds.
func (s *stateSync) fetchState(set imap.UIDSet) ([]*imapclient.FetchMessageBuffer, error) {
	return fetchAll(s.conn, set, &imap.FetchOptions{UID: true, Flags: true, InternalDate: true, RFC822Size: true})
}

func (s *stateSync) fetchStates(uids []imap.UID) ([]*imapclient.FetchMessageBuffer, error) {
	var all []*imapclient.FetchMessageBuffer
	for batch := range slices.Chunk(uids, stateBatch) {
		found, err := s.fetchState(imap.UIDSetNum(batch...))
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// fetchAll fetches items without literals.
func fetchAll(c *upstream.Conn, set imap.UIDSet, o *imap.FetchOptions) ([]*imapclient.FetchMessageBuffer, error) {
	cmd := c.Fetch(set, o)
	var all []*imapclient.FetchMessageBuffer
	for msg := cmd.Next(); msg != nil; msg = cmd.Next() {
		buf, err := msg.Collect()
		if err == nil && buf.UID != 0 {
			all = append(all, buf)
		}
	}
	if err := cmd.Close(); err != nil {
		return nil, offline(err)
	}
	return all, nil
}

// setsOf splits UIDs, which are in order, into sets that fit into a command line.
func setsOf(uids []imap.UID) []imap.UIDSet {
	var sets []imap.UIDSet
	var set imap.UIDSet
	for _, uid := range uids {
		set.AddNum(uid)
		if len(set)*22 > setLength { // "4294967295:4294967295,"
			sets, set = append(sets, set), nil
		}
	}
	if len(set) > 0 {
		sets = append(sets, set)
	}
	return sets
}
