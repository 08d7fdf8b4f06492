package pgpmime

import (
	"errors"
	"strings"
	"testing"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/keydisc"
)

const program = "application/x-program"

// Only what the program's own certificate has signed, under its own address and for us, is read.
func TestOpenAttachment(t *testing.T) {
	message := crlf("From: bob@bravo.test\nTo: alice@alpha.test\nContent-Type: " + program + "\n\nthe question\n")
	options := func(signer string, to ...string) EncryptOptions {
		o := EncryptOptions{Recipients: certs(t, to...), Time: testNow}
		if signer != "" {
			o.Signer = key(t, signer)
		}
		return o
	}
	open := func(message, mediaType string, target keydisc.Fingerprint) (string, error) {
		keys := Keys{Decrypters: openpgp.EntityList{key(t, "alice"), key(t, "two")}, Own: []string{"alice@alpha.test"}}
		data, err := OpenAttachment(source(message), keys, cert(t, "bob"), target, mediaType, testNow, t.TempDir())
		return string(data), err
	}
	alice := cert(t, "alice").Fingerprint()
	if got, err := open(encrypted(t, message, options("bob", "alice")), program, alice); err != nil || got != "the question\r\n" {
		t.Fatalf("%q %v", got, err)
	}
	for name, sent := range map[string]string{
		"unsigned":          encrypted(t, message, options("", "alice")),
		"another signer":    encrypted(t, message, options("alice", "alice")),
		"another author":    encrypted(t, strings.Replace(message, "bob@", "eve@", 1), options("bob", "alice")),
		"another type":      encrypted(t, strings.Replace(message, program, "text/plain", 1), options("bob", "alice")),
		"too large":         encrypted(t, message+strings.Repeat("x", maxAttachment), options("bob", "alice")),
		"for somebody else": encrypted(t, message, options("bob", "bob")),
		"clear":             message,
		"":                  "",
	} {
		if got, err := open(sent, program, alice); err == nil || got != "" || errors.Is(err, ErrIO) {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
}
