// Package config loads, defaults and validates the configuration file. Every error names
// file, line, key and remedy. It decides nothing: cmd turns a Config into the options of
// the other packages.
package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Config is the whole file. config.example.toml documents every key.
type Config struct {
	StateDir string    `toml:"state_dir"`
	Local    Local     `toml:"local"`
	Vault    Vault     `toml:"vault"`
	Accounts []Account `toml:"account"`
	Policy   Policy    `toml:"policy"`
	Keydisc  Keydisc   `toml:"keydisc"`
	Database Database  `toml:"database"`
	Devices  []Device  `toml:"device"`
	Gateway  Gateway   `toml:"gateway"`

	Discovery Discovery `toml:"discovery"`
}

// Discovery is about exports for others.
type Discovery struct {
	Announce []string `toml:"announce"` // who is told by mail before an export begins
}

// Database is where contacts, keys, the log and the outbox are kept.
type Database struct {
	URL string `toml:"url"` // "": an encrypted file in StateDir; postgres:// for gateways that share
}

// Local are the listeners towards the mail client, host:port; "" turns one off, port 0 picks one.
type Local struct {
	IMAP  string `toml:"imap"`  // STARTTLS offered
	IMAPS string `toml:"imaps"` // implicit TLS
	SMTP  string `toml:"smtp"`  // STARTTLS offered
	SMTPS string `toml:"smtps"` // implicit TLS
	// Devices takes mail of devices alone, also without TLS: an address in a private network.
	Devices string `toml:"devices"`
	// Dashboard is the web page; on loopback only.
	Dashboard string `toml:"dashboard"`
	// Metrics answers Prometheus, /healthz and /readyz. It names nobody, and may listen elsewhere than on loopback.
	Metrics string `toml:"metrics"`
}

// Vault says where the passphrase comes from.
type Vault struct {
	Unlock         []string `toml:"unlock"` // keyring, systemd, file, prompt
	PassphraseFile string   `toml:"passphrase_file"`
}

// Account is one mail account at a provider.
type Account struct {
	Address  string   `toml:"address"`
	Aliases  []string `toml:"aliases"`
	IMAP     string   `toml:"imap"`     // imaps://, imap+starttls://, imap+insecure://
	SMTP     string   `toml:"smtp"`     // smtps://, smtp+starttls://, smtp+insecure://
	Username string   `toml:"username"` // "": the address
	Auth     string   `toml:"auth"`     // password
	CAFile   string   `toml:"ca_file"`
	Seal     any      `toml:"seal"`    // "all", "off" or a list of mailboxes; see Sealing
	Headers  string   `toml:"headers"` // baseline or shy
	// Connections is how many IMAP connections the provider gets at once; see MaxConnections.
	Connections *int `toml:"connections"`
}

// Limits of Account.Connections: one watches for new mail while another fetches it.
const (
	minConnections     = 2
	defaultConnections = 5
	maxConnections     = 50
)

// Policy says what is encrypted.
type Policy struct {
	Default        string `toml:"default"`         // require, prefer, never
	Mixed          string `toml:"mixed"`           // split, refuse
	Override       string `toml:"override"`        // allow, forbid: senders to loosen the default
	SubjectRequire string `toml:"subject_require"` // tags in the subject; "": none
	SubjectClear   string `toml:"subject_clear"`
	// VerifyEvery is how long a comparison of safety numbers counts as recent; 0: for ever.
	VerifyEvery Duration `toml:"verify_every"`
	// KeepLog is how long the decision log is kept; 0: for ever.
	KeepLog Duration `toml:"keep_log"`
	Rules   []Rule   `toml:"rule"`
}

// Rule applies to recipients that match; the first match wins.
type Rule struct {
	Match    string `toml:"match"`
	From     string `toml:"from"` // senders; "": all
	Encrypt  string `toml:"encrypt"`
	Override string `toml:"override"` // allow, forbid; "": allow
}

// Keydisc says how certificates are found.
type Keydisc struct {
	Methods    []string          `toml:"methods"` // contacts, autocrypt, wkd, vks, hkp, dane, ldap, file
	Timeout    Duration          `toml:"timeout"`
	CAFile     string            `toml:"ca_file"`
	Resolve    map[string]string `toml:"resolve"`
	HKP        []string          `toml:"hkp"`         // key servers
	VKS        string            `toml:"vks"`         // verifying key server, to find at and to publish at
	DNS        []string          `toml:"dns"`         // servers for dane; none: the system's
	DNSAnchors []string          `toml:"dns_anchors"` // DS records; none: the root's
	Files      []string          `toml:"files"`       // certificates, or folders of them
	LDAP       []LDAP            `toml:"ldap"`
	Lists      []List            `toml:"list"`
}

// List is one organisation's signed list of the certificates that it vouches for.
type List struct {
	URL         string   `toml:"url"`         // https://…, or a path
	Certificate string   `toml:"certificate"` // path of the organisation's certificate, which signs the list
	Domains     []string `toml:"domains"`     // the only ones it may speak about
	MaxAge      Duration `toml:"max_age"`     // 0: DefaultListAge
}

// DefaultListAge is how old a list's signature may be.
const DefaultListAge = 30 * day

const day = 24 * time.Hour

// Age is MaxAge, or the default if it was not set.
func (l List) Age() time.Duration {
	if l.MaxAge == 0 {
		return DefaultListAge
	}
	return time.Duration(l.MaxAge)
}

// LDAP is one company directory.
type LDAP struct {
	URL          string   `toml:"url"` // ldaps://, ldap+starttls://, ldap+insecure://
	BaseDN       string   `toml:"base_dn"`
	BindDN       string   `toml:"bind_dn"` // "": anonymous
	PasswordFile string   `toml:"password_file"`
	Domains      []string `toml:"domains"` // of the addresses it knows; none: all
	CAFile       string   `toml:"ca_file"`
}

// Default is the configuration of an empty file.
func Default() *Config {
	return &Config{
		StateDir: "~/.local/state/sealpost",
		Local: Local{
			IMAP: "127.0.0.1:1143", IMAPS: "127.0.0.1:1993", SMTP: "127.0.0.1:1025", SMTPS: "127.0.0.1:1465",
			Dashboard: "127.0.0.1:1180",
		},
		Vault:   Vault{Unlock: []string{"keyring", "systemd", "file", "prompt"}},
		Policy:  Policy{Default: "prefer", Mixed: "split", Override: "allow", VerifyEvery: Duration(365 * day)},
		Keydisc: Keydisc{Methods: []string{"contacts", "autocrypt", "wkd", "vks"}, VKS: "https://keys.openpgp.org", Timeout: Duration(10 * time.Second)},
		Gateway: Gateway{Trusted: []string{"127.0.0.0/8"}, Headers: "baseline"},
	}
}

// setDefaults fills in the defaults of one [[account]].
func (a *Account) setDefaults() {
	if a.Username == "" {
		a.Username = a.Address
	}
	if a.Auth == "" {
		a.Auth = "password"
	}
	if a.Headers == "" {
		a.Headers = "baseline"
	}
	if a.Seal == nil {
		a.Seal = "all"
	}
	if a.Connections == nil { // not 0: who writes that means something else
		n := defaultConnections
		a.Connections = &n
	}
}

// MaxConnections is Connections, or the default if it was not set.
func (a Account) MaxConnections() int {
	a.setDefaults()
	return *a.Connections
}

// Duration is a time span such as "10s", "2m" or "365d".
type Duration time.Duration

// maxDays keeps a duration from overflowing.
const maxDays = 36500

// UnmarshalText reads a duration as time.ParseDuration does, or whole days.
func (d *Duration) UnmarshalText(text []byte) error {
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || n > maxDays {
			return fmt.Errorf("%q is not a number of days", days)
		}
		*d = Duration(time.Duration(n) * day)
		return nil
	}
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// MarshalText is the inverse of UnmarshalText.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Duration) String() string {
	if d > 0 && time.Duration(d)%day == 0 {
		return fmt.Sprintf("%dd", time.Duration(d)/day)
	}
	return time.Duration(d).String()
}

// Sealing says in which mailboxes mail that arrived clear is sealed.
func (a Account) Sealing() (all bool, mailboxes []string) {
	switch seal := a.Seal.(type) {
	case string:
		return seal == "all", nil
	case []any:
		for _, name := range seal {
			mailboxes = append(mailboxes, fmt.Sprint(name))
		}
	}
	return false, mailboxes
}

// DefaultPath is $SEALPOST_CONFIG, else sealpost/config.toml in $XDG_CONFIG_HOME or ~/.config.
func DefaultPath() string {
	if path := os.Getenv("SEALPOST_CONFIG"); path != "" {
		return path
	}
	dir := os.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		dir = expand("~/.config", "")
	}
	return filepath.Join(dir, "sealpost", "config.toml")
}

// expand makes a path of the file absolute: ~ is the home folder, and what is relative is so to
// the folder of the configuration file. "" stays.
func expand(path, dir string) string {
	if path == "" {
		return ""
	}
	if path == "~" || len(path) > 1 && path[:2] == "~/" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = "/nonexistent"
		}
		return filepath.Join(home, path[1:])
	}
	if filepath.IsAbs(path) || dir == "" {
		return path
	}
	return filepath.Join(dir, path)
}
