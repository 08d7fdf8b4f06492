package keydisc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// WKDTree is what a web server has to serve to be a Web Key Directory (draft-koch-openpgp-webkey-service-22
// §3.1, §4.5). The zero value is empty.
type WKDTree struct {
	files map[string][]byte // by path below the root
}

// Add publishes certificates for an address: of each only its user IDs of that address, one behind the
// other. layouts are "advanced", served at openpgpkey.DOMAIN, and "direct", served at DOMAIN itself. A direct
// layout has room for one domain. The error is an *UnusableError if a certificate is not for the address.
func (t *WKDTree) Add(address string, certificates []*Certificate, layouts ...string) error {
	advanced, direct, err := WKDLocations(address)
	if err != nil {
		return err
	}
	var data []byte
	for _, c := range certificates {
		own, err := c.ForAddress(address)
		if err != nil {
			return err
		}
		data = append(data, own.Bytes()...)
	}
	for _, layout := range layouts {
		location := advanced
		if layout == "direct" {
			location = direct
		}
		if err := t.add(location.Path, data); err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
	}
	return nil
}

func (t *WKDTree) add(path string, data []byte) error {
	if t.files == nil {
		t.files = map[string][]byte{}
	}
	if there, ok := t.files[path]; ok && !bytes.Equal(there, data) {
		return fmt.Errorf("another address has the same place %s; local parts differ in more than the case of ASCII letters only, and the direct layout has room for one domain", path)
	}
	t.files[path] = data
	hu, _ := filepath.Split(path)
	t.files[strings.TrimSuffix(hu, "hu/")+"policy"] = nil // it must be there, and may be empty (§4.5)
	return nil
}

// Write writes the tree below dir, which is what the web server serves at "/". Files that are there already
// are replaced one by one; others stay.
func (t *WKDTree) Write(dir string) error {
	for _, path := range t.Paths() {
		if err := replaceFile(filepath.Join(dir, filepath.FromSlash(path)), t.files[path]); err != nil {
			return err
		}
	}
	return nil
}

// Paths are those of the files, in order.
func (t *WKDTree) Paths() []string {
	var paths []string
	for path := range t.files {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

// replaceFile writes a file that anybody may read, at no moment half of it.
func replaceFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if chmodErr := f.Chmod(0o644); err == nil {
		err = chmodErr
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
