package dnssectest

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// answer is what an honest server says, aliases followed.
func (s *Server) answer(q dns.Question) *dns.Msg {
	m := new(dns.Msg)
	name := strings.ToLower(q.Name)
	for range 10 {
		z := s.zoneOf(name, q.Qtype)
		if name = z.answer(m, name, q.Qtype); name == "" {
			break
		}
	}
	return m
}

// answer adds what the zone says, and returns the name that an alias leads to.
func (z *zone) answer(m *dns.Msg, name string, qtype uint16) (alias string) {
	for at := name; at != z.Name; {
		at = parentOf(at)
		if set := z.records[at][dns.TypeDNAME]; len(set) > 0 {
			m.Answer = append(m.Answer, z.sign(set, at)...)
			target := strings.TrimSuffix(name, at) + set[0].(*dns.DNAME).Target
			m.Answer = append(m.Answer, record(name+" CNAME "+target))
			return target
		}
	}
	source, exists := name, z.exists(name)
	if !exists {
		source = "*." + strings.TrimPrefix(z.encloser(name), ".")
	}
	types := z.records[source]
	for _, t := range []uint16{qtype, dns.TypeCNAME} {
		set := types[t]
		if len(set) == 0 {
			continue
		}
		m.Answer = append(m.Answer, z.sign(set, name)...)
		if !exists {
			z.prove(m, name, false)
		}
		if t == dns.TypeCNAME && qtype != t {
			return set[0].(*dns.CNAME).Target
		}
		return ""
	}
	if types == nil {
		m.Rcode = dns.RcodeNameError
	}
	m.Ns = append(m.Ns, z.sign(z.records[z.Name][dns.TypeSOA], z.Name)...)
	z.prove(m, name, true)
	return ""
}

func (z *zone) exists(name string) bool { return z.records[name] != nil }

// encloser is the lowest existing ancestor.
func (z *zone) encloser(name string) string {
	for name = parentOf(name); !z.exists(name); {
		name = parentOf(name)
	}
	return name
}

// prove adds the records that show that a name does not exist or which types it has; of the wildcard for it
// only if denied.
func (z *zone) prove(m *dns.Msg, name string, denied bool) {
	if z.key == nil {
		return
	}
	var points []string // names whose record, or whose gap's record, belongs into the answer
	if z.exists(name) && !z.skipped(name) {
		points = []string{name}
	} else {
		encloser := z.encloser(name)
		for z.skipped(encloser) {
			encloser = parentOf(encloser)
		}
		labels := dns.Split(name)
		next := name[labels[len(labels)-dns.CountLabel(encloser)-1]:]
		if z.NSEC3 == nil {
			points = []string{name}
		} else {
			points = []string{encloser, next}
		}
		if denied {
			points = append(points, "*."+strings.TrimPrefix(encloser, "."))
		} else {
			points = points[len(points)-1:]
		}
	}
	var seen []string
	for _, point := range points {
		rr := z.gap(point)
		if !slices.Contains(seen, rr.Header().Name) {
			seen = append(seen, rr.Header().Name)
			m.Ns = append(m.Ns, z.sign([]dns.RR{rr}, rr.Header().Name)...)
		}
	}
}

// skipped says whether opt-out leaves the name without a record.
func (z *zone) skipped(name string) bool {
	types := z.records[name]
	return z.NSEC3 != nil && z.NSEC3.OptOut && name != z.Name && types[dns.TypeNS] != nil && types[dns.TypeDS] == nil
}

// gap is the NSEC or NSEC3 record at a name, or before it.
func (z *zone) gap(name string) dns.RR {
	names := z.chain()
	key := z.order(name)
	i, found := slices.BinarySearchFunc(names, key, func(n, key string) int { return strings.Compare(z.order(n), key) })
	if !found {
		i = (i + len(names) - 1) % len(names)
	}
	owner, next := names[i], names[(i+1)%len(names)]
	if z.NSEC3 == nil {
		return &dns.NSEC{Hdr: header(owner, dns.TypeNSEC), NextDomain: next, TypeBitMap: z.types(owner, dns.TypeNSEC)}
	}
	var flags uint8
	if z.NSEC3.OptOut {
		flags = 1
	}
	return &dns.NSEC3{
		Hdr:  header(strings.ToLower(z.order(owner))+"."+strings.TrimPrefix(z.Name, "."), dns.TypeNSEC3),
		Hash: dns.SHA1, Flags: flags, Iterations: z.NSEC3.Iterations, Salt: z.NSEC3.Salt, SaltLength: uint8(len(z.NSEC3.Salt) / 2),
		HashLength: 20, NextDomain: z.order(next), TypeBitMap: z.types(owner, dns.TypeNSEC3),
	}
}

func header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
}

// chain are the names with a record of their own, in order. NSEC has none for empty non-terminals.
func (z *zone) chain() (names []string) {
	for name, types := range z.records {
		if (z.NSEC3 != nil || len(types) > 0) && !z.skipped(name) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(z.order(a), z.order(b)) })
	return names
}

// order is what names are sorted by: their hash, or their labels from the right.
func (z *zone) order(name string) string {
	if z.NSEC3 != nil {
		return dns.HashName(name, dns.SHA1, z.NSEC3.Iterations, z.NSEC3.Salt)
	}
	labels := dns.SplitDomainName(name)
	slices.Reverse(labels)
	return strings.Join(labels, "\x00")
}

// types is the bitmap of a name; a delegation shows NS and DS alone.
func (z *zone) types(name string, own uint16) (types []uint16) {
	all := z.records[name]
	cut := name != z.Name && all[dns.TypeNS] != nil
	for t := range all {
		if !cut || t == dns.TypeNS || t == dns.TypeDS {
			types = append(types, t)
		}
	}
	if len(types) > 0 && (!cut || all[dns.TypeDS] != nil || own == dns.TypeNSEC) {
		types = append(types, dns.TypeRRSIG)
	}
	if own == dns.TypeNSEC {
		types = append(types, own)
	}
	slices.Sort(types)
	return types
}
