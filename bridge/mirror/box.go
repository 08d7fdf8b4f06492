package mirror

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"
)

// box is one mailbox: its rows in memory while it is in use, shared by all handles.
type box struct {
	m    *Mirror
	id   int64
	name string // guarded by mem

	lock    chan struct{} // held by the one state sync at a time
	fresh   atomic.Int64  // Unix nanoseconds at which the last complete sync began
	live    atomic.Bool   // the provider tells of changes
	handles atomic.Int64
	gone    atomic.Bool // deleted at the provider

	write   sync.Mutex // orders changes: taken before mem, held while the database is written
	opening map[imap.UID]*flight
	claims  sync.Mutex // guards opening

	mem      sync.Mutex // guards what follows; never held while waiting for anything
	loaded   bool
	meta     meta
	rows     []row // by UID
	snap     *Snapshot
	version  uint64
	watchers map[chan struct{}]bool
}

// meta is what SELECT says about a mailbox, and where the mirror stands with it.
type meta struct {
	validity  uint32
	uidnext   imap.UID
	modseq    uint64
	permanent string
	object    string // the provider's identifier of the mailbox, "" if it has none
	baseline  imap.UID
	recent    imap.UID // see Recent
	synced    bool
}

// row is the state of one message.
type row struct {
	uid     imap.UID
	zone    int32
	date    int64
	size    int64
	flags   []imap.Flag // the provider's
	all     []imap.Flag // with the mirror's keywords
	content int64       // 0: not opened
	bytes   int64       // of what the client sees, once opened
	kind    Kind
	words   string // the mirror's keywords, joined
	held    int64
}

func (r *row) message() Message {
	m := Message{UID: r.uid, Flags: r.all, InternalDate: time.Unix(r.date, 0).In(zone(r.zone)), Size: -1}
	if r.content != 0 {
		m.Size = r.bytes
	}
	return m
}

// zones are shared: a mailbox has many messages and few zones.
var zones sync.Map

func zone(seconds int32) *time.Location {
	if known, ok := zones.Load(seconds); ok {
		return known.(*time.Location)
	}
	z, _ := zones.LoadOrStore(seconds, time.FixedZone("", int(seconds)))
	return z.(*time.Location)
}

// edit is a set of changes that become visible together.
type edit struct {
	put  []row
	drop []imap.UID
	meta *meta
}

// with sets flags and keywords of r.
func (m *Mirror) with(r row, flags []imap.Flag, words string) row {
	joined := joinFlags(flags)
	r.flags, r.words = m.intern(joined), words
	r.all = r.flags
	if words != "" {
		r.all = m.intern(joined + " " + words)
	}
	return r
}

// use returns the box of a mailbox that is in the list, with its rows in memory until done.
func (m *Mirror) use(ctx context.Context, name string) (b *box, done func(), err error) {
	if b, err = m.boxOf(ctx, name); err != nil {
		return nil, nil, err
	}
	return b.use(ctx)
}

func (b *box) use(ctx context.Context) (_ *box, done func(), err error) {
	b.handles.Add(1)
	if err := b.load(ctx); err != nil {
		b.handles.Add(-1)
		return nil, nil, err
	}
	return b, func() { b.handles.Add(-1) }, nil
}

// boxOf returns the box of a mailbox that is in the list.
func (m *Mirror) boxOf(ctx context.Context, name string) (*box, error) {
	var id int64
	var attrs string
	err := m.o.DB.Read().QueryRowContext(ctx,
		`SELECT id, attrs FROM mailbox WHERE account = ? AND name = ?`, m.o.Account, name).Scan(&id, &attrs)
	if err == sql.ErrNoRows || err == nil && !selectable(attrs) {
		return nil, fmt.Errorf("%w: %q", ErrNoMailbox, name)
	}
	if err != nil {
		return nil, fmt.Errorf("look up mailbox %q: %w", name, err)
	}
	m.mu.Lock()
	b := m.boxes[name]
	if b == nil || b.id != id {
		b = &box{m: m, id: id, name: name, lock: make(chan struct{}, 1),
			opening: map[imap.UID]*flight{}, watchers: map[chan struct{}]bool{}}
		m.boxes[name] = b
	}
	m.mu.Unlock()
	return b, nil
}

// load reads the rows unless they are in memory.
func (b *box) load(ctx context.Context) error {
	b.write.Lock()
	defer b.write.Unlock()
	if b.isLoaded() {
		return nil
	}
	meta, rows, err := b.m.readBox(ctx, b.id)
	if err != nil {
		return fmt.Errorf("load mailbox %q: %w", b.Name(), err)
	}
	b.mem.Lock()
	defer b.mem.Unlock()
	b.meta, b.rows, b.snap, b.loaded = meta, rows, nil, true
	return nil
}

func (b *box) isLoaded() bool {
	b.mem.Lock()
	defer b.mem.Unlock()
	return b.loaded
}

// unload frees the rows of a mailbox that nobody uses.
func (b *box) unload() {
	b.write.Lock()
	defer b.write.Unlock()
	b.mem.Lock()
	defer b.mem.Unlock()
	if b.handles.Load() == 0 && len(b.watchers) == 0 {
		b.rows, b.snap, b.loaded = nil, nil, false
	}
}

// Name is the name at this moment; a rename changes it.
func (b *box) Name() string {
	b.mem.Lock()
	defer b.mem.Unlock()
	return b.name
}

func (m *Mirror) readBox(ctx context.Context, id int64) (meta, []row, error) {
	var b meta
	err := m.o.DB.Read().QueryRowContext(ctx,
		`SELECT validity, uidnext, modseq, permanent, object_id, baseline, recent, synced FROM mailbox WHERE id = ?`, id).
		Scan(&b.validity, &b.uidnext, &b.modseq, &b.permanent, &b.object, &b.baseline, &b.recent, &b.synced)
	if err != nil {
		return b, nil, err
	}
	found, err := m.o.DB.Read().QueryContext(ctx, `
		SELECT m.uid, m.flags, m.date, m.zone, m.size, coalesce(m.content, 0), coalesce(c.size, 0), coalesce(c.kind, ''), coalesce(c.keywords, ''), m.held
		FROM message m LEFT JOIN content c INDEXED BY content_state ON c.id = m.content WHERE m.mailbox = ? ORDER BY m.uid`, id)
	if err != nil {
		return b, nil, err
	}
	defer found.Close()
	var rows []row
	for found.Next() {
		var r row
		var flags, words string
		if err := found.Scan(&r.uid, &flags, &r.date, &r.zone, &r.size, &r.content, &r.bytes, &r.kind, &words, &r.held); err != nil {
			return b, nil, err
		}
		rows = append(rows, m.with(r, splitFlags[imap.Flag](flags), words))
	}
	return b, rows, found.Err()
}

// commit writes an edit and then shows it. extra runs in the same transaction. The caller
// holds b.write.
func (b *box) commit(ctx context.Context, e edit, extra func(tx *sql.Tx) error) error {
	if e.meta == nil && len(e.put) == 0 && len(e.drop) == 0 && extra == nil {
		return nil
	}
	err := b.m.o.DB.Write(ctx, func(tx *sql.Tx) error {
		if extra != nil {
			if err := extra(tx); err != nil {
				return err
			}
		}
		return b.save(ctx, tx, &e)
	})
	if err != nil {
		return fmt.Errorf("save mailbox %q: %w", b.Name(), err)
	}
	b.apply(e)
	return nil
}

func (b *box) save(ctx context.Context, tx *sql.Tx, e *edit) error {
	if e.meta != nil {
		_, err := tx.ExecContext(ctx,
			`UPDATE mailbox SET validity = ?, uidnext = ?, modseq = ?, permanent = ?, object_id = ?, baseline = ?, recent = ?, synced = ? WHERE id = ?`,
			e.meta.validity, e.meta.uidnext, int64(e.meta.modseq), e.meta.permanent, e.meta.object, e.meta.baseline, e.meta.recent, e.meta.synced, b.id)
		if err != nil {
			return err
		}
	}
	if len(e.drop) > 0 {
		if err := each(ctx, tx, `DELETE FROM message WHERE mailbox = ? AND uid = ?`, e.drop,
			func(uid imap.UID) []any { return []any{b.id, uid} }); err != nil {
			return err
		}
	}
	return each(ctx, tx, `
		INSERT INTO message (mailbox, uid, flags, date, zone, size, content, held) VALUES (?, ?, ?, ?, ?, ?, nullif(?, 0), ?)
		ON CONFLICT (mailbox, uid) DO UPDATE SET flags = excluded.flags, content = excluded.content, held = excluded.held`,
		e.put, func(r row) []any {
			return []any{b.id, r.uid, joinFlags(r.flags), r.date, r.zone, r.size, r.content, r.held}
		})
}

// each runs a prepared statement for every item.
func each[T any](ctx context.Context, tx *sql.Tx, query string, items []T, args func(T) []any) error {
	if len(items) == 0 {
		return nil
	}
	stmt, err := tx.PrepareContext(ctx, query)
	if err != nil {
		return err
	}
	defer stmt.Close()
	for _, item := range items {
		if _, err := stmt.ExecContext(ctx, args(item)...); err != nil {
			return err
		}
	}
	return nil
}

// apply changes the rows in memory and tells the watchers.
func (b *box) apply(e edit) {
	b.mem.Lock()
	defer b.mem.Unlock()
	if !b.loaded {
		return
	}
	if e.meta != nil {
		recent := b.meta.recent
		if b.meta = *e.meta; b.meta.recent != 0 {
			b.meta.recent = max(b.meta.recent, recent) // claimed while the edit was made
		}
	}
	b.rows = merge(b.rows, e)
	b.snap = nil
	b.notify()
}

// notify is called with mem held.
func (b *box) notify() {
	for w := range b.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// merge applies puts and drops to rows, which stay in order. The old slice may be reused:
// snapshots hold copies.
func merge(rows []row, e edit) []row {
	if len(e.drop) > 0 {
		drop := make(map[imap.UID]bool, len(e.drop))
		for _, uid := range e.drop {
			drop[uid] = true
		}
		rows = slices.DeleteFunc(rows, func(r row) bool { return drop[r.uid] })
	}
	known := rows
	for _, r := range e.put {
		if i, ok := findRow(known, r.uid); ok {
			rows[i] = r
		} else {
			rows = append(rows, r)
		}
	}
	if len(rows) > len(known) && !slices.IsSortedFunc(rows, byUID) {
		slices.SortFunc(rows, byUID)
	}
	return rows
}

func byUID(a, b row) int { return int(int64(a.uid) - int64(b.uid)) }

func findRow(rows []row, uid imap.UID) (int, bool) {
	return slices.BinarySearchFunc(rows, uid, func(r row, uid imap.UID) int { return int(int64(r.uid) - int64(uid)) })
}

// row is the message with that UID, held back or not.
func (b *box) row(uid imap.UID) (row, bool) {
	b.mem.Lock()
	defer b.mem.Unlock()
	i, ok := findRow(b.rows, uid)
	if !ok {
		return row{}, false
	}
	return b.rows[i], true
}

// state is a copy of what is known of the mailbox.
func (b *box) state() (meta, []row) {
	b.mem.Lock()
	defer b.mem.Unlock()
	return b.meta, slices.Clone(b.rows)
}

// still fails if the mailbox was replaced since its UIDVALIDITY was the given one: UIDs of
// then must not change rows of now. The caller holds b.write.
func (b *box) still(validity uint32) error {
	if b.metaNow().validity != validity {
		return errReplaced
	}
	return nil
}

func (b *box) metaNow() meta {
	b.mem.Lock()
	defer b.mem.Unlock()
	return b.meta
}

// snapshot builds the view anew if something changed since the last.
func (b *box) snapshot() *Snapshot {
	b.mem.Lock()
	defer b.mem.Unlock()
	if b.snap != nil {
		return b.snap
	}
	b.version++
	s := &Snapshot{Name: b.name, UIDValidity: b.meta.validity, UIDNext: b.meta.uidnext, Version: b.version, ObjectID: b.meta.object,
		PermanentFlags: b.m.intern(b.meta.permanent), Messages: make([]Message, 0, len(b.rows))}
	rows := b.rows
	if !b.meta.synced {
		// A first fill brings the newest first; what is older must not appear below it later.
		s.UIDNext, rows = 1, nil
	}
	for i := range rows {
		r := &rows[i]
		if r.held != 0 {
			// A client takes new messages to come last and UIDNEXT to lie above all it has been
			// shown (RFC 9051 §2.3.1.1): what came after a message that is held back waits with it.
			s.UIDNext = r.uid
			break
		}
		s.Messages = append(s.Messages, r.message())
	}
	b.snap = s
	return s
}

// handle makes a handle whose end is noticed by the garbage collector: then the rows of the
// mailbox need no longer be in memory.
func (b *box) handle() *Mailbox {
	b.handles.Add(1)
	h := &Mailbox{b}
	runtime.AddCleanup(h, func(b *box) { b.handles.Add(-1) }, b)
	return h
}
