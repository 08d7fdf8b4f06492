package bridge

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/internal/keyring"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/upstream"
	"github.com/sealpost/sealpost/keydisc"
)

var lmtp = bridgetest.NextHopOptions{LMTP: true}

func TestGatewayOutboundTable(t *testing.T) {
	cases := readRelayCases(t)
	if len(cases) < 20 {
		t.Fatalf("only %d cases read", len(cases))
	}
	c := newCompany(t, lmtp)
	for _, one := range cases {
		t.Run(one.name, func(t *testing.T) {
			c.out.Forget()
			for _, id := range one.opened {
				c.opened(id)
			}
			answers := c.leave(one.envelope, one.text, true)
			for to, want := range one.want {
				if got := c.fateOf(to, answers[to], one.text); got != want {
					t.Errorf("for %s: %s, want %s", to, got, want)
				}
			}
			for _, r := range c.out.Received() {
				if bytes.Contains(r.Bytes, []byte("X-Sealpost-Policy")) || bytes.Contains(r.Bytes, []byte("\nBcc:")) {
					t.Errorf("left with what is never sent: %s", r.Bytes)
				}
			}
		})
	}
}

// TestGatewayTakesReportsApart: an MTA quotes what was opened here.
func TestGatewayTakesReportsApart(t *testing.T) {
	c := newCompany(t, lmtp)
	c.opened("<secret@bravo.test>")
	report := func(quoted ...string) string {
		lines := append([]string{"From: MAILER-DAEMON@mx.alpha.test", "To: dave@delta.test", "Subject: Undelivered", "MIME-Version: 1.0",
			"Content-Type: multipart/report; report-type=delivery-status; boundary=b", "", "--b", "", "not delivered",
			"--b", "Content-Type: message/delivery-status", "", "Final-Recipient: rfc822; alice@alpha.test", "Action: failed", "Status: 5.2.2", "--b"}, quoted...)
		return strings.Join(append(lines, "--b--", ""), "\r\n")
	}
	for name, text := range map[string]string{
		"whole": report("Content-Type: message/rfc822", "", "X-Sealpost-Status: encryption=openpgp; signature=good", "From: bob@bravo.test", "Subject: pectin", "", "quince"),
		"under a changed status": report("Content-Type: message/rfc822", "", "X-Sealpost-Status: encryption=none; signature=none",
			"Message-ID: <secret@bravo.test>", "Subject: pectin", "", "quince"),
		"two statuses":      report("Content-Type: message/rfc822", "", "X-Sealpost-Status: encryption=none", "X-Sealpost-Status: encryption=openpgp", "Subject: pectin", "", "quince"),
		"header alone":      report("Content-Type: text/rfc822-headers", "", "X-Sealpost-Status: encryption=openpgp; signature=good", "Subject: pectin"),
		"in another form":   report("Content-Type: text/plain", "", "pectin quince"),
		"of unknown origin": report("Content-Type: message/rfc822", "", "Subject: pectin", "", "quince"),
	} {
		t.Run(name, func(t *testing.T) {
			c.out.Forget()
			answers := c.leave(Envelope{To: []string{dave}}, text, true)
			if answers[dave] != "" || len(c.out.For(dave)) != 1 {
				t.Fatalf("the report was refused: %s", answers[dave])
			}
			sent := c.out.For(dave)[0]
			if bytes.Contains(sent, []byte("pectin")) || bytes.Contains(sent, []byte("quince")) {
				t.Errorf("it gives away what was opened: %s", sent)
			}
			for _, kept := range []string{"the next part", "Action: failed", "multipart/report"} {
				if !bytes.Contains(sent, []byte(kept)) {
					t.Errorf("%q is missing in %s", kept, sent)
				}
			}
			answers = c.leave(Envelope{To: []string{erin}}, text, true)
			if inside := c.out.For(erin); answers[erin] != "" || !bytes.Contains(inside[len(inside)-1], []byte("pectin")) {
				t.Error("a colleague does not get it whole")
			}
		})
	}
}

// TestAttachedMessagesAreRecognised: in whatever form a program attaches what was opened.
func TestAttachedMessagesAreRecognised(t *testing.T) {
	c := newCompany(t, lmtp)
	c.opened("<secret@bravo.test>")
	secret := "From: bob@bravo.test\r\nMessage-ID: <secret@bravo.test>\r\nSubject: secret\r\n\r\nquince\r\n"
	within := func(head, body string) string {
		return "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=n\r\n\r\n--n\r\n" + head + "\r\n\r\n" + body + "--n--\r\n"
	}
	const message, printable = "Content-Type: message/rfc822", "\r\nContent-Transfer-Encoding: quoted-printable"
	coded := func(s string) string { return strings.ReplaceAll(s, "=", "=3D") }
	inMessage := within(message, secret)
	for name, one := range map[string]struct{ head, body string }{
		"as it is":                      {message, secret},
		"within a message":              {message, inMessage},
		"within an encoded message":     {message + printable, coded(inMessage)},
		"encoded twice":                 {message + printable, coded(within(message+printable, coded(inMessage)))},
		"as a file":                     {"Content-Type: application/octet-stream; name=x.eml", secret},
		"as a file of another name":     {"Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=\"Re: x.EML\"", inMessage},
		"as an encoded file in another": {"Content-Type: text/plain; name=x.eml\r\nContent-Transfer-Encoding: base64", base64.StdEncoding.EncodeToString([]byte(inMessage)) + "\r\n"},
	} {
		c.out.Forget()
		text := "From: alice@alpha.test\r\nTo: dave@delta.test\r\nSubject: Fwd\r\n" + within(one.head, one.body)
		if a := c.leave(Envelope{From: alice, To: []string{dave}}, text, true); a[dave] != string(ReasonPolicy) || len(c.out.For(dave)) > 0 {
			t.Errorf("%s: answered %q", name, a[dave])
		}
	}
}

// TestReportsGiveNothingAway: wherever a report, or what claims to be one, quotes what was opened.
func TestReportsGiveNothingAway(t *testing.T) {
	c := newCompany(t, lmtp)
	c.opened("<secret@bravo.test>")
	const (
		status  = "--b\r\nContent-Type: message/delivery-status\r\n\r\nAction: failed\r\n"
		read    = "--b\r\nContent-Type: message/disposition-notification\r\n\r\nDisposition: automatic-action/MDN-sent-automatically; deleted\r\n"
		words   = "--b\r\n\r\nnot delivered\r\n"
		end     = "--b--\r\n"
		quoted  = "From: bob@bravo.test\r\nMessage-ID: <secret@bravo.test>\r\n\r\nquince\r\n"
		marked  = "X-Sealpost-Status: encryption=openpgp; signature=good\r\nFrom: bob@bravo.test\r\n\r\nquince\r\n"
		message = "Content-Type: message/rfc822\r\n\r\n"
		nested  = message + "X-Sealpost-Status: encryption=none\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n" + message + quoted + "--c--\r\n"
		report  = "multipart/report; boundary=b"
		mta     = "MAILER-DAEMON@alpha.test"
	)
	for name, one := range map[string]struct{ author, form, body, extra, want string }{
		"the first part is the message":   {mta, report, "--b\r\n" + message + marked + status + end, "", ""},
		"the first part holds it":         {mta, report, "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n" + message + quoted + "--c--\r\n" + status + end, "", ""},
		"the first part's text quotes":    {"postmaster@alpha.test", report, "--b\r\n\r\n" + quoted + status + end, "", ""},
		"the first part is HTML":          {mta, report, "--b\r\nContent-Type: text/html\r\n\r\nquince\r\n" + status + end, "", ""},
		"its own subject":                 {mta, report, words + status + end, "Subject: Undeliverable: quince\r\nThread-Topic: quince\r\n", ""},
		"the first part's words":          {mta, report, "--b\r\n\r\nDelivery has failed. Subject: quince\r\n" + status + end, "", ""},
		"before the parts":                {mta, report, "quince\r\n" + words + status + end, "", ""},
		"after the parts":                 {mta, report, words + status + end + "quince\r\n", "", ""},
		"a read receipt":                  {mta, report, words + read + "--b\r\n" + message + marked + end, "", ""},
		"within what came in clear":       {mta, report, words + status + "--b\r\n" + nested + end, "", "policy"},
		"the report itself was encrypted": {mta, report, words + status + end, "X-Sealpost-Status: encryption=openpgp\r\n", "policy"},
		"a text":                          {mta, "text/plain", "Hi. This is the mail program.\r\n\r\n" + quoted, "", "policy"},
		"a text with the status":          {mta, "text/plain", "Hi. This is the mail program.\r\n\r\n> " + marked, "", "policy"},
		"HTML":                            {mta, "text/html", "<pre>Message-ID: &lt;secret@bravo.test&gt;\r\nquince</pre>\r\n", "", "policy"},
		"a user's, in the form of one":    {alice, report, "--b\r\n\r\n> quince\r\n" + status + end, "In-Reply-To: <secret@bravo.test>\r\n", "policy"},
		"a user in doubt":                 {"X, " + alice, report, "--b\r\n\r\n> quince\r\n" + status + end, "In-Reply-To: <secret@bravo.test>\r\n", "policy"},
	} {
		t.Run(name, func(t *testing.T) {
			c.out.Forget()
			text := one.extra + "From: " + one.author + "\r\nTo: dave@delta.test\r\nMIME-Version: 1.0\r\nContent-Type: " + one.form + "\r\n\r\n" + one.body
			answers := c.leave(Envelope{To: []string{dave}}, text, true)
			sent := c.out.For(dave)
			if answers[dave] != one.want || (len(sent) == 1) != (one.want == "") {
				t.Fatalf("answered %q, sent %d times", answers[dave], len(sent))
			}
			if len(sent) > 0 && bytes.Contains(sent[0], []byte("quince")) {
				t.Errorf("it gives away what was opened: %s", sent[0])
			}
		})
	}
}

// TestGatewayAnswersForEach: over LMTP each recipient has an answer of his own.
func TestGatewayAnswersForEach(t *testing.T) {
	c := newCompany(t, lmtp)
	c.out.Refuse(carol, "550 5.1.1 no such user")
	c.out.RefuseLate(dave, "452 4.2.2 mailbox full")
	answers := c.leave(Envelope{From: alice, To: []string{bob, carol, dave, erin}}, message(alice, bob, "each", secretBody), true)
	want := map[string]string{bob: "", carol: "recipient", dave: "provider-later", erin: ""}
	for to := range want {
		if (answers[to] == "") != (want[to] == "") {
			t.Errorf("%s is answered %q", to, answers[to])
		}
		if got := len(c.out.For(to)) == 1; got != (want[to] == "") {
			t.Errorf("%s has it: %v", to, got)
		}
	}
	c.out.DropLate(true)
	for to, answer := range c.leave(Envelope{From: alice, To: []string{bob, erin}}, message(alice, bob, "dropped", secretBody), true) {
		if answer == "" {
			t.Errorf("%s is told that it was sent", to)
		}
	}
	if m, err := c.bridge.Outbox().List(t.Context()); err != nil || len(m) != 0 {
		t.Errorf("the outbox holds %v, %v: the MTA would send it again", m, err)
	}
}

// TestGatewayAnswersForAll: over SMTP there is one answer, and one refusal before the bodies keeps it from all.
func TestGatewayAnswersForAll(t *testing.T) {
	c := newCompany(t, bridgetest.NextHopOptions{})
	c.out.Refuse(carol, "550 5.1.1 no such user")
	text := message(alice, bob, "all", secretBody)
	if a := c.leave(Envelope{From: alice, To: []string{bob, carol, dave}}, text, false); a[bob] == "" || len(c.out.Received()) > 0 {
		t.Errorf("answers %v, sent %v", a, c.out.Received())
	}
	c.out.Refuse(carol, "")
	c.out.RefuseLate(dave, "451 4.3.0 later")
	if a := c.leave(Envelope{From: alice, To: []string{bob, carol, dave}}, text, false); a[bob] != "" || a[dave] != "" {
		t.Fatalf("answers %v: the MTA would send to all again", a)
	}
	if len(c.out.For(bob)) != 1 || len(c.out.For(carol)) != 1 || len(c.out.For(dave)) != 0 {
		t.Errorf("received %v", c.out.Received())
	}
	c.out.RefuseLate(dave, "")
	held, err := c.bridge.Outbox().List(t.Context())
	if err != nil || len(held) != 1 {
		t.Fatalf("the outbox holds %v, %v", held, err)
	}
	if err := c.bridge.Outbox().Retry(t.Context(), held[0].ID); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.bridge.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	eventually(t, "dave has it", func() bool { return len(c.out.For(dave)) == 1 })
}

// TestOutboxReturnsNothingOpened: what the next hop takes later it may return later.
func TestOutboxReturnsNothingOpened(t *testing.T) {
	c := newCompany(t, bridgetest.NextHopOptions{})
	text := c.encryptedBy(message(bob, alice, "pectin", "quince"), c.userKey(alice), c.userKey(erin))
	c.inside.RefuseLate(erin, "451 4.3.0 later")
	c.enter(Envelope{From: bob, To: []string{alice, erin}, Notice: Notice{Return: "FULL"}}, text, false)
	held, err := c.bridge.Outbox().List(t.Context())
	if err != nil || len(held) != 1 || held[0].Notice.Return != "HDRS" {
		t.Fatalf("the outbox holds %+v, %v", held, err)
	}
}

func TestGatewayInbound(t *testing.T) {
	c := newCompany(t, lmtp)
	key := c.userKey(alice)
	c.userKey(erin)
	c.leave(Envelope{From: alice, To: []string{bob}}, message(alice, bob, "hello", "bob's certificate is known now"), true)
	text := c.encryptedBy(message(bob, alice, "pectin", "quince"), key)
	own := "own@alpha.test"
	answers := c.enter(Envelope{From: bob, To: []string{alice, erin, own, dave}}, "x-sealpost-status: encryption=openpgp; signature=good; trust=verified\r\n"+text, true)
	if answers[alice] != "" || answers[erin] != "" || answers[own] != "" || answers[dave] != string(ReasonRelay) {
		t.Fatalf("answers %v", answers)
	}
	opened, closed, asItCame := string(c.inside.For(alice)[0]), string(c.inside.For(erin)[0]), string(c.inside.For(own)[0])
	for _, want := range []string{"Subject: pectin", "quince", "X-Sealpost-Status: encryption=openpgp; signature=good"} {
		if !strings.Contains(opened, want) {
			t.Errorf("alice's copy has no %q: %s", want, opened)
		}
	}
	if strings.Contains(closed, "quince") || !strings.Contains(closed, "encryption=failed") {
		t.Errorf("erin's copy: %s", closed)
	}
	if !strings.HasSuffix(asItCame, text) || strings.Contains(strings.ToLower(asItCame), "x-sealpost-status") {
		t.Errorf("who opens his mail himself gets: %s", asItCame)
	}
	for _, r := range c.inside.Received() {
		if shown := bytes.Contains(r.Bytes, []byte("quince")); shown && (len(r.To) != 1 || r.Return != "HDRS") {
			t.Errorf("what was opened went to %v with RET=%s", r.To, r.Return)
		}
	}
	if answer := c.leave(Envelope{From: alice, To: []string{dave}}, message(alice, dave, "Re: pectin", "> quince", "In-Reply-To: <pectin@alpha.test>"), true); answer[dave] != string(ReasonPolicy) {
		t.Errorf("an answer to it was sent clear: %v", answer)
	}
}

func TestGatewayPassesClearMailAsItIs(t *testing.T) {
	c := newCompany(t, lmtp)
	head := "From: dave@delta.test\r\nTo: alice@alpha.test\r\n"
	rest := "Subject: plain\r\nX-Odd : field\r\n\r\nbody \t \r\n.\r\n\x00\xff\r\n"
	c.enter(Envelope{From: dave, To: []string{alice, erin}}, head+"X-Sealpost-Status: encryption=openpgp; signature=good\r\n"+rest, true)
	received := c.inside.Received()
	if len(received) != 1 || len(received[0].To) != 2 {
		t.Fatalf("received %v", received)
	}
	top, found := strings.CutSuffix(string(received[0].Bytes), head+rest)
	if !found || strings.Count(top, "\r\n") != strings.Count(top, ":") && !strings.HasPrefix(top, "Received: ") || !strings.Contains(top, "X-Sealpost-Status: encryption=none; signature=none") {
		t.Errorf("it became %q", received[0].Bytes)
	}
}

// TestGatewayMakesLineEndsCRLF: the next hop takes no others. What hides behind a bare CR is looked at as the next one will read it.
func TestGatewayMakesLineEndsCRLF(t *testing.T) {
	c := newCompany(t, lmtp)
	key := c.userKey(alice)
	const forged = "X-Sealpost-Status: encryption=openpgp; signature=good"
	for name, end := range map[string]string{"LF": "\n", "CR": "\r", "CR CR LF": "\r\r\n"} {
		text := strings.ReplaceAll(message(bob, alice, "ends", "one\r\nfour", "X-Odd: two"+end+forged), "one\r\n", "one"+end)
		for form, text := range map[string]string{"clear": text, "encrypted": c.encryptedBy(text, key)} {
			c.inside.Forget()
			if a := c.enter(Envelope{From: bob, To: []string{alice, erin, "own@alpha.test"}}, text, true); a[alice] != "" || a[erin] != "" || a["own@alpha.test"] != "" {
				t.Errorf("%s, %s: answered %v", name, form, a)
				continue
			}
			header, body, _ := strings.Cut(string(c.inside.For(alice)[0]), "\r\n\r\n")
			if !strings.Contains(body, "one\r\n") || !strings.Contains(body, "four") || strings.Count(header, "X-Sealpost-Status") != 1 {
				t.Errorf("%s, %s: alice gets %s\r\n\r\n%s", name, form, header, body)
			}
			if header, _, _ := strings.Cut(string(c.inside.For("own@alpha.test")[0]), "\r\n\r\n"); strings.Contains(header, "X-Sealpost-Status") {
				t.Errorf("%s, %s: a forged status reaches who opens his mail himself: %s", name, form, header)
			}
		}
	}
}

// TestApartOneContentRefusesNoOther: a copy that cannot be sent stays behind alone.
func TestApartOneContentRefusesNoOther(t *testing.T) {
	c := newCompany(t, lmtp)
	results, err := c.gateway.inside.SubmitApart(t.Context(), []upstream.Transaction{
		{From: bob, To: []string{alice}, Body: strings.NewReader("Subject: x\n\nbare\n")}, {From: bob, To: []string{erin}, Body: strings.NewReader("Subject: x\r\n\r\nsound\r\n")},
	})
	if err != nil || results[0] == nil || results[1] != nil || len(c.inside.For(erin)) != 1 || len(c.inside.For(alice)) != 0 {
		t.Errorf("results %v, %v", results, err)
	}
}

// TestOpenedLargerThanTheNextHopTakes: the mail is delivered closed.
func TestOpenedLargerThanTheNextHopTakes(t *testing.T) {
	const limit = 200_000
	c := newCompany(t, bridgetest.NextHopOptions{LMTP: true, MaxMessageSize: limit})
	if err := c.gateway.inside.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	text := c.compressed("Content-Type: text/plain\r\n\r\n"+strings.Repeat("a table of the same numbers 1 2 3 4 5\r\n", limit/39), c.userKey(alice))
	if answer := c.enter(Envelope{From: bob, To: []string{alice, erin}}, text, true); answer[alice] != "" || answer[erin] != "" {
		t.Fatalf("%d bytes are answered %v", len(text), answer)
	}
	got := string(c.inside.For(alice)[0])
	if !strings.Contains(got, "X-Sealpost-Status: encryption=failed; signature=none") || !strings.Contains(got, "reason=too-large\r\n") || !strings.HasSuffix(got, text) {
		t.Errorf("alice gets %.900s", got)
	}
}

// TestGatewayPassesExtensionsOn: what the sender wants to hear, and international addresses.
func TestGatewayPassesExtensionsOn(t *testing.T) {
	c := newCompany(t, bridgetest.NextHopOptions{})
	notice := Notice{Return: "FULL", EnvelopeID: "env 7", To: map[string]NoticeEvents{bob: {Notify: []string{"SUCCESS", "FAILURE"}, OriginalType: "RFC822", Original: "bob@old.test"}}}
	c.leave(Envelope{From: alice, To: []string{bob, dave}, Notice: notice, UTF8: true}, message(alice, bob, "notice", secretBody), true)
	for _, r := range c.out.Received() {
		if r.Return != "FULL" || r.EnvelopeID != "env 7" || !r.UTF8 {
			t.Errorf("to %v: RET=%s ENVID=%s SMTPUTF8 %v", r.To, r.Return, r.EnvelopeID, r.UTF8)
		}
		if r.To[0] == bob && (fmt.Sprint(r.Notify[bob]) != "[SUCCESS FAILURE]" || r.Original[bob] != "bob@old.test") {
			t.Errorf("NOTIFY=%v ORCPT=%s", r.Notify, r.Original)
		}
	}
}

// TestForgedMailIsNotSigned: what came in under a user's name and is redirected under it has not been written by him.
func TestForgedMailIsNotSigned(t *testing.T) {
	c := newCompany(t, lmtp)
	for _, first := range []string{"own@alpha.test", erin} { // one opens his mail himself, the other has the gateway do so
		c.out.Forget()
		c.enter(Envelope{From: alice, To: []string{first}}, message(alice, first, "pay", "10000 to mallory"), true)
		redirected := string(c.inside.For(first)[0])
		c.leave(Envelope{From: alice, To: []string{bob, carol, "frank@alpha.test"}}, redirected, true)
		again := string(c.out.For("frank@alpha.test")[0])
		if fate := c.fateOf(bob, "", redirected); fate != "encrypted none" {
			t.Errorf("redirected by %s: %s", first, fate)
		}
		c.out.Forget()
		c.leave(Envelope{From: alice, To: []string{bob}}, again, true)
		if fate := c.fateOf(bob, "", again); fate != "encrypted none" {
			t.Errorf("redirected by %s and another: %s", first, fate)
		}
	}
}

func TestGatewayLoops(t *testing.T) {
	for _, leaves := range []bool{true, false} {
		c := newCompany(t, lmtp)
		text := message(alice, erin, "round", "and round")
		for passes := range maxPasses + 1 {
			c.out.Forget()
			c.inside.Forget()
			e, hop, relay := Envelope{From: alice, To: []string{erin}}, c.out, c.leave
			if !leaves {
				hop, relay = c.inside, c.enter
			}
			answer := relay(e, text, true)[erin]
			if passes == maxPasses {
				if answer != string(ReasonLoop) || len(hop.Received()) > 0 {
					t.Errorf("after %d passes: %q", passes, answer)
				}
				break
			}
			if answer != "" {
				t.Fatalf("pass %d: %s", passes, answer)
			}
			text = string(hop.For(erin)[0])
		}
	}
}

// TestCiphertextStaysAsItIs: the user's own program announces its own key.
func TestCiphertextStaysAsItIs(t *testing.T) {
	c := newCompany(t, lmtp)
	text := "Autocrypt: addr=alice@alpha.test; keydata=aGVsbG8=\r\n" + c.encryptedBy(message(alice, bob, "own", secretBody), fixedCertificate(t, bob))
	c.leave(Envelope{From: alice, To: []string{bob}}, text, true)
	if sent := string(c.out.For(bob)[0]); !strings.HasSuffix(sent, text) || len(c.directory("alice")) > 0 {
		t.Errorf("it became %s; the directory has %d certificates", sent, len(c.directory("alice")))
	}
}

// TestUsersWhoPassGetNoKey: they open their mail themselves, and could not read what is encrypted to it.
func TestUsersWhoPassGetNoKey(t *testing.T) {
	c := newCompany(t, lmtp)
	own := "own@alpha.test"
	text := message(own, bob, "hello", secretBody, "Autocrypt: addr=own@alpha.test; keydata=aGVsbG8=")
	a := c.leave(Envelope{From: own, To: []string{bob, dave}}, text, true)
	if fate := c.fateOf(bob, a[bob], text); fate != "encrypted none" || len(c.directory("own")) > 0 {
		t.Errorf("it is %s, and the directory has %d certificates", fate, len(c.directory("own")))
	}
	if sent := string(c.out.For(dave)[0]); !strings.Contains(sent, "keydata=aGVsbG8=") {
		t.Errorf("his own certificate was taken out: %s", sent)
	}
}

// TestLocalPartsDiffer: whether two spellings are two mailboxes only their host knows (RFC 5321 §2.4).
func TestLocalPartsDiffer(t *testing.T) {
	c := newCompany(t, lmtp)
	two := []string{"Dave@delta.test", dave, "dave@DELTA.test", "Bob@bravo.test", bob}
	c.leave(Envelope{From: alice, To: two}, message(alice, dave, "two", secretBody), true)
	for _, to := range []string{"Dave@delta.test", dave, "Bob@bravo.test", bob} {
		if n := len(c.out.For(to)); n != 1 {
			t.Errorf("%s gets it %d times", to, n)
		}
	}
}

// TestKeysRevokedElsewhere: another gateway's command is in force at the next message, whatever is in memory here.
func TestKeysRevokedElsewhere(t *testing.T) {
	c := newCompany(t, lmtp)
	c.leave(Envelope{From: erin, To: []string{bob}}, message(erin, bob, "before", secretBody), true)
	elsewhere, err := keyring.Open(t.Context(), c.bridge.db, c.bridge.vault, erin)
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	revoked := elsewhere.List()[0].Fingerprint
	if got := c.signerFor(bob, 0); got != revoked {
		t.Fatalf("signed by %q", got)
	}
	made, err := elsewhere.Generate(t.Context(), keyring.Compatible, []string{erin}, time.Now(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := elsewhere.Revoke(t.Context(), revoked, keyring.Compromised, "", time.Now(), false); err != nil {
		t.Fatal(err)
	}
	c.leave(Envelope{From: erin, To: []string{bob}}, message(erin, bob, "after", secretBody), true)
	if got := c.signerFor(bob, 1); got != made.Fingerprint {
		t.Errorf("signed by %q, not %q", got, made.Fingerprint)
	}
}

// signerFor is whose good signature the recipient finds in a message.
func (c *company) signerFor(to string, number int) keydisc.Fingerprint {
	c.t.Helper()
	result := c.openAs(to, c.out.For(to)[number])
	if result.Message != nil {
		defer result.Message.Close()
	}
	if result.Signature != pgpmime.SignatureGood {
		return ""
	}
	return result.Signer
}
