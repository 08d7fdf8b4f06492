package spool

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func filled(t testing.TB, n int) (*Spool, []byte) {
	t.Helper()
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	s, err := FromReader(t.TempDir(), bytes.NewReader(b), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, b
}

// A Spool is the byte slice of all that was written, whether in memory, in the file or across the
// boundary between them.
func TestIsWhatWasWritten(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(r *rapid.T) {
		s := New(dir)
		defer s.Close()
		var want []byte
		size := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(InMemory-50, InMemory+50), rapid.IntRange(0, 100<<10))
		for i := range rapid.IntRange(0, 6).Draw(r, "writes") {
			p := bytes.Repeat([]byte{byte('a' + i), byte(i)}, size.Draw(r, "size")/2+1)
			if n, err := s.Write(p); n != len(p) || err != nil {
				r.Fatal(n, err)
			}
			want = append(want, p...)
		}
		if s.Size() != int64(len(want)) {
			r.Fatalf("size %d, want %d", s.Size(), len(want))
		}
		for range 5 {
			off := rapid.IntRange(0, len(want)+10).Draw(r, "offset")
			p := make([]byte, rapid.IntRange(0, 1000).Draw(r, "length"))
			q := make([]byte, len(p))
			n, err := s.ReadAt(p, int64(off))
			m, wantErr := bytes.NewReader(want).ReadAt(q, int64(off))
			if n != m || err != wantErr || !bytes.Equal(p[:n], q[:m]) {
				r.Fatalf("at %d: %d bytes, %v; want %d, %v", off, n, err, m, wantErr)
			}
		}
		if got, err := io.ReadAll(s.Reader()); err != nil || !bytes.Equal(got, want) {
			r.Fatalf("%d bytes, %v; want %d", len(got), err, len(want))
		}
	})
}

func TestReaderContract(t *testing.T) {
	for _, n := range []int{0, 1, InMemory, InMemory + 1, InMemory + 70000} {
		s, want := filled(t, n)
		if err := iotest.TestReader(s.Reader(), want); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestConcurrentReadAt(t *testing.T) {
	s, want := filled(t, 2*InMemory)
	var all sync.WaitGroup
	for g := range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			p := make([]byte, 5000)
			for off := g * 7; off+len(p) < len(want); off += 50001 {
				if n, err := s.ReadAt(p, int64(off)); n != len(p) || err != nil || !bytes.Equal(p, want[off:off+n]) {
					t.Errorf("at %d: %d, %v", off, n, err)
				}
			}
		}()
	}
	all.Wait()
}

func TestNoPlaintextOnDisk(t *testing.T) {
	s := New(t.TempDir())
	defer s.Close()
	canary := []byte("canary-plaintext")
	if _, err := s.Write(bytes.Repeat(canary, 2*InMemory/len(canary))); err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, s.Size())
	if _, err := s.file.ReadAt(raw, 0); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, canary[:8]) {
		t.Error("the file holds plaintext")
	}
	if left, err := os.ReadDir(s.dir); err != nil || len(left) != 0 {
		t.Errorf("the file still has a name: %v, %v", left, err)
	}
}

func TestLimit(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		n, limit int64
		ok       bool
	}{{10, 10, true}, {11, 10, false}, {10, 0, true}, {0, 1, true}, {InMemory * 2, InMemory, false}} {
		s, err := FromReader(dir, bytes.NewReader(make([]byte, c.n)), c.limit)
		if c.ok != (err == nil) || !c.ok && !errors.Is(err, ErrTooLarge) || c.ok != (s != nil) {
			t.Errorf("%d of %d: %v", c.n, c.limit, err)
		}
	}
	if _, err := FromReader(dir, iotest.ErrReader(os.ErrPermission), 0); !errors.Is(err, os.ErrPermission) {
		t.Errorf("reader's error became %v", err)
	}
}

func TestClosed(t *testing.T) {
	for _, n := range []int{10, 2 * InMemory} {
		s, _ := filled(t, n)
		mem := s.mem
		for range 2 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if bytes.ContainsFunc(mem, func(r rune) bool { return r != 0 }) {
			t.Error("memory was not cleared")
		}
		if _, err := s.Write([]byte("x")); err == nil {
			t.Error("wrote to a closed spool")
		}
		if _, err := s.ReadAt(make([]byte, 1), 0); err == nil || err == io.EOF {
			t.Errorf("read from a closed spool: %v", err)
		}
	}
}

func TestOffsetsOutside(t *testing.T) {
	s, _ := filled(t, 10)
	if _, err := s.ReadAt(make([]byte, 1), -1); err == nil || err == io.EOF {
		t.Errorf("before the start: %v", err)
	}
}

// After a write has failed the spool must not take more: it would be at the wrong place.
func TestFailedWriteStaysFailed(t *testing.T) {
	s := New(filepath.Join(t.TempDir(), "missing"))
	defer s.Close()
	if _, err := s.Write(make([]byte, InMemory+1)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("spilled into a missing folder: %v", err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the next write: %v", err)
	}
	full, _ := filled(t, 2*InMemory)
	_ = full.file.Close() // as if the disk were gone
	if _, err := full.Write([]byte("x")); err == nil || full.Size() != 2*InMemory {
		t.Errorf("write: %v, size %d", err, full.Size())
	}
	if _, err := full.Write([]byte("x")); err == nil {
		t.Error("wrote on after a failure")
	}
}
