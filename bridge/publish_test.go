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
	"github.com/sealpost/sealpost/keydisc"
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

// A service is asked, answered once, and the certificate counts as published when the directory has it.
func TestPublishWKS(t *testing.T) {
	for name, edit := range map[string]func(*question){"signed": nil, "signed and encrypted": func(q *question) { q.combined = true }} {
		t.Run(name, func(t *testing.T) {
			p := newPublishing(t)
			p.publish(PlaceWKS)
			p.want(PublicationRequested, "")
			if told := p.told(); len(told) != 1 || !strings.Contains(told[0], "\r\nContent-Type: application/pgp-keys;") || strings.Count(told[0], "BEGIN PGP PUBLIC KEY BLOCK") != 1 {
				t.Fatal(told)
			}
			p.deliver(p.question(nonce, edit))
			p.tendAfter(0)
			p.want(PublicationConfirmed, "")
			p.deliver(p.question(nonce, edit)) // again
			p.tendAfter(0)
			want := "\r\n\r\ntype: confirmation-response\r\nsender: " + service + "\r\naddress: " + alice + "\r\nnonce: " + nonce + "\r\n"
			if told := p.told(); len(told) != 2 || !strings.HasSuffix(told[1], want) || !strings.Contains(told[1], "\r\nContent-Type: "+wksType) {
				t.Fatal(told)
			}
			p.world.wkd.Publish(alice, bridgetest.PublicKey(alice))
			p.tendAfter(time.Hour)
			p.want(PublicationPublished, "")
			p.deliver(p.question("later"+nonce, edit))
			p.tendAfter(time.Hour)
			p.publish(PlaceWKS) // it is there already
			p.want(PublicationPublished, "")
			if told := p.told(); len(told) != 2 {
				t.Error(told)
			}
			p.audited("wks requested", "wks confirmed", "wks published", "wks published")
		})
	}
}

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

// What is not the question of the service that was asked, about what it was asked, is answered by nothing.
func TestOnlyTheServiceIsAnswered(t *testing.T) {
	p := newPublishing(t)
	p.deliver(p.question("early"+nonce, nil)) // before anybody was asked
	p.publish(PlaceWKS)
	replace := func(from, to string) func(*question) {
		return func(q *question) { q.text = strings.Replace(q.text, from, to, 1) }
	}
	for name, edit := range map[string]func(*question){
		"unsigned":           func(q *question) { q.signer = nil },
		"anotherSigner":      func(q *question) { q.signer = p.other },
		"anotherFrom":        func(q *question) { q.from = "eve@keys.test" },
		"twoFrom":            func(q *question) { q.from = service + ", eve@keys.test" },
		"fieldFrom":          func(q *question) { q.from = "eve@keys.test\nFrom: " + service },
		"anotherSender":      replace("sender: "+service, "sender: eve@keys.test"),
		"anotherAddress":     replace("address: "+alice, "address: "+bob),
		"anotherFingerprint": replace("fingerprint: ", "fingerprint: 0123"),
		"anotherType":        replace("confirmation-request", "confirmation-response"),
		"twoParts":           func(q *question) { q.parts = 2 },
		"noPart":             func(q *question) { q.parts = 0 },
		"clear":              func(q *question) { q.clear = true },
		"anotherKey":         func(q *question) { q.to = p.other },
		"letter":             replace("type:", "Dear Alice,\ntype:"),
		"combinedUnsigned":   func(q *question) { q.combined, q.signer = true, nil },
		"combinedStranger":   func(q *question) { q.combined, q.signer = true, p.other },
	} {
		p.deliver(p.question(name+nonce, edit))
	}
	p.tendAfter(0)
	p.want(PublicationRequested, "was not answered")
	p.deliver(p.question("now"+nonce, nil))
	p.tendAfter(0)
	p.want(PublicationConfirmed, "")
	for i := range 2 * maxAnswers {
		p.deliver(p.question(fmt.Sprintf("more%d%s", i, nonce), nil))
	}
	p.tendAfter(0)
	told := p.told()
	if len(told) != 1+maxAnswers || !strings.Contains(told[1], "nonce: now"+nonce) {
		t.Error(told[1:])
	}
}

// The user opens the key server's link; until then nobody finds the certificate, and nothing is claimed.
func TestPublishVKS(t *testing.T) {
	p := newPublishing(t)
	p.publish(PlaceVKS)
	p.want(PublicationRequested, "open the link in the mail from "+vksHost)
	p.tendAfter(time.Hour)
	p.want(PublicationRequested, "open the link")
	p.vks.Open(alice)
	p.tendAfter(6 * time.Hour)
	p.want(PublicationPublished, "")
	p.tendAfter(100 * time.Hour)
	before := len(p.vks.Requests())
	p.tendAfter(100 * time.Hour) // nothing has changed, so nobody is asked
	if n := len(p.vks.Requests()); n != before {
		t.Errorf("%d requests more", n-before)
	}
	if len(p.vks.Mails()) != 1 {
		t.Error(p.vks.Mails())
	}
	p.audited("vks requested", "vks published")
}

// A certificate that changes is published again by itself, without another mail; one that nobody published is not.
func TestChangedCertificateIsPublishedAgain(t *testing.T) {
	p := newPublishing(t)
	p.publish(PlaceVKS)
	p.vks.Open(alice)
	p.tendAfter(time.Hour)
	for name, change := range map[string]func() (Key, error){
		"another subkey": func() (Key, error) { return p.RotateKey(t.Context(), "") },
		"a later end":    func() (Key, error) { return p.ExtendKey(t.Context(), "", p.clock.Now().AddDate(9, 0, 0)) },
	} {
		if _, err := change(); err != nil {
			t.Fatal(name, err)
		}
		p.tendAfter(time.Hour)
		p.want(PublicationPublished, "")
		p.isAtTheKeyServer()
	}
	if len(p.world.provider.Outside()) > 0 {
		t.Error("a Web Key Service was asked")
	}
	p.vks.Unpublish(alice) // by the link in another mail
	if _, err := p.RotateKey(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	p.tendAfter(time.Hour)
	p.want(PublicationFailed, "does not publish it for "+alice)
	if len(p.vks.Mails()) != 1 {
		t.Error("a mail was caused that nobody asked for")
	}
}

// A revocation reaches the key server by itself. A Web Key Service could not ask about it.
func TestRevocationIsPublished(t *testing.T) {
	p := newPublishing(t)
	p.publish(PlaceVKS, PlaceWKS)
	p.vks.Open(alice)
	p.tendAfter(time.Hour)
	if _, err := p.RevokeKey(t.Context(), "", "retired", "", true); err != nil {
		t.Fatal(err)
	}
	p.tendAfter(time.Hour)
	if got := publicationStates(t, p.Account); got != "alice@alpha.test vks published, alice@alpha.test wks failed" {
		t.Error(got)
	}
	p.isAtTheKeyServer()
	if there := p.isAtTheKeyServer(); there.Check(alice, p.clock.Now()) == nil {
		t.Error("it is not revoked there")
	}
	if all, err := p.Publications(t.Context()); err != nil || !strings.Contains(all[1].Reason, "it is revoked") || !all[1].Next.IsZero() {
		t.Error(all, err)
	}
}

// isAtTheKeyServer checks that it gives out all of the certificate.
func (p *publishing) isAtTheKeyServer() *keydisc.Certificate {
	p.world.t.Helper()
	there, err := keydisc.ParseCertificates(p.vks.Published(alice))
	own, missing := p.Certificate()
	if err != nil || missing != nil || !there[0].Has(own) || len(there[0].Addresses()) != 1 {
		p.world.t.Fatal("the key server has another certificate", err, missing)
	}
	return there[0]
}

// What fails for now is tried again, later each time, and still as the user's wish; what fails for good is not.
func TestPublicationIsTriedAgain(t *testing.T) {
	p := newPublishing(t)
	p.vks.Fail(&bridgetest.VKSFailure{Status: 429, Error: "slow down", RetryAfter: "600"})
	p.publish(PlaceVKS)
	p.want(PublicationFailed, "429 Too Many Requests: slow down")
	p.vks.Fail(&bridgetest.VKSFailure{Status: 503, Error: "maintenance"})
	p.tendAfter(9 * time.Minute)
	p.want(PublicationFailed, "slow down")
	p.tendAfter(2 * time.Minute)
	p.want(PublicationFailed, "maintenance")
	p.vks.Fail(nil)
	p.tendAfter(time.Hour)
	p.want(PublicationRequested, "open the link")
	if len(p.vks.Mails()) != 1 {
		t.Error(p.vks.Mails())
	}
	p.vks.Fail(&bridgetest.VKSFailure{Status: 400, Error: "no"})
	p.publish(PlaceVKS)
	p.want(PublicationFailed, "400 Bad Request: no")
	before := len(p.vks.Requests())
	p.tendAfter(100 * time.Hour)
	if len(p.vks.Requests()) != before {
		t.Error("tried again")
	}
}

// A link that nobody opens, a service that does not ask: both end after some days.
func TestPublicationPatienceEnds(t *testing.T) {
	p := newPublishing(t)
	p.publish(PlaceVKS, PlaceWKS)
	p.tendAfter(publicationPatience - time.Hour)
	if got := publicationStates(t, p.Account); got != "alice@alpha.test vks requested, alice@alpha.test wks requested" {
		t.Error(got)
	}
	p.tendAfter(8 * time.Hour)
	all, err := p.Publications(t.Context())
	if err != nil || all[0].State != PublicationFailed || all[1].State != PublicationFailed ||
		!strings.Contains(all[0].Reason, "was not opened in time") || !strings.Contains(all[1].Reason, "has not asked") {
		t.Fatal(all, err)
	}
	p.deliver(p.question(nonce, nil))
	p.tendAfter(time.Hour)
	if len(p.world.provider.Outside()) > 1 {
		t.Error("answered, although nothing is waited for")
	}
}

func TestPublishRefused(t *testing.T) {
	p := newPublishing(t)
	serve := func(name, text string) func() {
		return func() { p.world.wkd.Serve("alpha.test", name, []byte(text)) }
	}
	fault := func(reply string) func() {
		return p.world.provider.Inject(bridgetest.Fault{Protocol: "smtp", Command: "MAIL", Reply: reply, Times: 1})
	}
	for name, c := range map[string]struct {
		prepare, undo func()
		reason        string
		final         bool
	}{
		"no service":      {serve("submission-address", ""), serve("submission-address", service), "it offers no Web Key Service", true},
		"names":           {serve("policy", "mailbox-only\n"), serve("policy", ""), "takes only user IDs that are the address alone", true},
		"directory fails": {func() { p.world.wkd.Fail(502) }, func() { p.world.wkd.Fail(0) }, "502", false},
		"not now":         {func() { fault("451 4.3.0 try again later") }, func() {}, "try again later", false},
		"never":           {func() { fault("550 5.7.1 not from you") }, func() {}, "not from you", true},
		"another service": {serve("submission-address", "nobody@keys.test"), serve("submission-address", service), "has none", false},
	} {
		t.Run(name, func(t *testing.T) {
			defer c.undo()
			c.prepare()
			p.publish(PlaceWKS)
			p.want(PublicationFailed, c.reason)
			all, err := p.Publications(t.Context())
			if err != nil || all[0].Next.IsZero() != c.final || len(p.world.provider.Outside()) > 0 {
				t.Error(all, err)
			}
		})
	}
	p.publish(PlaceWKS)
	p.want(PublicationRequested, "")
}

// A crash after the service was asked, before that was noted, asks again.
func TestPublicationSurvivesACrash(t *testing.T) {
	p := newPublishing(t)
	p.publish(PlaceWKS)
	row, err := p.publications().get(t.Context(), alice, alice, PlaceWKS)
	if err != nil {
		t.Fatal(err)
	}
	row.digest = nil
	if err := p.publications().save(t.Context(), row); err != nil {
		t.Fatal(err)
	}
	p.tendAfter(0)
	p.want(PublicationRequested, "")
	if told := p.told(); len(told) != 2 {
		t.Error(told)
	}
}

// Only what the certificate is for, and the account has, is published.
func TestPublishWhatThereIs(t *testing.T) {
	p := newPublishing(t)
	if _, err := p.Publish(t.Context(), alice, []Place{PlaceVKS}, keydisc.Fingerprint(strings.Repeat("A", 40))); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
	for _, address := range []string{"alias-" + alice, bob} { // the key has no user ID of the alias
		if done, err := p.Publish(t.Context(), address, []Place{PlaceVKS, PlaceWKS}, ""); err == nil || len(done) > 0 {
			t.Error(address, done, err)
		}
	}
	if got := publicationStates(t, p.Account); got != "" || len(p.vks.Requests())+len(p.world.provider.Outside()) > 0 {
		t.Error(got, p.vks.Requests())
	}
}
