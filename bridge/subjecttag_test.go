package bridge

import (
	"strings"
	"testing"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

func TestTagged(t *testing.T) {
	p := Policy{TagRequire: "[secure]", TagClear: "#clear"}
	for field, want := range map[string]string{
		"Subject: [secure] Plan":                            "require|Plan",
		"Subject: Plan [SECURE]":                            "require|Plan",
		"Subject: [secure]":                                 "require|",
		"Subject:  #clear  Lunch? ":                         "clear|Lunch?",
		"Subject: =?utf-8?Q?=5Bsecure=5D_Gr=C3=BC=C3=9Fe?=": "require|Grüße",
		"Subject: Plan [secure] for two":                    "|",
		"Subject: Re: [secure] Plan":                        "|",
		"Subject: #clea":                                    "|",
		"Subject: [secure] a\r\nSubject: #clear b":          "|",
		"X-Subject: [secure]":                               "|",
	} {
		header, err := mimescan.ReadTop(strings.NewReader(field + "\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		wish, subject := p.tagged(header)
		if got := string(wish) + "|" + subject; got != want {
			t.Errorf("%q: %s, want %s", field, got, want)
		}
	}
	header, err := mimescan.ReadTop(strings.NewReader("Subject: anything\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if wish, _ := (Policy{}).tagged(header); wish != ForceNothing {
		t.Errorf("without tags: %s", wish)
	}
}

// The tag decides and does not travel, neither inside the encryption nor outside.
func TestSubjectTagDecidesAndGoes(t *testing.T) {
	w := newWorld(t)
	w.policy = Policy{Default: Prefer, AllowSplit: true, TagRequire: "[secure]", TagClear: "[clear]"}
	a := w.open(w.options(alice, t.TempDir()))
	if err := submit(t, a, message(alice, dave, "[secure] Plan", secretBody), dave); err == nil {
		t.Error("sent to somebody without a certificate")
	}
	if err := submit(t, a, message(alice, bob, "Lunch [clear]", "at noon"), bob); err != nil {
		t.Fatal(err)
	}
	if err := submit(t, a, message(alice, bob, "[secure] Plan", secretBody), bob); err != nil {
		t.Fatal(err)
	}
	sent := w.provider.Submissions()
	if len(sent) != 2 || !strings.Contains(string(sent[0].Bytes), "Subject: Lunch\r\n") {
		t.Fatalf("%d sent: %s", len(sent), sent[0].Bytes)
	}
	b := w.start(bob)
	got := waitFor(t, b, "INBOX", secretBody)
	if !strings.Contains(got, "Subject: Plan\r\n") || strings.Contains(got, "Subject: [secure]") {
		t.Errorf("bob sees\n%s", got)
	}
	contradiction := message(alice, bob, "[clear] Plan", "text", "X-Sealpost-Policy: require")
	if err := submit(t, a, contradiction, bob); err == nil {
		t.Error("a contradiction was sent")
	}
}
