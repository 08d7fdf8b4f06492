package keydisc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// fileSuffixes are those of certificate files in a folder.
var fileSuffixes = []string{".asc", ".pgp", ".gpg", ".key"}

// fileBook remembers what is in the files of Options.Files, until they change.
type fileBook struct {
	paths []string
	now   func() time.Time
	mu    sync.Mutex
	known map[string]knownFile
}

type knownFile struct {
	size         int64
	modified     time.Time
	until        time.Time // a file may change without its size, and within the resolution of its time
	certificates []*Certificate
}

func newFile(f *Finder) (method, error) {
	if len(f.options.Files) == 0 || slices.Contains(f.options.Files, "") {
		return method{}, errors.New("it needs the path of a file or a folder")
	}
	b := &fileBook{paths: slices.Clone(f.options.Files), now: f.options.Now, known: map[string]knownFile{}}
	return method{name: File, authenticated: true, find: b.find}, nil
}

// find is what all files have for the address. The error names those that could not be read: what they would
// have said is not known.
func (b *fileBook) find(ctx context.Context, address string) (found []*Certificate, err error) {
	files, err := b.files()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, path := range files {
		if ctx.Err() != nil {
			return found, errors.Join(err, ctx.Err())
		}
		certificates, e := b.read(path)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", path, e))
		}
		for _, c := range certificates {
			if own, err := c.ForAddress(address); err == nil {
				found = append(found, own)
			}
		}
	}
	return found, err
}

// files are the paths of all files, in folders those whose names end as a certificate's.
func (b *fileBook) files() (files []string, err error) {
	for _, path := range b.paths {
		info, e := os.Stat(path)
		switch {
		case e != nil:
			err = errors.Join(err, e)
		case info.IsDir():
			inside, e := filesIn(path)
			files, err = append(files, inside...), errors.Join(err, e)
		default:
			files = append(files, path)
		}
	}
	return files, err
}

func filesIn(folder string) (files []string, err error) {
	entries, err := os.ReadDir(folder)
	for _, e := range entries {
		if !e.IsDir() && slices.Contains(fileSuffixes, strings.ToLower(filepath.Ext(e.Name()))) {
			files = append(files, filepath.Join(folder, e.Name()))
		}
	}
	return files, err
}

// read is what is in a file; it is opened only if it has changed.
func (b *fileBook) read(path string) ([]*Certificate, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, cause(err)
	}
	known, now := b.known[path], b.now()
	if known.size == info.Size() && known.modified.Equal(info.ModTime()) && now.Before(known.until) {
		return known.certificates, nil
	}
	certificates, err := readFile(path, info)
	if err != nil {
		delete(b.known, path)
		return nil, err
	}
	b.known[path] = knownFile{info.Size(), info.ModTime(), now.Add(parsedFor), certificates}
	return certificates, nil
}

func readFile(path string, info fs.FileInfo) ([]*Certificate, error) {
	if !info.Mode().IsRegular() { // opening a pipe would wait for its other end
		return nil, errors.New("it is not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxInput+1))
	if err != nil {
		return nil, cause(err)
	}
	return parseFile(data)
}

// parseFile is ParseCertificates, but finds secret keys even where there is no more to them than that.
func parseFile(data []byte) ([]*Certificate, error) {
	if _, err := readBlocks(data, readPartial); errors.Is(err, ErrSecretKey) {
		return nil, err
	}
	return ParseCertificates(data)
}

// cause leaves out the path, which the caller adds.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
