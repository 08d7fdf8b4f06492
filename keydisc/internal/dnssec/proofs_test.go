package dnssec

import (
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/keydisc/internal/dnssec/dnssectest"
)

// example is the zone of RFC 5155 appendix A: names and types. It has opt-out, 12 iterations, and the salt AABBCCDD; the
// hashes are the RFC's.
var example = []struct{ name, hash, types string }{
	{"example.", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom", "NS SOA MX RRSIG DNSKEY NSEC3PARAM"},
	{"ns1.example.", "2t7b4g4vsa5smi47k61mv5bv1a22bojr", "A RRSIG"},
	{"x.y.w.example.", "2vptu5timamqttgl4luu9kg21e0aor3s", "MX RRSIG"},
	{"a.example.", "35mthgpgcu1qg68fab165klnsnk3dpvl", "NS DS RRSIG"},
	{"x.w.example.", "b4um86eghhds6nea196smvmlo4ors995", "MX RRSIG"},
	{"ai.example.", "gjeqe526plbf1g8mklp59enfd789njgi", "A HINFO AAAA RRSIG"},
	{"y.w.example.", "ji6neoaepv8b5o6k4ev33abha8ht9fgc", ""},
	{"w.example.", "k8udemvp1j2f7eg6jebps17vp3n8i58h", ""},
	{"2t7b4g4vsa5smi47k61mv5bv1a22bojr.example.", "kohar7mbb8dc2ce8a9qvl8hon4k53uhi", "A RRSIG"},
	{"ns2.example.", "q04jkcevqvmu85r014c7dkba38o0ji5r", "A RRSIG"},
	{"*.w.example.", "r53bq7cc2uvmubfu5ocmm6pers9tk9en", "MX RRSIG"},
	{"xx.example.", "t644ebqk9bibcna874givr6joj62mlhv", "A HINFO AAAA RRSIG"},
}

// exampleProofs are the records of some names of the zone, all without any.
func exampleProofs(t *testing.T, names ...string) *nsec3s {
	t.Helper()
	p := &nsec3s{zone: "example.", spent: &spent{}, hashes: map[string]string{}}
	for i, e := range example {
		if len(names) > 0 && !strings.Contains(" "+strings.Join(names, " ")+" ", " "+e.name+" ") {
			continue
		}
		next := example[(i+1)%len(example)].hash
		before := len(p.records)
		p.add([]dns.RR{rr(e.hash + ".example. NSEC3 1 1 12 aabbccdd " + next + " " + e.types)})
		if len(p.records) != before+1 {
			t.Fatalf("%s was not taken", e.name)
		}
	}
	return p
}

func TestNSEC3Hashes(t *testing.T) {
	p := exampleProofs(t)
	for _, e := range example {
		if hash, err := p.hash(e.name); err != nil || hash != strings.ToUpper(e.hash) {
			t.Errorf("%s: %s, %v", e.name, hash, err)
		}
	}
}

// RFC 5155 appendix B, and the same with records missing.
func TestNSEC3Denials(t *testing.T) {
	for name, c := range map[string]struct {
		name  string
		qtype uint16
		with  string // the names whose records come
		want  kind
	}{
		"B.1 name error":           {"a.c.x.w.example.", dns.TypeA, "x.w.example. example. a.example.", insecure}, // as there is opt-out
		"B.1 without the encloser": {"a.c.x.w.example.", dns.TypeA, "example. a.example.", unproven},
		"B.1 without the gap":      {"a.c.x.w.example.", dns.TypeA, "x.w.example. a.example.", unproven},
		"B.1 without the wildcard": {"a.c.x.w.example.", dns.TypeA, "x.w.example. example.", unproven},
		"B.2 no data":              {"ns1.example.", dns.TypeMX, "ns1.example.", noType},
		"B.2 the type is there":    {"ns1.example.", dns.TypeA, "ns1.example.", unproven},
		"B.2 another's":            {"ns1.example.", dns.TypeMX, "ns2.example.", unproven},
		"B.2.1 empty non-terminal": {"y.w.example.", dns.TypeA, "y.w.example.", noType},
		"B.3 opt-out, delegation":  {"c.example.", dns.TypeDS, "a.example. example.", insecure},
		"B.3 without the encloser": {"c.example.", dns.TypeDS, "a.example.", unproven},
		"B.5 wildcard no data":     {"a.z.w.example.", dns.TypeAAAA, "w.example. ns2.example. *.w.example.", insecure},
		"B.5 without the wildcard": {"a.z.w.example.", dns.TypeAAAA, "w.example. ns2.example.", unproven},
		"B.5 it has the type":      {"a.z.w.example.", dns.TypeMX, "w.example. ns2.example. *.w.example.", unproven},
		"B.6 DS by the child":      {"example.", dns.TypeDS, "example.", unproven},
		"below a delegation":       {"x.a.example.", dns.TypeA, "", unproven},
		"at a delegation":          {"a.example.", dns.TypeA, "", unproven},
		"signed delegation":        {"a.example.", dns.TypeDS, "", unproven},
		"outside the zone":         {"a.test.", dns.TypeA, "", unproven},
		"all there":                {"a.c.x.w.example.", dns.TypeA, "", insecure},
	} {
		is, err := exampleProofs(t, strings.Fields(c.with)...).deny(c.name, c.qtype)
		if is != c.want || err != nil {
			t.Errorf("%s: %d, %v", name, is, err)
		}
	}
}

// RFC 5155 appendix B.4.
func TestNSEC3Expansion(t *testing.T) {
	for with, want := range map[string]kind{"ns2.example.": insecure, "": insecure, "ns1.example.": unproven} {
		if is, err := exampleProofs(t, strings.Fields(with)...).nothingCloser("a.z.w.example.", 2); is != want || err != nil {
			t.Errorf("%q: %d, %v", with, is, err)
		}
	}
	if is, err := exampleProofs(t).nothingCloser("x.y.w.example.", 2); is != unproven || err != nil {
		t.Errorf("a name that exists: %d, %v", is, err)
	}
}

func TestNSEC3Unusable(t *testing.T) {
	for name, text := range map[string]string{
		"unknown hash":   "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example. NSEC3 2 0 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr A",
		"unknown flag":   "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example. NSEC3 1 2 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr A",
		"too deep":       "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.x.example. NSEC3 1 0 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr A",
		"no hash":        "example. NSEC3 1 0 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr A",
		"other salt":     "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example. NSEC3 1 0 12 aabb 2t7b4g4vsa5smi47k61mv5bv1a22bojr A",
		"other rounds":   "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example. NSEC3 1 0 1 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr A",
		"next too short": "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example. NSEC3 1 0 12 aabbccdd 2t7b4g4v A",
	} {
		p := exampleProofs(t, "ns1.example.")
		p.add([]dns.RR{rr(text)})
		if len(p.records) != 1 {
			t.Errorf("%s was taken", name)
		}
	}
}

// A hash costs up to 100 rounds: there is an end to them.
func TestNSEC3Limit(t *testing.T) {
	p := exampleProofs(t)
	p.spent.hashes = maxHashes
	if _, err := p.deny("x.example.", dns.TypeA); err != errCostly {
		t.Error(err)
	}
	if _, err := p.nothingCloser("x.example.", 1); err != errCostly {
		t.Error(err)
	}
}

// RFC 4035 appendices A and B.
func TestNSECDenials(t *testing.T) {
	zone := []string{
		"example. NSEC a.example. NS SOA MX RRSIG NSEC DNSKEY", "a.example. NSEC ai.example. NS DS RRSIG NSEC",
		"ai.example. NSEC b.example. A HINFO AAAA RRSIG NSEC", "b.example. NSEC ns1.example. NS RRSIG NSEC",
		"ns1.example. NSEC ns2.example. A RRSIG NSEC", "ns2.example. NSEC *.w.example. A RRSIG NSEC",
		"*.w.example. NSEC x.w.example. MX RRSIG NSEC", "x.w.example. NSEC x.y.w.example. MX RRSIG NSEC",
		"x.y.w.example. NSEC xx.example. MX RRSIG NSEC", "xx.example. NSEC example. A HINFO AAAA RRSIG NSEC",
	}
	all := nsecs{zone: "example."}
	for _, line := range zone {
		all.add([]dns.RR{rr(line)})
	}
	for name, c := range map[string]struct {
		name   string
		qtype  uint16
		want   kind
		needed int // records without which it is not proven
	}{
		"B.2 name error":           {"ml.example.", dns.TypeA, noName, 2},
		"B.3 no data":              {"ns1.example.", dns.TypeMX, noType, 1},
		"B.5 delegation, unsigned": {"b.example.", dns.TypeDS, delegated, 1},
		"B.7 wildcard no data":     {"a.z.w.example.", dns.TypeAAAA, noType, 2},
		"B.8 DS by the child":      {"example.", dns.TypeDS, unproven, 0},
		"empty non-terminal":       {"y.w.example.", dns.TypeA, noType, 1},
		"last of the zone":         {"zzz.example.", dns.TypeA, noName, 2},
		"wildcard has the type":    {"a.z.w.example.", dns.TypeMX, unproven, 0},
		"below a delegation":       {"x.b.example.", dns.TypeA, unproven, 0},
		"at a delegation":          {"b.example.", dns.TypeA, unproven, 0},
		"signed delegation":        {"a.example.", dns.TypeDS, unproven, 0},
		"escaped":                  {`\000.xx.example.`, dns.TypeA, noName, 1}, // the same record covers the wildcard
	} {
		if is := all.deny(c.name, c.qtype); is != c.want {
			t.Errorf("%s: %d", name, is)
		}
		needed := 0
		for i := range all.records {
			fewer := nsecs{"example.", append(append([]*dns.NSEC{}, all.records[:i]...), all.records[i+1:]...)}
			if is := fewer.deny(c.name, c.qtype); c.want != unproven && is == unproven {
				needed++
			} else if is != c.want {
				t.Errorf("%s: %d without record %d", name, is, i)
			}
		}
		if needed != c.needed {
			t.Errorf("%s: %d records were needed", name, needed)
		}
	}
	for name, want := range map[string]bool{"a.z.w.example.": true, "x.w.example.": false, "a.x.w.example.": false, "y.w.example.": false, "a.y.w.example.": false} {
		if all.nothingCloser(name, 2) != want {
			t.Errorf("%s: wildcard *.w.example., %t", name, !want)
		}
	}
}

// Wildcards that are delegations, or exist for the sake of names below them alone.
func TestOddWildcards(t *testing.T) {
	for name, c := range map[string]struct {
		lines string
		qtype uint16
		want  kind
	}{
		"delegation, DS":  {"*.example. NSEC b.example. NS RRSIG NSEC\nb.example. NSEC example. A RRSIG NSEC", dns.TypeDS, unproven},
		"delegation, TXT": {"*.example. NSEC b.example. NS RRSIG NSEC\nb.example. NSEC example. A RRSIG NSEC", dns.TypeTXT, unproven},
		"CNAME":           {"*.example. NSEC b.example. CNAME RRSIG NSEC\nb.example. NSEC example. A RRSIG NSEC", dns.TypeTXT, unproven},
		"empty":           {"example. NSEC x.*.example. NS SOA RRSIG NSEC\nb.example. NSEC example. A RRSIG NSEC", dns.TypeTXT, noType},
	} {
		p := nsecs{zone: "example."}
		for _, line := range strings.Split(c.lines, "\n") {
			p.add([]dns.RR{rr(line)})
		}
		if is := p.deny("c.example.", c.qtype); is != c.want {
			t.Errorf("%s: %d", name, is)
		}
	}
	p := exampleProofs(t)
	for _, nsec3 := range p.records {
		if strings.HasPrefix(nsec3.Hdr.Name, "r53bq7cc") { // that of *.w.example.
			nsec3.TypeBitMap = []uint16{dns.TypeNS}
		}
		nsec3.Flags = 0
	}
	for _, qtype := range []uint16{dns.TypeDS, dns.TypeTXT} {
		if is, err := p.deny("a.z.w.example.", qtype); is != unproven || err != nil {
			t.Errorf("NSEC3, %d: %d, %v", qtype, is, err)
		}
	}
}

// RFC 5155 appendix B without opt-out.
func TestNSEC3NameError(t *testing.T) {
	p := exampleProofs(t)
	for _, nsec3 := range p.records {
		nsec3.Flags = 0
	}
	for name, want := range map[string]kind{"a.c.x.w.example.": noName, "a.z.w.example.": noType, "c.example.": noName} {
		if is, err := p.deny(name, dns.TypeAAAA); is != want || err != nil {
			t.Errorf("%s: %d, %v", name, is, err)
		}
	}
	if is, err := p.nothingCloser("a.z.w.example.", 2); is != noName || err != nil {
		t.Errorf("expansion: %d, %v", is, err)
	}
}

// RFC 4034 §6.1.
func TestCanonicalOrder(t *testing.T) {
	names := []string{".", "example.", "a.example.", "yljkjljk.a.example.", "Z.a.example.", "zABC.a.EXAMPLE.", "z.example.", `\001.z.example.`, "*.z.example.", `\200.z.example.`}
	for i := range names {
		for j := range names {
			got := compareNames(names[i], names[j])
			if (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%s, %s: %d", names[i], names[j], got)
			}
		}
	}
}

func TestSubstitute(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 49)+".", 4)
	for _, c := range []struct{ name, owner, target, want string }{
		{"x.here.test.", "here.test.", "There.test.", "x.there.test."}, {"x.y.test.", "test.", ".", "x.y."},
		{long + "test.", "test.", long, ""}, {"x.test.", ".", "test.", ""},
	} {
		if got := substitute(c.name, c.owner, c.target); got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

// Every record of an honest proof is needed: without any one of them there is an error, never an answer.
func TestPartialProofs(t *testing.T) {
	for kind, leaf := range map[string]dnssectest.Zone{"NSEC": {}, "NSEC3": {NSEC3: &dnssectest.NSEC3{}}} {
		s := serve(t, hierarchy(leaf))
		r := resolver(t, s)
		for _, name := range []string{"zzz", "x.wild", "x.known.wild", "other", "a.b.c.e.f", "moved", "b.c.d"} {
			if _, err := r.Lookup(t.Context(), name+".example.test.", dns.TypeTXT); err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				dropped := false
				s.Break(func(q dns.Question, _ string, m *dns.Msg) bool {
					if below(q.Name, "example.test.") {
						dropped = dropProof(m, i) || dropped
					}
					return true
				})
				a, err := r.Lookup(t.Context(), name+".example.test.", dns.TypeTXT)
				s.Break(nil)
				if dropped && err == nil {
					t.Errorf("%s %s without proof %d: %+v", kind, name, i, a)
				}
			}
		}
	}
}

// dropProof takes the i-th NSEC or NSEC3 record out, and says whether there was one.
func dropProof(m *dns.Msg, i int) bool {
	for at, r := range m.Ns {
		if t := r.Header().Rrtype; t != dns.TypeNSEC && t != dns.TypeNSEC3 {
			continue
		}
		if i--; i < 0 {
			m.Ns = append(m.Ns[:at:at], m.Ns[at+1:]...)
			return true
		}
	}
	return false
}
