//go:build peers

package peers

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Options of a Provider.
type Options struct {
	IP        string // default 127.0.0.1; at 127.0.0.2 Dovecot says LOGINDISABLED until STARTTLS
	Separator string // of the mailbox hierarchy; default "/"
	Prefix    string // of the personal namespace; default none
	MaxSize   int64  // of a submitted message in bytes; default 200 MiB
}

// Provider is Dovecot (IMAP, LMTP, SASL) and Postfix (submission, MX).
type Provider struct {
	Dir                                  string // its state; logs in Dir/log
	Host                                 string
	IMAP, IMAPS, Submission, Submissions string // ports: STARTTLS, TLS, STARTTLS, TLS
	MX                                   string // port without login, for local recipients
	CAFile                               string
	MailRoot                             string // MailRoot/DOMAIN/USER/Maildir
	CAKeyFile                            string
	t                                    testing.TB
	script                               string
	env                                  []string
}

// Users of the provider. Their passwords: Password.
var Users = []string{"alice@alpha.test", "bob@bravo.test", "carol@charlie.test", "load@alpha.test"}

// Password of a user.
func Password(address string) string {
	name, _, _ := strings.Cut(address, "@")
	return name + "-secret"
}

// StartProvider starts both servers; they stop at the end of the test. Only root can start them: they
// drop their privileges themselves.
func StartProvider(t testing.TB, o Options) *Provider {
	t.Helper()
	Need(t, "dovecot", "dovecot-imapd")
	Need(t, "postfix", "postfix")
	Need(t, "openssl", "openssl")
	Need(t, "python3", "python3")
	if _, err := os.Stat("/usr/lib/dovecot/lmtp"); err != nil {
		t.Fatal("dovecot's lmtp is not installed: apt-get install dovecot-lmtpd")
	}
	if os.Geteuid() != 0 {
		t.Fatal("Dovecot and Postfix can be started by root only: run these tests as root")
	}
	p := &Provider{t: t, Dir: Dir(t)}
	p.script = script(t, p.Dir, "provider.sh")
	for name, value := range map[string]string{"PROVIDER_IP": o.IP, "PROVIDER_NS_SEP": o.Separator, "PROVIDER_NS_PREFIX": o.Prefix} {
		if value != "" {
			p.env = append(p.env, name+"="+value)
		}
	}
	if o.MaxSize > 0 {
		p.env = append(p.env, fmt.Sprintf("PROVIDER_MESSAGE_SIZE=%d", o.MaxSize))
	}
	t.Cleanup(p.Stop)
	p.Start()
	p.read()
	return p
}

// Start starts the servers again after Stop, with the same ports and mail.
func (p *Provider) Start() {
	p.t.Helper()
	Run(p.t, p.env, nil, p.script, "start", p.Dir)
}

// Stop stops both servers; mail, ports and CA stay.
func (p *Provider) Stop() {
	p.t.Helper()
	if _, err := try(p.t, p.env, nil, p.script, "stop", p.Dir); err != nil {
		p.t.Errorf("stopping the provider: %v", err)
	}
}

// read takes over what provider.sh wrote into DIR/env.
func (p *Provider) read() {
	p.t.Helper()
	b, err := os.ReadFile(filepath.Join(p.Dir, "env"))
	if err != nil {
		p.t.Fatal(err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[name] = strings.Trim(value, "'")
	}
	p.Host, p.CAFile, p.MailRoot = values["PROVIDER_HOST"], values["CA_PEM"], values["MAIL_ROOT"]
	p.CAKeyFile = filepath.Join(p.Dir, "ca.key")
	p.IMAP, p.IMAPS, p.MX = values["IMAP_PORT"], values["IMAPS_PORT"], values["SMTP_PORT"]
	p.Submission, p.Submissions = values["SUBMISSION_PORT"], values["SUBMISSIONS_PORT"]
}

// IMAPURL and SMTPURL are configuration URLs, with STARTTLS or implicit TLS.
func (p *Provider) IMAPURL(starttls bool) string {
	if starttls {
		return "imap+starttls://" + p.Host + ":" + p.IMAP
	}
	return "imaps://" + p.Host + ":" + p.IMAPS
}

// SMTPURL is that of submission.
func (p *Provider) SMTPURL(starttls bool) string {
	if starttls {
		return "smtp+starttls://" + p.Host + ":" + p.Submission
	}
	return "smtps://" + p.Host + ":" + p.Submissions
}

// Stored is a message in a Maildir.
type Stored struct {
	Mailbox string // "INBOX" or as in the Maildir: ".Sent"
	Flags   string // Maildir letters
	Bytes   []byte
}

// Maildir of a user.
func (p *Provider) Maildir(address string) string {
	name, domain, _ := strings.Cut(address, "@")
	return filepath.Join(p.MailRoot, domain, name, "Maildir")
}

// Stored reads all messages of a user as they rest on disk.
func (p *Provider) Stored(address string) []Stored {
	p.t.Helper()
	var all []Stored
	files, err := filepath.Glob(filepath.Join(p.Maildir(address), "*", "*"))
	if err != nil {
		p.t.Fatal(err)
	}
	deeper, err := filepath.Glob(filepath.Join(p.Maildir(address), ".*", "*", "*"))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, file := range slices.Concat(files, deeper) {
		folder := filepath.Dir(file)
		if kind := filepath.Base(folder); kind != "cur" && kind != "new" {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			p.t.Fatal(err)
		}
		mailbox := filepath.Base(filepath.Dir(folder))
		if mailbox == "Maildir" {
			mailbox = "INBOX"
		}
		_, flags, _ := strings.Cut(filepath.Base(file), ":2,")
		all = append(all, Stored{Mailbox: mailbox, Flags: flags, Bytes: b})
	}
	return all
}

// Find returns the files below the Maildirs (mail, indexes, caches) that hold any of the words.
func (p *Provider) Find(words ...string) []string {
	p.t.Helper()
	var found []string
	err := filepath.WalkDir(p.MailRoot, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(words, func(word string) bool { return strings.Contains(string(b), word) }) {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return found
}

// Put writes a message into a user's INBOX as if it had been there for long; name is its unique name in the
// Maildir.
func (p *Provider) Put(address, name string, message []byte) {
	p.t.Helper()
	mail, err := user.Lookup("mail") // whose files the Maildirs are
	if err != nil {
		p.t.Fatal(err)
	}
	uid, _ := strconv.Atoi(mail.Uid)
	gid, _ := strconv.Atoi(mail.Gid)
	maildir := p.Maildir(address)
	for _, dir := range []string{maildir, filepath.Join(maildir, "cur"), filepath.Join(maildir, "new"), filepath.Join(maildir, "tmp")} {
		if err := os.Mkdir(dir, 0o700); err == nil {
			err = os.Chown(dir, uid, gid)
			if err != nil {
				p.t.Fatal(err)
			}
		}
	}
	file := filepath.Join(maildir, "cur", name+":2,")
	if err := os.WriteFile(file, message, 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Chown(file, uid, gid); err != nil {
		p.t.Fatal(err)
	}
}
