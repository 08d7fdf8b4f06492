package dnssec

import (
	"errors"
	"strings"

	"github.com/miekg/dns"
)

// nsec3s are verified NSEC3 records of a zone, all with the parameters of the first (RFC 5155 §8.2).
type nsec3s struct {
	zone    string
	records []*dns.NSEC3
	spent   *spent
	hashes  map[string]string // by name
}

const (
	hashDigits = 32 // of SHA-1 in Base 32
	flagOptOut = 1
)

// add takes the NSEC3 records among some. Those with unknown algorithms or flags are ignored (RFC 5155 §8.1, §8.2).
func (p *nsec3s) add(records []dns.RR) {
	for _, rr := range records {
		nsec3, ok := rr.(*dns.NSEC3)
		switch {
		case !ok || nsec3.Hash != dns.SHA1 || nsec3.Flags&^flagOptOut != 0 || len(nsec3.NextDomain) != hashDigits:
		case nsec3.Hdr.Name != strings.ToLower(ownerHash(nsec3))+"."+strings.TrimPrefix(p.zone, "."):
		case len(p.records) > 0 && (nsec3.Iterations != p.records[0].Iterations || nsec3.Salt != p.records[0].Salt):
		default:
			p.records = append(p.records, nsec3)
		}
	}
}

// ownerHash is the hash that the record's owner begins with; "" if it is too short for one.
func ownerHash(nsec3 *dns.NSEC3) string {
	if len(nsec3.Hdr.Name) <= hashDigits {
		return ""
	}
	return strings.ToUpper(nsec3.Hdr.Name[:hashDigits])
}

func optOut(nsec3 *dns.NSEC3) bool { return nsec3.Flags&flagOptOut != 0 }

// tooSlow says whether the zone asks for so many iterations that it counts as not signed (RFC 9276 §3.2). Its records
// have been verified before: nobody else says so.
func (p *nsec3s) tooSlow() bool {
	return len(p.records) > 0 && p.records[0].Iterations > maxIterations
}

// deny proves the absence of a type or name (RFC 5155 §8.4-8.7).
func (p *nsec3s) deny(name string, qtype uint16) (kind, error) {
	if p.tooSlow() {
		return slow, nil
	}
	nsec3, err := p.match(name)
	if err != nil {
		return unproven, err
	}
	if nsec3 != nil {
		return absent(nsec3.TypeBitMap, qtype), nil
	}
	encloser, cover, err := p.closestEncloser(name)
	switch {
	case err != nil || cover == nil:
		return unproven, err
	case qtype == dns.TypeDS && optOut(cover): // the name can be that of a delegation (§8.6)
		return insecure, nil
	}
	is, err := p.denyWildcard(wildcardOf(encloser), qtype)
	if is != unproven && optOut(cover) {
		return insecure, err
	}
	return is, err
}

// denyWildcard is for a name that does not exist itself.
func (p *nsec3s) denyWildcard(wildcard string, qtype uint16) (kind, error) {
	nsec3, err := p.match(wildcard)
	if err != nil {
		return unproven, err
	}
	if nsec3 != nil {
		if is := absent(nsec3.TypeBitMap, qtype); is != delegated {
			return is, nil
		}
		return unproven, nil // delegations are not made from wildcards (RFC 4592 §4.2)
	}
	if nsec3, err = p.cover(wildcard); nsec3 == nil {
		return unproven, err
	}
	return noName, nil
}

// nothingCloser is expansion by NSEC3 (RFC 5155 §8.8).
func (p *nsec3s) nothingCloser(name string, labels int) (kind, error) {
	if p.tooSlow() {
		return slow, nil
	}
	nsec3, err := p.cover(lowest(name, labels+1))
	switch {
	case nsec3 == nil:
		return unproven, err
	case optOut(nsec3):
		return insecure, nil
	}
	return noName, nil
}

// closestEncloser is the lowest existing ancestor of a name in the zone, and the record that proves that the next
// name towards it does not exist; nil if that is not proven (RFC 5155 §8.3).
func (p *nsec3s) closestEncloser(name string) (encloser string, cover *dns.NSEC3, err error) {
	for labels := dns.CountLabel(name) - 1; labels >= dns.CountLabel(p.zone); labels-- {
		encloser = lowest(name, labels)
		nsec3, err := p.match(encloser)
		if err != nil {
			return "", nil, err
		}
		if nsec3 == nil {
			continue
		}
		if closed(nsec3.TypeBitMap) {
			return "", nil, nil
		}
		cover, err = p.cover(lowest(name, labels+1))
		return encloser, cover, err
	}
	return "", nil, nil
}

// match is the record of this very name, or nil.
func (p *nsec3s) match(name string) (*dns.NSEC3, error) {
	hash, err := p.hash(name)
	if err != nil {
		return nil, err
	}
	for _, nsec3 := range p.records {
		if ownerHash(nsec3) == hash {
			return nsec3, nil
		}
	}
	return nil, nil
}

// cover is the record between whose hashes that of the name lies, or nil.
func (p *nsec3s) cover(name string) (*dns.NSEC3, error) {
	hash, err := p.hash(name)
	if err != nil {
		return nil, err
	}
	for _, nsec3 := range p.records {
		owner, next := ownerHash(nsec3), strings.ToUpper(nsec3.NextDomain)
		inside := owner < hash && hash < next
		if owner >= next { // the last one leads back to the first, which can be itself
			inside = owner < hash || hash < next
		}
		if inside {
			return nsec3, nil
		}
	}
	return nil, nil
}

// hash is the name's with the records' parameters, once for each name.
func (p *nsec3s) hash(name string) (string, error) {
	if len(p.records) == 0 {
		return "", nil
	}
	if hash, ok := p.hashes[name]; ok {
		return hash, nil
	}
	if err := spend(&p.spent.hashes, maxHashes); err != nil {
		return "", err
	}
	first := p.records[0]
	hash := dns.HashName(name, first.Hash, first.Iterations, first.Salt)
	if len(hash) != hashDigits {
		return "", errors.New("a name that cannot be hashed for NSEC3")
	}
	p.hashes[name] = hash
	return hash, nil
}
