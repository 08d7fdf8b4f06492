//go:build peers

package bridge

import (
	"regexp"
	"strconv"
	"testing"

	"github.com/sealpost/sealpost/keydisc"
)

// TestOthersSeeTheArchive: gpg and sq name the archive's key to whoever has the ciphertext, without any secret key; of a hidden
// recipient's, too.
func TestOthersSeeTheArchive(t *testing.T) {
	c := newCompany(t, lmtp)
	archive := fixedCertificate(t, carol)
	c.company(Company{Users: []PolicyLevel{{Name: erin, Archive: []*keydisc.Certificate{archive}}}})
	for name, one := range map[string]struct {
		from, named string
		archived    bool
	}{"shared": {erin, bob, true}, "hidden": {erin, dave, true}, "without": {alice, bob, false}} {
		c.out.Forget()
		c.leave(Envelope{From: one.from, To: []string{bob}}, message(one.from, one.named, name, secretBody), true)
		sent := c.out.For(bob)[0]
		for program, args := range map[string][]string{
			"gpg": {"--homedir", t.TempDir(), "--batch", "--list-only", "--list-packets"},
			"sq":  {"packet", "dump"},
		} {
			if out := dumped(t, sent, program, args...); namesKeyOf(out, archive) != one.archived {
				t.Errorf("%s: %s finds the archive named: %v\n%s", name, program, !one.archived, out)
			}
		}
	}
}

var keyID = regexp.MustCompile(`[0-9A-F]{16}`)

// namesKeyOf looks for the key ID of any key of a certificate.
func namesKeyOf(dump []byte, c *keydisc.Certificate) bool {
	for _, text := range keyID.FindAll(dump, -1) {
		if id, err := strconv.ParseUint(string(text), 16, 64); err == nil && c.HasKeyID(id) {
			return true
		}
	}
	return false
}
