//go:build peers

package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// IMAPOptions point a mail program at the provider itself, over TLS.
func (p *Provider) IMAPOptions(address string) ClientOptions {
	return ClientOptions{Host: "localhost", IMAP: p.IMAPS, IMAPTLS: "tls", CAFile: p.CAFile, Username: address, Password: Password(address)}
}

// Curl is IMAP by curl: the judge of what other mail programs did.
type Curl struct {
	t       testing.TB
	url     string
	options []string
}

// NewCurl keeps the password out of the list of processes.
func NewCurl(t testing.TB, o ClientOptions) *Curl {
	t.Helper()
	Need(t, "curl", "curl")
	config := filepath.Join(Dir(t), "curl.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, "user = \"%s:%s\"\n", o.Username, o.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	scheme := map[string]string{"tls": "imaps", "starttls": "imap"}[o.IMAPTLS]
	return &Curl{t: t, url: scheme + "://" + o.Host + ":" + o.IMAP + "/",
		options: []string{"-sS", "--max-time", "60", "--ssl-reqd", "--cacert", o.CAFile, "-K", config}}
}

func (c *Curl) run(mailbox string, args ...string) string {
	c.t.Helper()
	return Run(c.t, nil, nil, "curl", slices.Concat(c.options, []string{c.url + mailbox}, args)...)
}

// Command sends one command, after SELECT if a mailbox is named, and returns the untagged lines.
func (c *Curl) Command(mailbox, command string) string {
	c.t.Helper()
	return strings.ReplaceAll(c.run(mailbox, "-X", command), "\r", "")
}

// UIDs are those of the messages that match.
func (c *Curl) UIDs(mailbox, criteria string) []string {
	c.t.Helper()
	_, found, _ := strings.Cut(c.Command(mailbox, "UID SEARCH "+criteria), "* SEARCH")
	return strings.Fields(found)
}

// UID is that of the only message that matches.
func (c *Curl) UID(mailbox, criteria string) string {
	c.t.Helper()
	uids := c.UIDs(mailbox, criteria)
	if len(uids) != 1 {
		c.t.Fatalf("%s in %s: found %v", criteria, mailbox, uids)
	}
	return uids[0]
}

// Message is BODY[], which sets \Seen.
func (c *Curl) Message(mailbox, uid string) string {
	c.t.Helper()
	return c.run(mailbox + ";UID=" + uid)
}

// Flags of a message, as the server writes them.
func (c *Curl) Flags(mailbox, uid string) string {
	c.t.Helper()
	_, flags, _ := strings.Cut(c.Command(mailbox, "UID FETCH "+uid+" (FLAGS)"), "FLAGS (")
	flags, _, _ = strings.Cut(flags, ")")
	return flags
}

// Append stores a message.
func (c *Curl) Append(mailbox, message string) {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "message")
	if err := os.WriteFile(file, []byte(message), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.run(mailbox, "-T", file)
}

// Delete removes a message for good.
func (c *Curl) Delete(mailbox, uid string) {
	c.t.Helper()
	c.Command(mailbox, "UID STORE "+uid+" +FLAGS.SILENT (\\Deleted)")
	c.Command(mailbox, "EXPUNGE")
}

// Maildir reads a local Maildir: messages by their path below it, as DIR/cur/NAME.
func Maildir(t testing.TB, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, kind := range []string{"cur", "new"} {
		files, err := filepath.Glob(filepath.Join(dir, kind, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			message, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found[file] = string(message)
		}
	}
	return found
}

// OfflineIMAP synchronises mailboxes with Maildirs below Mail.
type OfflineIMAP struct {
	t            testing.TB
	Mail, config string
}

// NewOfflineIMAP begins without local mail.
func NewOfflineIMAP(t testing.TB) *OfflineIMAP {
	t.Helper()
	Need(t, "offlineimap", "offlineimap3")
	dir := Dir(t)
	return &OfflineIMAP{t: t, Mail: filepath.Join(dir, "mail"), config: filepath.Join(dir, "rc")}
}

// Sync runs once and returns what it says it did. It needs TLS from the first byte: STARTTLS is a race within
// OfflineIMAP 8.0.0, which hangs or crashes with any server.
func (s *OfflineIMAP) Sync(o ClientOptions, mailboxes ...string) string {
	s.t.Helper()
	text := "[general]\naccounts = rig\nmetadata = " + filepath.Dir(s.config) + "/metadata\nsocktimeout = 60\n" +
		"[Account rig]\nlocalrepository = near\nremoterepository = far\n" +
		"[Repository near]\ntype = Maildir\nlocalfolders = " + s.Mail + "\n" +
		"[Repository far]\ntype = IMAP\nremotehost = " + o.Host + "\nremoteport = " + o.IMAP + "\nremoteuser = " + o.Username + "\nremotepass = " + o.Password +
		"\nssl = yes\nstarttls = no\nsslcacertfile = " + o.CAFile +
		"\nfolderfilter = lambda name: name in " + "['" + strings.Join(mailboxes, "', '") + "']\n"
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return Run(s.t, nil, nil, "offlineimap", "-o", "-u", "basic", "-c", s.config)
}

// Getmail fetches what it has not fetched before into a Maildir.
type Getmail struct {
	t         testing.TB
	dir, Mail string
}

// NewGetmail begins without local mail.
func NewGetmail(t testing.TB) *Getmail {
	t.Helper()
	Need(t, "getmail", "getmail6")
	g := &Getmail{t: t, dir: Dir(t)}
	g.Mail = filepath.Join(g.dir, "mail")
	Run(t, nil, nil, "install", "-d", "-o", "mail", g.Mail, g.Mail+"/cur", g.Mail+"/new", g.Mail+"/tmp")
	return g
}

// Fetch runs once, over TLS, and returns what it says it did.
func (g *Getmail) Fetch(o ClientOptions, mailboxes ...string) string {
	g.t.Helper()
	text := "[retriever]\ntype = SimpleIMAPSSLRetriever\nserver = " + o.Host + "\nport = " + o.IMAP + "\nusername = " + o.Username +
		"\npassword = " + o.Password + "\nca_certs = " + o.CAFile + "\nmailboxes = (\"" + strings.Join(mailboxes, "\", \"") + "\",)\ntimeout = 60\n" +
		"[destination]\ntype = Maildir\npath = " + g.Mail + "/\nuser = mail\n" + // it refuses to deliver as root
		"[options]\nread_all = false\ndelivered_to = false\nreceived = false\nverbose = 2\n"
	if err := os.WriteFile(filepath.Join(g.dir, "rc"), []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return Run(g.t, nil, nil, "getmail", "--getmaildir", g.dir, "--rcfile", "rc")
}

// RunImaplib lets Python's imaplib give every command it has, see rig/imaplib_check.py, and returns what it says.
func RunImaplib(t testing.TB, o ClientOptions) string {
	t.Helper()
	Need(t, "python3", "python3")
	path := script(t, Dir(t), "imaplib_check.py")
	return Run(t, []string{"IMAP_PASSWORD=" + o.Password}, nil, path, o.Host, o.IMAP, o.IMAPTLS, o.Username, o.CAFile)
}

// RunAlpine lets somebody read and delete with Alpine, see rig/alpine.py.
func RunAlpine(t testing.TB, o ClientOptions) string {
	t.Helper()
	Need(t, "alpine", "alpine")
	Need(t, "tmux", "tmux")
	Need(t, "python3", "python3")
	dir := Dir(t)
	return Run(t, []string{"IMAP_PASSWORD=" + o.Password}, nil, script(t, dir, "alpine.py"), dir, o.Host, o.IMAP, o.Username, o.CAFile)
}
