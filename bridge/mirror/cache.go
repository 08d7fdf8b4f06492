package mirror

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/store"
)

const (
	chunkSize = 256 << 10
	// largeSize is from when on chunks are written ahead, a few per transaction: the database
	// has one writer, and others wait for it.
	largeSize  = 1 << 20
	largeWrite = 2 << 20
)

// writeLarge writes the chunks of a large message under a content that is not finished.
func (m *Mirror) writeLarge(ctx context.Context, o *opened) error {
	if size := o.message.Size(); size <= largeSize || size > m.o.CacheSize {
		return nil
	}
	err := m.o.DB.Write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `INSERT INTO content (account, kind) VALUES (?, '')`, m.o.Account)
		if err == nil {
			o.id, err = done.LastInsertId()
		}
		return err
	})
	if err == nil {
		err = m.writeChunks(ctx, o.id, o.message)
	}
	if err != nil {
		_ = o.message.Close()
		return fmt.Errorf("cache a message: %w", err)
	}
	return nil
}

// discard removes what writeLarge wrote for a message that is gone meanwhile. Failing that,
// the next start does.
func (m *Mirror) discard(ctx context.Context, o *opened) {
	if o.id == 0 {
		return
	}
	err := m.o.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM chunk WHERE content = ?`, o.id)
		if err == nil {
			_, err = tx.ExecContext(ctx, `DELETE FROM content WHERE id = ?`, o.id)
		}
		return err
	})
	if err != nil {
		m.o.Log.Debug("a message that is gone stays in the cache until the next start", "error", err)
	}
}

func (m *Mirror) writeChunks(ctx context.Context, id int64, message mimescan.Source) error {
	for off := int64(0); off < message.Size(); off += largeWrite {
		err := m.o.DB.Write(ctx, func(tx *sql.Tx) error {
			return insertChunks(ctx, store.NewBatch(tx), id, message, off, min(off+largeWrite, message.Size()))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// insertChunks writes the bytes [start, end) of a message; start is the beginning of a chunk.
func insertChunks(ctx context.Context, b *store.Batch, id int64, message mimescan.Source, start, end int64) error {
	buf := make([]byte, min(chunkSize, end-start))
	for off := start; off < end; off += chunkSize {
		piece := buf[:min(chunkSize, end-off)]
		if n, err := message.ReadAt(piece, off); n < len(piece) {
			return fmt.Errorf("read the opened message: %w", err)
		}
		_, err := b.Exec(ctx, `INSERT OR REPLACE INTO chunk (content, n, data) VALUES (?, ?, ?)`, id, off/chunkSize, piece)
		if err != nil {
			return err
		}
	}
	return nil
}

// insertContent saves what is kept of an opened message and returns its key.
func (m *Mirror) insertContent(ctx context.Context, b *store.Batch, o *opened) (int64, error) {
	size := o.message.Size()
	cached := size
	if size > m.o.CacheSize {
		cached = 0
	}
	args := []any{nullID(o.id), m.o.Account, string(o.kind), o.words, size, o.sent, o.header, o.structure, o.fields, o.body, o.partial, cached, time.Now().Unix(), o.hash}
	done, err := b.Exec(ctx, `
		INSERT INTO content (id, account, kind, keywords, size, sent, header, structure, fields, body, partial, cached, used, stored_hash)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET (kind, keywords, size, sent, header, structure, fields, body, partial, cached, used, stored_hash) =
			(excluded.kind, excluded.keywords, excluded.size, excluded.sent, excluded.header, excluded.structure,
			excluded.fields, excluded.body, excluded.partial, excluded.cached, excluded.used, excluded.stored_hash)`, args...)
	if err != nil {
		return 0, err
	}
	id := o.id
	if id == 0 {
		if id, err = done.LastInsertId(); err == nil && cached > 0 {
			err = insertChunks(ctx, b, id, o.message, 0, cached)
		}
	}
	if err == nil {
		err = insertDigest(ctx, b, id, &o.keys)
	}
	if err == nil && o.save != nil {
		err = o.save(ctx, b)
	}
	m.cached.Add(cached)
	return id, err
}

func nullID(id int64) sql.NullInt64 { return sql.NullInt64{Int64: id, Valid: id != 0} }

func insertDigest(ctx context.Context, b *store.Batch, id int64, d *Digest) error {
	date := sql.NullInt64{Int64: d.Sent.Unix(), Valid: !d.Sent.IsZero()}
	_, err := b.Exec(ctx, `
		INSERT INTO digest (content, date, subject, answer, sender, recipient, copy, sender_name, recipient_name, message_id, refs, preview)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, id, date, d.Subject, d.Answer, d.From, d.To, d.Cc,
		d.DisplayFrom, d.DisplayTo, d.MessageID, strings.Join(d.References, " "), d.Preview)
	return err
}

// evict removes the bodies that were not used for the longest time when the cache is full.
// What is needed to list and to search messages stays.
func (m *Mirror) evict(ctx context.Context) error {
	for m.cached.Load() > m.o.CacheSize {
		var freed int64
		err := m.o.DB.Write(ctx, func(tx *sql.Tx) (err error) {
			freed, err = m.evictSome(ctx, tx, m.cached.Load()-m.o.CacheSize*9/10)
			return err
		})
		if err != nil {
			return fmt.Errorf("make room in the cache: %w", err)
		}
		if freed == 0 {
			m.cached.Store(0) // the count was wrong; an empty cache has room
			return nil
		}
		m.cached.Add(-freed)
	}
	return nil
}

func (m *Mirror) evictSome(ctx context.Context, tx *sql.Tx, want int64) (freed int64, err error) {
	rows, err := tx.QueryContext(ctx,
		`SELECT id, cached FROM content WHERE account = ? AND cached > 0 AND kind <> '' ORDER BY used, id LIMIT 100`, m.o.Account)
	if err != nil {
		return 0, err
	}
	var ids []int64
	for rows.Next() && freed < want {
		var id, size int64
		if err := rows.Scan(&id, &size); err != nil {
			_ = rows.Close()
			return 0, err
		}
		ids, freed = append(ids, id), freed+size
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return 0, err
	}
	one := func(id int64) []any { return []any{id} }
	if err := each(ctx, tx, `DELETE FROM chunk WHERE content = ?`, ids, one); err != nil {
		return 0, err
	}
	return freed, each(ctx, tx, `UPDATE content SET cached = 0 WHERE id = ?`, ids, one)
}

// collect removes contents that no message has any more.
func (m *Mirror) collect(ctx context.Context) error {
	const some = 200 // per transaction
	for {
		var n, freed int64
		err := m.o.DB.Write(ctx, func(tx *sql.Tx) error {
			rows, err := tx.QueryContext(ctx, `
				SELECT id, cached FROM content c WHERE account = ? AND kind <> ''
				AND NOT EXISTS (SELECT 1 FROM message m WHERE m.content = c.id) LIMIT ?`, m.o.Account, some)
			if err != nil {
				return err
			}
			var ids []int64
			for rows.Next() {
				var id, size int64
				if err := rows.Scan(&id, &size); err != nil {
					_ = rows.Close()
					return err
				}
				ids, freed = append(ids, id), freed+size
			}
			if err := errors.Join(rows.Err(), rows.Close()); err != nil {
				return err
			}
			n = int64(len(ids))
			one := func(id int64) []any { return []any{id} }
			if err := each(ctx, tx, `DELETE FROM chunk WHERE content = ?`, ids, one); err != nil {
				return err
			}
			return each(ctx, tx, `DELETE FROM content WHERE id = ?`, ids, one)
		})
		if err != nil {
			return fmt.Errorf("remove what belongs to no message: %w", err)
		}
		m.cached.Add(-freed)
		if n < some {
			return nil
		}
	}
}

// body is an opened message: read from the cache, or from the provider if it is not there
// any more. Safe for concurrent use.
type body struct {
	box      *box
	uid      imap.UID
	id       int64
	size     int64
	validity uint32
	ctx      context.Context // of whoever reads: io.ReaderAt has none

	mu     sync.Mutex
	n      int64 // the chunk in data
	data   []byte
	direct Blob // once the cache had it no more
	stored Blob // that direct may be a view of
	closed bool
}

func (r *body) Size() int64 { return r.size }

// Close ends reading; a message that had to be fetched is freed.
func (r *body) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed, r.data = true, nil
	if r.direct != nil {
		err := errors.Join(r.direct.Close(), r.stored.Close())
		r.direct, r.stored = nil, nil
		return err
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (r *body) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("read of a message at a negative offset")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n < len(p) {
		if off >= r.size {
			return n, io.EOF
		}
		m, err := r.read(p[n:min(len(p), n+int(min(r.size-off, int64(len(p)-n))))], off)
		n, off = n+m, off+int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// read reads some bytes, at least one, all of which exist.
func (r *body) read(p []byte, off int64) (int, error) {
	if r.closed {
		return 0, errors.New("read of a message that was closed")
	}
	if r.direct == nil && (r.data == nil || r.n != off/chunkSize) {
		err := r.load(off / chunkSize)
		if errors.Is(err, sql.ErrNoRows) {
			err = r.reopen()
		}
		if err != nil {
			return 0, err
		}
	}
	if r.direct != nil {
		n, err := r.direct.ReadAt(p, off)
		if n > 0 {
			err = nil
		}
		return n, err
	}
	at := off % chunkSize
	if at >= int64(len(r.data)) {
		return 0, io.ErrUnexpectedEOF
	}
	return copy(p, r.data[at:]), nil
}

func (r *body) load(n int64) error {
	r.data, r.n = nil, n
	return r.box.m.o.DB.Read().QueryRowContext(r.ctx,
		`SELECT data FROM chunk WHERE content = ? AND n = ?`, r.id, n).Scan(&r.data)
}

// reopen fetches and opens the message again, and puts it back into the cache.
func (r *body) reopen() error {
	m := r.box.m
	if r.box.metaNow().validity != r.validity {
		return errReplaced
	}
	stored, err := r.box.stored(r.ctx, r.uid)
	if err != nil {
		return err
	}
	o, err := m.o.Open(r.ctx, stored)
	if err != nil {
		_ = stored.Close()
		return fmt.Errorf("open message %d of %q again: %w", r.uid, r.box.Name(), err)
	}
	if err := r.box.unchanged(r.ctx, r.id, r.uid, o); err != nil || o.Message.Size() != r.size {
		_ = errors.Join(o.Message.Close(), stored.Close())
		return cmp.Or(err, errOtherBytes)
	}
	r.direct, r.stored = o.Message, stored
	if r.size <= m.o.CacheSize {
		if err := m.recache(r.ctx, r.id, o.Message); err != nil {
			m.o.Log.Warn("a message cannot be cached", "mailbox", r.box.Name(), "uid", r.uid, "error", err)
		}
	}
	return nil
}

// errOtherBytes says that the provider serves other bytes under a UID than before: what was said about the
// message is not about these.
var errOtherBytes = errors.New("the provider serves another message under this UID than before")

// unchanged makes sure that what has been opened again is what the content was made from.
func (b *box) unchanged(ctx context.Context, content int64, uid imap.UID, o *Opened) error {
	var hash []byte
	err := b.m.o.DB.Read().QueryRowContext(ctx, `SELECT stored_hash FROM content WHERE id = ?`, content).Scan(&hash)
	if err == nil && !bytes.Equal(hash, o.Hash) {
		err = errOtherBytes
	}
	if err != nil {
		return fmt.Errorf("message %d of %q: %w", uid, b.Name(), err)
	}
	return nil
}

func (m *Mirror) recache(ctx context.Context, id int64, message mimescan.Source) error {
	if err := m.writeChunks(ctx, id, message); err != nil {
		return err
	}
	var added bool
	err := m.o.DB.Write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `UPDATE content SET cached = ?, used = ? WHERE id = ? AND cached = 0`,
			message.Size(), time.Now().Unix(), id)
		if err == nil {
			n, _ := done.RowsAffected()
			added = n > 0
		}
		return err
	})
	if err != nil {
		return err
	}
	if added {
		m.cached.Add(message.Size())
	}
	return m.evict(ctx)
}

// stored fetches one message as the provider stores it.
func (b *box) stored(ctx context.Context, uid imap.UID) (*spool.Spool, error) {
	c, err := b.leaseToFetch(ctx, uid)
	if err != nil {
		return nil, err
	}
	defer b.m.o.Provider.Release(c)
	var got *spool.Spool
	err = b.fetchStored(c, []imap.UID{uid}, func(_ imap.UID, stored *spool.Spool) {
		if got == nil {
			got = stored
		} else {
			_ = stored.Close()
		}
	})
	switch {
	case got != nil && err != nil:
		return nil, errors.Join(offline(err), got.Close())
	case err != nil:
		return nil, offline(err)
	case got == nil:
		return nil, fmt.Errorf("%w: %d of %q", ErrExpunged, uid, b.Name())
	}
	return got, nil
}
