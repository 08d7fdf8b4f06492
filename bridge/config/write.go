package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// AddAccount appends an account to the file, keeping all that is in it, or makes the file
// (mode 0600). preamble starts a new file. What results is checked before it
// replaces anything; an address that is configured already is a Problem.
func AddAccount(path string, preamble string, a Account) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		data, err = []byte(preamble), os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if len(data) > 0 && !bytes.HasSuffix(data, []byte("\n")) {
		data = append(data, '\n')
	}
	data = append(data, accountTOML(a)...)
	if _, err := parse(path, data); err != nil {
		return err
	}
	return replaceFile(path, data)
}

func accountTOML(a Account) string {
	a.setDefaults()
	var s strings.Builder
	fmt.Fprintf(&s, "\n[[account]]\naddress  = %s\nimap     = %s\nsmtp     = %s\nusername = %s\n",
		strconv.Quote(a.Address), strconv.Quote(a.IMAP), strconv.Quote(a.SMTP), strconv.Quote(a.Username))
	if a.CAFile != "" {
		fmt.Fprintf(&s, "ca_file  = %s\n", strconv.Quote(a.CAFile))
	}
	return s.String()
}

// replaceFile writes a file next to path and renames it: a crash leaves the old one or the new.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".config-*")
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("configuration: %w", err)
	}
	return nil
}
