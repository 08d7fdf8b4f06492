package mirror

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"slices"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/upstream"
)

// The provider's object identifiers (RFC 8474) are passed on: of mailboxes they come with SELECT, of
// messages they are asked for when a client first wants them, and kept.

// ObjectID is what the provider knows a message by, and its thread; Thread may be "".
type ObjectID = upstream.ObjectID

const objectBatch = 1000 // messages per question

// HasObjectIDs says whether the provider has ever named a mailbox by an identifier.
func (m *Mirror) HasObjectIDs(ctx context.Context) (has bool, err error) {
	err = m.o.DB.Read().QueryRowContext(ctx,
		`SELECT EXISTS (SELECT 1 FROM mailbox WHERE account = ? AND object_id <> '')`, m.o.Account).Scan(&has)
	return has, err
}

// ObjectIDs returns what the provider knows messages by. Those that are gone, or that it has no
// identifier for, are left out.
func (b *Mailbox) ObjectIDs(ctx context.Context, uids []imap.UID) (map[imap.UID]ObjectID, error) {
	defer runtime.KeepAlive(b)
	return b.objectIDs(ctx, uids)
}

func (b *box) objectIDs(ctx context.Context, uids []imap.UID) (map[imap.UID]ObjectID, error) {
	known, err := b.keptObjectIDs(ctx, uids)
	if err != nil {
		return nil, err
	}
	missing := slices.DeleteFunc(slices.Clone(uids), func(uid imap.UID) bool { _, ok := known[uid]; return ok })
	for batch := range slices.Chunk(missing, objectBatch) {
		fetched, err := b.fetchObjectIDs(ctx, batch)
		if err != nil {
			return nil, err
		}
		for uid, id := range fetched {
			known[uid] = id
		}
	}
	return known, nil
}

func (b *box) keptObjectIDs(ctx context.Context, uids []imap.UID) (map[imap.UID]ObjectID, error) {
	known := map[imap.UID]ObjectID{}
	if len(uids) == 0 {
		return known, nil
	}
	rows, err := b.m.o.DB.Read().QueryContext(ctx, `
		SELECT uid, email_id, thread_id FROM message WHERE mailbox = ? AND uid BETWEEN ? AND ? AND email_id IS NOT NULL`,
		b.id, slices.Min(uids), slices.Max(uids))
	if err != nil {
		return nil, fmt.Errorf("read object identifiers of %q: %w", b.Name(), err)
	}
	defer rows.Close()
	wanted := imap.UIDSetNum(uids...)
	for rows.Next() {
		var uid imap.UID
		var id ObjectID
		if err := rows.Scan(&uid, &id.Email, &id.Thread); err != nil {
			return nil, err
		}
		if wanted.Contains(uid) {
			known[uid] = id
		}
	}
	return known, rows.Err()
}

func (b *box) fetchObjectIDs(ctx context.Context, uids []imap.UID) (map[imap.UID]ObjectID, error) {
	c, err := b.leaseToFetch(ctx, slices.Max(uids))
	if err != nil {
		return nil, err
	}
	defer b.m.o.Provider.Release(c)
	validity := c.Selected.UIDValidity
	found := map[imap.UID]ObjectID{}
	if !c.Caps().Has(imap.CapObjectID) {
		return found, nil
	}
	for _, set := range setsOf(uids) {
		ids, err := c.ObjectIDs(set)
		if err != nil {
			return nil, offline(err)
		}
		for uid, id := range ids {
			found[uid] = id
		}
	}
	return found, b.keepObjectIDs(ctx, validity, found)
}

func (b *box) keepObjectIDs(ctx context.Context, validity uint32, found map[imap.UID]ObjectID) error {
	b.write.Lock()
	defer b.write.Unlock()
	if err := b.still(validity); err != nil {
		return err
	}
	var uids []imap.UID
	for uid := range found {
		uids = append(uids, uid)
	}
	return b.m.o.DB.Write(ctx, func(tx *sql.Tx) error {
		return each(ctx, tx, `UPDATE message SET email_id = ?, thread_id = ? WHERE mailbox = ? AND uid = ?`, uids,
			func(uid imap.UID) []any { return []any{found[uid].Email, found[uid].Thread, b.id, uid} })
	})
}

// Keys of RFC 8474 §5.4.
type (
	EmailID  string
	ThreadID string
)

func (EmailID) cost() int  { return costKept }
func (ThreadID) cost() int { return costKept }

func (c EmailID) sift(ctx context.Context, s *search, in []int) ([]int, error) {
	return s.byObjectID(ctx, in, func(id ObjectID) bool { return id.Email == string(c) })
}

func (c ThreadID) sift(ctx context.Context, s *search, in []int) ([]int, error) {
	return s.byObjectID(ctx, in, func(id ObjectID) bool { return id.Thread != "" && id.Thread == string(c) })
}

func (s *search) byObjectID(ctx context.Context, in []int, accept func(ObjectID) bool) ([]int, error) {
	uids := make([]imap.UID, len(in))
	for i, n := range in {
		uids[i] = s.view.Messages[n].UID
	}
	ids, err := s.objectIDs(ctx, uids)
	return keep(in, func(i int) bool {
		id, ok := ids[s.view.Messages[i].UID]
		return ok && accept(id)
	}), err
}
