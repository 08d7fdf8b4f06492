//go:build peers

package main_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/bridgetest/peers"
)

const (
	erin  = "erin@alpha.test"  // a colleague of alice's
	frank = "frank@delta.test" // has no certificate
	utf8  = "büro@delta.test"
)

// company is a Postfix as docs/gateway.md sets it up, with a gateway beside it, and a partner's Postfix on the other side.
type company struct {
	*user   // the gateway
	mta     *peers.MTA
	partner *peers.MTA
	// Ports: of the company's MTA for users and for the world, and of the partner's.
	submission, mx, world string
	gnupg                 string // home with bob's secret key
}

// newCompany starts everything but the gateway. The company may have more users than the usual ones, and domains besides alpha.test.
func newCompany(t *testing.T, users ...string) *company {
	t.Helper()
	peers.Need(t, "gpg", "gnupg")
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ports := peers.FreePorts(t, 7)
	c := &company{user: &user{site: &site{t: t, program: program}, address: "the gateway", home: t.TempDir(), log: &bytes.Buffer{}}}
	c.submission, c.mx, c.world = ports[0], ports[1], ports[2]
	documented := map[string]string{"10024": ports[3], "10025": ports[4], "10026": ports[5], "10027": ports[6]}
	for _, address := range users { // where the page names alpha.test, it says that of any other domain, too
		domain := address[strings.IndexByte(address, '@')+1:]
		if domain == "alpha.test" {
			continue
		}
		documented[`["alpha.test"]`] = `["alpha.test", "` + domain + `"]`
		documented["{@alpha.test = @alpha.test.sealpost.invalid}"] = "{@alpha.test = @alpha.test.sealpost.invalid}, {@" + domain + " = @" + domain + ".sealpost.invalid}"
		documented["{@alpha.test.sealpost.invalid = @alpha.test}"] = "{@alpha.test.sealpost.invalid = @alpha.test}, {@" + domain + ".sealpost.invalid = @" + domain + "}"
	}
	c.gatewayConfig(substituted(documentedBlock(t, "toml"), documented))
	c.mta = peers.StartMTA(t, peers.MTAOptions{
		Users: append([]string{alice, erin}, users...),
		Main:  c.route(c.world, "bravo.test", "delta.test") + substituted(strings.Replace(documentedBlock(t, "main.cf"), "\ntransport_maps = ", "\ntransport_maps = $world_maps, ", 1), documented),
		Master: strings.Replace(substituted(documentedBlock(t, "master.cf"), documented), "\nsmtp      inet", "\n127.0.0.1:"+c.mx+" inet", 1) +
			"\n127.0.0.1:" + c.submission + " inet n - n - - smtpd\n",
	})
	c.partner = peers.StartMTA(t, peers.MTAOptions{
		Users:  []string{bob, frank, utf8},
		Main:   c.route(c.mx, "alpha.test"),
		Master: "127.0.0.1:" + c.world + " inet n - n - - smtpd\n",
	})
	c.gnupg = gnupgOf(t, bob)
	return c
}

func (c *company) route(port string, domains ...string) string {
	var routes []string
	for _, domain := range domains {
		routes = append(routes, fmt.Sprintf("{%s = smtp:[127.0.0.1]:%s}", domain, port))
	}
	return "\nworld_maps = inline:{ " + strings.Join(routes, ", ") + " }\ntransport_maps = $world_maps\ndefault_transport = error:5.1.2 no mail leaves the rig\n"
}

// documentedBlock is what docs/gateway.md tells people to write into a file.
func documentedBlock(t *testing.T, kind string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/gateway.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\n```"+kind+"\n")
	block, _, found := strings.Cut(rest, "\n```")
	if !found {
		t.Fatalf("docs/gateway.md has no block for %s", kind)
	}
	return "\n" + block + "\n"
}

func substituted(text string, ports map[string]string) string {
	for from, to := range ports {
		text = strings.ReplaceAll(text, from, to)
	}
	return text
}

func (c *company) gatewayConfig(text string) {
	c.write("passphrase", "open sesame")
	if err := os.MkdirAll(c.path(".config/sealpost"), 0o700); err != nil {
		c.t.Fatal(err)
	}
	c.write(".config/sealpost/config.toml", `[local]
imap = ""
imaps = ""
smtp = ""
smtps = ""
dashboard = ""
[vault]
unlock = ["file"]
passphrase_file = "`+c.path("passphrase")+`"
[keydisc]
methods = ["contacts", "autocrypt"]
`+text)
}

// gnupgOf is a GnuPG home with an address's secret key.
func gnupgOf(t *testing.T, address string) string {
	t.Helper()
	home := peers.Dir(t)
	key := filepath.Join(home, "key")
	if err := os.WriteFile(key, bridgetest.SecretKey(address), 0o600); err != nil {
		t.Fatal(err)
	}
	peers.Run(t, nil, nil, "gpg", "--homedir", home, "--batch", "--import", key)
	return home
}

// know gives the gateway an address's certificate.
func (c *company) know(addresses ...string) {
	c.t.Helper()
	for _, address := range addresses {
		c.write("certificate.asc", string(bridgetest.PublicKey(address)))
		c.must("contact", "import", c.path("certificate.asc"))
	}
}

// send hands a message to a port, as a program does that wants to hear of every recipient.
func (c *company) send(port, from string, to []string, message string, o *smtp.MailOptions) {
	c.t.Helper()
	client, err := smtp.Dial("127.0.0.1:" + port)
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	if err := client.Hello("client.test"); err != nil {
		c.t.Fatal(err)
	}
	if err := client.Mail(from, o); err != nil {
		c.t.Fatal(err)
	}
	for _, address := range to {
		var options *smtp.RcptOptions
		if o != nil && o.EnvelopeID != "" {
			options = &smtp.RcptOptions{Notify: []smtp.DSNNotify{smtp.DSNNotifySuccess, smtp.DSNNotifyFailure}}
		}
		if err := client.Rcpt(address, options); err != nil {
			c.t.Fatal(err)
		}
	}
	w, err := client.Data()
	if err == nil {
		_, err = w.Write([]byte(strings.ReplaceAll(message, "\n", "\r\n")))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// arrives waits until somebody has as many messages, and returns them.
func (c *company) arrives(at *peers.MTA, address string, count int) [][]byte {
	c.t.Helper()
	for range 600 {
		if all := at.Stored(address); len(all) >= count {
			return all
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Fatalf("%s has %d messages, not %d\ncompany: %s\npartner: %s\ngateway: %s", address, len(at.Stored(address)), count, c.mta.Log(), c.partner.Log(), c.log)
	return nil
}

// only waits for one message that holds all the texts.
func (c *company) holding(at *peers.MTA, address string, texts ...string) string {
	c.t.Helper()
	for range 600 {
		for _, message := range at.Stored(address) {
			if !slices.ContainsFunc(texts, func(text string) bool { return !bytes.Contains(message, []byte(text)) }) {
				return string(message)
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Fatalf("%s has no message with %q: %q\ncompany: %s\ngateway: %s", address, texts, at.Stored(address), c.mta.Log(), c.log)
	return ""
}

// step is a subtest.
func (c *company) step(name string, f func(t *testing.T)) {
	c.t.Run(name, func(t *testing.T) {
		whole := c.t
		c.t = t
		defer func() { c.t = whole }()
		f(t)
	})
}

// keyOf is the certificate in a message's Autocrypt field, for gpg.
func keyOf(t *testing.T, message []byte) []byte {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	_, data, _ := strings.Cut(m.Header.Get("Autocrypt"), "keydata=")
	key, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(data, " ", ""))
	if err != nil || len(key) == 0 {
		t.Fatalf("no certificate of the sender: %v: %s", err, message)
	}
	return key
}

// TestGatewayBesidePostfix is a day of a company's mail, through the Postfix that docs/gateway.md describes.
func TestGatewayBesidePostfix(t *testing.T) {
	c := newCompany(t)
	c.know(bob)
	c.launch()

	c.step("what leaves is encrypted to those who have certificates", func(t *testing.T) {
		c.send(c.submission, alice, []string{bob, frank, erin}, "From: "+alice+"\nTo: "+bob+", "+frank+", "+erin+"\nSubject: the orchard\nMessage-ID: <1@alpha.test>\n\nmarmalade\n", nil)
		sent := c.arrives(c.partner, bob, 1)[0]
		if bytes.Contains(sent, []byte("marmalade")) || bytes.Contains(sent, []byte("orchard")) {
			t.Errorf("bob's copy left in clear: %s", sent)
		}
		peers.Run(t, nil, keyOf(t, sent), "gpg", "--homedir", c.gnupg, "--batch", "--import")
		plain := peers.Run(t, nil, regexp.MustCompile(`(?s)-----BEGIN PGP MESSAGE-----.*-----END PGP MESSAGE-----`).Find(sent), "gpg", "--homedir", c.gnupg, "--batch", "--decrypt")
		if !strings.Contains(plain, "marmalade") || !strings.Contains(plain, "Subject: the orchard") {
			t.Errorf("gpg reads %q", plain)
		}
		c.holding(c.partner, frank, "marmalade", "Subject: the orchard")
		c.holding(c.mta, erin, "marmalade", "Subject: the orchard")
	})
	c.step("what comes in is opened", func(t *testing.T) {
		armored := peers.Run(t, nil, []byte("Content-Type: text/plain\r\n\r\nquince jelly\r\n"), "gpg", "--homedir", c.gnupg, "--batch", "--armor",
			"--trust-model", "always", "-u", bob, "-r", alice, "--sign", "--encrypt")
		c.send(c.world, bob, []string{alice}, pgpMIME(bob, alice, "<2@bravo.test>", armored), nil)
		c.holding(c.mta, alice, "quince jelly", "X-Sealpost-Status: encryption=openpgp; signature=good", "trust=pinned")
	})
	c.step("an answer to it stays encrypted, or is not sent", func(t *testing.T) {
		c.send(c.submission, alice, []string{frank}, "From: "+alice+"\nTo: "+frank+"\nSubject: Fwd: jelly\nIn-Reply-To: <2@bravo.test>\n\n> quince jelly\n", nil)
		c.holding(c.mta, alice, "multipart/report", frank, "sealpost")
	})
	c.step("one who is refused keeps it from nobody else, and the sender hears of it", func(t *testing.T) {
		c.send(c.submission, erin, []string{bob, "nobody@bravo.test"}, "From: "+erin+"\nTo: "+bob+", nobody@bravo.test\nSubject: two\n\nplum\n", nil)
		c.arrives(c.partner, bob, 2)
		c.holding(c.mta, erin, "multipart/report", "nobody@bravo.test")
	})
	c.step("international addresses", func(t *testing.T) {
		c.send(c.submission, alice, []string{utf8}, "From: "+alice+"\nTo: "+utf8+"\nSubject: grüße\n\nmedlar\n", &smtp.MailOptions{UTF8: true, Body: smtp.Body8BitMIME})
		c.holding(c.partner, utf8, "medlar")
	})
	c.step("notices of success", func(t *testing.T) {
		c.send(c.submission, alice, []string{frank}, "From: "+alice+"\nTo: "+frank+"\nSubject: notice\n\nsloe\n", &smtp.MailOptions{EnvelopeID: "env-7", Return: smtp.DSNReturnHeaders})
		c.holding(c.mta, alice, "multipart/report", "Original-Envelope-Id: env-7", "Action: ")
	})
	c.step("a report about what was opened quotes nothing of it", func(t *testing.T) {
		c.mta.Refuse(alice)
		armored := peers.Run(t, nil, []byte("Content-Type: text/plain; protected-headers=\"v1\"\r\nSubject: pectin\r\n\r\nmulberry wine\r\n"), "gpg", "--homedir", c.gnupg, "--batch", "--armor",
			"--trust-model", "always", "-u", bob, "-r", alice, "--sign", "--encrypt")
		c.send(c.world, bob, []string{alice}, pgpMIME(bob, alice, "<3@bravo.test>", armored), nil)
		report := c.holding(c.partner, bob, "multipart/report", alice)
		if strings.Contains(report, "mulberry") || strings.Contains(report, "pectin") {
			t.Errorf("the report gives it away: %s", report)
		}
	})
	c.step("while the gateway is away nothing is lost", func(t *testing.T) {
		c.stop()
		c.send(c.submission, alice, []string{bob}, "From: "+alice+"\nTo: "+bob+"\nSubject: later\n\ndamson\n", nil)
		for !strings.Contains(c.mta.Queue(), "\"delay_reason\"") {
			time.Sleep(100 * time.Millisecond)
		}
		c.launch()
		c.mta.Flush()
		late := c.arrives(c.partner, bob, 3)
		if len(late) != 3 || bytes.Contains(bytes.Join(late, nil), []byte("damson")) {
			t.Errorf("bob has %d messages, or one in clear", len(late))
		}
	})
}

// TestMailBetweenUsersBesidePostfix: what is for users comes to the gateway's inbound side, though it has not left the company's MTA.
func TestMailBetweenUsersBesidePostfix(t *testing.T) {
	const olga, service = "olga@echo.test", "key-submission@alpha.test"
	c := newCompany(t, service, olga)
	config, err := os.ReadFile(c.path(".config/sealpost/config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	c.write(".config/sealpost/config.toml", string(config)+"wkd_submission = \""+service+"\"\nwkd = \"127.0.0.1:"+peers.FreePorts(t, 1)[0]+`"
[[gateway.tenant]]
name = "one"
domains = ["alpha.test"]
[[gateway.tenant]]
name = "two"
domains = ["echo.test"]
`)
	c.launch()
	c.step("another tenant opens what is encrypted to it", func(t *testing.T) {
		c.send(c.submission, olga, []string{frank}, "From: "+olga+"\nTo: "+frank+"\nSubject: her key is made\n\nmarmalade\n", nil)
		c.arrives(c.partner, frank, 1)
		c.send(c.submission, alice, []string{olga, erin, frank}, "From: "+alice+"\nTo: "+olga+", "+erin+", "+frank+"\nSubject: to three\n\nmirabelle\n", nil)
		c.holding(c.mta, olga, "mirabelle", "X-Sealpost-Status: encryption=openpgp; signature=good")
		c.holding(c.mta, erin, "mirabelle", "X-Sealpost-Status: encryption=none")
		for _, got := range append(c.arrives(c.partner, frank, 2), append(c.mta.Stored(olga), c.mta.Stored(erin)...)...) {
			if bytes.Contains(got, []byte("sealpost.invalid")) {
				t.Errorf("the name for the way is shown: %s", got)
			}
		}
	})
	c.step("the submission address answers", func(t *testing.T) {
		c.send(c.submission, alice, []string{service}, "From: "+alice+"\nTo: "+service+"\nSubject: x\n\nno certificate\n", nil)
		c.holding(c.mta, alice, "multipart/report", "this address publishes OpenPGP certificates")
	})
}

// TestGatewayAsSmarthost: the MTA relays everything to the gateway, which hands it to the world.
func TestGatewayAsSmarthost(t *testing.T) {
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ports := peers.FreePorts(t, 3)
	c := &company{user: &user{site: &site{t: t, program: program}, address: "the gateway", home: t.TempDir(), log: &bytes.Buffer{}}}
	c.submission, c.world = ports[0], ports[1]
	documented := map[string]string{"10025": ports[2], "10026": c.world}
	c.gatewayConfig(substituted(documentedBlock(t, "smarthost.toml"), documented))
	c.mta = peers.StartMTA(t, peers.MTAOptions{
		Users: []string{alice}, Main: substituted(documentedBlock(t, "smarthost.cf"), documented),
		Master: "127.0.0.1:" + c.submission + " inet n - n - - smtpd\n",
	})
	c.partner = peers.StartMTA(t, peers.MTAOptions{
		Users: []string{bob, frank}, Main: "default_transport = error:5.1.2 no mail leaves the rig\n", Master: "127.0.0.1:" + c.world + " inet n - n - - smtpd\n",
	})
	c.know(bob)
	c.launch()
	c.send(c.submission, alice, []string{bob}, "From: "+alice+"\nTo: "+bob+"\nSubject: the orchard\n\nmarmalade\n", nil)
	if sent := c.arrives(c.partner, bob, 1)[0]; bytes.Contains(sent, []byte("marmalade")) || !bytes.Contains(sent, []byte("BEGIN PGP MESSAGE")) {
		t.Errorf("bob's copy left in clear: %s", sent)
	}
	c.send(c.submission, alice, []string{bob, frank}, "From: "+alice+"\nTo: "+bob+", "+frank+"\nSubject: insists\nX-Sealpost-Policy: require\n\nquince\n", nil)
	c.holding(c.mta, alice, "multipart/report", frank, "message not sent to anybody")
	if n := len(c.partner.Stored(bob)); n != 1 {
		t.Errorf("bob has %d messages", n)
	}
}

// pgpMIME is an encrypted message (RFC 3156 §4).
func pgpMIME(from, to, id, armored string) string {
	return "From: " + from + "\nTo: " + to + "\nSubject: ...\nMessage-ID: " + id + "\nMIME-Version: 1.0\n" +
		"Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b\n\n" +
		"--b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n--b\nContent-Type: application/octet-stream\n\n" + armored + "\n--b--\n"
}
