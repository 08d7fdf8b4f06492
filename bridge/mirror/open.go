package mirror

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"golang.org/x/sync/errgroup"

	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/bridge/upstream"
)

const (
	batchMessages = 64      // messages per FETCH of bodies
	batchBytes    = 2 << 20 // and about so many bytes; a larger message comes alone
	batchesAtOnce = 3
	openers       = 2       // messages opened at once, per batch
	maxText       = 1 << 20 // bytes of folded text kept for search; what is beyond is read from the body
	keptHeader    = 1 << 20 // bytes of the header kept; RFC 5322 knows no limit, but hostile mail does
	retryAfter    = 10 * time.Second
)

// errWithheld says that the provider lists a message and does not deliver it.
var errWithheld = errors.New("the provider does not deliver the message")

// flight is a message being opened; whoever else needs it waits.
type flight struct {
	done   chan struct{}
	err    error
	failed time.Time // when it could not be opened
}

// opened is a message that has been opened and not been saved yet.
type opened struct {
	uid       imap.UID
	id        int64 // its content, if chunks have been written already
	message   Blob
	kind      Kind
	words     string
	hash      []byte
	sent      int
	header    []byte
	structure []byte
	fields    string
	body      string
	partial   bool
	keys      Digest
	save      func(ctx context.Context, b *store.Batch) error
}

// open opens those messages that have not been opened, in batches, and returns why some
// could not be: ErrExpunged, ErrOffline, or what Open said. It waits for messages that others
// are opening.
func (b *box) open(ctx context.Context, uids []imap.UID) map[imap.UID]error {
	failed := map[imap.UID]error{}
	var todo []row
	for _, uid := range uids {
		r, ok := b.row(uid)
		if !ok {
			failed[uid] = ErrExpunged
		} else if r.content == 0 {
			todo = append(todo, r)
		}
	}
	if len(todo) == 0 {
		return failed
	}
	mine, others := b.claim(todo)
	for uid, err := range b.openBatches(ctx, batches(mine)) {
		failed[uid] = err
	}
	for uid, f := range others {
		select {
		case <-f.done:
			if f.err != nil {
				failed[uid] = f.err
			}
		case <-ctx.Done():
			failed[uid] = offline(context.Cause(ctx))
		}
	}
	return failed
}

// openBatches opens batches, one while another is fetched or saved.
func (b *box) openBatches(ctx context.Context, all [][]row) map[imap.UID]error {
	var opening errgroup.Group
	opening.SetLimit(batchesAtOnce)
	var mu sync.Mutex
	failed := map[imap.UID]error{}
	for _, batch := range all {
		opening.Go(func() error {
			failures := b.openBatch(ctx, batch)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(failed, failures)
			return nil
		})
	}
	_ = opening.Wait()
	return failed
}

// claim makes the caller responsible for messages nobody is opening. A message that has just
// failed is not tried again at once.
func (b *box) claim(todo []row) (mine []row, others map[imap.UID]*flight) {
	b.claims.Lock()
	defer b.claims.Unlock()
	others = map[imap.UID]*flight{}
	for _, r := range todo {
		f := b.opening[r.uid]
		if f != nil && (f.failed.IsZero() || time.Since(f.failed) < retryAfter) {
			others[r.uid] = f
			continue
		}
		b.opening[r.uid] = &flight{done: make(chan struct{})}
		mine = append(mine, r)
	}
	return mine, others
}

// settle ends the caller's responsibility for messages.
func (b *box) settle(batch []row, failed map[imap.UID]error) {
	b.claims.Lock()
	defer b.claims.Unlock()
	for _, r := range batch {
		f := b.opening[r.uid]
		f.err = failed[r.uid]
		if f.err != nil && !errors.Is(f.err, ErrOffline) && !errors.Is(f.err, context.Canceled) {
			f.failed = time.Now()
		} else {
			delete(b.opening, r.uid)
		}
		close(f.done)
	}
}

// batches cuts messages into groups that are fetched by one command.
func batches(rows []row) [][]row {
	var all [][]row
	start, size := 0, int64(0)
	for i, r := range rows {
		if i > start && (i-start == batchMessages || size+r.size > batchBytes) {
			all = append(all, rows[start:i])
			start, size = i, 0
		}
		size += r.size
	}
	if start < len(rows) {
		all = append(all, rows[start:])
	}
	return all
}

// openBatch fetches and opens messages the caller has claimed.
func (b *box) openBatch(ctx context.Context, batch []row) map[imap.UID]error {
	failed := map[imap.UID]error{}
	defer func() { b.settle(batch, failed) }()
	uids := make([]imap.UID, len(batch))
	for i, r := range batch {
		uids[i] = r.uid
	}
	rest, connected, err := b.openFetched(ctx, uids, failed)
	if err != nil && connected {
		// If one of them broke the command the others must not suffer; if it was the network a
		// second attempt is cheap.
		for _, uid := range rest {
			if _, connected, err = b.openFetched(ctx, []imap.UID{uid}, failed); !connected {
				break
			}
			if err != nil {
				failed[uid] = err
			}
		}
		rest = nil
	}
	b.notDelivered(ctx, rest, err, failed)
	b.postpone(ctx, failed)
	return failed
}

// notDelivered says why messages did not come: err, or they are gone, or the provider withholds them.
func (b *box) notDelivered(ctx context.Context, uids []imap.UID, err error, failed map[imap.UID]error) {
	if err == nil && len(uids) > 0 {
		err = b.sync(ctx)
	}
	for _, uid := range uids {
		_, there := b.row(uid)
		switch {
		case err != nil:
			failed[uid] = err
		case !there:
			failed[uid] = ErrExpunged
		default:
			failed[uid] = errWithheld
		}
	}
}

// openFetched fetches messages with one command and opens them as they come. rest are those
// that did not come; connected is false if the provider could not even be asked.
func (b *box) openFetched(ctx context.Context, uids []imap.UID, failed map[imap.UID]error) (rest []imap.UID, connected bool, err error) {
	c, err := b.leaseToFetch(ctx, slices.Max(uids))
	if err != nil {
		for _, uid := range uids {
			failed[uid] = err
		}
		return nil, false, err
	}
	var opening errgroup.Group
	opening.SetLimit(openers)
	results := make(chan result, len(uids))
	came := map[imap.UID]bool{}
	fetchErr := b.fetchStored(c, uids, func(uid imap.UID, stored *spool.Spool) {
		if came[uid] {
			_ = stored.Close()
			return
		}
		came[uid] = true
		opening.Go(func() error {
			o, err := b.m.openStored(ctx, stored)
			if err == nil {
				o.uid = uid
				err = b.m.writeLarge(ctx, o)
			}
			results <- result{uid, o, stored, err}
			return nil
		})
	})
	validity := c.Selected.UIDValidity
	b.m.o.Provider.Release(c)
	_ = opening.Wait()
	close(results)
	b.saveResults(ctx, validity, results, failed)
	rest = slices.DeleteFunc(slices.Clone(uids), func(uid imap.UID) bool { return came[uid] })
	return rest, true, fetchErr
}

// result keeps the stored bytes: what was opened may be a view of them.
type result struct {
	uid    imap.UID
	opened *opened
	stored io.Closer
	err    error
}

func (b *box) saveResults(ctx context.Context, validity uint32, results <-chan result, failed map[imap.UID]error) {
	var good []*opened
	var stored []io.Closer
	for r := range results {
		stored = append(stored, r.stored)
		if r.err != nil {
			failed[r.uid] = fmt.Errorf("open message %d of %q: %w", r.uid, b.Name(), r.err)
			level := slog.LevelWarn
			if ctx.Err() != nil {
				level = slog.LevelDebug // it was called off
			}
			b.m.o.Log.Log(ctx, level, "a message cannot be opened now", "mailbox", b.Name(), "uid", r.uid, "error", r.err)
		} else {
			good = append(good, r.opened)
		}
	}
	if err := b.attach(ctx, validity, good); err != nil {
		for _, o := range good {
			failed[o.uid] = err
		}
	}
	for _, o := range good {
		_ = o.message.Close()
	}
	for _, s := range stored {
		_ = s.Close()
	}
}

// lease selects the mailbox afresh and makes sure that UIDs still mean what they did.
func (b *box) lease(ctx context.Context) (*upstream.Conn, error) {
	c, err := b.m.o.Provider.Acquire(ctx, b.Name())
	return b.inStep(ctx, c, err)
}

// leaseToFetch is lease for fetching messages, the newest of which is given; it may save the SELECT.
func (b *box) leaseToFetch(ctx context.Context, newest imap.UID) (*upstream.Conn, error) {
	c, err := b.m.o.Provider.AcquireSelected(ctx, b.Name(), newest)
	return b.inStep(ctx, c, err)
}

func (b *box) inStep(ctx context.Context, c *upstream.Conn, err error) (*upstream.Conn, error) {
	if err != nil {
		return nil, b.refused(ctx, err)
	}
	if c.Selected.UIDValidity != b.metaNow().validity {
		b.m.o.Provider.Release(c)
		b.live.Store(false)
		b.fresh.Store(0)
		b.m.wake.poll.set()
		return nil, errReplaced
	}
	return c, nil
}

// fetchStored fetches messages as the provider stores them. Large ones are spooled to an
// encrypted file. f closes what it gets.
func (b *box) fetchStored(c *upstream.Conn, uids []imap.UID, f func(uid imap.UID, stored *spool.Spool)) error {
	whole := &imap.FetchItemBodySection{Peek: true}
	cmd := c.Fetch(imap.UIDSetNum(uids...), &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{whole}})
	var spoolErr error
	for msg := cmd.Next(); msg != nil; msg = cmd.Next() {
		uid, stored, err := spoolMessage(msg, b.m.o.SpoolDir)
		switch {
		case err != nil:
			spoolErr = err
		case stored != nil && uid != 0:
			f(uid, stored)
		}
	}
	if err := cmd.Close(); err != nil {
		return fmt.Errorf("fetch messages of %q: %w", b.Name(), err)
	}
	return spoolErr
}

// spoolMessage takes UID and body from one FETCH response. Section and literal may come in
// any order; a body without literal is NIL.
func spoolMessage(msg *imapclient.FetchMessageData, dir string) (uid imap.UID, stored *spool.Spool, err error) {
	for item := msg.Next(); item != nil; item = msg.Next() {
		switch item := item.(type) {
		case imapclient.FetchItemDataUID:
			uid = item.UID
		case imapclient.FetchItemDataBodySection:
			if item.Literal == nil || stored != nil || err != nil {
				continue
			}
			if stored, err = spool.FromReader(dir, item.Literal, 0); err == nil && stored.Size() != item.Literal.Size() {
				_ = stored.Close()
				stored, err = nil, io.ErrUnexpectedEOF
			}
		}
	}
	if err != nil || uid == 0 && stored != nil {
		if stored != nil {
			_ = stored.Close()
		}
		return uid, nil, err
	}
	return uid, stored, nil
}

// openStored opens stored bytes and takes from the result what is kept of it. A panic over
// hostile mail must not end the daemon.
func (m *Mirror) openStored(ctx context.Context, stored mimescan.Source) (o *opened, err error) {
	defer func() {
		if r := recover(); r != nil {
			o, err = nil, fmt.Errorf("opening it failed badly (%T)", r)
		}
	}()
	got, err := m.o.Open(ctx, stored)
	if err != nil {
		return nil, err
	}
	o = &opened{message: got.Message, kind: got.Kind, words: joinFlags(got.Keywords), hash: got.Hash, save: got.Save}
	if err := o.digest(); err != nil {
		_ = got.Message.Close()
		return nil, err
	}
	return o, nil
}

// attach saves opened messages. What need not be held back is shown.
func (b *box) attach(ctx context.Context, validity uint32, good []*opened) error {
	b.write.Lock()
	defer b.write.Unlock()
	if err := b.still(validity); err != nil {
		return err
	}
	var e edit
	var from []*opened
	for _, o := range good {
		r, ok := b.row(o.uid)
		if !ok || r.content != 0 {
			b.m.discard(ctx, o)
			continue
		}
		r.kind, r.bytes = o.kind, o.message.Size()
		r = b.m.with(r, r.flags, o.words)
		if r.held != 0 && !b.mustWait(r) {
			r.held = 0
		}
		e.put, from = append(e.put, r), append(from, o)
	}
	if len(e.put) == 0 {
		return nil
	}
	err := b.commit(ctx, e, func(tx *sql.Tx) error {
		batch := store.NewBatch(tx)
		for i, o := range from {
			id, err := b.m.insertContent(ctx, batch, o)
			if err != nil {
				return err
			}
			e.put[i].content = id
		}
		return each(ctx, tx, `UPDATE message SET tries = 0, retry = 0 WHERE mailbox = ? AND uid = ?`, e.put,
			func(r row) []any { return []any{b.id, r.uid} })
	})
	if err != nil {
		return err
	}
	b.m.wake.seal.set()
	return b.m.evict(ctx)
}

// postpone remembers which messages failed, so that the background work turns to others.
func (b *box) postpone(ctx context.Context, failed map[imap.UID]error) {
	var uids []imap.UID
	for uid, err := range failed {
		if !errors.Is(err, ErrOffline) && !errors.Is(err, errReplaced) && !errors.Is(err, ErrNoMailbox) && ctx.Err() == nil {
			uids = append(uids, uid)
		}
	}
	if err := b.later(ctx, uids); err != nil {
		b.m.o.Log.Warn("a failure cannot be recorded", "mailbox", b.Name(), "error", err)
	}
}

// later counts a failed attempt: half a minute until the next at first, an hour at last.
func (b *box) later(ctx context.Context, uids []imap.UID) error {
	if len(uids) == 0 {
		return nil
	}
	return b.m.o.DB.Write(ctx, func(tx *sql.Tx) error {
		return each(ctx, tx, `
			UPDATE message SET tries = tries + 1, retry = ? + min(30 << min(tries, 10), 3600) * 1000000000
			WHERE mailbox = ? AND uid = ?`, uids, func(uid imap.UID) []any { return []any{time.Now().UnixNano(), b.id, uid} })
	})
}
