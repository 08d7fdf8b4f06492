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

// maxFile bounds the configuration file, in bytes.
const maxFile = 1 << 20

// Problem is one thing wrong with the file.
type Problem struct {
	File   string
	Line   int
	Key    string
	What   string
	Remedy string
}

func (p Problem) Error() string {
	return fmt.Sprintf("%s:%d: %s: %s; %s", p.File, p.Line, p.Key, p.What, p.Remedy)
}

// Problems are all that is wrong with the file, in the order of its lines.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// Load reads and checks the file. The error is Problems where the content is at fault, and
// unwraps to os.ErrNotExist where there is no file.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no configuration; make one with sealpost init --address YOU@EXAMPLE.ORG (%w)", path, os.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return parse(path, data)
}

// parse is Load without the file system.
func parse(path string, data []byte) (*Config, error) {
	if len(data) > maxFile {
		return nil, Problems{{File: path, Line: 1, Key: "file", What: "it is larger than 1 MiB", Remedy: "this does not look like a configuration; give another with --config"}}
	}
	c := Default()
	decoder := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	check := &checker{file: path, lines: linesOf(data)}
	var unknown *toml.StrictMissingError
	if err := decoder.Decode(c); errors.As(err, &unknown) { // the known keys have been read
		for i := range unknown.Errors {
			check.problems = append(check.problems, unknownKey(path, &unknown.Errors[i]))
		}
	} else if err != nil {
		return nil, decodeProblem(path, err)
	}
	for i := range c.Accounts {
		c.Accounts[i].setDefaults()
	}
	for i := range c.Devices {
		c.Devices[i].Account = c.Devices[i].accountOf(c.Accounts)
	}
	check.config(c)
	if len(check.problems) > 0 {
		return nil, check.sorted()
	}
	c.resolvePaths(filepath.Dir(path))
	return c, nil
}

func (c *Config) resolvePaths(dir string) {
	c.StateDir = expand(c.StateDir, dir)
	c.Vault.PassphraseFile = expand(c.Vault.PassphraseFile, dir)
	c.Keydisc.CAFile = expand(c.Keydisc.CAFile, dir)
	for i := range c.Keydisc.Files {
		c.Keydisc.Files[i] = expand(c.Keydisc.Files[i], dir)
	}
	for i := range c.Keydisc.LDAP {
		l := &c.Keydisc.LDAP[i]
		l.PasswordFile, l.CAFile = expand(l.PasswordFile, dir), expand(l.CAFile, dir)
	}
	for i := range c.Keydisc.Lists {
		l := &c.Keydisc.Lists[i]
		l.Certificate = expand(l.Certificate, dir)
		if !strings.HasPrefix(l.URL, "https://") {
			l.URL = expand(l.URL, dir)
		}
	}
	for _, path := range c.Gateway.files() {
		*path = expand(*path, dir)
	}
	for i := range c.Accounts {
		c.Accounts[i].CAFile = expand(c.Accounts[i].CAFile, dir)
	}
}

// decodeProblem turns the library's error into ours.
func decodeProblem(path string, err error) error {
	var bad *toml.DecodeError
	if !errors.As(err, &bad) {
		return Problems{{File: path, Line: 1, Key: "file", What: err.Error(), Remedy: "compare it with config.example.toml"}}
	}
	line, _ := bad.Position()
	key := strings.Join(bad.Key(), ".")
	if key == "" {
		key = "syntax"
	}
	return Problems{{File: path, Line: line, Key: key, What: plainly(bad.Error()), Remedy: "compare it with config.example.toml"}}
}

// plainly is the library's message without its prefix and the names of our Go types.
func plainly(message string) string {
	message = strings.TrimPrefix(message, "toml: ")
	if kind, _, wrong := strings.Cut(strings.TrimPrefix(message, "cannot decode TOML "), " into "); wrong {
		return "the value is of the wrong kind (" + kind + ")"
	}
	return message
}

func unknownKey(path string, err *toml.DecodeError) Problem {
	line, _ := err.Position()
	key := strings.Join(err.Key(), ".")
	remedy := "remove it, or see config.example.toml for the keys there are"
	if near := nearestKey(key); near != "" {
		remedy = fmt.Sprintf("did you mean %s?", near)
	}
	return Problem{File: path, Line: line, Key: key, What: "there is no such key", Remedy: remedy}
}
