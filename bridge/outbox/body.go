package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"sync"
)

// chunkSize of a stored body, in bytes: the database never holds a message in one piece in
// memory.
const chunkSize = 256 << 10

// storeBody writes r in chunks and notes its size.
func (b *Outbox) storeBody(ctx context.Context, tx *sql.Tx, id int64, r io.Reader) error {
	buf := make([]byte, chunkSize)
	var size int64
	for chunk := 0; ; chunk++ {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			data, err := b.wrapped(b.options.Seal, id, int64(chunk), buf[:n])
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO outbox_body (message, chunk, data) VALUES (?, ?, ?)`, id, chunk, data); err != nil {
				return err
			}
			size += int64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `UPDATE outbox SET size = ? WHERE id = ?`, size, id)
	return err
}

// wrapped is a chunk as seal or unseal leave it; nil leaves it as it is.
func (b *Outbox) wrapped(wrap func(string, []byte) ([]byte, error), id, chunk int64, data []byte) ([]byte, error) {
	if wrap == nil {
		return data, nil
	}
	return wrap(fmt.Sprintf("outbox:%d:%d", id, chunk), data)
}

// body reads a stored body at any offset, keeping one chunk in memory.
type body struct {
	ctx  context.Context // of the delivery; ReadAt has none
	box  *Outbox
	id   int64
	size int64

	mu    sync.Mutex
	chunk int64
	data  []byte // nil: none read yet
}

// Size implements mimescan.Source.
func (b *body) Size() int64 { return b.size }

// ReadAt implements mimescan.Source.
func (b *body) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("outbox: negative offset")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	done := 0
	for done < len(p) && off < b.size {
		if err := b.load(off / chunkSize); err != nil {
			return done, err
		}
		n := copy(p[done:], b.data[off%chunkSize:])
		done += n
		off += int64(n)
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

func (b *body) load(chunk int64) error {
	if b.data != nil && b.chunk == chunk {
		return nil
	}
	b.data = nil
	var data []byte
	err := b.box.options.DB.Read().QueryRowContext(b.ctx, `SELECT data FROM outbox_body WHERE message = ? AND chunk = ?`, b.id, chunk).Scan(&data)
	if err != nil {
		return err
	}
	if data, err = b.box.wrapped(b.box.options.Unseal, b.id, chunk, data); err != nil {
		return err
	}
	if want := min(chunkSize, b.size-chunk*chunkSize); int64(len(data)) != want {
		return errors.New("outbox: a stored body is incomplete")
	}
	b.chunk, b.data = chunk, data
	return nil
}
