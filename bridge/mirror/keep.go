package mirror

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// Keeper keeps what is deleted, as legal holds ask for it. It is asked before a client's deletion goes to the provider,
// and told of what was removed elsewhere before its rows go. Safe for concurrent use.
type Keeper interface {
	// Stands says whether anything may have to be kept of the account now.
	Stands(ctx context.Context, account string) (bool, error)
	// Keep keeps the message durably if it has to be. An error, also of doubt, stops the deletion.
	Keep(ctx context.Context, d *Departing) error
}

// Departure is how a message leaves its mailbox.
type Departure string

// The departures. All but Vanished are a client's wish that the provider has not been told of yet.
const (
	Expunged       Departure = "expunged"
	Moved          Departure = "moved"
	MailboxDeleted Departure = "mailbox-deleted"
	Vanished       Departure = "vanished" // removed elsewhere; noticed afterwards
)

// Departing is a message that leaves its mailbox. It is valid until Keep returns.
type Departing struct {
	Account, Mailbox string
	UIDValidity      uint32
	UID              imap.UID
	Flags            []imap.Flag // the provider's
	Received         time.Time   // INTERNALDATE
	How              Departure
	Stored           mimescan.Source // as the provider stores it; nil: of one that vanished
	StoredHash       []byte          // SHA-256 of what the provider stored; nil: never fetched
	Summary          *Summary        // nil: never opened
	Opened           mimescan.Source // as clients saw it; nil: not in the cache (any more)
}

// ErrNotKept says that a message must not be deleted because it could not be kept before.
var ErrNotKept = errors.New("a legal hold stands and the message could not be kept, so it was not deleted")

// keep has messages kept that are about to be removed. It fails if one of them was not: then nothing may be removed.
func (b *box) keep(ctx context.Context, uids []imap.UID, how Departure) error {
	if stands, err := b.m.stands(ctx); err != nil || !stands {
		return err
	}
	var rows []row
	for _, uid := range uids {
		if r, ok := b.row(uid); ok {
			rows = append(rows, r)
		}
	}
	for _, batch := range batches(rows) {
		if err := b.keepBatch(ctx, batch, how); err != nil {
			return err
		}
	}
	return nil
}

func (m *Mirror) stands(ctx context.Context) (bool, error) {
	if m.o.Keeper == nil {
		return false, nil
	}
	stands, err := m.o.Keeper.Stands(ctx, m.o.Account)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrNotKept, err)
	}
	return stands, nil
}

// keepBatch keeps what the provider stores of the messages, and what that says. What is gone there is left to the next
// sync; what is there and does not come is not kept, and must stay.
func (b *box) keepBatch(ctx context.Context, batch []row, how Departure) error {
	missing := map[imap.UID]bool{}
	for _, r := range batch {
		missing[r.uid] = true
	}
	err := b.eachStored(ctx, batch, func(uid imap.UID, stored mimescan.Source) error {
		delete(missing, uid)
		i := slices.IndexFunc(batch, func(r row) bool { return r.uid == uid })
		return b.keepStored(ctx, batch[i], stored, how)
	})
	if errors.Is(err, syscall.ENOSPC) && !errors.Is(err, ErrNotKept) {
		return fmt.Errorf("%w: %w", ErrNotKept, err) // it could not even be spooled
	}
	if err == nil && len(missing) > 0 {
		err = b.sync(ctx)
	}
	for uid := range missing {
		if _, there := b.row(uid); err == nil && there {
			err = fmt.Errorf("%w: message %d of %q: %w", ErrNotKept, uid, b.Name(), errWithheld)
		}
	}
	return err
}

// departing is what the row says of the message.
func (b *box) departing(r row, how Departure) *Departing {
	return &Departing{Account: b.m.o.Account, Mailbox: b.Name(), UIDValidity: b.metaNow().validity, UID: r.uid, Flags: r.flags,
		Received: r.message().InternalDate, How: how}
}

// keepStored opens the stored bytes once more: the cache may have forgotten what they say.
func (b *box) keepStored(ctx context.Context, r row, stored mimescan.Source, how Departure) error {
	o, err := b.m.openStored(ctx, stored)
	if err != nil {
		o, err = unreadable(stored)
	}
	if err == nil {
		defer o.message.Close()
		d := b.departing(r, how)
		d.Stored, d.StoredHash, d.Opened = stored, o.hash, o.message
		d.Summary = &Summary{Header: o.header, Size: o.message.Size(), Kind: o.kind, structure: o.structure}
		err = b.m.o.Keeper.Keep(ctx, d)
	}
	if err != nil {
		return fmt.Errorf("%w: message %d of %q: %w", ErrNotKept, r.uid, b.Name(), err)
	}
	return nil
}

// unclosed is a message that somebody else closes.
type unclosed struct{ mimescan.Source }

func (unclosed) Close() error { return nil }

// unreadable is a message that cannot be opened now, as it is stored.
func unreadable(stored mimescan.Source) (*opened, error) {
	o := &opened{message: unclosed{stored}, kind: Failed}
	return o, o.digest()
}

// keepGone has messages kept that were removed elsewhere, as far as the cache holds them, and what is not there recorded as
// lost. An error leaves the rows as they are: the next sync notices again.
func (b *box) keepGone(ctx context.Context, uids []imap.UID) error {
	if len(uids) == 0 {
		return nil
	}
	if stands, err := b.m.stands(ctx); err != nil || !stands {
		return err
	}
	for _, uid := range uids {
		r, ok := b.row(uid)
		if !ok {
			continue
		}
		if err := b.keepOneGone(ctx, r); err != nil {
			return fmt.Errorf("keep message %d of %q, which was removed elsewhere: %w", uid, b.Name(), err)
		}
	}
	return nil
}

func (b *box) keepOneGone(ctx context.Context, r row) error {
	var replaced bool
	err := b.m.o.DB.Read().QueryRowContext(ctx, `SELECT replaced FROM message WHERE mailbox = ? AND uid = ?`, b.id, r.uid).Scan(&replaced)
	if errors.Is(err, sql.ErrNoRows) || err == nil && replaced {
		return nil
	}
	if err != nil {
		return err
	}
	d := b.departing(r, Vanished)
	if r.content != 0 {
		if err := b.m.recall(ctx, d, r.content); err != nil {
			return err
		}
	}
	return b.m.o.Keeper.Keep(ctx, d)
}

// recall fills in what the cache holds.
func (m *Mirror) recall(ctx context.Context, d *Departing, content int64) error {
	s := &Summary{}
	var cached int64
	err := m.o.DB.Read().QueryRowContext(ctx, `SELECT kind, size, header, structure, stored_hash, cached FROM content WHERE id = ?`, content).
		Scan(&s.Kind, &s.Size, &s.Header, &s.structure, &d.StoredHash, &cached)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	d.Summary = s
	if err == nil && cached == s.Size {
		d.Opened = &cachedBody{ctx, m, content, s.Size}
	}
	return err
}

// cachedBody reads a body from the cache alone.
type cachedBody struct {
	ctx     context.Context
	m       *Mirror
	content int64
	size    int64
}

// Size in bytes.
func (c *cachedBody) Size() int64 { return c.size }

// ReadAt implements io.ReaderAt.
func (c *cachedBody) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && off < c.size {
		var chunk []byte
		err := c.m.o.DB.Read().QueryRowContext(c.ctx, `SELECT data FROM chunk WHERE content = ? AND n = ?`, c.content, off/chunkSize).Scan(&chunk)
		if err != nil {
			return n, err
		}
		at := off % chunkSize
		if at >= int64(len(chunk)) {
			return n, io.ErrUnexpectedEOF
		}
		copied := copy(p[n:], chunk[at:])
		n, off = n+copied, off+int64(copied)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// keepAll keeps all of a mailbox that is about to be deleted, until nothing has come meanwhile. What comes between the last
// look and the deletion goes unseen: IMAP has no command for both.
func (m *Mirror) keepAll(ctx context.Context, name string, how Departure) error {
	if stands, err := m.stands(ctx); err != nil || !stands {
		return err
	}
	b, done, err := m.useFound(ctx, name)
	if errors.Is(err, ErrNoMailbox) {
		return nil // it holds no messages
	}
	if err != nil {
		return err
	}
	defer done()
	kept := map[imap.UID]bool{}
	for {
		if err := b.sync(ctx); err != nil {
			return err
		}
		fresh := b.notIn(kept)
		if len(fresh) == 0 {
			return nil
		}
		if err := b.keep(ctx, fresh, how); err != nil {
			return err
		}
		for _, uid := range fresh {
			kept[uid] = true
		}
	}
}

func (b *box) notIn(known map[imap.UID]bool) []imap.UID {
	_, rows := b.state()
	var uids []imap.UID
	for _, r := range rows {
		if !known[r.uid] {
			uids = append(uids, r.uid)
		}
	}
	return uids
}

// keepVanished is keepGone for all of a mailbox that is gone.
func (m *Mirror) keepVanished(ctx context.Context, name string) error {
	if stands, err := m.stands(ctx); err != nil || !stands {
		return err
	}
	b, done, err := m.use(ctx, name)
	if errors.Is(err, ErrNoMailbox) {
		return nil // only a level of the hierarchy
	}
	if err != nil {
		return err
	}
	defer done()
	return b.keepGone(ctx, b.notIn(nil))
}

// Replaced notes that a message is about to be removed because a copy that says the same has taken its place: that is no deletion.
// A message that the mirror does not know is no error.
func (m *Mirror) Replaced(ctx context.Context, mailbox string, validity uint32, uid imap.UID) error {
	return m.o.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE message SET replaced = 1 WHERE uid = ?
			AND mailbox IN (SELECT id FROM mailbox WHERE account = ? AND name = ? AND validity = ?)`, uid, m.o.Account, canonical(mailbox), validity)
		return err
	})
}
