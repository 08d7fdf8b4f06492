package bridgetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alice = "alice@alpha.test"
	bob   = "bob@bravo.test"
)

func start(t *testing.T, o ProviderOptions) *Provider {
	t.Helper()
	o.Users = []User{{alice, "a-secret"}, {bob, "b-secret"}}
	p, err := StartProvider(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return p
}

func host(t *testing.T, raw string) (scheme, address string) {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u.Scheme, u.Host
}

func trust(p *Provider) *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.CAPEM())
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func dialIMAP(t *testing.T, p *Provider, handler *imapclient.UnilateralDataHandler) *imapclient.Client {
	t.Helper()
	scheme, address := host(t, p.IMAPURL())
	o := &imapclient.Options{TLSConfig: trust(p), UnilateralDataHandler: handler}
	dial := map[string]func(string, *imapclient.Options) (*imapclient.Client, error){
		"imaps": imapclient.DialTLS, "imap+starttls": imapclient.DialStartTLS, "imap+insecure": imapclient.DialInsecure,
	}[scheme]
	c, err := dial(address, o)
	check(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func login(t *testing.T, p *Provider, address, mailbox string, handler *imapclient.UnilateralDataHandler) *imapclient.Client {
	t.Helper()
	c := dialIMAP(t, p, handler)
	check(t, c.Login(address, address[:1]+"-secret").Wait())
	if mailbox != "" {
		_, err := c.Select(mailbox, nil).Wait()
		check(t, err)
	}
	return c
}

func dialSMTP(t *testing.T, p *Provider) *smtp.Client {
	t.Helper()
	scheme, address := host(t, p.SMTPURL())
	var c *smtp.Client
	var err error
	switch scheme {
	case "smtps":
		c, err = smtp.DialTLS(address, trust(p))
	case "smtp+starttls":
		c, err = smtp.DialStartTLS(address, trust(p))
	default:
		c, err = smtp.Dial(address)
	}
	check(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func send(t *testing.T, p *Provider, to []string, message []byte) error {
	t.Helper()
	c := dialSMTP(t, p)
	check(t, c.Auth(sasl.NewPlainClient("", alice, "a-secret")))
	return c.SendMail(alice, to, bytes.NewReader(message))
}

func appendMessage(c *imapclient.Client, mailbox string, message []byte, o *imap.AppendOptions) (*imap.AppendData, error) {
	cmd := c.Append(mailbox, int64(len(message)), o)
	// The client holds its encoder until Close, also when the literal was refused.
	_, writeErr := cmd.Write(message)
	closeErr := cmd.Close()
	data, err := cmd.Wait()
	if err == nil {
		err = errors.Join(writeErr, closeErr)
	}
	return data, err
}

// odd has what a careless server alters: bare CR and LF, 8-bit octets, odd header lines, no end of line.
var odd = []byte("Subject: odd\r\nno colon here\r\nX-Folded: a\r\n\tb\r\n\r\nbare\nLF and\rCR \xff\xfe\r\n.dot\r\n\r\nno end")

func TestBytesAreKept(t *testing.T) {
	for _, security := range []string{"tls", "starttls", "insecure"} {
		t.Run(security, func(t *testing.T) {
			p := start(t, ProviderOptions{Security: security})
			c := login(t, p, alice, "", nil)
			date := time.Date(2020, 2, 3, 4, 5, 6, 0, time.FixedZone("", 3600))
			data, err := appendMessage(c, "Sent", odd, &imap.AppendOptions{Flags: []imap.Flag{imap.FlagSeen, "$Label"}, Time: date})
			check(t, err)
			_, err = c.Select("Sent", nil).Wait()
			check(t, err)
			whole := &imap.FetchItemBodySection{Peek: true}
			part := &imap.FetchItemBodySection{Peek: true, Partial: &imap.SectionPartial{Offset: 5, Size: 20}}
			text := &imap.FetchItemBodySection{Peek: true, Specifier: imap.PartSpecifierText}
			got, err := c.Fetch(imap.UIDSetNum(data.UID), &imap.FetchOptions{
				Flags: true, InternalDate: true, RFC822Size: true, BodySection: []*imap.FetchItemBodySection{whole, part, text},
			}).Collect()
			check(t, err)
			if len(got) != 1 || !bytes.Equal(got[0].FindBodySection(whole), odd) || !bytes.Equal(got[0].FindBodySection(part), odd[5:25]) {
				t.Fatalf("fetched %+v", got)
			}
			if want := odd[bytes.Index(odd, []byte("bare")):]; !bytes.Equal(got[0].FindBodySection(text), want) {
				t.Errorf("text %q, want %q", got[0].FindBodySection(text), want)
			}
			want := []Stored{{Mailbox: "Sent", UID: uint32(data.UID), Flags: []string{"$Label", `\Seen`}, InternalDate: date, Bytes: odd}}
			if diff := cmp.Diff(want, p.Stored(alice)); diff != "" || !got[0].InternalDate.Equal(date) || got[0].RFC822Size != int64(len(odd)) {
				t.Errorf("stored: %s; date %v size %d", diff, got[0].InternalDate, got[0].RFC822Size)
			}
		})
	}
}

func TestDeliveryReachesAnIdlingSession(t *testing.T) {
	p := start(t, ProviderOptions{})
	arrived := make(chan uint32, 10)
	c := login(t, p, bob, "INBOX", &imapclient.UnilateralDataHandler{Mailbox: func(d *imapclient.UnilateralDataMailbox) {
		if d.NumMessages != nil {
			arrived <- *d.NumMessages
		}
	}})
	idle, err := c.Idle()
	check(t, err)
	message := []byte("From: " + alice + "\r\nSubject: hi\r\n\r\nhello\r\n")
	check(t, send(t, p, []string{bob, "stranger@elsewhere.test"}, message))
	select {
	case n := <-arrived:
		if n != 1 {
			t.Errorf("EXISTS %d", n)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("IDLE was not told")
	}
	check(t, idle.Close())
	check(t, idle.Wait())
	stored := p.Stored(bob)
	if len(stored) != 1 || !bytes.HasPrefix(stored[0].Bytes, []byte("Return-Path: <"+alice+">\r\nReceived: ")) || !bytes.HasSuffix(stored[0].Bytes, message) {
		t.Errorf("stored %+v", stored)
	}
	if diff := cmp.Diff([]Submission{{alice, []string{bob, "stranger@elsewhere.test"}, message}}, p.Submissions()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Submission{{alice, []string{"stranger@elsewhere.test"}, message}}, p.Outside()); diff != "" {
		t.Error(diff)
	}
}

func TestListShowsSpecialUse(t *testing.T) {
	p := start(t, ProviderOptions{})
	c := login(t, p, alice, "", nil)
	check(t, c.Create("Projects/2026", nil).Wait())
	list, err := c.List("", "*", &imap.ListOptions{ReturnSpecialUse: true, ReturnStatus: &imap.StatusOptions{UIDValidity: true}}).Collect()
	check(t, err)
	got, validities := map[string]string{}, map[uint32]bool{}
	for _, m := range list {
		var attrs []string
		for _, a := range m.Attrs {
			attrs = append(attrs, string(a))
		}
		got[m.Mailbox] = strings.Join(attrs, " ")
		validities[m.Status.UIDValidity] = true
	}
	want := map[string]string{
		"INBOX": `\HasNoChildren`, "Drafts": `\HasNoChildren \Drafts`, "Sent": `\HasNoChildren \Sent`, "Trash": `\HasNoChildren \Trash`,
		"Junk": `\HasNoChildren \Junk`, "Archive": `\HasNoChildren \Archive`, "Projects": `\HasChildren`, "Projects/2026": `\HasNoChildren`,
	}
	if diff := cmp.Diff(want, got); diff != "" || len(validities) != len(want) {
		t.Errorf("%s; %d different UIDVALIDITY", diff, len(validities))
	}
}

func TestSubmissionRefusals(t *testing.T) {
	p := start(t, ProviderOptions{MaxMessageSize: 1000})
	c := dialSMTP(t, p)
	code := func(err error) int {
		t.Helper()
		e, ok := err.(*smtp.SMTPError)
		if !ok {
			t.Fatalf("not a reply: %v", err)
		}
		return e.Code
	}
	if got := code(c.Mail(alice, nil)); got != 530 {
		t.Errorf("without login: %d", got)
	}
	if got := code(c.Auth(sasl.NewPlainClient("", alice, "wrong"))); got != 535 {
		t.Errorf("wrong password: %d", got)
	}
	check(t, c.Auth(sasl.NewPlainClient("", alice, "a-secret")))
	if got := code(c.Mail(bob, nil)); got != 553 {
		t.Errorf("another's address: %d", got)
	}
	if got := code(c.Mail(alice, &smtp.MailOptions{Size: 1001})); got != 552 {
		t.Errorf("too large: %d", got)
	}
	check(t, c.Mail(alice, nil))
	if got := code(c.Rcpt("nobody@bravo.test", nil)); got != 550 {
		t.Errorf("unknown user: %d", got)
	}
	if p.Logins() != 1 || p.Connections() != 1 {
		t.Errorf("%d logins, %d connections", p.Logins(), p.Connections())
	}
}

func TestWKD(t *testing.T) {
	w, err := StartWKD()
	check(t, err)
	defer func() { check(t, w.Close()) }()
	w.Publish("Joe.Doe@bravo.test", []byte("certificate"), "advanced")
	table := w.Resolve("other.test")
	if len(table) != 3 || table["openpgpkey.bravo.test:443"] != w.Addr() || table["other.test:443"] != w.Addr() {
		t.Errorf("resolve %v", table)
	}
	get := func(address string) string {
		t.Helper()
		dialer := &tls.Dialer{Config: trust(&Provider{})}
		dialer.Config.ServerName, _, _ = strings.Cut(address, "/")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		conn, err := dialer.DialContext(ctx, "tcp", w.Addr())
		check(t, err)
		defer conn.Close()
		name, path, _ := strings.Cut(address, "/")
		_, err = conn.Write([]byte("GET /" + path + " HTTP/1.1\r\nHost: " + name + "\r\nConnection: close\r\n\r\n"))
		check(t, err)
		var b bytes.Buffer
		_, err = b.ReadFrom(conn)
		check(t, err)
		return b.String()
	}
	// The hash is the example of draft-koch §3.1.
	page := "openpgpkey.bravo.test/.well-known/openpgpkey/bravo.test/hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=Joe.Doe"
	if answer := get(page); !strings.HasPrefix(answer, "HTTP/1.1 200") || !strings.HasSuffix(answer, "\r\n\r\ncertificate") {
		t.Errorf("answer %q", answer)
	}
	if answer := get("openpgpkey.other.test/.well-known/openpgpkey/other.test/hu/x"); !strings.HasPrefix(answer, "HTTP/1.1 404") {
		t.Errorf("answer %q", answer)
	}
	if got := w.Requests(); len(got) != 2 || got[1] != "GET openpgpkey.other.test /.well-known/openpgpkey/other.test/hu/x" {
		t.Errorf("requests %q", got)
	}
	w.Withdraw("joe.doe@bravo.test")
	if answer := get(page); !strings.HasPrefix(answer, "HTTP/1.1 404") {
		t.Errorf("withdrawn: %q", answer)
	}
	w.Fail(503)
	if answer := get(page); !strings.HasPrefix(answer, "HTTP/1.1 503") {
		t.Errorf("failing: %q", answer)
	}
}

func TestExpiredCertificate(t *testing.T) {
	expired, err := CA().Issue(time.Now().Add(-time.Minute), "localhost")
	check(t, err)
	p := start(t, ProviderOptions{TLS: &tls.Config{Certificates: []tls.Certificate{expired}}})
	_, address := host(t, p.IMAPURL())
	_, err = tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", address, trust(p))
	if err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("error %v", err)
	}
}

func TestFixedKeys(t *testing.T) {
	for _, address := range Keys() {
		if !bytes.HasPrefix(SecretKey(address), []byte("-----BEGIN PGP PRIVATE KEY")) || !bytes.HasPrefix(PublicKey(address), []byte("-----BEGIN PGP PUBLIC KEY")) {
			t.Errorf("%s has no key", address)
		}
	}
	if SecretKey("alice@elsewhere.test") != nil {
		t.Error("a key for a stranger")
	}
}
