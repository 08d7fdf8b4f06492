package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// AddAccount appends an account to the file, keeping all that is in it, or makes the file
// (mode 0600). preamble starts a new file. What results is checked before it
// replaces anything; an address that is configured already is a Problem.
func AddAccount(path string, preamble string, a Account) error {
	_, commit, err := PlanAccount(path, preamble, a)
	if err != nil {
		return err
	}
	return commit()
}

// PlanAccount is AddAccount in two steps: the configuration that would result, and the func
// that writes it.
func PlanAccount(path string, preamble string, a Account) (planned *Config, commit func() error, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		data, err = []byte(preamble), nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("configuration: %w", err)
	}
	if len(data) > 0 && !bytes.HasSuffix(data, []byte("\n")) {
		data = append(data, '\n')
	}
	data = append(data, accountTOML(a)...)
	planned, err = parse(path, data)
	return planned, func() error { return replaceFile(path, data) }, err
}

// accountTOML is the block of an account; what has its default value is left out.
func accountTOML(a Account) string {
	a.setDefaults()
	var s strings.Builder
	line := func(key string, value any) { fmt.Fprintf(&s, "%-8s = %s\n", key, tomlValue(value)) }
	s.WriteString("\n[[account]]\n")
	line("address", a.Address)
	if len(a.Aliases) > 0 {
		line("aliases", a.Aliases)
	}
	line("imap", a.IMAP)
	line("smtp", a.SMTP)
	line("username", a.Username)
	if a.CAFile != "" {
		line("ca_file", a.CAFile)
	}
	if a.Seal != any("all") {
		line("seal", a.Seal)
	}
	if a.Headers != "baseline" {
		line("headers", a.Headers)
	}
	if n := a.MaxConnections(); n != defaultConnections {
		line("connections", n)
	}
	return s.String()
}

// tomlValue writes a string, a number or a list of strings.
func tomlValue(value any) string {
	text, err := toml.Marshal(map[string]any{"v": value})
	if err != nil {
		return `""` // cannot happen; parsing what results would refuse it
	}
	return strings.TrimSpace(strings.TrimPrefix(string(text), "v = "))
}

// replaceFile writes a file next to path and renames it: a crash leaves the old one or the new.
// Where path is a link, what it points to is replaced. The folder is made if need be.
func replaceFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
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
