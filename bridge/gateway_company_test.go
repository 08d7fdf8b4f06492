package bridge

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/doctor"
	"github.com/sealpost/sealpost/keydisc"
)

func fixedCertificate(t *testing.T, address string) *keydisc.Certificate {
	t.Helper()
	certificates, err := keydisc.ParseCertificates(bridgetest.PublicKey(address))
	if err != nil {
		t.Fatal(err)
	}
	return certificates[0]
}

// lasting is a certificate that ends so much later than now.
func (c *company) lasting(d time.Duration) *keydisc.Certificate {
	c.t.Helper()
	begin := time.Now().AddDate(0, 0, -2)
	e, err := openpgp.NewEntity("", "", "archive@alpha.test", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return begin }, KeyLifetimeSecs: uint32((48*time.Hour + d).Seconds()),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	var raw bytes.Buffer
	if err := e.Serialize(&raw); err != nil {
		c.t.Fatal(err)
	}
	certificates, err := keydisc.ParseCertificates(raw.Bytes())
	if err != nil {
		c.t.Fatal(err)
	}
	return certificates[0]
}

func (c *company) company(policy Company) {
	c.t.Helper()
	o := c.gateway.options
	o.Company = policy
	if err := c.bridge.SetGateway(c.t.Context(), o); err != nil {
		c.t.Fatal(err)
	}
	c.gateway, _ = c.bridge.Gateway()
}

// entries are what the log says about recipients: "account > recipient decision rule detail".
func (c *company) entries() (all []string) {
	c.t.Helper()
	entries, err := c.bridge.Audit().List(c.t.Context(), 0, 1000)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s > %s %s (%s) %s", e.Account, e.Recipient, e.Decision, e.Rule, e.Detail)))
	}
	return all
}

// TestArchiveIsSeen: whoever reads along is named by every ciphertext, in the log and in what would be sent.
func TestArchiveIsSeen(t *testing.T) {
	c := newCompany(t, lmtp)
	archive := fixedCertificate(t, carol)
	c.company(Company{Groups: []PolicyGroup{{Members: []string{erin}, PolicyLevel: PolicyLevel{Name: "legal", Archive: []*keydisc.Certificate{archive}}}}})
	c.leave(Envelope{From: erin, To: []string{bob, dave, "bcc@bravo.test"}}, message(erin, bob, "archived", secretBody), true)
	sent := c.out.For(bob)[0]
	if !slices.ContainsFunc(keyIDs(t, bridgetest.Submission{Bytes: sent}), archive.HasKeyID) {
		t.Error("the ciphertext does not name the archive")
	}
	result := c.openAs(carol, sent)
	if result.Message == nil {
		t.Errorf("the archive cannot read it: %s", result.Reason)
	} else {
		_ = result.Message.Close()
	}
	fingerprint := string(archive.Fingerprint())
	if want := erin + " > " + bob + " encrypt (default prefer) split; archive " + fingerprint; !slices.Contains(c.entries(), want) {
		t.Errorf("the log has %q, not %q", c.entries(), want)
	}
	preview, err := c.gateway.WouldSend(t.Context(), erin, []string{bob}, nil)
	if err != nil || !slices.Equal(preview.Archive, []string{fingerprint}) {
		t.Errorf("would be sent: %+v, %v", preview, err)
	}
	c.leave(Envelope{From: alice, To: []string{bob}}, message(alice, bob, "not archived", secretBody), true)
	if slices.ContainsFunc(keyIDs(t, bridgetest.Submission{Bytes: c.out.For(bob)[1]}), archive.HasKeyID) {
		t.Error("alice's mail names the archive, too")
	}
}

// TestPartnersUseDomainCertificates: two companies with gateways, whose users have no keys.
func TestPartnersUseDomainCertificates(t *testing.T) {
	c := newCompany(t, lmtp)
	c.company(Company{Partners: map[string]*keydisc.Certificate{"delta.test": fixedCertificate(t, carol)}})
	c.wkd.Fail(500) // nobody can say whether dave has a certificate
	c.leave(Envelope{From: alice, To: []string{dave}}, message(alice, dave, "partner", secretBody), true)
	if len(c.out.For(dave)) != 1 {
		t.Fatal("it was not sent")
	}
	if result := c.openAs(carol, c.out.For(dave)[0]); result.Message == nil {
		t.Errorf("the partner cannot read it: %s", result.Reason)
	} else {
		_ = result.Message.Close()
	}
	if want := alice + " > " + dave + " encrypt (default prefer) domain certificate"; !slices.Contains(c.entries(), want) {
		t.Errorf("the log has %q, not %q", c.entries(), want)
	}

	owner, err := c.gateway.User(t.Context(), "@alpha.test")
	if err != nil {
		t.Fatal(err)
	}
	own, err := owner.Certificate()
	if err != nil || !slices.Equal(own.Addresses(), []string{"gateway@alpha.test"}) {
		t.Fatal(own.Addresses(), err)
	}
	c.enter(Envelope{From: bob, To: []string{erin}}, c.encryptedBy(message(bob, erin, "to the domain", "quince"), own), true)
	if got := string(c.inside.For(erin)[0]); !strings.Contains(got, "quince") || !strings.Contains(got, "encryption=openpgp") {
		t.Errorf("erin gets %s", got)
	}
}

// TestDomainCertificatesAreNobodysOwn: they do not become their users' in the programs of those who get the same message.
func TestDomainCertificatesAreNobodysOwn(t *testing.T) {
	c := newCompany(t, lmtp)
	c.company(Company{Partners: map[string]*keydisc.Certificate{"delta.test": fixedCertificate(t, carol)}})
	for _, to := range [][]string{{dave, "frank@delta.test"}, {bob, dave}, {carol, dave, "frank@delta.test"}} {
		c.out.Forget()
		text := strings.Replace(message(alice, dave, "all", secretBody), "To: <"+dave+">", "To: "+strings.Join(to, ", "), 1)
		a := c.leave(Envelope{From: alice, To: to}, text, true)
		if sent := c.out.Received(); len(sent) != 1 || len(sent[0].To) != len(to) {
			t.Fatalf("to %v: answers %v, sent %d messages", to, a, len(sent))
		}
		result := c.openAs(carol, c.out.For(dave)[0])
		if result.Message == nil || strings.Contains(strings.Join(result.Gossip, " "), "@delta.test") {
			t.Errorf("to %v: carol reads %v, and is told of %q", to, result.Reason, result.Gossip)
		}
		if result.Message != nil {
			_ = result.Message.Close()
		}
	}
}

// TestOwnCertificateComesBeforeTheDomains: and one that may not be used is not replaced by the domain's.
func TestOwnCertificateComesBeforeTheDomains(t *testing.T) {
	c := newCompany(t, lmtp)
	c.company(Company{Partners: map[string]*keydisc.Certificate{"bravo.test": fixedCertificate(t, carol)}})
	c.leave(Envelope{From: alice, To: []string{bob}}, message(alice, bob, "own", secretBody), true)
	if fate := c.fateOf(bob, "", ""); fate != "encrypted good" {
		t.Errorf("bob's copy is %s", fate)
	}
	if _, err := c.bridge.BlockContact(t.Context(), bob, true); err != nil {
		t.Fatal(err)
	}
	if a := c.leave(Envelope{From: alice, To: []string{bob}}, message(alice, bob, "blocked", secretBody), true); a[bob] != string(ReasonPolicy) {
		t.Errorf("answers %v", a)
	}
}

// TestConfiguredCertificatesExpire: what cannot be used any more holds back what it is for, and the checkup says so before.
func TestConfiguredCertificatesExpire(t *testing.T) {
	c := newCompany(t, lmtp)
	expired, soon := c.lasting(-time.Hour), c.lasting(20*24*time.Hour)
	c.company(Company{
		Partners: map[string]*keydisc.Certificate{"delta.test": expired, "echo.test": soon},
		Users:    []PolicyLevel{{Name: erin, Archive: []*keydisc.Certificate{expired, fixedCertificate(t, carol)}}},
	})
	a := c.leave(Envelope{From: alice, To: []string{dave, bob}}, message(alice, dave, "expired", secretBody), true)
	if a[dave] != string(ReasonCertificate) || a[bob] != "" || len(c.out.For(dave)) != 0 {
		t.Errorf("answers %v", a)
	}
	if a := c.leave(Envelope{From: erin, To: []string{bob}}, message(erin, bob, "not archived", secretBody), true); a[bob] != string(ReasonLocal) || len(c.out.For(bob)) != 1 {
		t.Errorf("without its archive: answers %v", a)
	}
	_ = c.inside.Close()
	states := map[string]doctor.State{}
	for _, f := range c.bridge.Checkup(t.Context(), "localhost") {
		states[f.Check] = f.State
	}
	for check, want := range map[string]doctor.State{
		"next hop of what leaves": doctor.OK, "next hop of what enters": doctor.Problem, "partner delta.test": doctor.Problem, "partner echo.test": doctor.Attention, "archive " + string(expired.Fingerprint()): doctor.Problem,
		"archive " + string(fixedCertificate(t, carol).Fingerprint()): doctor.OK,
	} {
		if states[check] != want {
			t.Errorf("%s: %q, not %q", check, states[check], want)
		}
	}
}

// TestTenantsAreApart: what goes from one company to another leaves the first.
func TestTenantsAreApart(t *testing.T) {
	c := newCompany(t, lmtp)
	c.gateway.options.Domains = []string{"alpha.test", "echo.test"}
	c.company(Company{Tenants: map[string]string{"alpha.test": "one", "echo.test": "two"}, Domains: []PolicyLevel{{Name: "alpha.test", Encrypt: Require}}})
	other, keyless := "olga@echo.test", "paul@echo.test"
	c.userKey(other)
	text := message(alice, other, "tenants", secretBody)
	a := c.leave(Envelope{From: alice, To: []string{other, keyless, erin}}, text, true)
	if a[other] != "" || a[keyless] != string(ReasonNoCertificate) || a[erin] != "" {
		t.Fatalf("answers %v", a)
	}
	if strings.Contains(string(c.out.For(other)[0]), secretBody) || !strings.Contains(string(c.out.For(erin)[0]), secretBody) {
		t.Error("what left the company is clear, or what stayed is not")
	}
	c.enter(Envelope{From: alice, To: []string{other}}, string(c.out.For(other)[0]), true)
	if got := string(c.inside.For(other)[0]); !strings.Contains(got, secretBody) || !strings.Contains(got, "signature=good") {
		t.Errorf("she gets %s", got)
	}
	if got := c.leave(Envelope{From: other, To: []string{"quentin@echo.test"}}, message(other, "quentin@echo.test", "inside", secretBody), true); got["quentin@echo.test"] != "" {
		t.Errorf("a colleague is refused: %v", got)
	}
}

// TestOpenedMailStaysInItsCompany: redirected by nobody who is known here, it may be another company's.
func TestOpenedMailStaysInItsCompany(t *testing.T) {
	c := newCompany(t, lmtp)
	c.gateway.options.Domains = []string{"alpha.test", "echo.test"}
	c.company(Company{Tenants: map[string]string{"alpha.test": "one", "echo.test": "two"}})
	c.enter(Envelope{From: bob, To: []string{alice}}, c.encryptedBy(message(bob, alice, "pectin", "quince"), c.userKey(alice)), true)
	opened := string(c.inside.For(alice)[0])
	_, unmarked, _ := strings.Cut(opened, "X-Sealpost-Status: ")
	_, unmarked, _ = strings.Cut(unmarked, "\r\n")
	olga, paul := "olga@echo.test", "paul@echo.test"
	c.userKey(olga)
	for name, text := range map[string]string{"with its status": opened, "known by its Message-ID": unmarked} {
		for _, from := range []string{bob, "", alice} {
			c.out.Forget()
			a := c.leave(Envelope{From: from, To: []string{paul, olga, erin}}, text, true)
			if got := c.out.For(olga); a[paul] != string(ReasonPolicy) || len(got) != 1 || strings.Contains(string(got[0]), "quince") {
				t.Errorf("%s, redirected by <%s>: answers %v", name, from, a)
			}
			if known := from == alice; known != (a[erin] == "") {
				t.Errorf("%s, redirected by <%s>: the colleague's answer is %q", name, from, a[erin])
			}
		}
	}
	if a := c.leave(Envelope{From: dave, To: []string{paul}}, message(dave, paul, "clear", "text"), true); a[paul] != "" {
		t.Errorf("clear mail redirected: %v", a)
	}
}

// TestNamesOfTwoUsers: whoever writes under a colleague's name is held to what is in force for either, and named in the log.
func TestNamesOfTwoUsers(t *testing.T) {
	c := newCompany(t, lmtp)
	c.company(Company{Users: []PolicyLevel{{Name: erin, Encrypt: Require, Fixed: true}}})
	for name, e := range map[string][2]string{"From": {erin, alice}, "envelope": {alice, erin}} {
		a := c.leave(Envelope{From: e[0], To: []string{dave}}, message(e[1], dave, "borrowed "+name, secretBody), true)
		if a[dave] != string(ReasonNoCertificate) || len(c.out.For(dave)) > 0 {
			t.Errorf("a borrowed %s: answered %v", name, a)
		}
	}
	entries := c.entries()
	for _, want := range []string{erin + " > " + dave + " refuse (user " + erin, alice + " > " + dave + " refuse (user " + erin} {
		if !slices.ContainsFunc(entries, func(entry string) bool { return strings.HasPrefix(entry, want) }) {
			t.Errorf("the log names %q, not %q", entries, want)
		}
	}
	c.gateway.options.Domains = []string{"alpha.test", "echo.test"}
	c.company(Company{Tenants: map[string]string{"alpha.test": "one", "echo.test": "two"}})
	a := c.leave(Envelope{From: "olga@echo.test", To: []string{erin}}, message(alice, erin, "tenants", secretBody, "X-Sealpost-Policy: require"), true)
	if a[erin] == "" && strings.Contains(string(c.out.For(erin)[0]), secretBody) {
		t.Error("mail of another company is taken for the company's own")
	}
}

// TestAuthorsInDoubtAreHeldToTheirLevels: whoever From may mean, in whatever form, under any envelope.
func TestAuthorsInDoubtAreHeldToTheirLevels(t *testing.T) {
	c := newCompany(t, lmtp)
	c.company(Company{Users: []PolicyLevel{
		{Name: erin, Encrypt: Require, Fixed: true},
		{Name: "frank@alpha.test", Rules: []Rule{{Match: dave, From: "frank@alpha.test", Encrypt: Require}}},
	}})
	for _, from := range []string{
		"=?windows-1252?Q?Erin=E9?= <erin@alpha.test>", "Orchard, Erin <erin@alpha.test>", "Erin [Sales] <erin@alpha.test>", "erin@alpha.test <erin@alpha.test>",
		"alice@alpha.test, \"erin\"@alpha.test", "Erin, X \"erin\" @ alpha.test.", "=?utf-8?Q?Erin, <erin=40alpha.test>?=", "alice@alpha.test\r\nFrom: <<erin@alpha.test>",
		"someone@elsewhere.test, alice@alpha.test, erin@alpha.test", "Alice, <alice@alpha.test> Frank, <frank@alpha.test>",
	} {
		for _, envelope := range []string{"", "bounces+7@alpha.test", alice, "someone@elsewhere.test"} {
			text := "From: " + from + "\r\nTo: dave@delta.test\r\nSubject: x\r\n\r\n" + secretBody + "\r\n"
			if a := c.leave(Envelope{From: envelope, To: []string{dave}}, text, true); a[dave] != string(ReasonNoCertificate) {
				t.Errorf("From: %s under <%s>: answered %v", from, envelope, a)
			}
		}
	}
}

// TestInternationalDomains are the same in either spelling.
func TestInternationalDomains(t *testing.T) {
	c := newCompany(t, lmtp)
	c.gateway.options.Domains = []string{"b\u00fccher.test", "gr\u00f6\u00dfe.test", "alpha.test"}
	c.company(Company{Tenants: map[string]string{"b\u00fccher.test": "one", "gr\u00f6\u00dfe.test": "two", "alpha.test": "three"},
		Partners: map[string]*keydisc.Certificate{"\u00e4pfel.test": fixedCertificate(t, carol)}})
	company := c.gateway.options.Company
	if company.together("a@b\u00fccher.test", "b@gr\u00f6\u00dfe.test") || !company.together("a@b\u00fccher.test", "b@xn--bcher-kva.test") {
		t.Errorf("tenants %v", company.Tenants)
	}
	if c.gateway.partnerOf("x@\u00e4pfel.test") == nil || c.gateway.partnerOf("x@xn--pfel-koa.test") == nil {
		t.Errorf("partners %v", company.Partners)
	}
}
