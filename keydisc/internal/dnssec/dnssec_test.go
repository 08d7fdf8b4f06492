package dnssec

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/keydisc/internal/dnssec/dnssectest"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// text is what the zone at the end of the hierarchy holds.
const text = `
key._k      TYPE61 \# 3 010203
here        TXT "here"
two         TXT "1"
two         TXT "2"
*.wild      TXT "any"
known.wild  TXT "known"
*.calias    CNAME here
alias       CNAME here
far         CNAME here.other.test.
plain       CNAME here.unsigned.test.
nowhere     CNAME nothing
loop        CNAME loop2
loop2       CNAME loop
moved       DNAME other.test.
a.b.c.d     TXT "deep"
`

// hierarchy is a root with zones below; the last one, example.test., is as the case wants it.
func hierarchy(leaf dnssectest.Zone) []dnssectest.Zone {
	leaf.Name, leaf.Text = "example.test.", text+leaf.Text
	return []dnssectest.Zone{
		{Name: "."}, {Name: "test."},
		{Name: "other.test.", Text: "here TXT \"other\"\n"},
		{Name: "unsigned.test.", Text: "here TXT \"unsigned\"\n", Unsigned: true},
		leaf,
	}
}

func serve(t *testing.T, zones []dnssectest.Zone) *dnssectest.Server {
	t.Helper()
	s, err := dnssectest.Serve(now, zones...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func resolver(t *testing.T, s *dnssectest.Server) *Resolver {
	t.Helper()
	r, err := New(Options{Servers: []string{s.Addr}, Anchors: s.Anchors, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// outcome is an answer as tables write it: "secure 2", "secure 0", "insecure", "error".
func outcome(a Answer, err error) string {
	switch {
	case err != nil:
		return "error"
	case a.Status == Secure:
		return fmt.Sprintf("secure %d", len(a.Records))
	case a.Status == Insecure && len(a.Records) == 0:
		return "insecure"
	}
	return fmt.Sprintf("%+v", a)
}

// kinds of zones in which the same questions have the same answers.
var kinds = map[string]dnssectest.Zone{
	"NSEC":            {},
	"NSEC3":           {NSEC3: &dnssectest.NSEC3{}},
	"NSEC3 with salt": {NSEC3: &dnssectest.NSEC3{Iterations: 100, Salt: "aabb"}},
	"RSA SHA-256":     {Algorithm: dns.RSASHA256},
	"RSA SHA-512":     {Algorithm: dns.RSASHA512, Digest: dns.SHA384},
	"P-256, SHA-384":  {Algorithm: dns.ECDSAP256SHA256, Digest: dns.SHA384},
	"P-384":           {Algorithm: dns.ECDSAP384SHA384},
	"Ed25519":         {Algorithm: dns.ED25519, NSEC3: &dnssectest.NSEC3{}},
}

func TestHonestAnswers(t *testing.T) {
	for kind, leaf := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := resolver(t, serve(t, hierarchy(leaf)))
			for name, want := range map[string]string{
				"here": "secure 1", "HERE": "secure 1", "two": "secure 2", "known.wild": "secure 1", "other": "secure 0", "zzz": "secure 0", "0": "secure 0",
				"x.wild": "secure 1", "y.x.wild": "secure 1", "x.known.wild": "secure 0", "wild": "secure 0", "*.wild": "secure 1",
				"x.calias": "secure 1", "alias": "secure 1", "far": "secure 1", "plain": "insecure", "nowhere": "secure 0", "loop": "error",
				"here.moved": "secure 1", "nothing.moved": "secure 0", "moved": "secure 0", "here.here.moved": "secure 0",
				"a.b.c.d": "secure 1", "b.c.d": "secure 0", "c.d": "secure 0", "e.c.d": "secure 0", "key._k": "secure 0", "x.key._k": "secure 0",
			} {
				a, err := r.Lookup(t.Context(), name+".example.test", dns.TypeTXT)
				if got := outcome(a, err); got != want {
					t.Errorf("%s: %s instead of %s: %v", name, got, want, err)
				}
			}
			for name, want := range map[string]string{
				"key._k.example.test.": "secure 1", "x._k.example.test.": "secure 0", "x.wild.example.test.": "secure 0", "_k.example.test.": "secure 0",
				"example.test.": "secure 0", "here.unsigned.test.": "insecure", "x.y.unsigned.test.": "insecure", "x.nothing.test.": "secure 0", "x.": "secure 0", ".": "secure 0",
			} {
				a, err := r.Lookup(t.Context(), name, dns.TypeOPENPGPKEY)
				if got := outcome(a, err); got != want {
					t.Errorf("%s: %s instead of %s: %v", name, got, want, err)
				}
			}
		})
	}
}

// What is proven, but not to be signed, is not an error, and never gives records.
func TestInsecure(t *testing.T) {
	for name, leaf := range map[string]dnssectest.Zone{
		"no DS":                    {Unsigned: true},
		"DS of an unknown digest":  {Digest: dns.SHA1},
		"algorithm with SHA-1":     {Algorithm: dns.RSASHA1},
		"iterations beyond limits": {NSEC3: &dnssectest.NSEC3{Iterations: 101}},
		"name within opt-out":      {NSEC3: &dnssectest.NSEC3{OptOut: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := resolver(t, serve(t, hierarchy(leaf)))
			for _, host := range []string{"nothing", "x.wild"} {
				a, err := r.Lookup(t.Context(), host+".example.test.", dns.TypeTXT)
				if got := outcome(a, err); got != "insecure" {
					t.Errorf("%s: %s: %v", host, got, err)
				}
			}
		})
	}
}

// Too many iterations make proofs worthless, not signatures over records.
func TestRecordsBeyondLimits(t *testing.T) {
	r := resolver(t, serve(t, hierarchy(dnssectest.Zone{NSEC3: &dnssectest.NSEC3{Iterations: 101}})))
	for name, want := range map[string]string{"here": "secure 1", "alias": "secure 1", "here.moved": "secure 1", "a.b.c.d": "secure 1", "c.d": "insecure", "x.calias": "insecure"} {
		a, err := r.Lookup(t.Context(), name+".example.test.", dns.TypeTXT)
		if got := outcome(a, err); got != want {
			t.Errorf("%s: %s instead of %s: %v", name, got, want, err)
		}
	}
}

// Nor do they hide signed zones further down.
func TestZonesBeyondLimits(t *testing.T) {
	here := "here TXT \"here\"\n"
	s := serve(t, []dnssectest.Zone{
		{Name: "."}, {Name: "test.", NSEC3: &dnssectest.NSEC3{Iterations: 101}},
		{Name: "signed.co.test.", Text: here}, {Name: "unsigned.co.test.", Text: here, Unsigned: true}, {Name: "under.unsigned.co.test.", Text: here},
		{Name: "broken.co.test.", Text: here, Late: 3 * time.Hour},
	})
	r := resolver(t, s)
	for name, want := range map[string]string{
		"here.signed.co.test.": "secure 1", "x.signed.co.test.": "secure 0", "here.unsigned.co.test.": "insecure", "x.co.test.": "insecure", "co.test.": "insecure",
		"here.under.unsigned.co.test.": "insecure", "here.broken.co.test.": "error",
	} {
		a, err := r.Lookup(t.Context(), name, dns.TypeTXT)
		if got := outcome(a, err); got != want {
			t.Errorf("%s: %s instead of %s: %v", name, got, want, err)
		}
	}
	s.Break(func(q dns.Question, _ string, m *dns.Msg) bool {
		if q.Qtype == dns.TypeTXT {
			m.Answer = nil
		}
		return true
	})
	if a, err := r.Lookup(t.Context(), "here.signed.co.test.", dns.TypeTXT); err == nil {
		t.Errorf("a signed zone below, its records stripped: %+v", a)
	}
	s.Break(func(q dns.Question, _ string, m *dns.Msg) bool {
		if below(q.Name, "co.test.") {
			m.Rcode = dns.RcodeServerFailure
		}
		return true
	})
	if a, err := r.Lookup(t.Context(), "here.unsigned.co.test.", dns.TypeTXT); err == nil {
		t.Errorf("a failing server: %+v", a)
	}
}

// Opt-out hides delegations that are not signed, and those alone.
func TestOptOut(t *testing.T) {
	zones := []dnssectest.Zone{
		{Name: "."}, {Name: "test.", NSEC3: &dnssectest.NSEC3{OptOut: true}, Text: "here TXT \"here\"\n"},
		{Name: "unsigned.test.", Text: "here TXT \"u\"\n", Unsigned: true}, {Name: "signed.test.", Text: "here TXT \"s\"\n"},
	}
	s := serve(t, zones)
	s.Break(func(q dns.Question, _ string, m *dns.Msg) bool { // a domain that is not signed need not even answer
		if below(q.Name, "unsigned.test.") {
			m.Rcode = dns.RcodeServerFailure
		}
		return true
	})
	r := resolver(t, s)
	for name, want := range map[string]string{
		"here.test.": "secure 1", "here.signed.test.": "secure 1", "x.signed.test.": "secure 0", "here.unsigned.test.": "insecure", "x.test.": "insecure",
	} {
		a, err := r.Lookup(t.Context(), name, dns.TypeTXT)
		if got := outcome(a, err); got != want {
			t.Errorf("%s: %s instead of %s: %v", name, got, want, err)
		}
	}
}

// The only record of a zone leads back to itself.
func TestEmptyZone(t *testing.T) {
	for kind, nsec3 := range map[string]*dnssectest.NSEC3{"NSEC": nil, "NSEC3": {}} {
		r := resolver(t, serve(t, []dnssectest.Zone{{Name: "."}, {Name: "test.", NSEC3: nsec3}}))
		for name, qtype := range map[string]uint16{"test.": dns.TypeTXT, "x.test.": dns.TypeTXT, "*.test.": dns.TypeTXT} {
			a, err := r.Lookup(t.Context(), name, qtype)
			if got := outcome(a, err); got != "secure 0" {
				t.Errorf("%s: %s: %s, %v", kind, name, got, err)
			}
		}
	}
}

// Keys that are not for signing zones, or no longer, sign nothing.
func TestZoneKeys(t *testing.T) {
	key, _, err := dnssectest.NewKey("test.", dns.ED25519)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*dns.DNSKEY){
		"as it is":   func(*dns.DNSKEY) {},
		"revoked":    func(k *dns.DNSKEY) { k.Flags |= dns.REVOKE },
		"not a zone": func(k *dns.DNSKEY) { k.Flags &^= dns.ZONE },
		"protocol":   func(k *dns.DNSKEY) { k.Protocol = 2 },
		"algorithm":  func(k *dns.DNSKEY) { k.Algorithm = dns.RSASHA1 },
	} {
		changed := dns.Copy(key).(*dns.DNSKEY)
		change(changed)
		if n := len(zoneKeys([]dns.RR{changed})); (n == 1) != (name == "as it is") {
			t.Errorf("%s: %d", name, n)
		}
	}
}

func TestOptions(t *testing.T) {
	ds := func(name string, algorithm, digest uint8) []*dns.DS {
		key, _, err := dnssectest.NewKey(name, algorithm)
		if err != nil {
			t.Fatal(err)
		}
		return []*dns.DS{key.ToDS(digest)}
	}
	for name, o := range map[string]Options{
		"server without port":      {Servers: []string{"127.0.0.1"}},
		"anchor below the root":    {Anchors: ds("test.", dns.ED25519, dns.SHA256)},
		"anchor of SHA-1":          {Anchors: ds(".", dns.ED25519, dns.SHA1)},
		"anchor for RSA and SHA-1": {Anchors: ds(".", dns.RSASHA1, dns.SHA256)},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	r, err := New(Options{})
	if err != nil || len(r.options.Anchors) != 2 {
		t.Fatal(err, r)
	}
	for _, qtype := range []uint16{dns.TypeDS, dns.TypeANY, dns.TypeRRSIG, dns.TypeAXFR} {
		if _, err := r.Lookup(t.Context(), "example.test.", qtype); err == nil {
			t.Errorf("looked up type %d", qtype)
		}
	}
	if _, err := r.Lookup(t.Context(), strings.Repeat("a", 64)+".test.", dns.TypeTXT); err == nil {
		t.Error("looked up what is not a name")
	}
}

// The keys of IANA do not fit the test's root, nor another root's.
func TestAnchors(t *testing.T) {
	s, other := serve(t, hierarchy(dnssectest.Zone{})), serve(t, []dnssectest.Zone{{Name: "."}})
	for name, anchors := range map[string][]*dns.DS{"IANA's": nil, "another": other.Anchors} {
		r, err := New(Options{Servers: []string{s.Addr}, Anchors: anchors, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		if a, err := r.Lookup(t.Context(), "here.example.test.", dns.TypeTXT); err == nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestCancelled(t *testing.T) {
	s := serve(t, hierarchy(dnssectest.Zone{}))
	ctx, cancel := context.WithCancel(t.Context())
	s.Break(func(dns.Question, string, *dns.Msg) bool {
		cancel()
		return false
	})
	if a, err := resolver(t, s).Lookup(ctx, "here.example.test.", dns.TypeTXT); err == nil {
		t.Errorf("%+v", a)
	}
}

// What was cut off is asked for again over TCP, before another server is.
func TestCutOff(t *testing.T) {
	s, other := serve(t, hierarchy(dnssectest.Zone{})), serve(t, hierarchy(dnssectest.Zone{}))
	s.Break(func(_ dns.Question, network string, m *dns.Msg) bool {
		m.Truncated = network == "udp"
		return true
	})
	r, err := New(Options{Servers: []string{s.Addr, other.Addr}, Anchors: s.Anchors, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	a, err := r.Lookup(t.Context(), "here.example.test.", dns.TypeTXT)
	if got := outcome(a, err); got != "secure 1" || len(other.Asked()) > 0 {
		t.Errorf("%s, %v; the other was asked %v", got, err, other.Asked())
	}
}

// A server that does not answer, or not well, is no reason to fail if another does.
func TestSecondServer(t *testing.T) {
	good, bad := serve(t, hierarchy(dnssectest.Zone{})), serve(t, hierarchy(dnssectest.Zone{}))
	bad.Break(func(_ dns.Question, _ string, m *dns.Msg) bool {
		m.Rcode = dns.RcodeServerFailure
		return true
	})
	r, err := New(Options{Servers: []string{"127.0.0.1:1", bad.Addr, good.Addr}, Anchors: good.Anchors, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	a, err := r.Lookup(t.Context(), "here.example.test.", dns.TypeTXT)
	if got := outcome(a, err); got != "secure 1" {
		t.Errorf("%s: %v", got, err)
	}
}
