package bridge

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/bridge/bridgetest"
)

var autocryptAddr = regexp.MustCompile(`(?m)^Autocrypt: addr=([^;]*);`)

// The Autocrypt field is about the From address. Mail from an alias names no other address, and leaves also
// where the key does not know the alias, or knows nothing else.
func TestMailFromAnAliasNamesNoOtherAddress(t *testing.T) {
	const private, alias = "main@private.test", "alias@public.test"
	generated := func(a *Account) error { _, err := a.GenerateKey(t.Context(), ProfileCompatible, false); return err }
	ofAlice := func(a *Account) error {
		_, err := a.ImportKey(t.Context(), bridgetest.SecretKey(alice), nil)
		return err
	}
	for name, c := range map[string]struct {
		address, alias, from, addr string
		key                        func(*Account) error
	}{
		"the account":                {private, alias, private, private, generated},
		"an alias":                   {private, alias, alias, alias, generated},
		"in capitals":                {private, alias, "ALIAS@Public.test", alias, generated},
		"an alias without a user ID": {alice, alias, alias, "", ofAlice},
		"a key for the alias alone":  {private, alice, alice, alice, ofAlice},
		"and sent as the account":    {private, alice, private, "", ofAlice},
	} {
		t.Run(name, func(t *testing.T) {
			o := newWorld(t).options(c.address, t.TempDir())
			o.Accounts[0].Aliases = []string{c.alias}
			a := opened(t, o)
			defer a.bridge.Close()
			if err := c.key(a); err != nil {
				t.Fatal(err)
			}
			text := strings.Replace(message(c.from, bob, "x", "y", "Cc: "+dave), "Message-ID:", "X-Not-An-ID:", 1)
			for _, body := range bodies(t, a, Envelope{From: c.from, To: []string{bob, dave}}, text) {
				found := autocryptAddr.FindSubmatch(body)
				if (found == nil) != (c.addr == "") || found != nil && string(found[1]) != c.addr {
					t.Errorf("%s in\n%s", found, body)
				}
				if c.from != private && bytes.Contains(body, []byte("private.test")) {
					t.Errorf("the account is named:\n%s", body)
				}
			}
		})
	}
}

// bodies are what would be handed over to the provider.
func bodies(t *testing.T, a *Account, e Envelope, text string) (all [][]byte) {
	t.Helper()
	m, err := a.receive(t.Context(), e, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := a.checkSender(m); err != nil {
		t.Fatal(err)
	}
	parcels, err := a.compose(t.Context(), m, a.decide(t.Context(), m.regime.Policy, MessageFacts{}, m.to, m.visible))
	defer closeAll(parcels)
	if err != nil || len(parcels) != 2 {
		t.Fatalf("%d parcels: %v", len(parcels), err)
	}
	for _, p := range parcels {
		body, err := io.ReadAll(p.body.Reader())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, body)
	}
	return all
}
