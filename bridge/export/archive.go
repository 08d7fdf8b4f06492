package export

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
	"github.com/sealpost/sealpost/bridge/store"
)

// The archive of what was deleted while a hold stood: contents by the SHA-256 of their bytes, in pieces, in the encrypted
// database. A content counts once its row in held_body is written, which is after it was read back and compared.

const (
	archiveChunk = 256 << 10
	archiveWrite = 2 << 20 // bytes in one transaction: the database has one writer
)

// errArchive says that the archive does not hold what it was given.
var errArchive = errors.New("the archive of deleted mail does not hold the bytes that it was given")

// writeBody writes a content unless it is there already, and compares what is then there with it. That it counts is left to the
// transaction that writes the message (countBody). The hash is hex.
func writeBody(ctx context.Context, db *store.DB, src mimescan.Source) (hash string, err error) {
	if hash, err = hashSource(src); err != nil {
		return "", err
	}
	var there bool
	if err := db.Read().QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM held_body WHERE hash = ?)`, hash).Scan(&there); err != nil {
		return "", err
	}
	if !there {
		if err := writePieces(ctx, db, hash, src); err != nil {
			return "", err
		}
	}
	return hash, compareBody(ctx, db, hash, src)
}

// writePieces writes all pieces anew: a crash may have left some.
func writePieces(ctx context.Context, db *store.DB, hash string, src mimescan.Source) error {
	for off := int64(0); off == 0 || off < src.Size(); off += archiveWrite {
		err := db.Write(ctx, func(tx *sql.Tx) error {
			if off == 0 {
				if _, err := tx.ExecContext(ctx, `DELETE FROM held_chunk WHERE hash = ?`, hash); err != nil {
					return err
				}
			}
			return insertPieces(ctx, tx, hash, src, off, min(off+archiveWrite, src.Size()))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func insertPieces(ctx context.Context, tx *sql.Tx, hash string, src mimescan.Source, off, end int64) error {
	for ; off < end; off += archiveChunk {
		piece := make([]byte, min(archiveChunk, end-off))
		if n, err := src.ReadAt(piece, off); n < len(piece) {
			return errors.Join(err, io.ErrUnexpectedEOF)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO held_chunk (hash, n, data) VALUES (?, ?, ?)`, hash, off/archiveChunk, piece); err != nil {
			return err
		}
	}
	return nil
}

// compareBody compares the archive's bytes with src, byte for byte.
func compareBody(ctx context.Context, db *store.DB, hash string, src mimescan.Source) error {
	kept := &heldBody{ctx: ctx, db: db, hash: hash, size: src.Size()}
	a, b := make([]byte, archiveChunk), make([]byte, archiveChunk)
	for off := int64(0); off < src.Size(); off += archiveChunk {
		n := int(min(archiveChunk, src.Size()-off))
		if got, err := kept.ReadAt(a[:n], off); got < n {
			return errors.Join(errArchive, err)
		}
		if got, err := src.ReadAt(b[:n], off); got < n {
			return err
		}
		if !bytes.Equal(a[:n], b[:n]) {
			return errArchive
		}
	}
	return nil
}

// countBody makes a content count, within a Write.
func countBody(ctx context.Context, tx *sql.Tx, hash string, size int64) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO held_body (hash, size) VALUES (?, ?) ON CONFLICT DO NOTHING`, hash, size)
	return err
}

// heldBody reads a content of the archive. Safe for one reader.
type heldBody struct {
	ctx  context.Context
	db   *store.DB
	hash string
	size int64

	n    int64 // of the piece in data
	data []byte
}

// openBody reads the content of that hash.
func openBody(ctx context.Context, db *store.DB, hash string) (mirror.Blob, error) {
	b := &heldBody{ctx: ctx, db: db, hash: hash}
	err := db.Read().QueryRowContext(ctx, `SELECT size FROM held_body WHERE hash = ?`, hash).Scan(&b.size)
	if err != nil {
		return nil, fmt.Errorf("archive of deleted mail: %w", store.Explain(err))
	}
	return b, nil
}

// Size in bytes.
func (b *heldBody) Size() int64 { return b.size }

// Close frees it.
func (b *heldBody) Close() error {
	b.data = nil
	return nil
}

// ReadAt implements io.ReaderAt.
func (b *heldBody) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && off < b.size {
		if err := b.load(off / archiveChunk); err != nil {
			return n, err
		}
		at := off % archiveChunk
		if at >= int64(len(b.data)) {
			return n, errArchive
		}
		copied := copy(p[n:], b.data[at:])
		n, off = n+copied, off+int64(copied)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (b *heldBody) load(n int64) error {
	if b.data != nil && b.n == n {
		return nil
	}
	b.n, b.data = n, nil
	err := b.db.Read().QueryRowContext(b.ctx, `SELECT data FROM held_chunk WHERE hash = ? AND n = ?`, b.hash, n).Scan(&b.data)
	if errors.Is(err, sql.ErrNoRows) {
		return errArchive
	}
	return store.Explain(err)
}

// checkBody says whether a content still has its hash.
func checkBody(ctx context.Context, db *store.DB, hash string) error {
	b, err := openBody(ctx, db, hash)
	if err != nil {
		return err
	}
	defer b.Close()
	now, err := hashSource(b)
	if err == nil && now != hash {
		err = errArchive
	}
	return err
}
