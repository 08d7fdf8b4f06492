package bridge

import (
	"bytes"
	"strings"
	"testing"
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
