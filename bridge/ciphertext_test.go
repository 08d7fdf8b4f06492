package bridge

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/keydisc"
)

// What the mail program calls encrypted is held to Require only if no clear text stands in it.
func TestRequireIsNotMetByClearTextInCiphertext(t *testing.T) {
	pad := strings.Repeat("\r\n", 2100)
	for name, change := range map[string][2]string{
		"control part": {"Version: 1\r\n", "Version: 1\r\n" + pad + secretBody + "\r\n"},
		"preamble":     {"\r\n\r\n--", "\r\n\r\n" + pad + secretBody + "\r\n--"},
		"armor":        {"\r\n-----END", "\r\n" + secretBody + "\r\n-----END"},
		"description":  {"OpenPGP encrypted message", secretBody},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.policy = Policy{Default: Require}
			a := w.open(w.options(alice, t.TempDir()))
			if err := submit(t, a, message(alice, bob, "Once", "x"), bob); err != nil {
				t.Fatal(err)
			}
			sent := string(w.provider.Submissions()[0].Bytes)
			text := strings.Replace(sent, change[0], change[1], 1)
			if text == sent {
				t.Fatal("nothing to change")
			}
			if err := submit(t, a, text, dave); err == nil {
				t.Error("accepted")
			}
			for _, s := range w.provider.Submissions() {
				if bytes.Contains(s.Bytes, []byte(secretBody)) {
					t.Errorf("clear text left for %v under Require", s.To)
				}
			}
		})
	}
}

// Ciphertext with a visible subject is sealed when a client appends it. It stays as readable as
// before, an answer to it is an answer to encrypted mail, and unsealing puts it back.
func TestAppendedCiphertextStaysReadable(t *testing.T) {
	w := newWorld(t)
	w.seal = Seal{}
	a := w.start(alice)
	var out bytes.Buffer
	letter := strings.NewReader(message(bob, alice, "Old", secretBody))
	err := pgpmime.Encrypt(&out, letter, pgpmime.EncryptOptions{Recipients: []*keydisc.Certificate{certificateOf(t, alice)}})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(out.String(), "Subject: [...]", "Subject: visible", 1)
	if _, err := a.Append(t.Context(), "Archive", strings.NewReader(text), int64(len(text)), nil); err != nil {
		t.Fatal(err)
	}
	got := seen(t, a, "Archive")
	if len(got) != 1 || !strings.Contains(got[0], secretBody) || !strings.HasPrefix(got[0], "X-Sealpost-Status: encryption=openpgp;") {
		t.Fatalf("%.700s", got)
	}
	for _, m := range w.provider.Stored(alice) {
		if bytes.Contains(m.Bytes, []byte("visible")) {
			t.Errorf("not sealed:\n%.500s", m.Bytes)
		}
	}
	if err := submit(t, a, message(alice, dave, "New", "x"), dave); err != nil {
		t.Fatal(err)
	}
	err = submit(t, a, message(alice, dave, "Re Old", "> "+secretBody, "In-Reply-To: <Old@alpha.test>"), dave)
	if err == nil {
		t.Error("an answer left in clear")
	}
	result, err := a.UnsealBacklog(t.Context(), "Archive", false, func(string, int, int) {})
	if err != nil || result.Done != 1 || !slices.ContainsFunc(w.provider.Stored(alice), func(m bridgetest.Stored) bool { return string(m.Bytes) == text }) {
		t.Errorf("unsealed %+v, %v", result, err)
	}
}
