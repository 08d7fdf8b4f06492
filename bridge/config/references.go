package config

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// Parse is Load of text that is, or will be, the file at path.
func Parse(path string, data []byte) (*Config, error) { return parse(path, data) }

// References are the files that a configuration names and that a copy of it needs, in a fixed order; "" for one that is not
// named. Those with passwords are not among them.
func (c *Config) References() []string {
	files := []string{c.Keydisc.CAFile}
	files = append(files, c.Keydisc.Files...)
	for _, l := range c.Keydisc.LDAP {
		files = append(files, l.CAFile)
	}
	for _, l := range c.Keydisc.Lists {
		files = append(files, l.Certificate)
		if !strings.HasPrefix(l.URL, "https://") {
			files = append(files, l.URL)
		}
	}
	for _, a := range c.Accounts {
		files = append(files, a.CAFile)
	}
	for _, path := range c.Gateway.files() {
		files = append(files, *path)
	}
	return files
}

var (
	vaultTable = regexp.MustCompile(`(?m)^[ \t]*\[vault\][^\n]*\n`)
	anyTable   = regexp.MustCompile(`(?m)^[ \t]*\[`)
	vaultKeys  = regexp.MustCompile(`(?m)^[ \t]*(unlock|passphrase_file)[ \t]*=[^\n]*\n`)
)

// WithPassphraseFile is the text of a configuration with the vault unlocked by that file alone.
func WithPassphraseFile(path string, data []byte, passphraseFile string) ([]byte, error) {
	block := fmt.Sprintf("[vault]\nunlock = [\"file\"]\npassphrase_file = %s\n", tomlValue(passphraseFile))
	at := vaultTable.FindIndex(data)
	var changed []byte
	if at == nil {
		changed = append(bytes.Clone(data), "\n"+block...)
	} else {
		rest := data[at[1]:]
		end := len(rest)
		if next := anyTable.FindIndex(rest); next != nil {
			end = next[0]
		}
		changed = append(bytes.Clone(data[:at[0]]), block...)
		changed = append(changed, vaultKeys.ReplaceAll(rest[:end], nil)...)
		changed = append(changed, rest[end:]...)
	}
	c, err := parse(path, changed)
	if err == nil && c.Vault.PassphraseFile != passphraseFile {
		err = fmt.Errorf("%s: [vault] is written in a way that cannot be changed; set passphrase_file there yourself", path)
	}
	return changed, err
}

// WriteNew writes a configuration where there is none, for its owner alone.
func WriteNew(path string, data []byte) error { return replaceFile(path, data) }
