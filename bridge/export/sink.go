package export

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"path/filepath"
)

// sink is the folder of an export. Files are the user's alone; with encrypt each is an OpenPGP message, and no clear byte
// reaches the disk.
type sink struct {
	dir     string
	encrypt func(w io.Writer) (io.WriteCloser, error) // nil: as it is
}

// encryptedEnding is that of files for counsel's key.
const encryptedEnding = ".pgp"

// put writes one file, whole or not at all. That it is on the disk is seen to once, at the end: see Desk.finish.
func (s *sink) put(path string, write func(w io.Writer) error) (File, error) {
	if s.encrypt != nil {
		return s.putEncrypted(path, write)
	}
	return s.putClear(path, write)
}

// putClear is put for what is never encrypted: the list of files and its signature.
func (s *sink) putClear(path string, write func(w io.Writer) error) (File, error) {
	f := File{Path: path}
	full := filepath.Join(s.dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		return f, err
	}
	out, err := os.OpenFile(full+partEnding, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return f, err
	}
	d := newDigest(out)
	err = write(d)
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(full+partEnding, full)
	}
	f.SHA256, f.MD5, f.Size = d.sum(), hex.EncodeToString(d.md5.Sum(nil)), d.n
	return f, err
}

// partEnding is that of a file that is being written.
const partEnding = ".part"

func (s *sink) putEncrypted(path string, write func(w io.Writer) error) (File, error) {
	var inner *digest
	f, err := s.putClear(path+encryptedEnding, func(w io.Writer) error {
		plain, err := s.encrypt(w)
		if err != nil {
			return err
		}
		inner = newDigest(plain)
		if err := write(inner); err != nil {
			return err
		}
		return plain.Close()
	})
	if err == nil {
		f.Plain, f.Length, f.MD5 = inner.sum(), inner.n, hex.EncodeToString(inner.md5.Sum(nil))
	}
	return f, err
}

// digest takes the hashes of what passes through.
type digest struct {
	w           io.Writer
	sha256, md5 hash.Hash
	n           int64
}

func newDigest(w io.Writer) *digest { return &digest{w: w, sha256: sha256.New(), md5: md5.New()} }

func (d *digest) sum() string { return hex.EncodeToString(d.sha256.Sum(nil)) }

func (d *digest) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	d.sha256.Write(p[:n])
	d.md5.Write(p[:n])
	d.n += int64(n)
	return n, err
}
