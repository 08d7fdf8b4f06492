package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/keydisc"
)

func TestMessageIDs(t *testing.T) {
	for value, want := range map[string]string{
		"<a@b>":                    "<a@b>",
		"<a@b><c@d>":               "<a@b> <c@d>",
		"<a@b>, <c@d>;<a@b>":       "<a@b> <c@d>",
		"<a@b>(x)":                 "<a@b>",
		"a@b":                      "<a@b>",
		"a@b (x)":                  "<a@b>",
		"a":                        "<a>",
		"<a>":                      "<a>",
		"<a @b>":                   "<a@b> <@b>",
		"<a@b":                     "<a@b>",
		"<<a@b>>":                  "<a@b>",
		"Your message of <a@b>":    "<a@b>",
		"(<)a@b(>)":                "<)a@b(> <a@b>",
		"":                         "",
		"<>":                       "",
		"two words":                "",
		"<a@b>\r\nSubject: <c@d>":  "<a@b>",
		"<a@b>\r\nMessage-id: c@d": "<a@b> <c@d>",
	} {
		h := mimescan.ParseHeader([]byte("X: <x@y>\r\nMessage-ID: " + value + "\r\n\r\n"))
		if got := strings.Join(messageIDs(h, "Message-ID"), " "); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

// encryptedMail is mail as an attacker may make it, who has caught a ciphertext and wraps it anew.
func encryptedMail(t *testing.T, fields, body string) string {
	t.Helper()
	var out bytes.Buffer
	text := "From: <mallory@evil.test>\r\nTo: <" + bob + ">\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n" + fields + "\r\n" + body + "\r\n"
	err := pgpmime.Encrypt(&out, strings.NewReader(text), pgpmime.EncryptOptions{Recipients: []*keydisc.Certificate{certificateOf(t, bob)}})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// However the identifier is written, an answer that names it is known as one to encrypted mail.
func TestAnswersToEncryptedMailAreKnown(t *testing.T) {
	cases := []struct{ name, id, answer string }{
		{"as it should be", "Message-ID: <N@evil.test>", "In-Reply-To: <N@evil.test>"},
		{"a comment after it", "Message-ID: <N@evil.test> (x)", "In-Reply-To: <N@evil.test>"},
		{"a comment without space", "Message-ID: <N@evil.test>(x)", "In-Reply-To: <N@evil.test>"},
		{"a space within", "Message-ID: <N @evil.test>", "In-Reply-To: <N @evil.test>"},
		{"a space that is left out", "Message-ID: <N @evil.test>", "In-Reply-To: <N@evil.test>"},
		{"no angle brackets", "Message-ID: N@evil.test", "In-Reply-To: <N@evil.test>"},
		{"two fields", "Message-ID: <one@evil.test>\r\nMessage-ID: <N@evil.test>", "In-Reply-To: <N@evil.test>"},
		{"References without space", "Message-ID: <N@evil.test>", "References: <x@y.test><N@evil.test>"},
		{"References with commas", "Message-ID: <N@evil.test>", "References: <x@y.test>,<N@evil.test>"},
		{"a second In-Reply-To", "Message-ID: <N@evil.test>", "In-Reply-To: <x@y.test>\r\nIn-Reply-To: <N@evil.test>"},
		{"forwarded", "Message-ID: <N@evil.test>", "X-Forwarded-Message-Id: <N@evil.test>"},
	}
	w := newWorld(t)
	for i, c := range cases {
		w.deliver(bob, "INBOX", encryptedMail(t, strings.ReplaceAll(c.id, "N", fmt.Sprint(i))+"\r\n", fmt.Sprintf("%s %d.", secretBody, i)))
	}
	a := w.start(bob)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			waitFor(t, a, "INBOX", fmt.Sprintf("%s %d.", secretBody, i), "encryption=openpgp")
			mustStayEncrypted(t, a, dave, strings.ReplaceAll(c.answer, "N", fmt.Sprint(i)))
		})
	}
	if err := submit(t, a, message(bob, dave, "New", "y", "In-Reply-To: <else@evil.test>"), dave); err != nil {
		t.Errorf("an answer to other mail: %v", err)
	}
}

// mustStayEncrypted submits an answer to somebody without a certificate.
func mustStayEncrypted(t *testing.T, a *Account, to, field string) {
	t.Helper()
	err := submit(t, a, message(a.Address(), to, "Re", "> "+secretBody, field), to)
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Reason != ReasonPolicy {
		t.Errorf("an answer with %q: %v", field, err)
	}
}

// What was encrypted is shown with an identifier that every mail program quotes back, the same each time.
func TestOpenedMailCanBeAnswered(t *testing.T) {
	for name, id := range map[string]string{
		"none":             "",
		"empty":            "Message-ID: <>\r\n",
		"a comment":        "Message-ID: (x)\r\n",
		"an encoded word":  "Message-ID: =?utf-8?q?=3Cabc=40evil=2Etest=3E?=\r\n",
		"two":              "Message-ID: <a@evil.test>\r\nMessage-ID: <b@evil.test>\r\n",
		"no brackets":      "Message-ID: a@evil.test\r\n",
		"not ASCII":        "Message-ID: <\u00e4@evil.test>\r\n",
		"a comment within": "Message-ID: <a(x)@evil.test>\r\n",
		"too long":         "Message-ID: <" + strings.Repeat("a", 300) + "@evil.test>\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.deliver(bob, "INBOX", encryptedMail(t, id+"Subject: Hello\r\n", secretBody))
			a := w.start(bob)
			shown := waitFor(t, a, "INBOX", secretBody, "Subject: Hello")
			ids := mimescan.ParseHeader([]byte(shown)).Values("Message-ID")
			if len(ids) != 1 || !wellFormed.MatchString(ids[0]) || !strings.HasPrefix(shown, statusField+": ") {
				t.Fatalf("shown as:\n%s", shown)
			}
			mustStayEncrypted(t, a, dave, "In-Reply-To: "+ids[0])
			again := opensTo(t, a, string(w.stored(bob, "INBOX")[0].Bytes))
			if again != shown {
				t.Errorf("opened again:\n%s\nbefore:\n%s", again, shown)
			}
		})
	}
}

// opensTo is what the client sees of a stored message.
func opensTo(t *testing.T, a *Account, stored string) string {
	t.Helper()
	o, err := a.openStored(t.Context(), strings.NewReader(stored))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Message.Close()
	data := make([]byte, o.Message.Size())
	if _, err := o.Message.ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Mail that came in clear is not ours to change, whatever it is called by.
func TestClearMailKeepsItsMessageID(t *testing.T) {
	a := newWorld(t).start(bob)
	clear := "From: <" + dave + ">\r\nMessage-ID: a@evil.test\r\n\r\nhello\r\n"
	if got := opensTo(t, a, clear); !strings.HasSuffix(got, clear) {
		t.Errorf("shown as:\n%s", got)
	}
}

// The answer is sent from another account of the user's.
func TestAnswerFromAnotherAccount(t *testing.T) {
	w := newWorld(t)
	w.deliver(bob, "INBOX", encryptedMail(t, "Message-ID: <1@evil.test>\r\n", secretBody))
	o := w.options(bob, t.TempDir())
	second := o.Accounts[0]
	second.Address, second.Username, second.Aliases = carol, carol, nil
	o.Accounts = append(slices.Clone(o.Accounts), second)
	a := w.run(o)
	other := a.bridge.Accounts()[1]
	if err := a.bridge.SetProviderPassword(t.Context(), carol, "secret of "+carol); err != nil {
		t.Fatal(err)
	}
	if _, err := other.ImportKey(t.Context(), bridgetest.SecretKey(carol), nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, a, "INBOX", secretBody)
	mustStayEncrypted(t, other, dave, "In-Reply-To: <1@evil.test>")
}
