package bridge

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/keydisc"
)

const secretBody = "the canary sings at midnight"

func TestSubmitReachesTheOtherClient(t *testing.T) {
	w := newWorld(t)
	from, to := w.start(alice), w.start(bob)
	if err := submit(t, from, message(alice, bob, "Canary subject", secretBody), bob); err != nil {
		t.Fatal(err)
	}
	got := waitFor(t, to, "INBOX", secretBody)
	for _, want := range []string{"Subject: Canary subject", "encryption=openpgp; signature=good", "trust=pinned", "pq=no"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Contains(got, "Canary/1.0") {
		t.Error("the User-Agent travelled along")
	}
	w.mustNotLeak(secretBody, "Canary subject", "Canary/1.0")
	if !bytes.Contains(w.provider.Submissions()[0].Bytes, []byte("Subject: [...]\r\n")) {
		t.Error("the visible subject is not [...]")
	}
}

// keyIDs counts the session keys of a submitted message.
func keyIDs(t *testing.T, s bridgetest.Submission) []uint64 {
	t.Helper()
	at := bytes.Index(s.Bytes, []byte("-----BEGIN PGP MESSAGE-----"))
	if at < 0 {
		t.Fatalf("no ciphertext for %v", s.To)
	}
	block, err := armor.Decode(bytes.NewReader(s.Bytes[at:]))
	if err != nil {
		t.Fatal(err)
	}
	var ids []uint64
	for packets := packet.NewReader(block.Body); ; {
		p, err := packets.Next()
		if err != nil {
			t.Fatal(err)
		}
		key, ok := p.(*packet.EncryptedKey)
		if !ok {
			return ids
		}
		ids = append(ids, key.KeyId)
	}
}

func TestBccGetsItsOwnCiphertext(t *testing.T) {
	w := newWorld(t)
	from := w.start(alice)
	err := submit(t, from, message(alice, bob, "For two", secretBody, "Bcc: "+carol), bob, carol)
	if err != nil {
		t.Fatal(err)
	}
	submissions := w.provider.Submissions()
	if len(submissions) != 2 {
		t.Fatalf("%d transactions", len(submissions))
	}
	for _, s := range submissions {
		ids := keyIDs(t, s)
		hidden := slices.Equal(s.To, []string{carol})
		if hidden && len(ids) != 1 || !hidden && len(ids) != 2 {
			t.Errorf("%d session keys for %v", len(ids), s.To)
		}
		if c := certificateOf(t, carol); !hidden && slices.ContainsFunc(ids, c.HasKeyID) {
			t.Error("the hidden recipient's key is named to the others")
		}
		if regexp.MustCompile(`(?im)^(resent-)?bcc:`).Match(s.Bytes) || (!hidden && bytes.Contains(s.Bytes, []byte("carol"))) {
			t.Errorf("the hidden recipient is named to %v", s.To)
		}
	}
	w.mustNotLeak(secretBody)
}

func certificateOf(t *testing.T, address string) *keydisc.Certificate {
	t.Helper()
	certificates, err := keydisc.ParseCertificates(bridgetest.PublicKey(address))
	if err != nil {
		t.Fatal(err)
	}
	return certificates[0]
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		policy Policy
		text   string
		from   string
		to     []string
		want   Reason
		names  string
	}{
		"no certificate":      {Policy{Default: Require}, message(alice, dave, "x", "y"), alice, []string{dave}, ReasonNoCertificate, dave},
		"one of two has none": {Policy{Default: Require}, message(alice, bob, "x", "y"), alice, []string{bob, dave}, ReasonNoCertificate, dave},
		"rule":                {Policy{Default: Prefer, Rules: []Rule{{Match: "*@delta.test", Encrypt: Require}}}, message(alice, dave, "x", "y", "X-Sealpost-Policy: clear"), alice, []string{dave}, ReasonNoCertificate, dave},
		"sender requires":     {Policy{Default: Prefer}, message(alice, dave, "x", "y", "X-Sealpost-Policy: require"), alice, []string{dave}, ReasonNoCertificate, dave},
		"no definite answer":  {Policy{Default: Prefer}, message(alice, "x@nowhere.test", "x", "y"), alice, []string{"x@unreachable.test"}, ReasonLookup, "x@unreachable.test"},
		"all or none":         {Policy{Default: Prefer}, message(alice, bob, "x", "y"), alice, []string{bob, dave}, ReasonPolicy, dave},
		"foreign envelope":    {Policy{Default: Prefer}, message(alice, bob, "x", "y"), bob, []string{bob}, ReasonSender, ""},
		"foreign From":        {Policy{Default: Prefer}, message(bob, bob, "x", "y"), alice, []string{bob}, ReasonSender, ""},
		"display name":        {Policy{Default: Prefer}, strings.Replace(message(alice, bob, "x", "y"), "<alice@", `"alice@alpha.test" <mallory@`, 1), alice, []string{bob}, ReasonSender, ""},
		"two From fields":     {Policy{Default: Prefer}, message(alice, bob, "x", "y", "From: <"+bob+">"), alice, []string{bob}, ReasonMalformed, ""},
		"two authors":         {Policy{Default: Prefer}, strings.Replace(message(alice, bob, "x", "y"), "From: <"+alice+">", "From: <"+alice+">, <"+bob+">", 1), alice, []string{bob}, ReasonMalformed, ""},
		"foreign Sender":      {Policy{Default: Prefer}, message(alice, bob, "x", "y", "Sender: <"+bob+">"), alice, []string{bob}, ReasonSender, ""},
		"no header":           {Policy{Default: Prefer}, "\r\nhello\r\n", alice, []string{bob}, ReasonMalformed, ""},
		"no recipients":       {Policy{Default: Prefer}, message(alice, bob, "x", "y"), alice, nil, ReasonMalformed, ""},
		"two Senders":         {Policy{Default: Prefer}, message(alice, bob, "x", "y", "Sender: <"+alice+">", "Sender: <"+bob+">"), alice, []string{bob}, ReasonSender, ""},
		"From after a CR":     {Policy{Default: Prefer}, message(alice, bob, "x", "y", "X: a\rFrom: <"+bob+">"), alice, []string{bob}, ReasonMalformed, ""},
		"two wishes":          {Policy{Default: Prefer}, message(alice, dave, "x", "y", "X-Sealpost-Policy: clear", "X-Sealpost-Policy: require"), alice, []string{dave}, ReasonMalformed, ""},
		"a wish after a CR":   {Policy{Default: Prefer}, message(alice, dave, "x", "y", "X: a\rX-Sealpost-Policy: require"), alice, []string{dave}, ReasonNoCertificate, dave},
		"a wish in two lines": {Policy{Default: Prefer}, message(alice, dave, "x", "y", "X-Sealpost-Policy", " : require"), alice, []string{dave}, ReasonMalformed, ""},
		"a wish with a space": {Policy{Default: Prefer}, message(alice, dave, "x", "y", "x-sealpost-policy : Require"), alice, []string{dave}, ReasonNoCertificate, dave},
		"empty wish":          {Policy{Default: Prefer}, message(alice, dave, "x", "y", "X-Sealpost-Policy:"), alice, []string{dave}, ReasonMalformed, ""},
		"strange wish":        {Policy{Default: Prefer}, message(alice, bob, "x", "y", "X-Sealpost-Policy: maybe"), alice, []string{bob}, ReasonMalformed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.policy = c.policy
			o := w.options(alice, t.TempDir())
			o.Keydisc.Resolve["openpgpkey.unreachable.test:443"] = "127.0.0.1:1"
			a := w.open(o)
			err := a.Submit(t.Context(), Envelope{From: c.from, To: c.to}, strings.NewReader(c.text))
			var refusal *Refusal
			if !errors.As(err, &refusal) || refusal.Reason != c.want || !strings.Contains(refusal.Error(), c.names) {
				t.Errorf("got %+v", err)
			}
			if n := len(w.provider.Submissions()); n != 0 {
				t.Errorf("%d transactions left the device", n)
			}
		})
	}
}

func TestPreferSplitsAndSendsClear(t *testing.T) {
	w := newWorld(t)
	a := w.open(w.options(alice, t.TempDir()))
	if err := submit(t, a, message(alice, bob, "Split", secretBody, "Cc: "+dave), bob, dave); err != nil {
		t.Fatal(err)
	}
	submissions := w.provider.Submissions()
	if len(submissions) != 2 {
		t.Fatalf("%d transactions", len(submissions))
	}
	for _, s := range submissions {
		clear := bytes.Contains(s.Bytes, []byte(secretBody))
		if clear != slices.Equal(s.To, []string{dave}) {
			t.Errorf("clear=%v for %v", clear, s.To)
		}
		if clear && (!bytes.Contains(s.Bytes, []byte("Autocrypt: ")) || bytes.Contains(s.Bytes, []byte("User-Agent"))) {
			t.Errorf("header of the clear copy:\n%s", s.Bytes)
		}
	}
	entries, err := a.bridge.Audit().List(t.Context(), 0, 10)
	if err != nil || len(entries) < 2 {
		t.Fatal(err, entries)
	}
	for _, e := range entries {
		if e.Event == "submit" && (e.Detail != "split" || e.Decision != map[string]string{bob: "encrypt", dave: "clear"}[e.Recipient]) {
			t.Errorf("%+v", e)
		}
	}
}

func TestReplyToEncryptedStaysEncrypted(t *testing.T) {
	w := newWorld(t)
	from, to := w.start(alice), w.start(bob)
	if err := submit(t, from, message(alice, bob, "Question", secretBody), bob); err != nil {
		t.Fatal(err)
	}
	waitFor(t, to, "INBOX", secretBody)
	before := len(w.provider.Submissions())
	err := submit(t, to, message(bob, dave, "Re Question", "> "+secretBody, "In-Reply-To: <Question@alpha.test>"), dave)
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Reason != ReasonPolicy {
		t.Errorf("got %v", err)
	}
	err = submit(t, to, message(bob, dave, "Re Question", "> "+secretBody, "References: <x@y> <Question@alpha.test>", "X-Sealpost-Policy: clear"), dave)
	if !errors.As(err, &refusal) || len(w.provider.Submissions()) != before {
		t.Errorf("got %v", err)
	}
	if err := submit(t, to, message(bob, alice, "Re Question", "> "+secretBody, "In-Reply-To: <Question@alpha.test>"), alice); err != nil {
		t.Errorf("an encrypted answer was refused: %v", err)
	}
	w.mustNotLeak(secretBody)
}

// Whatever the provider does, the client hears of it, and nothing goes out twice or in clear.
func TestProviderFailures(t *testing.T) {
	for name, c := range map[string]struct {
		fault bridgetest.Fault
		want  Reason
	}{
		"unreachable":           {bridgetest.Fault{Protocol: "smtp", Command: "CONNECT", Drop: true}, ReasonUnreachable},
		"sender refused":        {bridgetest.Fault{Protocol: "smtp", Command: "MAIL", Reply: "550 5.7.1 not you"}, ReasonProvider},
		"one recipient refused": {bridgetest.Fault{Protocol: "smtp", Command: "RCPT", Match: "carol", Reply: "550 5.1.1 unknown"}, ReasonProvider},
		"no DATA":               {bridgetest.Fault{Protocol: "smtp", Command: "DATA", Reply: "451 4.3.0 later"}, ReasonProvider},
		"lost before the end":   {bridgetest.Fault{Protocol: "smtp", Command: "BODY", Drop: true}, ReasonUnreachable},
		"refused after the end": {bridgetest.Fault{Protocol: "smtp", Command: "BODY", Reply: "554 5.7.1 spam"}, ReasonProvider},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.open(w.options(alice, t.TempDir()))
			remove := w.provider.Inject(c.fault)
			err := submit(t, a, message(alice, bob, "x", secretBody, "Cc: "+carol), bob, carol)
			var refusal *Refusal
			if !errors.As(err, &refusal) || refusal.Reason != c.want {
				t.Errorf("got %+v", err)
			}
			if n := len(w.provider.Submissions()); n != 0 {
				t.Errorf("%d transactions were accepted", n)
			}
			remove()
			if err := submit(t, a, message(alice, bob, "x", secretBody, "Cc: "+carol), bob, carol); err != nil {
				t.Errorf("and then: %v", err)
			}
			w.mustNotLeak(secretBody)
		})
	}
}

// One of two transactions fails after the other succeeded: it is delivered later.
func TestPartialFailureGoesToTheOutbox(t *testing.T) {
	w := newWorld(t)
	a := w.start(alice)
	// The second body fails once.
	w.provider.Inject(bridgetest.Fault{Protocol: "smtp", Command: "BODY", Reply: "451 4.3.0 later", Times: 1})
	if err := submit(t, a, message(alice, bob, "For two", secretBody), bob, carol); err != nil {
		t.Fatal(err)
	}
	list, err := a.bridge.Outbox().List(t.Context())
	if err != nil || len(list)+len(w.provider.Submissions()) < 2 {
		t.Fatal(err, list)
	}
	for _, m := range list {
		if err := a.bridge.Outbox().Retry(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both have it", func() bool { return len(w.provider.Submissions()) == 2 })
	eventually(t, "the outbox is empty", func() bool {
		n, err := a.bridge.Outbox().Len(t.Context())
		return err == nil && n == 0
	})
	w.mustNotLeak(secretBody)
}

// A part was delivered and the others could not even be queued: the reply names them, is permanent (or the
// client would send to everybody again), and the decision log knows both.
func TestPartialFailureNamesWhoGetsNothing(t *testing.T) {
	w := newWorld(t)
	a := w.open(w.options(alice, t.TempDir()))
	if _, err := a.bridge.db.Writer().ExecContext(t.Context(), `ALTER TABLE outbox RENAME TO outbox_gone`); err != nil {
		t.Fatal(err)
	}
	w.provider.Inject(bridgetest.Fault{Protocol: "smtp", Command: "BODY", Reply: "451 4.3.0 later", Times: 2})
	to := []string{bob, carol, dave} // three parts: two ciphertexts and a clear copy
	err := submit(t, a, message(alice, "nobody@alpha.test", "For three", secretBody), to...)
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Code != 554 || len(refusal.Recipients) != 2 {
		t.Fatalf("%+v", err)
	}
	decisions := map[string]string{}
	entries, err := a.bridge.Audit().List(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Event == "submit" {
			decisions[e.Recipient] = e.Decision
		}
	}
	sent := w.provider.Submissions()[0].To
	for _, address := range to {
		got := slices.Contains(sent, address)
		named := slices.ContainsFunc(refusal.Recipients, func(r RecipientRefusal) bool { return r.Address == address })
		if got == named || got == (decisions[address] == "refuse") || decisions[address] == "" {
			t.Errorf("%s: got it %v, named %v, decision %q", address, got, named, decisions[address])
		}
	}
}

// A permanent failure of one part ends in a bounce in the user's own INBOX, sealed.
func TestPartialFailureBounces(t *testing.T) {
	w := newWorld(t)
	a := w.start(alice)
	w.provider.Inject(bridgetest.Fault{Protocol: "smtp", Command: "BODY", Reply: "554 5.7.1 spam", Times: 1})
	if err := submit(t, a, message(alice, bob, "For two", secretBody), bob, carol); err != nil {
		t.Fatal(err)
	}
	w.provider.Inject(bridgetest.Fault{Protocol: "smtp", Command: "MAIL", Reply: "554 5.7.1 spam"})
	eventually(t, "the part is queued", func() bool {
		list, err := a.bridge.Outbox().List(t.Context())
		return err == nil && (len(list) == 0 || a.bridge.Outbox().Retry(t.Context(), list[0].ID) == nil)
	})
	bounce := waitFor(t, a, "INBOX", "could not be delivered", "For-two@alpha.test")
	if !strings.Contains(bounce, "encryption=sealed") {
		t.Errorf("the bounce is not sealed:\n%s", bounce)
	}
	if strings.Contains(bounce, "was delivered") { // another part may still be queued
		t.Errorf("the bounce says more than is known:\n%s", bounce)
	}
	w.mustNotLeak(secretBody, "could not be delivered")
}

func TestCiphertextOfTheClientPasses(t *testing.T) {
	w := newWorld(t)
	a := w.open(w.options(alice, t.TempDir()))
	if err := submit(t, a, message(alice, bob, "Once", secretBody), bob); err != nil {
		t.Fatal(err)
	}
	text := string(w.provider.Submissions()[0].Bytes)
	if err := submit(t, a, text, dave); err != nil {
		t.Fatal(err)
	}
	again := string(w.provider.Submissions()[1].Bytes)
	_, body, _ := strings.Cut(text, "\r\n\r\n")
	if !strings.HasSuffix(again, body) || strings.Count(again, "BEGIN PGP MESSAGE") != 1 {
		t.Errorf("what was ciphertext changed:\n%s", again)
	}
}

func TestWouldSend(t *testing.T) {
	w := newWorld(t)
	a := w.open(w.options(alice, t.TempDir()))
	p := a.WouldSend(t.Context(), alice, []string{bob}, []string{dave})
	if p.Decision != "clear" || !p.Split || len(p.Recipients) != 2 || p.Recipients[0].Fingerprint == "" || p.Recipients[0].Source != "wkd" ||
		p.Recipients[0].Decision != "encrypt" || p.Recipients[1].Decision != "clear" || p.Recipients[1].Rule == "" {
		t.Errorf("%+v", p)
	}
	if n := len(w.provider.Submissions()); n != 0 {
		t.Error("something was sent")
	}
}
