package mirror

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
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
	Structure *mimescan.Part
	Header    []byte
	Size      int64
	Kind      Kind
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
	b.m.touch(ctx, id)
	return &Content{Structure: s.Structure, Header: s.Header, Kind: s.Kind,
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
	s := &Summary{Structure: &mimescan.Part{}}
	var structure []byte
	err := b.m.o.DB.Read().QueryRowContext(ctx, `SELECT kind, size, header, structure FROM content WHERE id = ?`, r.content).
		Scan(&s.Kind, &s.Size, &s.Header, &structure)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, 0, ErrExpunged // it went between the two
	}
	if err == nil {
		err = json.Unmarshal(structure, s.Structure)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read message %d of %q: %w", uid, b.Name(), err)
	}
	return s, r.content, nil
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
		for _, uid := range window {
			var s *Summary
			err := failed[uid]
			if err == nil {
				s, _, err = b.summary(ctx, uid)
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := f(uid, s, err); err != nil {
				return err
			}
		}
	}
	return nil
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
	c, err := b.lease(ctx)
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
