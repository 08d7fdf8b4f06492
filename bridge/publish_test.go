package bridge

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/keydisc"
)

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

// An answer that the provider does not take now is sent later; one that it never takes ends it.
func TestAnswerIsRefused(t *testing.T) {
	p := newPublishing(t)
	p.publish(PlaceWKS)
	fault := func(reply string) {
		p.world.provider.Inject(bridgetest.Fault{Protocol: "smtp", Command: "MAIL", Reply: reply, Times: 1})
	}
	p.deliver(p.question(nonce, nil))
	fault("451 4.3.0 later")
	if _, err := p.tendPublications(t.Context()); err == nil {
		t.Error("no error")
	}
	p.want(PublicationRequested, "")
	p.tendAfter(time.Minute)
	p.want(PublicationConfirmed, "")
	p.deliver(p.question("other"+nonce, nil))
	fault("550 5.7.1 never")
	p.tendAfter(time.Minute)
	p.want(PublicationFailed, "could not be answered")
	if told := p.told(); len(told) != 2 {
		t.Error(told)
	}
}
