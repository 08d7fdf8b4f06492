package dnssec

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/keydisc/internal/dnssec/dnssectest"
)

// What costs too much ends by a limit, not by chance, and not as anything else.
func TestCosts(t *testing.T) {
	deep := strings.Repeat("a.", maxQueries+1)
	slow := dnssectest.Zone{NSEC3: &dnssectest.NSEC3{Iterations: maxIterations + 1}}
	for name, c := range map[string]struct {
		leaf   dnssectest.Zone
		ask    string
		attack attack
	}{
		"keys with signatures":                {ask: "here.", attack: manySignatures},
		"keys with signatures in a slow zone": {leaf: slow, ask: "here.", attack: manySignatures},
		"keys alone":                          {ask: "here.", attack: onName("example.test.", manyKeys)},
		"labels":                              {leaf: dnssectest.Zone{Text: deep[:len(deep)-1] + " TXT deep\n"}, ask: deep},
		"proofs with signatures": {ask: "here.", attack: func(s *dnssectest.Server, q dns.Question, n string, m *dns.Msg) bool {
			if q.Qtype == dns.TypeTXT {
				m.Answer, m.Ns = nil, s.SignText("example.test.", "here.example.test. NSEC loop.example.test. A RRSIG NSEC")
			}
			return manySignatures(s, q, n, m)
		}},
	} {
		s := serve(t, hierarchy(c.leaf))
		if c.attack != nil {
			s.Break(func(q dns.Question, network string, m *dns.Msg) bool { return c.attack(s, q, network, m) })
		}
		if _, err := resolver(t, s).Lookup(t.Context(), c.ask+"example.test.", dns.TypeTXT); !errors.Is(err, errCostly) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// manyKeys has the zone's owner sign more keys than anyone needs, each of a tag of its own.
func manyKeys(s *dnssectest.Server, m *dns.Msg) {
	var keys []dns.RR
	each(m.Answer, func(r *dns.DNSKEY) {
		for i := range maxKeys {
			key := dns.Copy(r).(*dns.DNSKEY)
			key.PublicKey = base64.StdEncoding.EncodeToString(slices.Repeat([]byte{byte(i)}, 64))
			keys = append(keys, key)
		}
		keys = append(keys, r)
	})
	if len(keys) > 0 {
		m.Answer = s.Sign("example.test.", keys...)
	}
}

// sameTag are other keys of the same tag: swapping two even or two odd octets leaves the sum as it is.
func sameTag(like *dns.DNSKEY, n int) (keys []dns.RR) {
	octets, err := base64.StdEncoding.DecodeString(like.PublicKey)
	if err != nil {
		panic(err)
	}
	for i := range n {
		key, other := dns.Copy(like).(*dns.DNSKEY), slices.Clone(octets)
		a, b := i%30, i%30+2+2*(i/30)%30
		other[a], other[b] = other[b], other[a]
		key.PublicKey = base64.StdEncoding.EncodeToString(other)
		keys = append(keys, key)
	}
	return keys
}

// manySignatures is KeyTrap: many keys of one tag, and many signatures that each could be by any of them. The owner of the
// zone can do that.
func manySignatures(s *dnssectest.Server, q dns.Question, _ string, m *dns.Msg) bool {
	switch {
	case q.Name == "example.test." && q.Qtype == dns.TypeDNSKEY:
		var keys []dns.RR
		each(m.Answer, func(r *dns.DNSKEY) { keys = append([]dns.RR{r}, sameTag(r, maxKeys-1)...) })
		m.Answer = s.Sign("example.test.", keys...)
	case q.Qtype == dns.TypeTXT:
		m.Answer, m.Ns = append(spoiled(m.Answer), m.Answer...), append(spoiled(m.Ns), m.Ns...)
	}
	return true
}

// spoiled are signatures like those that hold, which do not.
func spoiled(records []dns.RR) (all []dns.RR) {
	each(records, func(r *dns.RRSIG) {
		for range maxSignatures - 1 {
			bad, octets := dns.Copy(r).(*dns.RRSIG), make([]byte, 64)
			_, _ = rand.Read(octets)
			bad.Signature = base64.StdEncoding.EncodeToString(octets)
			all = append(all, bad)
		}
	})
	return all
}
