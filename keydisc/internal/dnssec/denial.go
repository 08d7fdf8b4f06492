package dnssec

import (
	"errors"
	"slices"

	"github.com/miekg/dns"
)

// denial is what the authority section proves about a name without the type: noType, noName, delegated,
// insecure, slow, or unproven.
func (l *lookup) denial(z *zone, r *reply, name string, qtype uint16) (kind, error) {
	plain, hashed, err := l.proofs(z, r)
	if err != nil {
		return unproven, err
	}
	if is := plain.deny(name, qtype); is != unproven {
		return is, nil
	}
	return hashed.deny(name, qtype)
}

// expansion says whether the wildcard with so many labels (not counting the asterisk) is the closest to the
// name, which then does not exist itself: noName, insecure, slow, or unproven.
func (l *lookup) expansion(z *zone, r *reply, name string, labels int) (kind, error) {
	plain, hashed, err := l.proofs(z, r)
	if err != nil {
		return unproven, err
	}
	if plain.nothingCloser(name, labels) {
		return noName, nil
	}
	return hashed.nothingCloser(name, labels)
}

// proofs are the records of the authority section that the zone has signed. What does not verify is left out.
func (l *lookup) proofs(z *zone, r *reply) (nsecs, *nsec3s, error) {
	plain, hashed := nsecs{zone: z.name}, &nsec3s{zone: z.name, spent: &l.spent, hashes: map[string]string{}}
	seen := 0
	for _, set := range r.authority {
		if set.rrtype != dns.TypeNSEC && set.rrtype != dns.TypeNSEC3 {
			continue
		}
		if seen++; seen > maxProofs {
			break
		}
		switch err := l.verifyExact(z, set); {
		case errors.Is(err, errCostly):
			return plain, hashed, err
		case err != nil:
			continue
		}
		plain.add(set.records)
		hashed.add(set.records)
	}
	return plain, hashed, nil
}

// absent is what the types that exist at a name, or at the wildcard for it, say about one more. A delegation's record in
// the parent speaks of DS alone (RFC 6840 §4.1, §4.4), and one with a CNAME of nothing (§4.3).
func absent(types []uint16, qtype uint16) kind {
	has := func(t uint16) bool { return slices.Contains(types, t) }
	switch {
	case has(qtype), has(dns.TypeCNAME):
		return unproven
	case qtype == dns.TypeDS && has(dns.TypeSOA): // the child's, who does not know
		return unproven
	case isCut(types) && qtype != dns.TypeDS:
		return unproven
	case isCut(types):
		return delegated
	}
	return noType
}

func isCut(types []uint16) bool {
	return slices.Contains(types, dns.TypeNS) && !slices.Contains(types, dns.TypeSOA)
}

// closed says whether names below one with these types are not the zone's to deny (RFC 6840 §4.1).
func closed(types []uint16) bool {
	return isCut(types) || slices.Contains(types, dns.TypeDNAME)
}

// nsecs are verified NSEC records of a zone (RFC 4034 §4).
type nsecs struct {
	zone    string
	records []*dns.NSEC
}

// add takes the NSEC records among some.
func (p *nsecs) add(records []dns.RR) {
	for _, rr := range records {
		if nsec, ok := rr.(*dns.NSEC); ok && dns.IsSubDomain(p.zone, dns.CanonicalName(nsec.NextDomain)) {
			p.records = append(p.records, nsec)
		}
	}
}

// deny proves the absence of a type or name (RFC 4035 §5.4).
func (p *nsecs) deny(name string, qtype uint16) kind {
	if nsec := p.match(name); nsec != nil {
		return absent(nsec.TypeBitMap, qtype)
	}
	nsec := p.cover(name)
	if nsec == nil {
		return unproven
	}
	if endsInside(nsec, name) {
		return noType // it exists for the sake of names below it (RFC 4592 §2.2.2)
	}
	return p.denyWildcard(wildcardOf(closestEncloser(nsec, name)), qtype)
}

// denyWildcard is for a name that does not exist itself.
func (p *nsecs) denyWildcard(wildcard string, qtype uint16) kind {
	if nsec := p.match(wildcard); nsec != nil {
		if is := absent(nsec.TypeBitMap, qtype); is != delegated {
			return is
		}
		return unproven // delegations are not made from wildcards (RFC 4592 §4.2)
	}
	switch nsec := p.cover(wildcard); {
	case nsec == nil:
		return unproven
	case endsInside(nsec, wildcard):
		return noType
	}
	return noName
}

// nothingCloser is expansion by NSEC.
func (p *nsecs) nothingCloser(name string, labels int) bool {
	nsec := p.cover(name)
	return nsec != nil && dns.CountLabel(closestEncloser(nsec, name)) == labels
}

func (p *nsecs) match(name string) *dns.NSEC {
	for _, nsec := range p.records {
		if nsec.Hdr.Name == name {
			return nsec
		}
	}
	return nil
}

// cover finds the record between whose names this one would be.
func (p *nsecs) cover(name string) *dns.NSEC {
	for _, nsec := range p.records {
		owner, next := nsec.Hdr.Name, dns.CanonicalName(nsec.NextDomain)
		if compareNames(owner, name) >= 0 || below(name, owner) && closed(nsec.TypeBitMap) {
			continue
		}
		if next == p.zone || compareNames(name, next) < 0 { // the last one leads back to the zone's name
			return nsec
		}
	}
	return nil
}

// endsInside says whether the next name is below this one, which then exists.
func endsInside(nsec *dns.NSEC, name string) bool {
	return below(dns.CanonicalName(nsec.NextDomain), name)
}

// closestEncloser is the lowest existing ancestor of a name that the record covers.
func closestEncloser(nsec *dns.NSEC, name string) string {
	return lowest(name, max(dns.CompareDomainName(name, nsec.Hdr.Name), dns.CompareDomainName(name, nsec.NextDomain)))
}
