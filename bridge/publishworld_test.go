package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/mimescan"
)

// publicationStates is "address place state" of each of the account's publications.
func publicationStates(t *testing.T, a *Account) string {
	t.Helper()
	all, err := a.Publications(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, p := range all {
		states = append(states, fmt.Sprintf("%s %s %s", p.Address, p.Place, p.State))
	}
	return strings.Join(states, ", ")
}

const (
	service = "key-submission@keys.test"
	vksHost = "127.0.0.1"
)

// publishing is alice's bridge, which does only what a test tells it to, and the places where she can publish.
type publishing struct {
	world *world
	*Account
	clock  *bridgetest.Clock
	vks    *bridgetest.VKS
	secret *openpgp.Entity // of the Web Key Service
	other  *openpgp.Entity // a stranger's, with the same address
}

func newPublishing(t *testing.T) *publishing {
	t.Helper()
	p := &publishing{world: newWorld(t), clock: bridgetest.NewClock()}
	p.world.seal = Seal{} // so that mail is shown although nothing runs
	var err error
	if p.vks, err = bridgetest.StartVKS(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.vks.Close() })
	p.secret, p.other = p.newKey(service), p.newKey(service)
	var certificate bytes.Buffer
	if err := p.secret.Serialize(&certificate); err != nil {
		t.Fatal(err)
	}
	p.world.wkd.Publish(service, certificate.Bytes())
	p.world.wkd.Serve("alpha.test", "submission-address", []byte(service+"\n"))
	o := p.world.options(alice, t.TempDir())
	o.Now, o.Keydisc.VKS = p.clock.Now, p.vks.URL()
	p.Account = p.world.open(o)
	return p
}

func (p *publishing) newKey(address string) *openpgp.Entity {
	p.world.t.Helper()
	e, err := openpgp.NewEntity("", "", address, p.config())
	if err != nil {
		p.world.t.Fatal(err)
	}
	return e
}

func (p *publishing) config() *packet.Config {
	return &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519, Time: p.clock.Now}
}

func (p *publishing) publish(places ...Place) {
	p.world.t.Helper()
	if _, err := p.Publish(p.world.t.Context(), alice, places, ""); err != nil {
		p.world.t.Fatal(err)
	}
}

// tendAfter lets time pass and does what is to do then.
func (p *publishing) tendAfter(d time.Duration) {
	p.world.t.Helper()
	p.clock.Advance(d)
	if _, err := p.tendPublications(p.world.t.Context()); err != nil {
		p.world.t.Error(err)
	}
}

// want checks the one publication's state and a part of its reason.
func (p *publishing) want(state PublicationState, reason string) {
	p.world.t.Helper()
	all, err := p.Publications(p.world.t.Context())
	if err != nil || len(all) != 1 || all[0].State != state || !strings.Contains(all[0].Reason, reason) || (reason == "") != (all[0].Reason == "") {
		p.world.t.Fatalf("%+v, %v; want %s (%s)", all, err, state, reason)
	}
}

// question is a confirmation request; edit changes what is not as it should be.
type question struct {
	from, text string
	to         *openpgp.Entity // whose key the inner part is encrypted to
	signer     *openpgp.Entity // nil: not signed
	parts      int
	clear      bool // the inner part is not encrypted
	combined   bool // signed and encrypted as a whole
}

func (p *publishing) question(nonce string, edit func(*question)) []byte {
	p.world.t.Helper()
	own, err := p.Certificate()
	if err != nil {
		p.world.t.Fatal(err)
	}
	to, err := own.Entity()
	if err != nil {
		p.world.t.Fatal(err)
	}
	q := question{from: service, to: to, signer: p.secret, parts: 1, text: fmt.Sprintf(
		"type: confirmation-request\nsender: %s\naddress: %s\nfingerprint: %s\nnonce: %s\n", service, alice, own.Fingerprint(), nonce)}
	if edit != nil {
		edit(&q)
	}
	return []byte(strings.ReplaceAll(p.compose(q), "\n", "\r\n"))
}

func (p *publishing) compose(q question) string {
	header := "From: " + q.from + "\nTo: " + alice + "\nSubject: Confirm your key publication\nDate: Tue, 01 Dec 2026 09:00:00 +0000\nMIME-Version: 1.0\n"
	content := q.text
	if q.combined {
		inner := "Content-Type: " + wksType + "\n\n" + content
		return header + "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=\"out\"\n\n--out\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n--out\n" +
			"Content-Type: application/octet-stream\n\n" + p.encrypted(inner, q.to, q.signer) + "\n--out--\n"
	}
	if !q.clear {
		content = p.encrypted(content, q.to, nil)
	}
	mixed := "Content-Type: multipart/mixed; boundary=\"in\"\n\n--in\nContent-Type: text/plain\n\nPlease confirm.\n" +
		strings.Repeat("\n--in\nContent-Type: "+wksType+"\n\n"+content, q.parts) + "\n--in--\n"
	if q.signer == nil {
		return header + mixed
	}
	var signature bytes.Buffer
	err := openpgp.ArmoredDetachSign(&signature, []*openpgp.Entity{q.signer}, strings.NewReader(strings.ReplaceAll(mixed, "\n", "\r\n")), &openpgp.SignParams{Config: p.config()})
	if err != nil {
		p.world.t.Fatal(err)
	}
	return header + "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; micalg=\"pgp-sha256\"; boundary=\"out\"\n\n--out\n" + mixed + "\n--out\nContent-Type: application/pgp-signature\n\n" + signature.String() + "\n--out--\n"
}

func (p *publishing) encrypted(text string, to, signer *openpgp.Entity) string {
	p.world.t.Helper()
	var out bytes.Buffer
	armored, err := armor.Encode(&out, "PGP MESSAGE", nil)
	if err != nil {
		p.world.t.Fatal(err)
	}
	params := &openpgp.EncryptParams{Config: p.config()}
	if signer != nil {
		params.Signers = []*openpgp.Entity{signer}
	}
	w, err := openpgp.EncryptWithParams(armored, []*openpgp.Entity{to}, nil, params)
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err := errors.Join(err, w.Close(), armored.Close()); err != nil {
		p.world.t.Fatal(err)
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

// told is what the service was sent and could decrypt, in order.
func (p *publishing) told() []string {
	p.world.t.Helper()
	var texts []string
	for _, m := range p.world.provider.Outside() {
		_, block, _ := bytes.Cut(m.Bytes, []byte("-----BEGIN PGP MESSAGE"))
		armored, err := armor.Decode(io.MultiReader(strings.NewReader("-----BEGIN PGP MESSAGE"), bytes.NewReader(block)))
		if err != nil {
			p.world.t.Fatal(err)
		}
		md, err := openpgp.ReadMessage(armored.Body, openpgp.EntityList{p.secret}, nil, p.config())
		if err != nil {
			p.world.t.Fatal(err)
		}
		text, err := io.ReadAll(md.UnverifiedBody)
		if err != nil || len(m.To) != 1 || m.To[0] != service || m.From != alice || !bytes.Contains(m.Bytes, []byte("\r\nWks-Draft-Version: 3\r\n")) {
			p.world.t.Fatal(m.From, m.To, err)
		}
		texts = append(texts, string(text))
	}
	return texts
}

func (p *publishing) deliver(message []byte) {
	p.world.t.Helper()
	if _, err := p.world.provider.Deliver(alice, "INBOX", message); err != nil {
		p.world.t.Fatal(err)
	}
	// It looks at the provider, however fresh the state is.
	err := p.mirror.EachStored(p.world.t.Context(), "INBOX", func(imap.UID, mimescan.Source) error { return nil })
	if err != nil {
		p.world.t.Fatal(err)
	}
}

const nonce = "goodnonce1234567890abcdef"

func (p *publishing) audited(want ...string) {
	p.world.t.Helper()
	entries, err := p.bridge.Audit().List(p.world.t.Context(), 0, 100)
	if err != nil {
		p.world.t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if e.Event == "publish" {
			got = append(got, e.Detail)
		}
	}
	if !slices.Equal(got, want) {
		p.world.t.Errorf("logged %q, not %q", got, want)
	}
}
