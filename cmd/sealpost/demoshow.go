package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// show is the demonstration: four promises, each looked at from both sides. The error names
// the first that was not kept.
func (d *demo) show(ctx context.Context) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"Alice sends to Bob: encrypted on the way, read by Bob's client", d.showSent},
		{"Alice's client stores its copy in Sent: sealed before it leaves the device", d.showStored},
		{"A stranger writes to Bob in clear: sealed at the provider before Bob's client sees it", d.showSealed},
		{"Alice writes to Carol, who has no certificate, where the policy requires one: refused", d.showRefused},
	} {
		fmt.Fprintf(d.g.stdout, "\n== %s\n", step.name)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("not as promised: %s: %w", step.name, err)
		}
	}
	fmt.Fprintln(d.g.stdout, "\nEverything was as promised.")
	return nil
}

func (d *demo) showSent(ctx context.Context) error {
	message := demoMessage(demoAlice, demoBob, demoSubject, demoBody)
	if err := d.users[demoAlice].submit([]string{demoBob}, message); err != nil {
		return err
	}
	seen, err := d.users[demoBob].waitFor(ctx, "INBOX", demoSubject)
	if err != nil {
		return err
	}
	return d.compare(demoBob, "INBOX", seen, "encryption=openpgp", "signature=good")
}

func (d *demo) showStored(ctx context.Context) error {
	alice := d.users[demoAlice]
	if err := alice.store("Sent", demoMessage(demoAlice, demoBob, demoSubject, demoBody)); err != nil {
		return err
	}
	seen, err := alice.waitFor(ctx, "Sent", demoSubject)
	if err != nil {
		return err
	}
	return d.compare(demoAlice, "Sent", seen, "encryption=sealed")
}

func (d *demo) showSealed(ctx context.Context) error {
	const subject = "Greetings from outside"
	message := demoMessage("stranger@delta.test", demoBob, subject, demoBody)
	if _, err := d.provider.Deliver(demoBob, "INBOX", message); err != nil {
		return err
	}
	seen, err := d.users[demoBob].waitFor(ctx, "INBOX", subject)
	if err != nil {
		return err
	}
	return d.compare(demoBob, "INBOX", seen, "encryption=sealed")
}

func (d *demo) showRefused(context.Context) error {
	before := len(d.provider.Submissions())
	err := d.users[demoAlice].submit([]string{demoCarol}, demoMessage(demoAlice, demoCarol, demoSubject, demoBody))
	var reply *smtp.SMTPError
	if !errors.As(err, &reply) || reply.Code != 550 || !strings.Contains(reply.Message, demoCarol) {
		return fmt.Errorf("the answer was %w", err)
	}
	if len(d.provider.Submissions()) != before {
		return errors.New("something left the device")
	}
	fmt.Fprintf(d.g.stdout, "   The client is told: %d %s\n", reply.Code, reply.Message)
	return nil
}

// compare prints the newest message of a mailbox as the provider stores it beside what the
// client sees, and checks both.
func (d *demo) compare(address, mailbox string, seen []byte, status ...string) error {
	var stored []byte
	for _, m := range d.provider.Stored(address) {
		if m.Mailbox == mailbox {
			stored = m.Bytes
		}
		for _, secret := range []string{demoBody, demoSubject, "Greetings from outside"} {
			if bytes.Contains(m.Bytes, []byte(secret)) {
				return fmt.Errorf("the provider can read %q in %s", secret, m.Mailbox)
			}
		}
	}
	sideBySide(d.g, excerpt(stored), excerpt(seen))
	for _, want := range append(status, demoBody) {
		if !bytes.Contains(seen, []byte(want)) {
			return fmt.Errorf("the client does not see %q", want)
		}
	}
	if !bytes.Contains(stored, []byte("BEGIN PGP MESSAGE")) {
		return errors.New("the provider does not store ciphertext")
	}
	return nil
}

// excerpt is what tells a reader most: a few header fields and the beginning of the body.
func excerpt(message []byte) []string {
	header, body, _ := strings.Cut(strings.ReplaceAll(string(message), "\r\n", "\n"), "\n\n")
	var lines []string
	for _, name := range []string{"From:", "To:", "Subject:", "Content-Type:", "X-Sealpost-Status:"} {
		for _, line := range strings.Split(header, "\n") {
			if strings.HasPrefix(line, name) {
				lines = append(lines, line)
			}
		}
	}
	if at := strings.Index(body, "-----BEGIN"); at > 0 {
		body = body[at:]
	}
	lines = append(lines, "")
	for _, line := range strings.Split(body, "\n") {
		if line != "" && len(lines) < 10 {
			lines = append(lines, line)
		}
	}
	return lines
}

func sideBySide(g *globals, left, right []string) {
	const width = 56
	fmt.Fprintf(g.stdout, "   %-*s | %s\n", width, "WHAT THE PROVIDER STORES", "WHAT THE CLIENT SEES")
	for i := range max(len(left), len(right)) {
		fmt.Fprintf(g.stdout, "   %-*s | %s\n", width, cell(left, i, width), cell(right, i, width))
	}
}

func cell(lines []string, i, width int) string {
	if i >= len(lines) {
		return ""
	}
	if len(lines[i]) > width {
		return lines[i][:width-1] + "…"
	}
	return lines[i]
}

func demoMessage(from, to, subject, body string) []byte {
	id := randomSecret()
	return fmt.Appendf(nil, "From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\nMessage-ID: <%s@demo.test>\r\nDate: Mon, 23 Nov 2026 09:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n",
		from, to, subject, id, body)
}

// tls trusts the bridge's local authority, as a mail client is told to.
func (u *demoUser) tls() (*tls.Config, error) {
	pem, err := os.ReadFile(u.caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}, nil
}

// submit sends as a mail client does: STARTTLS, AUTH, one transaction.
func (u *demoUser) submit(to []string, message []byte) error {
	trust, err := u.tls()
	if err != nil {
		return err
	}
	c, err := smtp.DialStartTLS(u.service.listeners["smtp"], trust)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", u.address, u.localPassword)); err != nil {
		return err
	}
	if err := c.SendMail(u.address, to, bytes.NewReader(message)); err != nil {
		return err
	}
	return c.Quit()
}

// imap logs in as a mail client does: TLS from the first byte.
func (u *demoUser) imap() (*imapclient.Client, error) {
	trust, err := u.tls()
	if err != nil {
		return nil, err
	}
	c, err := imapclient.DialTLS(u.service.listeners["imaps"], &imapclient.Options{TLSConfig: trust})
	if err != nil {
		return nil, err
	}
	if err := c.Login(u.address, u.localPassword).Wait(); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func (u *demoUser) store(mailbox string, message []byte) error {
	c, err := u.imap()
	if err != nil {
		return err
	}
	defer c.Close()
	cmd := c.Append(mailbox, int64(len(message)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagSeen}})
	if _, err := cmd.Write(message); err != nil {
		return err
	}
	if err := cmd.Close(); err != nil {
		return err
	}
	_, err = cmd.Wait()
	return err
}

// waitFor reads the message with that subject once the bridge shows it.
func (u *demoUser) waitFor(ctx context.Context, mailbox, subject string) ([]byte, error) {
	c, err := u.imap()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return eventually(ctx, func() ([]byte, bool, error) {
		if _, err := c.Select(mailbox, nil).Wait(); err != nil {
			return nil, false, err
		}
		found, err := c.UIDSearch(&imap.SearchCriteria{
			Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: subject}},
		}, nil).Wait()
		if err != nil || len(found.AllUIDs()) == 0 {
			return nil, false, err
		}
		section := &imap.FetchItemBodySection{Peek: true}
		messages, err := c.Fetch(imap.UIDSetNum(found.AllUIDs()[0]), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
		if err != nil || len(messages) == 0 {
			return nil, false, err
		}
		return messages[0].FindBodySection(section), true, nil
	})
}
