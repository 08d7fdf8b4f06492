package main

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/google/go-cmp/cmp"
)

// testdata/report.md is the page for the measurements of testdata/report.json: one without Dovecot, one
// beyond a target, one with a wrong answer. testdata/gateway.json misses two targets, one of them by a hair.
func TestMarkdown(t *testing.T) {
	for name, r := range map[string]interface{ markdown() string }{"report": &report{}, "gateway": &gatewayReport{}} {
		data, err := os.ReadFile("testdata/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, r); err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile("testdata/" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), r.markdown()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

func TestReplaceBetween(t *testing.T) {
	for _, c := range []struct{ name, page, want string }{
		{"empty", "a\n" + markBegin + "\n" + markEnd + "\nb\n", "a\n" + markBegin + "\nnew\n" + markEnd + "\nb\n"},
		{"again", "a\n" + markBegin + "\nold\n" + markEnd + "\nb\n", "a\n" + markBegin + "\nnew\n" + markEnd + "\nb\n"},
		{"no markers", "a\n", ""},
		{"no end", "a\n" + markBegin + "\n", ""},
		{"wrong order", markEnd + "\n" + markBegin + "\n", ""},
		{"twice", markBegin + markEnd + markBegin + markEnd, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := replaceBetween(c.page, "new\n")
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// The page of this repository can be written.
func TestPageHasMarkers(t *testing.T) {
	page, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replaceBetween(string(page), ""); err != nil {
		t.Error(err)
	}
}

// ownKey is a fresh key as `sealpost key export` writes it.
func ownKey(t *testing.T) (secret, certificate []byte) {
	t.Helper()
	e, err := openpgp.NewEntity("", "", owner, &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	return armored(t, "PGP PRIVATE KEY BLOCK", func(b *bytes.Buffer) error { return e.SerializePrivate(b, nil) }),
		armored(t, "PGP PUBLIC KEY BLOCK", func(b *bytes.Buffer) error { return e.Serialize(b) })
}

func armored(t *testing.T, kind string, write func(*bytes.Buffer) error) []byte {
	t.Helper()
	var binary, text bytes.Buffer
	if err := write(&binary); err != nil {
		t.Fatal(err)
	}
	w, err := armor.Encode(&text, kind, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(binary.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}
