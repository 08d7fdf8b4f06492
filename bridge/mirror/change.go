package mirror

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/upstream"
)

// on runs commands on the selected mailbox, if it still has that UIDVALIDITY.
func (b *box) on(ctx context.Context, what string, validity uint32, f func(c *upstream.Conn) error) error {
	c, err := b.lease(ctx)
	if err == nil {
		if err = errReplaced; c.Selected.UIDValidity == validity {
			err = f(c)
		}
		b.m.o.Provider.Release(c)
	}
	if err != nil {
		return fmt.Errorf("%s in mailbox %q: %w", what, b.Name(), offline(err))
	}
	return nil
}

// members are the UIDs of a set that are shown. The set may be endless, the mailbox is not.
func (s *Snapshot) members(set imap.UIDSet) []imap.UID {
	var last imap.UID
	if n := len(s.Messages); n > 0 {
		last = s.Messages[n-1].UID
	}
	ranges := resolve(set, last)
	var uids []imap.UID
	for _, m := range s.Messages {
		if contains(ranges, m.UID) {
			uids = append(uids, m.UID)
		}
	}
	return uids
}

// Store changes flags at the provider, then here. The mirror's own keywords are ignored.
func (b *Mailbox) Store(ctx context.Context, uids imap.UIDSet, flags *imap.StoreFlags) error {
	defer runtime.KeepAlive(b)
	s := b.snapshot()
	members := s.members(uids)
	change := &imap.StoreFlags{Op: flags.Op, Silent: true, Flags: foreign(flags.Flags)}
	if len(members) == 0 || len(change.Flags) == 0 && change.Op != imap.StoreFlagsSet {
		return nil
	}
	var now []*imapclient.FetchMessageBuffer
	err := b.on(ctx, "change flags", s.UIDValidity, func(c *upstream.Conn) error {
		for _, set := range setsOf(members) {
			if err := c.Store(set, change, nil).Close(); err != nil {
				return err
			}
			// The provider decides which flags it keeps (RFC 9051 §7.1, PERMANENTFLAGS).
			got, err := fetchAll(c, set, &imap.FetchOptions{UID: true, Flags: true})
			if err != nil {
				return err
			}
			now = append(now, got...)
		}
		return nil
	})
	// Also after an error: what has been changed is shown.
	return errors.Join(err, b.setFlags(ctx, s.UIDValidity, now))
}

func (b *box) setFlags(ctx context.Context, validity uint32, now []*imapclient.FetchMessageBuffer) error {
	b.write.Lock()
	defer b.write.Unlock()
	if err := b.still(validity); err != nil {
		return err
	}
	var e edit
	for _, m := range now {
		if r, ok := b.row(m.UID); ok {
			e.put = append(e.put, b.m.with(r, foreign(m.Flags), r.words))
		}
	}
	return b.commit(ctx, e, nil)
}

// Expunge removes messages with \Deleted (all, or those in uids). Messages that are not shown
// stay.
func (b *Mailbox) Expunge(ctx context.Context, uids *imap.UIDSet) error {
	defer runtime.KeepAlive(b)
	s := b.snapshot()
	var members []imap.UID
	for _, m := range s.Messages {
		if hasFlag(m.Flags, imap.FlagDeleted) {
			members = append(members, m.UID)
		}
	}
	if uids != nil {
		chosen := s.members(*uids)
		members = slices.DeleteFunc(members, func(uid imap.UID) bool { _, ok := slices.BinarySearch(chosen, uid); return !ok })
	}
	if len(members) == 0 {
		return nil
	}
	if err := b.keep(ctx, members, Expunged); err != nil {
		return err
	}
	var gone []imap.UID
	err := b.on(ctx, "expunge", s.UIDValidity, func(c *upstream.Conn) (err error) {
		if err = expunge(c, members); err == nil {
			gone, err = absent(c, members)
		}
		return err
	})
	return errors.Join(err, b.remove(ctx, s.UIDValidity, gone))
}

// expunge removes exactly those messages, which have \Deleted already.
func expunge(c *upstream.Conn, uids []imap.UID) error {
	if c.Caps().Has(imap.CapUIDPlus) {
		for _, set := range setsOf(uids) {
			if err := c.UIDExpunge(set).Close(); err != nil {
				return err
			}
		}
		return nil
	}
	// Without UIDPLUS the flag is taken from all others for the moment (RFC 4549 §4.2.4). If
	// the connection breaks in between they lose the flag, not their lives.
	data, err := c.UIDSearch(&imap.SearchCriteria{Flag: []imap.Flag{imap.FlagDeleted}}, nil).Wait()
	if err != nil {
		return err
	}
	deleted, _ := data.All.(imap.UIDSet)
	var others []imap.UID
	for _, r := range deleted {
		for uid := uint64(r.Start); uid != 0 && uid <= uint64(r.Stop); uid++ {
			if _, ok := slices.BinarySearch(uids, imap.UID(uid)); !ok {
				others = append(others, imap.UID(uid))
			}
		}
	}
	if err := setDeleted(c, others, imap.StoreFlagsDel); err != nil {
		return err
	}
	err = c.Expunge().Close()
	return errors.Join(err, setDeleted(c, others, imap.StoreFlagsAdd))
}

func setDeleted(c *upstream.Conn, uids []imap.UID, op imap.StoreFlagsOp) error {
	for _, set := range setsOf(uids) {
		if err := c.Store(set, &imap.StoreFlags{Op: op, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
			return err
		}
	}
	return nil
}

// absent are those of the UIDs that the provider does not have (any more).
func absent(c *upstream.Conn, uids []imap.UID) ([]imap.UID, error) {
	var gone []imap.UID
	for _, set := range setsOf(uids) {
		data, err := c.UIDSearch(&imap.SearchCriteria{UID: []imap.UIDSet{set}}, nil).Wait()
		if err != nil {
			return gone, err
		}
		present, _ := data.All.(imap.UIDSet)
		for _, uid := range uids {
			if set.Contains(uid) && !present.Contains(uid) {
				gone = append(gone, uid)
			}
		}
	}
	return gone, nil
}

func (b *box) remove(ctx context.Context, validity uint32, gone []imap.UID) error {
	b.write.Lock()
	defer b.write.Unlock()
	if err := b.still(validity); err != nil {
		return err
	}
	return b.commit(ctx, edit{drop: gone}, nil)
}

// Copy copies messages to another mailbox of the account, which shows them when it returns.
// The data is empty if the provider has no UIDPLUS.
func (b *Mailbox) Copy(ctx context.Context, uids imap.UIDSet, to string) (*imap.CopyData, error) {
	defer runtime.KeepAlive(b)
	return b.transfer(ctx, b.snapshot(), uids, to, false)
}

// Move is Copy and the removal of the originals (RFC 6851), also for providers without MOVE.
func (b *Mailbox) Move(ctx context.Context, uids imap.UIDSet, to string) (*imap.CopyData, error) {
	defer runtime.KeepAlive(b)
	return b.transfer(ctx, b.snapshot(), uids, to, true)
}

func (b *box) transfer(ctx context.Context, s *Snapshot, uids imap.UIDSet, to string, move bool) (*imap.CopyData, error) {
	total, members := &imap.CopyData{}, s.members(uids)
	to = canonical(to)
	if len(members) == 0 {
		return total, nil
	}
	if move {
		if err := b.keep(ctx, members, Moved); err != nil {
			return total, err
		}
	}
	var gone []imap.UID
	err := b.on(ctx, "copy or move messages", s.UIDValidity, func(c *upstream.Conn) error {
		for _, set := range setsOf(members) {
			data, removed, err := transferSet(c, set, to, move)
			gone = append(gone, removed...)
			if data != nil && data.UIDValidity != 0 {
				total.UIDValidity = data.UIDValidity
				total.SourceUIDs = append(total.SourceUIDs, data.SourceUIDs...)
				total.DestUIDs = append(total.DestUIDs, data.DestUIDs...)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	// Also after an error: what has been copied is shown. The destination comes first, as it
	// takes over what has been opened already.
	if total.UIDValidity != 0 || err == nil {
		if arrived := b.arrive(ctx, total, to); arrived != nil {
			b.m.o.Log.Warn("the mailbox that messages were copied to is not in step", "mailbox", to, "error", arrived)
		}
	}
	return total, errors.Join(err, b.remove(ctx, s.UIDValidity, gone))
}

// transferSet copies or moves one set. go-imap's own fallback for MOVE sends COPY, STORE and
// EXPUNGE without waiting: if COPY failed the messages would be lost.
func transferSet(c *upstream.Conn, set imap.UIDSet, to string, move bool) (data *imap.CopyData, gone []imap.UID, err error) {
	uids, _ := set.Nums()
	if move && c.Caps().Has(imap.CapMove) {
		moved, err := c.Move(set, to).Wait()
		if err != nil {
			return nil, nil, err
		}
		source, _ := moved.SourceUIDs.(imap.UIDSet)
		dest, _ := moved.DestUIDs.(imap.UIDSet)
		data = &imap.CopyData{UIDValidity: moved.UIDValidity, SourceUIDs: source, DestUIDs: dest}
		gone, err = absent(c, uids)
		return data, gone, err
	}
	if data, err = c.Copy(set, to).Wait(); err != nil || !move {
		return data, nil, err
	}
	if err = setDeleted(c, uids, imap.StoreFlagsAdd); err == nil {
		if err = expunge(c, uids); err == nil {
			gone, err = absent(c, uids)
		}
	}
	return data, gone, err
}

// arrive syncs the destination of copied messages and gives them the content of the originals.
func (b *box) arrive(ctx context.Context, data *imap.CopyData, to string) error {
	dest, done, err := b.m.useFound(ctx, to)
	if err != nil {
		return err
	}
	defer done()
	if err := dest.sync(ctx); err != nil || data.UIDValidity == 0 {
		return err
	}
	from, fromOK := spell(data.SourceUIDs)
	into, intoOK := spell(data.DestUIDs)
	if !fromOK || !intoOK || len(from) != len(into) || dest.metaNow().validity != data.UIDValidity {
		return nil
	}
	known := map[imap.UID]row{}
	for i, uid := range from {
		if r, ok := b.row(uid); ok {
			known[into[i]] = r
		}
	}
	if err := dest.adopt(ctx, data.UIDValidity, known); err != nil {
		return err
	}
	return dest.awaitShown(ctx, slices.Max(append(into, 0)))
}

// spell lists the UIDs of a COPYUID set in the order given (RFC 4315 §3), if there are not
// absurdly many.
func spell(set imap.UIDSet) ([]imap.UID, bool) {
	var uids []imap.UID
	for _, r := range set {
		if r.Start == 0 || r.Stop < r.Start || len(uids)+int(r.Stop-r.Start) > 1<<20 {
			return nil, false
		}
		for uid := uint64(r.Start); uid <= uint64(r.Stop); uid++ {
			uids = append(uids, imap.UID(uid))
		}
	}
	return uids, true
}

// adopt gives messages the content that is known of an equal one, and shows them: the
// client knows their UIDs already. Messages of unknown content are shown too.
func (b *box) adopt(ctx context.Context, validity uint32, known map[imap.UID]row) error {
	b.write.Lock()
	defer b.write.Unlock()
	if err := b.still(validity); err != nil {
		return err
	}
	var e edit
	for uid, from := range known {
		r, ok := b.row(uid)
		if !ok {
			continue
		}
		r.held = 0
		if r.content == 0 && r.size == from.size {
			r.content, r.bytes, r.kind = from.content, from.bytes, from.kind
			r = b.m.with(r, r.flags, from.words)
		}
		e.put = append(e.put, r)
	}
	if len(e.put) == 0 {
		return nil
	}
	return b.commit(ctx, e, func(tx *sql.Tx) error {
		for i, r := range e.put {
			var exists bool
			if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM content WHERE id = ?)`, r.content).Scan(&exists); err != nil {
				return err
			}
			if !exists {
				e.put[i].content = 0
			}
		}
		return nil
	})
}

// Append stores bytes at the provider as they are (the caller has sealed them) and waits
// until the mirror shows them. They are opened from what was given, not fetched again. UID is
// 0 if the provider has no UIDPLUS.
func (m *Mirror) Append(ctx context.Context, mailbox string, stored mimescan.Source, o *imap.AppendOptions) (*imap.AppendData, error) {
	mailbox = canonical(mailbox)
	clean := &imap.AppendOptions{}
	if o != nil {
		*clean = imap.AppendOptions{Flags: foreign(o.Flags), Time: o.Time}
	}
	c, err := m.o.Provider.Acquire(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("append to mailbox %q: %w", mailbox, offline(err))
	}
	data, err := c.Upload(mailbox, stored, clean)
	m.o.Provider.Release(c)
	if err != nil {
		return nil, fmt.Errorf("append to mailbox %q: %w", mailbox, offline(err))
	}
	if err := m.appended(ctx, mailbox, stored, data); err != nil {
		m.o.Log.Warn("the mailbox that a message was appended to is not in step", "mailbox", mailbox, "error", err)
	}
	return data, nil
}

// appended brings the message that was just stored into the mirror.
func (m *Mirror) appended(ctx context.Context, mailbox string, stored mimescan.Source, data *imap.AppendData) error {
	b, done, err := m.useFound(ctx, mailbox)
	if err != nil {
		return err
	}
	defer done()
	if err := b.sync(ctx); err != nil {
		return err
	}
	if data.UID == 0 || b.metaNow().validity != data.UIDValidity {
		return nil
	}
	// Only if the provider kept the bytes as they are is what was given what is stored.
	if r, ok := b.row(data.UID); ok && r.content == 0 && r.size == stored.Size() {
		if err := b.openGiven(ctx, data, stored); err != nil {
			return err
		}
	}
	if err := b.adopt(ctx, data.UIDValidity, map[imap.UID]row{data.UID: {}}); err != nil {
		return err
	}
	if ctx.Value(sealing{}) != nil {
		return nil // it waits for the message whose copy this is
	}
	return b.awaitShown(ctx, data.UID)
}

func (b *box) openGiven(ctx context.Context, at *imap.AppendData, stored mimescan.Source) error {
	o, err := b.m.openStored(ctx, stored)
	if err != nil {
		return err
	}
	o.uid = at.UID
	if err := b.m.writeLarge(ctx, o); err != nil {
		return err
	}
	defer o.message.Close()
	return b.attach(ctx, at.UIDValidity, []*opened{o})
}
