// Package spool holds a message while it passes through: small ones in memory, the
// rest in an unlinked temporary file encrypted with a key that only this process
// has, so that no plaintext ever reaches the disk.
package spool

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// InMemory is how many bytes a Spool keeps in memory before it uses a file.
const InMemory = 256 << 10

var errClosed = errors.New("spool: closed")

// Spool is written once from front to end and can then be read at any offset, by
// several goroutines at once; none of them while it is written or closed. The owner closes it.
type Spool struct {
	dir    string
	mem    []byte
	file   *os.File
	block  cipher.Block
	writer cipher.Stream
	size   int64
	buf    []byte
	failed error // of a write: what was written after it would be at the wrong place
	closed bool
}

// New makes an empty Spool; dir is where its file goes if it grows ("" for the
// system's temporary folder).
func New(dir string) *Spool { return &Spool{dir: dir} }

// FromReader spools r to its end. It fails with ErrTooLarge if that is more than
// limit bytes (0: no limit).
func FromReader(dir string, r io.Reader, limit int64) (*Spool, error) {
	s := New(dir)
	if limit > 0 {
		r = io.LimitReader(r, limit+1)
	}
	n, err := io.Copy(s, r)
	if err == nil && limit > 0 && n > limit {
		err = ErrTooLarge
	}
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// ErrTooLarge says that more bytes came than the caller allowed.
var ErrTooLarge = errors.New("message is too large")

// Write appends p. After an error every further Write fails with it: the Spool can only be closed.
func (s *Spool) Write(p []byte) (int, error) {
	if s.closed {
		return 0, errClosed
	}
	if s.failed == nil && s.file == nil && len(s.mem)+len(p) <= InMemory {
		s.mem = append(s.mem, p...)
		s.size += int64(len(p))
		return len(p), nil
	}
	if s.failed == nil {
		s.failed = s.spill()
	}
	if s.failed == nil {
		s.failed = s.encrypt(p)
	}
	if s.failed != nil {
		return 0, s.failed
	}
	s.size += int64(len(p))
	return len(p), nil
}

// spill moves what is in memory to a new, already unlinked file.
func (s *Spool) spill() error {
	if s.file != nil {
		return nil
	}
	f, err := os.CreateTemp(s.dir, "spool-*")
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	// Unlinked at once: a crash leaves nothing behind.
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return fmt.Errorf("spool: %w", err)
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	s.block, err = aes.NewCipher(key)
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("spool: %w", err)
	}
	// The key is used for this one file, each offset is written once: a zero
	// nonce with the offset as the counter repeats nothing.
	s.file, s.writer = f, s.streamAt(0)
	mem := s.mem
	s.mem = nil
	err = s.encrypt(mem)
	clear(mem)
	return err
}

func (s *Spool) encrypt(p []byte) error {
	if s.buf == nil {
		s.buf = make([]byte, 32<<10)
	}
	for len(p) > 0 {
		n := min(len(p), len(s.buf))
		s.writer.XORKeyStream(s.buf[:n], p[:n])
		if _, err := s.file.Write(s.buf[:n]); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		p = p[n:]
	}
	return nil
}

func (s *Spool) streamAt(off int64) cipher.Stream {
	var iv [aes.BlockSize]byte
	binary.BigEndian.PutUint64(iv[8:], uint64(off/aes.BlockSize))
	stream := cipher.NewCTR(s.block, iv[:])
	if skip := off % aes.BlockSize; skip > 0 {
		var waste [aes.BlockSize]byte
		stream.XORKeyStream(waste[:skip], waste[:skip])
	}
	return stream
}

// ReadAt implements io.ReaderAt.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) {
	if s.closed {
		return 0, errClosed
	}
	if off < 0 {
		return 0, errors.New("spool: negative offset")
	}
	if off >= s.size {
		return 0, io.EOF
	}
	if s.file == nil {
		n := copy(p, s.mem[off:])
		if n < len(p) {
			return n, io.EOF
		}
		return n, nil
	}
	n, err := s.file.ReadAt(p[:min(int64(len(p)), s.size-off)], off)
	s.streamAt(off).XORKeyStream(p[:n], p[:n])
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// Size is the number of bytes written.
func (s *Spool) Size() int64 { return s.size }

// Reader reads it all from the start.
func (s *Spool) Reader() *io.SectionReader { return io.NewSectionReader(s, 0, s.size) }

// Close frees the memory and the file. A second Close does nothing.
func (s *Spool) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	clear(s.mem)
	s.mem = nil
	if s.file != nil {
		return s.file.Close()
	}
	return nil
}
