package bridge

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/upstream"
	"github.com/sealpost/sealpost/keydisc"
)

const (
	erin          = "erin@alpha.test" // of the company, as alice
	keySubmission = "key-submission@alpha.test"
)

// company is a gateway for alpha.test between two next hops.
type company struct {
	*world
	bridge      *Bridge
	gateway     *Gateway
	out, inside *bridgetest.NextHop
}

// newCompany opens a gateway; hops says what the next hops are.
func newCompany(t *testing.T, hops bridgetest.NextHopOptions) *company {
	t.Helper()
	c := &company{world: newWorld(t)}
	c.out, c.inside = c.hop(hops), c.hop(hops)
	o := c.world.options(alice, t.TempDir())
	o.Accounts = nil
	o.Gateway = &GatewayOptions{Domains: []string{"alpha.test"}, Outbound: hopTo(c.out, hops), Inbound: hopTo(c.inside, hops), Pass: []string{"own@alpha.test"}, Submission: keySubmission}
	var err error
	if c.bridge, err = Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.bridge.Close(); err != nil {
			t.Error(err)
		}
	})
	c.gateway, _ = c.bridge.Gateway()
	return c
}

func (c *company) hop(o bridgetest.NextHopOptions) *bridgetest.NextHop {
	n, err := bridgetest.StartNextHop(o)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = n.Close() })
	return n
}

func hopTo(n *bridgetest.NextHop, o bridgetest.NextHopOptions) *upstream.NextHop {
	address := n.Address()
	if o.LMTP {
		address = "lmtp://" + address
	}
	hop, err := upstream.ParseNextHop(address)
	if err != nil {
		panic(err)
	}
	return &hop
}

// leave hands in a message that leaves; an answer for each recipient, "" for accepted.
func (c *company) leave(e Envelope, text string, apart bool) map[string]string {
	c.t.Helper()
	refused, err := c.gateway.Outbound(c.t.Context(), e, strings.NewReader(text), apart)
	return c.answers(e, refused, err)
}

func (c *company) enter(e Envelope, text string, apart bool) map[string]string {
	c.t.Helper()
	refused, err := c.gateway.Inbound(c.t.Context(), e, strings.NewReader(text), apart)
	return c.answers(e, refused, err)
}

func (c *company) answers(e Envelope, refused Refusals, err error) map[string]string {
	c.t.Helper()
	var all *Refusal
	if err != nil && !errors.As(err, &all) {
		c.t.Fatalf("the gateway returned %T: %v", err, err)
	}
	answers := map[string]string{}
	for _, to := range e.To {
		switch one := refused.Of(to); {
		case all != nil:
			answers[to] = string(all.Reason)
		case one != nil:
			answers[to] = string(one.Reason)
		default:
			answers[to] = ""
		}
	}
	return answers
}

// opened notes that a message with that Message-ID came encrypted.
func (c *company) opened(id string) {
	c.t.Helper()
	if err := c.bridge.journal.noteEncrypted(c.t.Context(), gatewayInbound, []string{id}); err != nil {
		c.t.Fatal(err)
	}
}

// userKey is a user's certificate, made now if there is none.
func (c *company) userKey(address string) *keydisc.Certificate {
	c.t.Helper()
	ring, err := c.gateway.users.sending(c.t.Context(), address)
	if err != nil {
		c.t.Fatal(err)
	}
	certificate, err := ring.Certificate()
	if err != nil {
		c.t.Fatal(err)
	}
	return certificate
}

// encryptedBy makes a message by bob, signed and encrypted to some certificates.
func (c *company) encryptedBy(text string, to ...*keydisc.Certificate) string {
	return c.encrypted(text, pgpmime.EncryptOptions{Recipients: to, Signer: c.secretKeys(bob)[0]})
}

func (c *company) encrypted(text string, o pgpmime.EncryptOptions) string {
	c.t.Helper()
	in, out := spool.New(c.t.TempDir()), spool.New(c.t.TempDir())
	defer in.Close()
	defer out.Close()
	if _, err := in.Write([]byte(text)); err != nil {
		c.t.Fatal(err)
	}
	o.Time = c.bridge.now()
	if err := pgpmime.Encrypt(out, in, o); err != nil {
		c.t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(out.Reader()); err != nil {
		c.t.Fatal(err)
	}
	return b.String()
}

// compressed makes a message by bob that is compressed before it is encrypted, as gpg does.
func (c *company) compressed(text string, to *keydisc.Certificate) string {
	c.t.Helper()
	e, giveBack, err := to.BorrowToEncrypt(c.bridge.now())
	if err != nil {
		c.t.Fatal(err)
	}
	defer giveBack()
	sub, _ := e.EncryptionKey(c.bridge.now(), nil)
	var b bytes.Buffer
	must := func(err error) {
		if err != nil {
			c.t.Fatal(err)
		}
	}
	session, config := make([]byte, 32), &packet.Config{DefaultCipher: packet.CipherAES256}
	armored, err := armor.Encode(&b, "PGP MESSAGE", nil)
	must(err)
	must(packet.SerializeEncryptedKeyAEAD(armored, sub.PublicKey, packet.CipherAES256, false, session, config))
	encrypted, err := packet.SerializeSymmetricallyEncrypted(armored, packet.CipherAES256, false, packet.CipherSuite{}, session, config)
	must(err)
	compressed, err := packet.SerializeCompressed(encrypted, packet.CompressionZLIB, nil)
	must(err)
	literal, err := packet.SerializeLiteral(compressed, true, "", 0)
	must(err)
	_, err = io.WriteString(literal, text)
	must(errors.Join(err, literal.Close(), armored.Close()))
	return message(bob, "alice@alpha.test", "compressed", "--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n"+
		strings.ReplaceAll(b.String(), "\n", "\r\n")+"\r\n--b--", "MIME-Version: 1.0", `Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b`)
}

func (c *company) secretKeys(address string) openpgp.EntityList {
	c.t.Helper()
	list, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(bridgetest.SecretKey(address)))
	if err != nil {
		c.t.Fatal(err)
	}
	return list
}

// relayCase is one message of testdata/gateway.txt.
type relayCase struct {
	name     string
	envelope Envelope
	opened   []string
	text     string
	want     map[string]string // by recipient
}

// readRelayCases reads the table; its form stands at its top.
func readRelayCases(t *testing.T) (cases []relayCase) {
	t.Helper()
	f, err := os.Open("testdata/gateway.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		if word == "" || word == "#" {
			continue
		}
		if word == "case" {
			cases = append(cases, relayCase{name: rest, want: map[string]string{}})
			continue
		}
		c := &cases[len(cases)-1]
		switch word {
		case "from":
			c.envelope.From = strings.Trim(rest, "<>")
		case "opened":
			c.opened = append(c.opened, rest)
		case "|":
			c.text += strings.NewReplacer("{100 RECEIVED}", strings.TrimSuffix(strings.Repeat("Received: by elsewhere; Mon, 23 Nov 2026 10:00:00 +0000\r\n", 101), "\r\n")).Replace(rest) + "\r\n"
		case "to":
			address, want, _ := strings.Cut(rest, " ")
			c.envelope.To = append(c.envelope.To, address)
			c.want[address] = want
		default:
			t.Fatalf("testdata/gateway.txt: %q is not known", word)
		}
	}
	return cases
}

// fateOf says what became of a message for a recipient: refused (why), encrypted (signed or not, hidden), clear, or as-is.
func (c *company) fateOf(to, answer, text string) string {
	messages := c.out.For(to)
	switch {
	case answer != "":
		if len(messages) > 0 {
			return "refused " + answer + ", and sent"
		}
		return "refused " + answer
	case len(messages) != 1:
		return fmt.Sprintf("sent %d times", len(messages))
	}
	sent := string(messages[0])
	_, body, _ := strings.Cut(text, "\r\n\r\n")
	_, sentBody, _ := strings.Cut(sent, "\r\n\r\n")
	switch {
	case sentBody == body:
		return "clear"
	case strings.Contains(sent, "multipart/encrypted"):
		return "encrypted" + c.signedFor(to, sent)
	}
	return "changed"
}

// signedFor says how the message was signed; only the recipient's own key can tell.
func (c *company) signedFor(to, sent string) string {
	if bridgetest.SecretKey(to) == nil {
		return ""
	}
	result := c.openAs(to, []byte(sent))
	if result.Message != nil {
		defer result.Message.Close()
	}
	if result.Encryption != pgpmime.EncryptionOpenPGP {
		return fmt.Sprintf(" but not for %s (%s)", to, result.Encryption)
	}
	return " " + strings.TrimSpace(fmt.Sprint(result.Signature))
}

// openAs opens a message as the owner of a fixed key does, who knows all certificates of the gateway's users.
func (c *company) openAs(to string, sent []byte) *pgpmime.Result {
	c.t.Helper()
	in := spool.New(c.t.TempDir())
	defer in.Close()
	if _, err := in.Write(sent); err != nil {
		c.t.Fatal(err)
	}
	result, err := pgpmime.Open(in, pgpmime.Keys{Decrypters: c.secretKeys(to), Own: []string{to}}, func(from string) []*keydisc.Certificate {
		if !c.gateway.Hosts(from) {
			return nil
		}
		var all []*keydisc.Certificate
		for _, contact := range c.gateway.users.contacts(context.Background(), from) {
			all = append(all, contact.Certificate)
		}
		return all
	}, c.bridge.now(), c.t.TempDir())
	if err != nil {
		c.t.Fatal(err)
	}
	return result
}
