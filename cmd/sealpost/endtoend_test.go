//go:build peers

package main_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/smtp"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/sealpost/sealpost/bridge/bridgetest/peers"
)

// Two people with Thunderbird: they list, open, search, send, reply and draft, and the provider's
// disk holds no word of it.
func TestThunderbird(t *testing.T) {
	s := newSite(t)
	a, b := s.newUser(alice, false), s.newUser(bob, true)
	a.start()
	b.start()
	ta := peers.StartThunderbird(t, a.clientOptions(true))
	tb := peers.StartThunderbird(t, b.clientOptions(false))
	const subject, answer, draft = "Canary Zanzibar", "Re: Canary Zanzibar", "Canary Draft"
	ta.Do("send", "--to", bob, "--subject", subject, "--body", "Canary pelican")
	tb.Do("wait", "INBOX", subject, "60")
	if shown := tb.Do("open", "INBOX", subject); !strings.Contains(shown, "Canary pelican") || !strings.Contains(shown, "$encrypted $signedgood") {
		t.Errorf("Bob sees %s", shown)
	}
	tb.Do("send", "--to", alice, "--subject", answer, "--body", "Canary toucan", "--reply-to-message", "INBOX", subject)
	tb.Do("send", "--to", alice, "--subject", draft, "--body", "Canary flamingo", "--draft")
	ta.Do("wait", "INBOX", answer, "60")
	for _, query := range [][]string{{"body", "toucan"}, {"subject", "Zanzibar"}, {"from", "bob"}} {
		if found := ta.Do("search", append([]string{"INBOX"}, query...)...); !strings.Contains(found, answer) {
			t.Errorf("searching %q finds %q", query, found)
		}
	}
	for folder, want := range map[string]string{"Drafts": draft, "Sent": answer} {
		if list := tb.Do("list-folder", folder); !strings.Contains(list, want) {
			t.Errorf("%s shows %s", folder, list)
		}
		if len(s.stored(bob, "."+folder)) != 1 {
			t.Errorf("the provider does not hold one message in %s", folder)
		}
	}
	s.mustNotLeak("Canary", "pelican", "toucan", "flamingo", "Zanzibar")
	a.browse(t, ta, bob)
	if errors := ta.Do("errors"); strings.Contains(errors, "imap") {
		t.Errorf("Thunderbird complains: %s", errors)
	}
}

func TestMailPrograms(t *testing.T) {
	s := newSite(t)
	a := s.newUser(alice, false)
	a.start()
	for name, tls := range map[string]bool{"STARTTLS": false, "TLS": true} {
		t.Run(name, func(t *testing.T) { peers.RunClients(t, a.clientOptions(tls)) })
	}
}

// gpg alone, with the exported key, reads what was sent and what was sealed; unsealing gives the
// original bytes back.
func TestGPGAlone(t *testing.T) {
	s := newSite(t)
	a, b := s.newUser(alice, false), s.newUser(bob, false)
	a.start()
	b.start()
	const original = "Received: from elsewhere\r\nFrom: Carol <carol@charlie.test>\r\nTo: bob@bravo.test\r\nSubject: Canary clear\r\nMessage-ID: <clear@charlie.test>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\nCanary heron\r\n"
	s.submitAtMX(carol, bob, original)
	a.send([]string{bob}, "Canary sent", "Canary ibis")
	eventually(t, "Bob has both", func() bool { return len(b.subjects("INBOX")) == 2 })
	for _, m := range append(s.provider.Stored(bob), s.provider.Stored(alice)...) {
		if regexp.MustCompile(`Canary|heron|ibis`).Match(m.Bytes) {
			t.Errorf("the provider stores %q", m.Bytes)
		}
	}
	b.write("key-passphrase", "exported")
	b.must("key", "export", "--secret", "--key-passphrase-file", b.path("key-passphrase"), "--out", b.path("key.asc"))
	gpg := peers.NewGPG(t)
	key, err := os.ReadFile(b.path("key.asc"))
	if err != nil {
		t.Fatal(err)
	}
	gpg.Run(key, "--pinentry-mode", "loopback", "--passphrase", "exported", "--import")
	gpg.Import([]byte(a.must("key", "export")))
	var plain []string
	for _, m := range s.stored(bob, "INBOX") {
		armor := regexp.MustCompile(`(?s)-----BEGIN PGP MESSAGE-----.*-----END PGP MESSAGE-----`).Find(m.Bytes)
		plain = append(plain, gpg.Run(armor, "--pinentry-mode", "loopback", "--passphrase", "exported", "--decrypt"))
	}
	all := strings.Join(plain, "\x00")
	if len(plain) != 2 || !strings.Contains(all, "Canary heron\r\n") || !strings.Contains(all, "Canary ibis\r\n") || !strings.Contains(all, "Subject: Canary sent") {
		t.Fatalf("gpg reads %q", plain)
	}
	b.stop()
	b.reconfigure("smtp ", "seal = \"off\"\nsmtp ")
	b.must("unseal", "--mailbox", "INBOX")
	for _, m := range s.stored(bob, "INBOX") {
		if strings.Contains(string(m.Bytes), "Canary heron") {
			if !strings.HasSuffix(string(m.Bytes), original) || strings.Contains(string(m.Bytes), "Sealpost") {
				t.Errorf("unsealed to %q", m.Bytes)
			}
			return
		}
	}
	t.Error("nothing was unsealed")
}

// A recipient without certificate where one is required: 550 and the address, and nothing leaves.
func TestRefused(t *testing.T) {
	s := newSite(t)
	a := s.newUser(alice, false)
	a.configure("[policy]\ndefault = \"require\"\n")
	a.start()
	peers.Need(t, "swaks", "swaks")
	host, port := "127.0.0.1", a.clientOptions(false).SMTP
	_, err := peers.Try(t, "swaks", "--server", host, "--port", port, "--tls", "--auth", "PLAIN", "--auth-user", a.client.Username,
		"--auth-password", a.client.Password, "--from", alice, "--to", bob+","+carol, "--body", "Canary", "--header", "Subject: Canary")
	if err == nil || !strings.Contains(err.Error(), "<~* 550 5.7.1 <"+carol+">: ") {
		t.Errorf("swaks: %v", err)
	}
	queue, err := os.ReadFile(filepath.Join(s.provider.Dir, "log", "postfix.log"))
	if err != nil || strings.Contains(string(queue), "from=<"+alice+">") {
		t.Errorf("something was submitted: %v %s", err, queue)
	}
	if preview, _, code := a.run("would-send", "--from", alice, "--to", bob+","+carol); code != 3 || !strings.Contains(preview, carol+": refuse") {
		t.Errorf("would-send: %d %s", code, preview)
	}
}

// 5,000 messages, a third of them encrypted: the newest page is served while the rest is still
// being opened, and in the end everything is there.
func TestFiveThousandMessages(t *testing.T) {
	s := newSite(t)
	u := s.newUser(load, false)
	const total = 5000
	s.fillMaildir(load, total)
	u.start()
	c := u.imap()
	selected, err := c.Select("INBOX", nil).Wait()
	if err != nil || selected.NumMessages != total {
		t.Fatal(err, selected)
	}
	page := imap.SeqSet{}
	page.AddRange(total-49, total)
	messages, err := c.Fetch(page, &imap.FetchOptions{Envelope: true, RFC822Size: true, Flags: true, BodyStructure: &imap.FetchItemBodyStructure{}}).Collect()
	if err != nil || len(messages) != 50 {
		t.Fatal(err, len(messages))
	}
	opened := u.status().Opened
	if opened >= total {
		t.Errorf("all were opened before the first page was served")
	}
	eventually(t, "all are opened", func() bool { return u.status().Opened == total })
	found, err := c.UIDSearch(&imap.SearchCriteria{Body: []string{"hidden text"}}, nil).Wait()
	if err != nil || len(found.AllUIDs()) != (total+2)/3 {
		t.Errorf("%v: %d of the encrypted messages were found", err, len(found.AllUIDs()))
	}
	if rss := u.peakMemory(); rss > 250 {
		t.Errorf("%d MB resident", rss)
	}
}

// 50 MB go out, come in and are stored, byte for byte, in bounded memory.
func TestBigAttachment(t *testing.T) {
	s := newSite(t)
	a, b := s.newUser(alice, false), s.newUser(bob, false)
	a.start()
	b.start()
	message := bigMessage(50 << 20)
	a.submit([]string{bob}, message)
	a.append("Sent", message)
	for _, c := range []struct {
		u       *user
		mailbox string
	}{{b, "INBOX"}, {a, "Sent"}} {
		eventually(t, "it is there", func() bool { return len(c.u.subjects(c.mailbox)) == 1 })
		got := c.u.newest(c.mailbox)
		_, want, _ := strings.Cut(message, "\r\n\r\n")
		if !strings.HasSuffix(got, want) {
			t.Errorf("%s changed it (%d bytes)", c.mailbox, len(got))
		}
		if rss := c.u.peakMemory(); rss > 250 {
			t.Errorf("%d MB resident", rss)
		}
	}
	s.mustNotLeak("Canary")
}

// The provider goes away and comes back: one clear line, nothing lost, mail flows again.
func TestProviderGoesAway(t *testing.T) {
	s := newSite(t)
	a, b := s.newUser(alice, false), s.newUser(bob, true)
	a.start()
	b.start()
	a.send([]string{bob}, "Canary before", "Canary")
	eventually(t, "it arrives", func() bool { return len(b.subjects("INBOX")) == 1 })
	s.provider.Stop()
	if err := a.trySend([]string{bob}, "Canary between", "Canary"); err == nil || !strings.HasPrefix(err.Error(), "451 ") {
		t.Errorf("sending without a provider: %v", err)
	}
	if got := b.subjects("INBOX"); len(got) != 1 || got[0] != "Canary before" {
		t.Errorf("reading without a provider: %v", got)
	}
	eventually(t, "status says offline", func() bool { return b.status().Provider == "offline" })
	s.provider.Start()
	eventually(t, "sending works again", func() bool { return a.trySend([]string{bob}, "Canary after", "Canary") == nil })
	eventually(t, "receiving works again", func() bool { return len(b.subjects("INBOX")) == 2 })
	s.mustNotLeak("Canary")
}

// reconfigure replaces text in the configuration.
func (u *user) reconfigure(old, replacement string) {
	u.t.Helper()
	path := u.path(".config/sealpost/config.toml")
	data, err := os.ReadFile(path)
	if err == nil && !strings.Contains(string(data), old) {
		err = fmt.Errorf("no %q in %s", old, data)
	}
	if err == nil {
		err = os.WriteFile(path, []byte(strings.Replace(string(data), old, replacement, 1)), 0o600)
	}
	if err != nil {
		u.t.Fatal(err)
	}
}

func (u *user) roots() *tls.Config {
	u.t.Helper()
	pem, err := os.ReadFile(u.client.CAFile)
	if err != nil {
		u.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool, ServerName: "localhost"}
}

func (u *user) imap() *imapclient.Client {
	u.t.Helper()
	c, err := imapclient.DialTLS(u.client.IMAPS, &imapclient.Options{TLSConfig: u.roots()})
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { _ = c.Close() })
	if err := c.Login(u.client.Username, u.client.Password).Wait(); err != nil {
		u.t.Fatal(err)
	}
	return c
}

// subjects are those a client sees in a mailbox.
func (u *user) subjects(mailbox string) []string {
	u.t.Helper()
	c := u.imap()
	defer c.Close()
	selected, err := c.Select(mailbox, nil).Wait()
	if err != nil {
		u.t.Fatal(err)
	}
	if selected.NumMessages == 0 {
		return nil
	}
	all := imap.SeqSet{}
	all.AddRange(1, 0)
	messages, err := c.Fetch(all, &imap.FetchOptions{Envelope: true}).Collect()
	if err != nil {
		u.t.Fatal(err)
	}
	var subjects []string
	for _, m := range messages {
		subjects = append(subjects, m.Envelope.Subject)
	}
	return subjects
}

// newest is the last message of a mailbox.
func (u *user) newest(mailbox string) string {
	u.t.Helper()
	c := u.imap()
	defer c.Close()
	selected, err := c.Select(mailbox, nil).Wait()
	if err != nil {
		u.t.Fatal(err)
	}
	section := &imap.FetchItemBodySection{Peek: true}
	messages, err := c.Fetch(imap.SeqSetNum(selected.NumMessages), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil || len(messages) != 1 {
		u.t.Fatal(err, len(messages))
	}
	return string(messages[0].FindBodySection(section))
}

func (u *user) append(mailbox, message string) {
	u.t.Helper()
	c := u.imap()
	defer c.Close()
	cmd := c.Append(mailbox, int64(len(message)), nil)
	_, err := io.Copy(cmd, strings.NewReader(message))
	if err == nil {
		err = cmd.Close()
	}
	if err == nil {
		_, err = cmd.Wait()
	}
	if err != nil {
		u.t.Fatal(err)
	}
}

func (u *user) send(to []string, subject, body string) {
	u.t.Helper()
	if err := u.trySend(to, subject, body); err != nil {
		u.t.Fatal(err)
	}
}

func (u *user) trySend(to []string, subject, body string) error {
	return u.trySubmit(to, fmt.Sprintf("From: %s\r\nTo: %s\r\nSubject: %s\r\n\r\n%s\r\n", u.address, strings.Join(to, ", "), subject, body))
}

func (u *user) submit(to []string, message string) {
	u.t.Helper()
	if err := u.trySubmit(to, message); err != nil {
		u.t.Fatal(err)
	}
}

// trySubmit sends with Go's own SMTP client, over STARTTLS.
func (u *user) trySubmit(to []string, message string) error {
	c, err := smtp.Dial(u.client.SMTP)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.StartTLS(u.roots()); err != nil {
		return err
	}
	if err := c.Auth(smtp.PlainAuth("", u.client.Username, u.client.Password, "127.0.0.1")); err != nil {
		return err
	}
	return transaction(c, u.address, to, message)
}

func transaction(c *smtp.Client, from string, to []string, message string) error {
	if err := c.Mail(from); err != nil {
		return err
	}
	for _, address := range to {
		if err := c.Rcpt(address); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, message); err != nil {
		return err
	}
	return w.Close()
}

// submitAtMX brings mail from outside to the provider.
func (s *site) submitAtMX(from, to, message string) {
	s.t.Helper()
	c, err := smtp.Dial(s.provider.Host + ":" + s.provider.MX)
	if err == nil {
		defer c.Close()
		err = transaction(c, from, []string{to}, message)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// accountStatus is what `sealpost status --json` says of the account.
type accountStatus struct {
	Provider string
	Opened   int
}

func (u *user) status() accountStatus {
	u.t.Helper()
	out, _, _ := u.run("status", "--json")
	var status struct{ Accounts []accountStatus }
	if err := json.Unmarshal([]byte(out), &status); err != nil || len(status.Accounts) != 1 {
		u.t.Fatal(err, out)
	}
	return status.Accounts[0]
}

// peakMemory is the daemon's largest resident set so far, in MB (proc(5)).
func (u *user) peakMemory() int {
	u.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", u.daemon.Process.Pid))
	if err != nil {
		u.t.Fatal(err)
	}
	match := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(data)
	kilobytes, err := strconv.Atoi(string(match[1]))
	if err != nil {
		u.t.Fatal(err)
	}
	return kilobytes >> 10
}

// bigMessage has an attachment of that many random bytes, as Base64.
func bigMessage(size int) string {
	random := rand.NewChaCha8([32]byte{1})
	var b strings.Builder
	b.WriteString("From: " + alice + "\r\nTo: " + bob + "\r\nSubject: Canary big\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nCanary text\r\n" +
		"--b\r\nContent-Type: application/octet-stream; name=big.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for line := [57]byte{}; size > 0; size -= len(line) {
		_, _ = random.Read(line[:])
		b.WriteString(base64.StdEncoding.EncodeToString(line[:]) + "\r\n")
	}
	b.WriteString("--b--\r\n")
	return b.String()
}

// fillMaildir puts messages into an INBOX as the provider would, every third encrypted by gpg.
func (s *site) fillMaildir(address string, n int) {
	s.t.Helper()
	gpg := peers.NewGPG(s.t)
	certificate, err := os.ReadFile(filepath.Join(s.wkd.Dir, "keys", address+".pub.asc"))
	if err != nil {
		s.t.Fatal(err)
	}
	gpg.Import(certificate)
	var ciphertexts []string
	for i := range 20 {
		plain := fmt.Sprintf("Content-Type: text/plain; protected-headers=\"v1\"\r\nSubject: Secret %d\r\n\r\nhidden text %d %s\r\n", i, i, strings.Repeat("lorem ipsum ", 300))
		armor := gpg.Run([]byte(plain), "--trust-model", "always", "--armor", "--encrypt", "-r", address)
		ciphertexts = append(ciphertexts, strings.ReplaceAll(armor, "\n", "\r\n"))
	}
	for i := range n {
		text := fmt.Sprintf("From: %s\r\nTo: %s\r\nMessage-ID: <m%d@charlie.test>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n", carol, address, i)
		if i%3 == 0 {
			text += "Subject: [...]\r\nMIME-Version: 1.0\r\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=\"b\"\r\n\r\n--b\r\n" +
				"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n" + ciphertexts[i%20] + "\r\n--b--\r\n"
		} else {
			text += fmt.Sprintf("Subject: Message %d\r\n\r\nplain text %d %s\r\n", i, i, strings.Repeat("dolor sit amet ", 400))
		}
		s.provider.Put(address, fmt.Sprintf("%d.M%d.host", 1795400000+i, i), []byte(text))
	}
}
