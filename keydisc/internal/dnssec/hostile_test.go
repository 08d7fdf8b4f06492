package dnssec

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/keydisc/internal/dnssec/dnssectest"
)

// attack changes answers on their way. It gets the server to sign with, as the owner of another zone could.
type attack func(s *dnssectest.Server, q dns.Question, network string, m *dns.Msg) (send bool)

// onType attacks the answers about one type.
func onType(qtype uint16, change func(s *dnssectest.Server, m *dns.Msg)) attack {
	return func(s *dnssectest.Server, q dns.Question, _ string, m *dns.Msg) bool {
		if q.Qtype == qtype {
			change(s, m)
		}
		return true
	}
}

// onLast attacks the answer about the records asked for, of type TXT.
func onLast(change func(s *dnssectest.Server, m *dns.Msg)) attack { return onType(dns.TypeTXT, change) }

// onName attacks what is said about one name, of any type.
func onName(name string, change func(s *dnssectest.Server, m *dns.Msg)) attack {
	return func(s *dnssectest.Server, q dns.Question, _ string, m *dns.Msg) bool {
		if strings.EqualFold(q.Name, name) {
			change(s, m)
		}
		return true
	}
}

// onLeaf attacks all that is said about names below example.test.: their DS records are asked for first.
func onLeaf(change func(s *dnssectest.Server, m *dns.Msg)) attack {
	return func(s *dnssectest.Server, q dns.Question, _ string, m *dns.Msg) bool {
		if below(q.Name, "example.test.") {
			change(s, m)
		}
		return true
	}
}

// without drops records of a type, or signatures over it.
func without(records []dns.RR, t uint16, signatures bool) []dns.RR {
	return slices.DeleteFunc(records, func(rr dns.RR) bool {
		sig, ok := rr.(*dns.RRSIG)
		return signatures && ok && sig.TypeCovered == t || rr.Header().Rrtype == t
	})
}

func each[T dns.RR](records []dns.RR, change func(T)) {
	for _, rr := range records {
		if t, ok := rr.(T); ok {
			change(t)
		}
	}
}

// deny makes the message say that there is nothing, with these records as the proof.
func deny(m *dns.Msg, rcode int, proof ...dns.RR) {
	m.Rcode, m.Answer, m.Ns = rcode, nil, proof
}

// hostile are attacks on the lookup of one name in a hierarchy that is all right; the outcome is always an error, or
// the one named.
var hostile = map[string]struct {
	leaf   dnssectest.Zone
	ask    string // relative to example.test.
	attack attack
	want   string        // "": error
	try    time.Duration // for one message, where some get lost
}{
	"record changed":            {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { each(m.Answer, func(r *dns.TXT) { r.Txt[0] = "forged" }) })},
	"record added":              {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { m.Answer = append(m.Answer, txt("here", "forged")) })},
	"record removed":            {ask: "two", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { m.Answer = slices.Delete(m.Answer, 1, 2) })},
	"only a forged record":      {ask: "zzz", attack: onLeaf(func(_ *dnssectest.Server, m *dns.Msg) { m.Answer = []dns.RR{txt("zzz", "forged")} }), want: "secure 0"},
	"signatures stripped":       {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { m.Answer = without(m.Answer, dns.TypeRRSIG, false) })},
	"all signatures stripped":   {ask: "here", attack: stripAll},
	"proof's signatures gone":   {ask: "zzz", attack: onLeaf(func(_ *dnssectest.Server, m *dns.Msg) { m.Ns = without(m.Ns, dns.TypeRRSIG, false) })},
	"proof stripped":            {ask: "zzz", attack: onLeaf(func(_ *dnssectest.Server, m *dns.Msg) { deny(m, dns.RcodeNameError) })},
	"empty answer":              {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { deny(m, dns.RcodeSuccess) })},
	"name error without proof":  {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { deny(m, dns.RcodeNameError) })},
	"name error, proof is SOA":  {ask: "here", attack: onLast(func(s *dnssectest.Server, m *dns.Msg) { deny(m, dns.RcodeNameError, soa(s, "example.test.")...) })},
	"expired":                   {leaf: dnssectest.Zone{Late: -2 * time.Hour}, ask: "here"},
	"not yet valid":             {leaf: dnssectest.Zone{Late: 2 * time.Hour}, ask: "here"},
	"proof expired":             {leaf: dnssectest.Zone{Late: -2 * time.Hour}, ask: "zzz"},
	"period ends just now":      {leaf: dnssectest.Zone{Late: -time.Hour}, ask: "here", want: "secure 1"},
	"period ended a second ago": {leaf: dnssectest.Zone{Late: -time.Hour - time.Second}, ask: "here"},
	"signature a century off":   {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { each(m.Answer, func(r *dns.RRSIG) { r.Expiration += 1 << 31 }) })},
	"signed by another zone": {ask: "here", attack: onLast(func(s *dnssectest.Server, m *dns.Msg) {
		m.Answer = s.SignText("other.test.", `here.example.test. TXT "forged"`)
	})},
	"signed by the parent": {ask: "here", attack: onLast(func(s *dnssectest.Server, m *dns.Msg) {
		m.Answer = s.SignText("test.", `here.example.test. TXT "forged"`)
	})},
	"signed by a key of another zone": {ask: "here", attack: onLast(func(s *dnssectest.Server, m *dns.Msg) {
		m.Answer = s.SignText("other.test.", `here.example.test. TXT "forged"`)
		each(m.Answer, func(r *dns.RRSIG) { r.SignerName = "example.test." })
	})},
	"signature for another type": {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) {
		each(m.Answer, func(r *dns.RRSIG) { r.TypeCovered = dns.TypeA })
	})},
	"signature of no algorithm":  {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { each(m.Answer, func(r *dns.RRSIG) { r.Algorithm = dns.ED448 }) })},
	"signature for fewer labels": {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { each(m.Answer, func(r *dns.RRSIG) { r.Labels = 1 }) })},
	"signature for no label":     {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { each(m.Answer, func(r *dns.RRSIG) { r.Labels = 0 }) })},
	"signature cut short": {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) {
		each(m.Answer, func(r *dns.RRSIG) { r.Signature = r.Signature[:8] })
	})},
	"signature empty":       {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { each(m.Answer, func(r *dns.RRSIG) { r.Signature = "" }) })},
	"key added to the zone": {ask: "here", attack: addKey},
	"keys of another zone":  {ask: "here", attack: onName("example.test.", swapKeys)},
	"keys gone":             {ask: "here", attack: onType(dns.TypeDNSKEY, func(_ *dnssectest.Server, m *dns.Msg) { m.Answer = nil })},
	"keys not signed":       {ask: "here", attack: onType(dns.TypeDNSKEY, func(_ *dnssectest.Server, m *dns.Msg) { m.Answer = without(m.Answer, dns.TypeRRSIG, false) })},
	"zone key flag cleared": {ask: "here", attack: onName("example.test.", func(_ *dnssectest.Server, m *dns.Msg) {
		each(m.Answer, func(r *dns.DNSKEY) { r.Flags &^= dns.ZONE })
	})},

	"DS stripped, no proof":      {ask: "here", attack: onName("example.test.", func(_ *dnssectest.Server, m *dns.Msg) { m.Answer, m.Ns = without(m.Answer, dns.TypeDS, true), nil })},
	"DS changed":                 {ask: "here", attack: onType(dns.TypeDS, func(_ *dnssectest.Server, m *dns.Msg) { each(m.Answer, func(r *dns.DS) { r.KeyTag++ }) })},
	"DS of an unknown algorithm": {ask: "here", attack: onType(dns.TypeDS, func(_ *dnssectest.Server, m *dns.Msg) { each(m.Answer, func(r *dns.DS) { r.Algorithm = 250 }) })},
	"DS by the zone itself":      {ask: "here", attack: takeOver(func(s *dnssectest.Server) []dns.RR { return s.Sign("example.test.", forger.ds("example.test.")) })},
	"DS not signed":              {ask: "here", attack: takeOver(func(*dnssectest.Server) []dns.RR { return []dns.RR{forger.ds("example.test.")} })},
	"DS of another zone": {ask: "here", attack: takeOver(func(s *dnssectest.Server) []dns.RR {
		return renamed(s.Sign("test.", forger.ds("other.test.")), "example.test.")
	})},
	"DS signed by the root":   {ask: "here", attack: takeOver(func(s *dnssectest.Server) []dns.RR { return s.Sign(".", forger.ds("example.test.")) })},
	"DS really by the parent": {ask: "here", attack: takeOver(func(s *dnssectest.Server) []dns.RR { return s.Sign("test.", forger.ds("example.test.")) }), want: "secure 1"},
	"DS of another digest": {ask: "here", attack: onName("example.test.", func(s *dnssectest.Server, m *dns.Msg) {
		each(m.Answer, func(r *dns.DS) { r.Digest = forger.key.ToDS(dns.SHA256).Digest; m.Answer = s.Sign("test.", r) })
	})},
	"DS denied by the zone itself": {ask: "here", attack: onName("example.test.", func(s *dnssectest.Server, m *dns.Msg) {
		deny(m, dns.RcodeSuccess, s.SignText("example.test.", "example.test. NSEC two.example.test. NS RRSIG NSEC")...)
	})},
	"DS denied by a signed SOA": {ask: "here", attack: onName("example.test.", func(s *dnssectest.Server, m *dns.Msg) { deny(m, dns.RcodeSuccess, soa(s, "test.")...) })},
	"DS denied for another delegation": {ask: "here", attack: onName("example.test.", func(s *dnssectest.Server, m *dns.Msg) {
		deny(m, dns.RcodeSuccess, s.SignText("test.", "unsigned.test. NSEC test. NS RRSIG NSEC")...)
	})},
	"a real delegation without DS": {ask: "here", attack: onName("example.test.", func(s *dnssectest.Server, m *dns.Msg) {
		deny(m, dns.RcodeSuccess, s.SignText("test.", "example.test. NSEC other.test. NS RRSIG NSEC")...)
	}), want: "insecure"},
	"no delegation at all": {ask: "here", attack: onName("example.test.", func(s *dnssectest.Server, m *dns.Msg) {
		deny(m, dns.RcodeSuccess, s.SignText("test.", "example.test. NSEC other.test. TXT RRSIG NSEC")...)
	})},
	"DS from a wildcard": {ask: "here", attack: takeOver(func(s *dnssectest.Server) []dns.RR {
		return renamed(s.Sign("test.", forger.ds("*.test.")), "example.test.")
	})},

	"NSEC of another gap":                        {ask: "here", attack: denyBy("test.", "")},
	"NSEC that ends at the name":                 {ask: "here", attack: denyBy("example.test.", "far.example.test. NSEC here.example.test. CNAME RRSIG NSEC")},
	"NSEC that starts at the name":               {ask: "here", attack: denyBy("example.test.", "here.example.test. NSEC loop.example.test. TXT RRSIG NSEC")},
	"NSEC over the name, none over the wildcard": {ask: "zzz", attack: denyLeafBy("example.test.", "two.example.test. NSEC example.test. TXT RRSIG NSEC")},
	"NSEC over both":                             {ask: "zzz", attack: denyBy("example.test.", "two.example.test. NSEC example.test. TXT RRSIG NSEC", "example.test. NSEC _k.example.test. NS SOA RRSIG NSEC DNSKEY"), want: "secure 0"},
	"NSEC range changed":                         {ask: "here", attack: onLast(changedRange)},
	"NSEC by the parent":                         {ask: "here", attack: denyBy("test.", "example.test. NSEC other.test. NS DS RRSIG NSEC")},
	"NSEC by the root":                           {ask: "here", attack: denyBy(".", "test. NSEC . NS DS RRSIG NSEC")},
	"NSEC into another zone":                     {ask: "here", attack: denyBy("example.test.", "far.example.test. NSEC other.test. CNAME RRSIG NSEC", "example.test. NSEC far.example.test. NS SOA RRSIG NSEC")},
	"NSEC with CNAME":                            {ask: "here", attack: denyBy("example.test.", "here.example.test. NSEC loop.example.test. CNAME RRSIG NSEC")},
	"NSEC of a delegation at it":                 {ask: "here", attack: denyBy("example.test.", "here.example.test. NSEC loop.example.test. NS RRSIG NSEC")},
	"NSEC of a delegation above it":              {ask: "x.here", attack: onName("x.here.example.test.", denial("example.test.", "here.example.test. NSEC loop.example.test. NS RRSIG NSEC", "example.test. NSEC far.example.test. NS SOA RRSIG NSEC"))},
	"NSEC of a DNAME above it":                   {ask: "x.here", attack: onName("x.here.example.test.", denial("example.test.", "here.example.test. NSEC loop.example.test. DNAME RRSIG NSEC", "example.test. NSEC far.example.test. NS SOA RRSIG NSEC"))},
	"NSEC made from a wildcard": {ask: "here", attack: onLast(func(s *dnssectest.Server, m *dns.Msg) {
		deny(m, dns.RcodeSuccess, renamed(s.SignText("example.test.", "*.example.test. NSEC known.wild.example.test. A RRSIG NSEC"), "here.example.test.")...)
	})},
	"wildcard denied only in part": {ask: "zzz", attack: denyLeafBy("example.test.", "two.example.test. NSEC example.test. TXT RRSIG NSEC", "*.example.test. NSEC _k.example.test. TXT RRSIG NSEC")},

	"wildcard without proof":       {ask: "x.wild", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { m.Ns = nil })},
	"wildcard over a known name":   {ask: "known.wild", attack: onLast(func(s *dnssectest.Server, m *dns.Msg) { expand(s, m, "known.wild.example.test.") })},
	"wildcard over a known parent": {ask: "x.known.wild", attack: onLast(func(s *dnssectest.Server, m *dns.Msg) { expand(s, m, "x.known.wild.example.test.") }), want: "secure 0"},
	"wildcard from too far up": {ask: "x.wild", attack: onLast(func(s *dnssectest.Server, m *dns.Msg) {
		m.Answer = renamed(s.SignText("example.test.", `*.example.test. TXT "forged"`), "x.wild.example.test.")
	})},
	"wildcard for a name that is empty": {ask: "c.d", attack: onLast(func(s *dnssectest.Server, m *dns.Msg) {
		m.Answer = renamed(s.SignText("example.test.", `*.d.example.test. TXT "forged"`), "c.d.example.test.")
		m.Ns = s.SignText("example.test.", "alias.example.test. NSEC a.b.c.d.example.test. CNAME RRSIG NSEC")
	})},

	"CNAME forged": {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) {
		m.Answer = []dns.RR{rr("here.example.test. CNAME here.other.test.")}
	})},
	"CNAME of another zone": {ask: "here", attack: onLast(func(s *dnssectest.Server, m *dns.Msg) {
		m.Answer = s.SignText("other.test.", "here.example.test. CNAME here.other.test.")
	})},
	"CNAME changed": {ask: "alias", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) {
		each(m.Answer, func(r *dns.CNAME) { r.Target = "here.other.test." })
	})},
	"two CNAMEs": {ask: "here", attack: onLast(func(s *dnssectest.Server, m *dns.Msg) {
		m.Answer = s.SignText("example.test.", "here.example.test. CNAME a.test.", "here.example.test. CNAME b.test.")
	})},
	"DNAME forged": {ask: "x.here", attack: onLeaf(func(_ *dnssectest.Server, m *dns.Msg) {
		m.Answer = []dns.RR{rr("here.example.test. DNAME other.test."), rr("x.here.example.test. CNAME x.other.test.")}
	})},
	"DNAME by the parent": {ask: "here", attack: onLast(func(s *dnssectest.Server, m *dns.Msg) {
		m.Answer = s.SignText("test.", "example.test. DNAME other.test.")
	})},
	"DNAME from a wildcard": {ask: "x.y", attack: onLeaf(func(s *dnssectest.Server, m *dns.Msg) {
		m.Ns, m.Answer = nil, renamed(s.SignText("example.test.", "*.example.test. DNAME other.test."), "y.example.test.")
	})},
	"CNAME's end denied alone": {ask: "alias", attack: onLast(func(s *dnssectest.Server, m *dns.Msg) {
		deny(m, dns.RcodeNameError, s.SignText("example.test.", "two.example.test. NSEC example.test. TXT RRSIG NSEC")...)
	})},

	"records of class CHAOS": {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) {
		for _, r := range m.Answer {
			r.Header().Class = dns.ClassCHAOS
		}
	})},
	"records as the authority":  {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { m.Answer, m.Ns = nil, m.Answer })},
	"server failure":            {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { deny(m, dns.RcodeServerFailure) })},
	"refused":                   {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { deny(m, dns.RcodeRefused) })},
	"failure with right answer": {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { m.Rcode = dns.RcodeServerFailure })},
	"DS: server failure":        {ask: "here", attack: onType(dns.TypeDS, func(_ *dnssectest.Server, m *dns.Msg) { deny(m, dns.RcodeServerFailure) })},
	"keys: server failure":      {ask: "here", attack: onType(dns.TypeDNSKEY, func(_ *dnssectest.Server, m *dns.Msg) { deny(m, dns.RcodeServerFailure) })},
	"another question":          {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { m.Question[0].Name = "two.example.test." })},
	"another type":              {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { m.Question[0].Qtype = dns.TypeA })},
	"another class":             {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })},
	"said to be cut off":        {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { m.Truncated = true })},
	"no question":               {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { m.Question = nil })},
	"two questions":             {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) })},
	"a query as the answer":     {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { m.Response = false })},
	"another opcode":            {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { m.Opcode = dns.OpcodeNotify })},
	"cut off over TCP, too":     {ask: "here", attack: onLast(func(_ *dnssectest.Server, m *dns.Msg) { m.Truncated, m.Answer = true, nil })},
	"cut off over UDP":          {ask: "here", attack: overUDP(func(m *dns.Msg) { m.Truncated, m.Answer, m.Ns = true, nil, nil }), want: "secure 1"},
	"another id over UDP":       {ask: "here", attack: lastOver("udp", func(m *dns.Msg) { m.Id++ }), want: "secure 1", try: time.Second},
	"another id over TCP":       {ask: "here", attack: overTCP(func(m *dns.Msg) { m.Id++ })},
	"another question over UDP": {ask: "here", attack: overUDP(func(m *dns.Msg) { m.Question[0].Name = "x." }), want: "secure 1"},
	"silence over UDP": {ask: "here", attack: func(_ *dnssectest.Server, q dns.Question, network string, _ *dns.Msg) bool {
		return q.Qtype != dns.TypeTXT || network == "tcp"
	}, want: "secure 1", try: time.Second},
	"silence":          {ask: "here", attack: func(_ *dnssectest.Server, q dns.Question, _ string, _ *dns.Msg) bool { return q.Qtype != dns.TypeTXT }, try: time.Second / 2},
	"failure over UDP": {ask: "here", attack: overUDP(func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }), want: "secure 1"},

	"huge answer": {ask: "two", attack: onLast(func(s *dnssectest.Server, m *dns.Msg) {
		m.Answer = s.SignText("example.test.", many("two.example.test.", 300)...)
	})},
	"large answer": {ask: "two", attack: onLast(func(s *dnssectest.Server, m *dns.Msg) {
		m.Answer = s.SignText("example.test.", many("two.example.test.", 200)...)
	}), want: "secure 200"},
	"many aliases": {ask: "x", attack: longer},
	"1000 keys": {ask: "here", attack: onName("example.test.", func(_ *dnssectest.Server, m *dns.Msg) {
		each(m.Answer, func(r *dns.DNSKEY) { m.Answer = append(m.Answer, sameTag(r, 600)...) })
	})},
	"30 keys, 30 signatures": {ask: "here", attack: manySignatures},
}

func TestHostileAnswers(t *testing.T) {
	for name, c := range hostile {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, hierarchy(c.leaf))
			if c.attack != nil {
				s.Break(func(q dns.Question, network string, m *dns.Msg) bool { return c.attack(s, q, network, m) })
			}
			r := resolver(t, s)
			if c.try != 0 {
				r.try = c.try
			}
			a, err := r.Lookup(t.Context(), c.ask+".example.test.", dns.TypeTXT)
			if c.want == "" {
				c.want = "error"
			}
			if got := outcome(a, err); got != c.want {
				t.Errorf("%s instead of %s: %v %v", got, c.want, a.Records, err)
			}
			if err != nil && strings.Contains(err.Error(), c.ask+".example") {
				t.Errorf("names what was looked up: %v", err)
			}
		})
	}
}

func rr(text string) dns.RR {
	r, err := dns.NewRR(text)
	if err != nil {
		panic(err)
	}
	return r
}

func txt(host, value string) dns.RR { return rr(host + `.example.test. 300 TXT "` + value + `"`) }

func soa(s *dnssectest.Server, zone string) []dns.RR {
	return s.SignText(zone, zone+" SOA ns.invalid. hostmaster.invalid. 1 7200 3600 86400 300")
}

// renamed puts signed records under another name, as the expansion of a wildcard.
func renamed(records []dns.RR, owner string) []dns.RR {
	for _, r := range records {
		r.Header().Name = owner
	}
	return records
}

func many(owner string, n int) (lines []string) {
	for i := range n {
		lines = append(lines, owner+` TXT "`+strings.Repeat("x", i)[:min(i, 150)]+strings.Repeat("y", i/150)+`"`)
	}
	return lines
}

func stripAll(_ *dnssectest.Server, _ dns.Question, _ string, m *dns.Msg) bool {
	for _, t := range []uint16{dns.TypeRRSIG, dns.TypeNSEC} {
		m.Answer, m.Ns = without(m.Answer, t, true), without(m.Ns, t, true)
	}
	return true
}

// addKey adds a key to the zone's, and signs the records with it.
func addKey(_ *dnssectest.Server, q dns.Question, _ string, m *dns.Msg) bool {
	if q.Name == "example.test." && q.Qtype == dns.TypeDNSKEY {
		m.Answer = append(m.Answer, forger.key)
	}
	if q.Qtype == dns.TypeTXT {
		m.Answer = forger.sign(txt("here", "forged"))
	}
	return true
}

// swapKeys replaces the zone's keys by others that sign themselves.
func swapKeys(_ *dnssectest.Server, m *dns.Msg) {
	if m.Question[0].Qtype == dns.TypeDNSKEY {
		m.Answer = forger.sign(forger.key)
	}
}

// takeOver puts the forger in the place of example.test., if only the DS are believed. They come with a proof
// that would do for other types made from a wildcard.
func takeOver(ds func(*dnssectest.Server) []dns.RR) attack {
	return func(s *dnssectest.Server, q dns.Question, _ string, m *dns.Msg) bool {
		switch {
		case q.Name == "example.test." && q.Qtype == dns.TypeDS:
			m.Answer, m.Ns = ds(s), s.SignText("test.", "test. NSEC other.test. NS SOA RRSIG NSEC")
		case q.Name == "example.test.":
			swapKeys(s, m)
		case q.Qtype == dns.TypeDS && below(q.Name, "example.test."):
			deny(m, dns.RcodeSuccess, forger.sign(rr("here.example.test. NSEC loop.example.test. TXT RRSIG NSEC"))...)
		case q.Qtype == dns.TypeTXT:
			m.Answer = forger.sign(txt("here", "forged"))
		}
		return true
	}
}

func changedRange(_ *dnssectest.Server, m *dns.Msg) {
	nsec := rr("far.example.test. 300 NSEC loop.example.test. CNAME RRSIG NSEC")
	deny(m, dns.RcodeNameError, append(forger.sign(nsec), rr("example.test. 300 NSEC _k.example.test. NS SOA RRSIG NSEC"))...)
}

// denyBy denies the last question with NSEC records that the zone has really signed; "" for those of a
// name next to none.
func denyBy(zone string, lines ...string) attack { return onLast(denial(zone, lines...)) }

// denyLeafBy does so for all questions below example.test.
func denyLeafBy(zone string, lines ...string) attack { return onLeaf(denial(zone, lines...)) }

func denial(zone string, lines ...string) func(*dnssectest.Server, *dns.Msg) {
	return func(s *dnssectest.Server, m *dns.Msg) {
		var proof []dns.RR
		for _, line := range lines {
			if line == "" {
				line = "other.test. NSEC unsigned.test. NS DS RRSIG NSEC"
			}
			proof = append(proof, s.SignText(zone, line)...)
		}
		deny(m, dns.RcodeNameError, proof...)
	}
}

// expand answers from the wildcard although the name, or one above it, exists.
func expand(s *dnssectest.Server, m *dns.Msg, name string) {
	m.Answer = renamed(s.SignText("example.test.", `*.wild.example.test. TXT "any"`), name)
	m.Ns = append(s.SignText("example.test.", "*.wild.example.test. NSEC known.wild.example.test. TXT RRSIG NSEC"),
		s.SignText("example.test.", "known.wild.example.test. NSEC example.test. TXT RRSIG NSEC")...)
}

func overUDP(change func(*dns.Msg)) attack {
	return func(_ *dnssectest.Server, _ dns.Question, network string, m *dns.Msg) bool {
		if network == "udp" {
			change(m)
		}
		return true
	}
}

// lastOver attacks the answer about the records over one of the protocols.
func lastOver(network string, change func(*dns.Msg)) attack {
	return func(_ *dnssectest.Server, q dns.Question, n string, m *dns.Msg) bool {
		if n == network && q.Qtype == dns.TypeTXT {
			change(m)
		}
		return true
	}
}

// overTCP leads there by cutting off what comes over UDP.
func overTCP(change func(*dns.Msg)) attack {
	return func(_ *dnssectest.Server, _ dns.Question, network string, m *dns.Msg) bool {
		if m.Truncated = network == "udp"; !m.Truncated {
			change(m)
		}
		return true
	}
}

// longer makes every name the alias of one more.
func longer(s *dnssectest.Server, q dns.Question, _ string, m *dns.Msg) bool {
	if below(q.Name, "example.test.") {
		m.Answer = s.SignText("example.test.", q.Name+" CNAME x"+q.Name)
	}
	return true
}

// forger has a key of its own for example.test.
var forger = newForger()

type forgery struct {
	key  *dns.DNSKEY
	sign func(dns.RR) []dns.RR
}

// ds is for the forger's key, under any name.
func (f forgery) ds(owner string) *dns.DS {
	ds := f.key.ToDS(dns.SHA256)
	ds.Hdr.Name = owner
	return ds
}

func newForger() forgery {
	key, signer, err := dnssectest.NewKey("example.test.", dns.ED25519)
	if err != nil {
		panic(err)
	}
	return forgery{key, func(r dns.RR) []dns.RR {
		sig := &dns.RRSIG{
			Algorithm: key.Algorithm, KeyTag: key.KeyTag(), SignerName: "example.test.",
			Inception: uint32(now.Add(-time.Hour).Unix()), Expiration: uint32(now.Add(time.Hour).Unix()),
		}
		if err := sig.Sign(signer, []dns.RR{r}); err != nil {
			panic(err)
		}
		return []dns.RR{r, sig}
	}}
}

// In a zone whose denials are worth nothing, forged records are worth no more.
func TestForgedBeyondLimits(t *testing.T) {
	for name, change := range map[string]func(*dnssectest.Server, *dns.Msg){
		"record": func(_ *dnssectest.Server, m *dns.Msg) { m.Answer = []dns.RR{txt("x.here", "forged")} },
		"CNAME": func(_ *dnssectest.Server, m *dns.Msg) {
			m.Answer = []dns.RR{rr("x.here.example.test. CNAME here.other.test.")}
		},
		"DNAME": func(_ *dnssectest.Server, m *dns.Msg) {
			m.Answer = []dns.RR{rr("here.example.test. DNAME other.test.")}
		},
	} {
		s := serve(t, hierarchy(dnssectest.Zone{NSEC3: &dnssectest.NSEC3{Iterations: maxIterations + 1}}))
		s.Break(func(q dns.Question, n string, m *dns.Msg) bool { return onLast(change)(s, q, n, m) })
		a, err := resolver(t, s).Lookup(t.Context(), "x.here.example.test.", dns.TypeTXT)
		if got := outcome(a, err); got != "insecure" {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}
