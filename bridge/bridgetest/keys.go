package bridgetest

import (
	"embed"
	"strings"
)

// The fixed keys are version 4 (Ed25519, and X25519 to encrypt), made by GnuPG, without expiry and
// without passphrase. Anybody can read them here: they protect nothing.
//
//go:embed testdata/*.asc
var keys embed.FS

// Keys are the addresses that have a fixed key.
func Keys() []string { return []string{"alice@alpha.test", "bob@bravo.test", "carol@charlie.test"} }

// SecretKey is the armored secret key of an address of Keys, else nil.
func SecretKey(address string) []byte { return key(address, "sec") }

// PublicKey is the armored certificate of an address of Keys, else nil.
func PublicKey(address string) []byte { return key(address, "pub") }

func key(address, kind string) []byte {
	name, _, _ := strings.Cut(normal(address), "@")
	b, err := keys.ReadFile("testdata/" + name + "." + kind + ".asc")
	if err != nil || !strings.Contains(strings.Join(Keys(), " ")+" ", normal(address)+" ") {
		return nil
	}
	return b
}
