package mirror

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
)

// Content is an opened message.
type Content struct {
	Structure *mimescan.Part
	Header    []byte // of the message, with its empty line; of a larger one the first MiB
	Kind      Kind
	Message   Blob // from the cache or fetched and opened again on first read
}

// Summary is the part of Content that is always kept: never needs the body.
type Summary struct {
	Header []byte
	Size   int64
	Kind   Kind

	structure []byte // JSON: reading it takes longer than all else
}

// Summarise makes the Summary of an opened message that is at hand.
func Summarise(header []byte, size int64, kind Kind, root *mimescan.Part) (*Summary, error) {
	structure, err := json.Marshal(root)
	return &Summary{Header: header, Size: size, Kind: kind, structure: structure}, err
}

// Structure is the message's parts.
func (s *Summary) Structure() (*mimescan.Part, error) {
	root := &mimescan.Part{}
	if err := json.Unmarshal(s.structure, root); err != nil {
		return nil, fmt.Errorf("read the structure of a message: %w", err)
	}
	return root, nil
}

// Content opens the message if that has not been done. ErrExpunged if it is gone.
// The caller closes Content.Message, whose reads end with ctx.
func (b *Mailbox) Content(ctx context.Context, uid imap.UID) (*Content, error) {
	defer runtime.KeepAlive(b)
	if err := b.demand(ctx, []imap.UID{uid})[uid]; err != nil {
		return nil, err
	}
	validity := b.metaNow().validity
	s, id, err := b.summary(ctx, uid)
	if err != nil {
		return nil, err
	}
	root, err := s.Structure()
	if err != nil {
		return nil, err
	}
	b.m.touch(ctx, id)
	return &Content{Structure: root, Header: s.Header, Kind: s.Kind,
		Message: &body{box: b.box, uid: uid, id: id, size: s.Size, validity: validity, ctx: ctx}}, nil
}

// demand opens messages somebody waits for; the background work stands back.
func (b *box) demand(ctx context.Context, uids []imap.UID) map[imap.UID]error {
	b.m.demand.Add(1)
	defer func() {
		if b.m.demand.Add(-1) == 0 {
			b.m.wake.fill.set()
		}
	}()
	return b.open(ctx, uids)
}

func (b *box) summary(ctx context.Context, uid imap.UID) (*Summary, int64, error) {
	r, ok := b.row(uid)
	if !ok {
		return nil, 0, ErrExpunged
	}
	found, err := b.m.readSummaries(ctx, []int64{r.content})
	if err != nil {
		return nil, 0, fmt.Errorf("read message %d of %q: %w", uid, b.Name(), err)
	}
	s := found[r.content]
	if s == nil {
		return nil, 0, ErrExpunged // it went between the two
	}
	return s, r.content, nil
}

// readSummaries reads what is kept of contents; those that are gone are left out.
func (m *Mirror) readSummaries(ctx context.Context, ids []int64) (map[int64]*Summary, error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	rows, err := m.o.DB.Read().QueryContext(ctx, `
		SELECT c.id, c.kind, c.size, c.header, c.structure FROM json_each(?) j CROSS JOIN content c ON c.id = j.value`, string(list))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[int64]*Summary, len(ids))
	for rows.Next() {
		var id int64
		s := &Summary{}
		if err := rows.Scan(&id, &s.Kind, &s.Size, &s.Header, &s.structure); err != nil {
			return nil, err
		}
		found[id] = s
	}
	return found, rows.Err()
}

// touch notes a use for the cache, to the hour.
func (m *Mirror) touch(ctx context.Context, id int64) {
	now := time.Now().Unix()
	var used int64
	err := m.o.DB.Read().QueryRowContext(ctx, `SELECT used FROM content WHERE id = ?`, id).Scan(&used)
	if err != nil || now-used < 3600 {
		return
	}
	err = m.o.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE content SET used = ? WHERE id = ?`, now, id)
		return err
	})
	if err != nil {
		m.o.Log.Debug("the use of a message cannot be noted", "error", err)
	}
}

// summaryWindow is how many messages are opened ahead of being asked for.
const summaryWindow = 128

// Summaries calls f for each of the UIDs, in the order given, opening those that have not been; a
// message that is gone or cannot be fetched now gets err. An error of f ends it and is returned.
func (b *Mailbox) Summaries(ctx context.Context, uids []imap.UID, f func(uid imap.UID, s *Summary, err error) error) error {
	defer runtime.KeepAlive(b)
	for window := range slices.Chunk(uids, summaryWindow) {
		failed := b.demand(ctx, window)
		found, err := b.summaries(ctx, window)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for _, uid := range window {
			s, reason := found[uid], failed[uid]
			switch {
			case reason == nil && err != nil:
				reason = err
			case reason == nil && s == nil:
				reason = ErrExpunged
			case reason != nil:
				s = nil
			}
			if err := f(uid, s, reason); err != nil {
				return err
			}
		}
	}
	return nil
}

// summaries reads what is kept of those messages that have been opened.
func (b *box) summaries(ctx context.Context, uids []imap.UID) (map[imap.UID]*Summary, error) {
	content := make(map[imap.UID]int64, len(uids))
	var ids []int64
	for _, uid := range uids {
		if r, ok := b.row(uid); ok && r.content != 0 {
			content[uid] = r.content
			ids = append(ids, r.content)
		}
	}
	slices.Sort(ids)
	byID, err := b.m.readSummaries(ctx, slices.Compact(ids))
	if err != nil {
		return nil, fmt.Errorf("read messages of %q: %w", b.Name(), err)
	}
	found := make(map[imap.UID]*Summary, len(uids))
	for uid, id := range content {
		found[uid] = byID[id]
	}
	return found, nil
}

// Stored fetches the bytes of a message exactly as the provider stores them. The caller
// closes the Blob.
func (m *Mirror) Stored(ctx context.Context, mailbox string, uid imap.UID) (Blob, error) {
	b, done, err := m.useFound(ctx, mailbox)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := b.known(ctx); err != nil {
		return nil, err
	}
	got, err := b.stored(ctx, uid)
	if err != nil {
		return nil, err
	}
	return got, nil
}

// useFound is use for a mailbox that may not be in the list yet.
func (m *Mirror) useFound(ctx context.Context, name string) (*box, func(), error) {
	b, err := m.find(ctx, canonical(name))
	if err != nil {
		return nil, nil, err
	}
	return b.use(ctx)
}

// known makes sure that the mailbox has been synced once.
func (b *box) known(ctx context.Context) error {
	if b.metaNow().synced {
		return nil
	}
	return b.sync(ctx)
}

// EachStored calls f for every message of a mailbox, held back or not, with its bytes
// exactly as the provider stores them, which are gone when f returns. A message that vanishes
// meanwhile is left out. An error of f ends it and is returned.
func (m *Mirror) EachStored(ctx context.Context, mailbox string, f func(uid imap.UID, stored mimescan.Source) error) error {
	b, done, err := m.useFound(ctx, mailbox)
	if err != nil {
		return err
	}
	defer done()
	if err := b.sync(ctx); err != nil {
		return err
	}
	_, rows := b.state()
	for _, batch := range batches(rows) {
		if err := b.eachStored(ctx, batch, f); err != nil {
			return err
		}
	}
	return nil
}

// eachStored fetches a batch, gives the connection back and then calls f.
func (b *box) eachStored(ctx context.Context, batch []row, f func(uid imap.UID, stored mimescan.Source) error) error {
	var uids []imap.UID
	got := map[imap.UID]*spool.Spool{}
	defer func() {
		for _, s := range got {
			_ = s.Close()
		}
	}()
	for _, r := range batch {
		uids = append(uids, r.uid)
	}
	c, err := b.leaseToFetch(ctx, slices.Max(uids))
	if err != nil {
		return err
	}
	err = b.fetchStored(c, uids, func(uid imap.UID, stored *spool.Spool) {
		if got[uid] != nil {
			_ = stored.Close()
			return
		}
		got[uid] = stored
	})
	b.m.o.Provider.Release(c)
	if err != nil {
		return offline(err)
	}
	for _, uid := range uids {
		if got[uid] == nil {
			continue
		}
		if err := f(uid, got[uid]); err != nil {
			return err
		}
	}
	return nil
}
