package dnssec

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// lookup is the state of one Lookup.
type lookup struct {
	resolver *Resolver
	now      time.Time
	spent    spent
	zones    map[string]*zone // verified, by name: an alias often leads to the same ones
}

// zone is a signed zone with its verified keys.
type zone struct {
	name string
	keys []zoneKey
}

type zoneKey struct {
	*dns.DNSKEY
	tag uint16
}

// finding is what an answer proves about a name and type in a zone.
type finding struct {
	is      kind
	records []dns.RR // if is says so
}

type kind int

const (
	unproven  kind = iota // nothing
	found                 // the records
	alias                 // records holds the CNAME of the name
	redirect              // records holds a DNAME above the name
	noType                // the name exists, or a wildcard for it, without the type
	noName                // nor does anything below it (RFC 8020)
	delegated             // DS only: a delegation to a zone that is not signed
	insecure              // within an opt-out: it may exist, not signed
	slow                  // the zone's proofs take too many iterations to count
)

// errBogus marks what came and is not proven, other than servers that fail.
var errBogus = errors.New("not proven")

// resolve goes down from the root to the zone of the name, asks it, and returns the answer or the name that the
// name is an alias of.
func (l *lookup) resolve(ctx context.Context, name string, qtype uint16) (Answer, string, error) {
	z, err := l.root(ctx)
	if err != nil {
		return Answer{}, "", err
	}
	// Below a zone whose denials do not count there may be others, signed or not. What is signed holds all the same, and
	// anything else may well come from where nothing is.
	doubtful := false
	for labels := 1; labels <= dns.CountLabel(name) && name != "."; labels++ {
		next, f, err := l.descend(ctx, z, lowest(name, labels))
		if err != nil {
			return unlessDoubtful(doubtful, err)
		}
		switch f.is {
		case found:
			z, doubtful = next, false
		case noType, alias: // the name of an alias can have others below it, which are none
		case slow:
			doubtful = true
		default:
			return conclude(f, name)
		}
	}
	f, err := l.query(ctx, z, name, qtype)
	if err != nil {
		return unlessDoubtful(doubtful, err)
	}
	return conclude(f, name)
}

func unlessDoubtful(doubtful bool, err error) (Answer, string, error) {
	if doubtful && errors.Is(err, errBogus) {
		return Answer{Status: Insecure}, "", nil
	}
	return Answer{}, "", err
}

// conclude makes an answer, or the name to go on with, of what has been found out about a name or one above it.
func conclude(f finding, name string) (Answer, string, error) {
	switch f.is {
	case found:
		return Answer{Records: f.records, Status: Secure}, "", nil
	case noType, noName:
		return Answer{Status: Secure}, "", nil
	case delegated, insecure, slow:
		return Answer{Status: Insecure}, "", nil
	case alias, redirect:
		target := targetOf(f.records, name)
		if target == "" {
			return Answer{}, "", errors.New("an alias of no use")
		}
		return Answer{}, target, nil
	}
	return Answer{}, "", errors.New("nothing proven")
}

// targetOf is where the CNAME of the name or a DNAME above it leads; "" if nowhere. Each is alone at its name (RFC 2181
// §10.1, RFC 6672 §2.4).
func targetOf(records []dns.RR, name string) string {
	if len(records) != 1 {
		return ""
	}
	switch rr := records[0].(type) {
	case *dns.CNAME:
		return dns.CanonicalName(rr.Target)
	case *dns.DNAME:
		return substitute(name, rr.Hdr.Name, rr.Target)
	}
	return ""
}

// descend asks the zone that the name's parent is in for the name's DS records. If it has any, the finding is found, and the
// zone is the name's own.
func (l *lookup) descend(ctx context.Context, z *zone, name string) (*zone, finding, error) {
	if known, ok := l.zones[name]; ok {
		return known, finding{is: found}, nil
	}
	f, err := l.query(ctx, z, name, dns.TypeDS)
	if err != nil {
		return nil, f, err
	}
	if f.is != found {
		return nil, f, nil
	}
	anchors := supportedDSs(f.records)
	if len(anchors) == 0 { // RFC 4035 §5.2: as good as not signed
		return nil, finding{is: delegated}, nil
	}
	child, err := l.enter(ctx, name, anchors)
	return child, f, err
}

func supportedDSs(records []dns.RR) (usable []*dns.DS) {
	for _, rr := range records {
		if ds, ok := rr.(*dns.DS); ok && supportedDS(ds) {
			usable = append(usable, ds)
		}
	}
	return usable
}

// root is the root zone, by the trust anchors.
func (l *lookup) root(ctx context.Context) (*zone, error) {
	if z, ok := l.zones["."]; ok {
		return z, nil
	}
	return l.enter(ctx, ".", l.resolver.options.Anchors)
}

// enter fetches the keys of a zone: its DNSKEY RRset, if it is signed by a key that a DS stands for (RFC
// 4035 §5.2).
func (l *lookup) enter(ctx context.Context, name string, anchors []*dns.DS) (*zone, error) {
	r, err := l.exchange(ctx, name, dns.TypeDNSKEY)
	if err != nil {
		return nil, fmt.Errorf("keys of zone %s: %w", name, err)
	}
	set := find(r.answer, name, dns.TypeDNSKEY)
	if set == nil {
		return nil, fmt.Errorf("keys of zone %s: none came", name)
	}
	if len(set.records) > maxKeys {
		return nil, fmt.Errorf("keys of zone %s: %w", name, errCostly)
	}
	all := zoneKeys(set.records)
	entry := &zone{name: name, keys: matching(all, anchors)}
	if len(entry.keys) == 0 {
		return nil, fmt.Errorf("keys of zone %s: none is the one that its parent names", name)
	}
	if err := l.verifyExact(entry, set); err != nil {
		return nil, err
	}
	z := &zone{name: name, keys: all}
	l.zones[name] = z
	return z, nil
}

// zoneKeys are the keys that may sign zone data (RFC 4034 §2.1.1, RFC 5011 §2.1).
func zoneKeys(records []dns.RR) (keys []zoneKey) {
	for _, rr := range records {
		key, ok := rr.(*dns.DNSKEY)
		if ok && key.Flags&dns.ZONE != 0 && key.Flags&dns.REVOKE == 0 && key.Protocol == 3 && supportedAlgorithm(key.Algorithm) {
			keys = append(keys, zoneKey{key, key.KeyTag()})
		}
	}
	return keys
}

func matching(keys []zoneKey, anchors []*dns.DS) (matched []zoneKey) {
	for _, key := range keys {
		for _, ds := range anchors[:min(len(anchors), maxKeys)] {
			if ds.KeyTag == key.tag && ds.Algorithm == key.Algorithm && strings.EqualFold(ds.Digest, key.ToDS(ds.DigestType).Digest) {
				matched = append(matched, key)
				break
			}
		}
	}
	return matched
}

// query asks for a name and type and verifies what the zone says about them.
func (l *lookup) query(ctx context.Context, z *zone, name string, qtype uint16) (finding, error) {
	r, err := l.exchange(ctx, name, qtype)
	if err != nil {
		return finding{}, fmt.Errorf("%s in zone %s: %w", dns.TypeToString[qtype], z.name, err)
	}
	f, err := l.judge(z, r, name, qtype)
	if err != nil && !errors.Is(err, errCostly) {
		err = fmt.Errorf("%w: %w", errBogus, err)
	}
	return f, err
}

// judge verifies the first of: the records, a DNAME above them, a CNAME, their absence.
func (l *lookup) judge(z *zone, r *reply, name string, qtype uint16) (finding, error) {
	if set := find(r.answer, name, qtype); set != nil {
		return l.positive(z, r, set, found)
	}
	for _, set := range r.answer {
		if set.rrtype == dns.TypeDNAME && below(name, set.name) && dns.IsSubDomain(z.name, set.name) {
			return l.structural(z, set, redirect)
		}
	}
	if set := find(r.answer, name, dns.TypeCNAME); set != nil {
		return l.positive(z, r, set, alias)
	}
	is, err := l.denial(z, r, name, qtype)
	if err == nil && is == unproven {
		err = fmt.Errorf("%s in zone %s: neither there nor proven to be absent", dns.TypeToString[qtype], z.name)
	}
	return finding{is: is}, err
}

// positive verifies records that came. Those made from a wildcard count if nothing closer to the name exists
// (RFC 4035 §5.3.4).
func (l *lookup) positive(z *zone, r *reply, set *rrset, is kind) (finding, error) {
	if set.rrtype == dns.TypeDS {
		return l.structural(z, set, is)
	}
	labels, err := l.verify(z, set)
	if err != nil {
		return finding{}, err
	}
	if labels == set.labels() {
		return finding{is, set.records}, nil
	}
	switch proven, err := l.expansion(z, r, set.name, labels); {
	case err != nil:
		return finding{}, err
	case proven == insecure, proven == slow:
		return finding{is: proven}, nil
	case proven != noName:
		return finding{}, fmt.Errorf("%s in zone %s: made from a wildcard without a proof", dns.TypeToString[set.rrtype], z.name)
	}
	return finding{is, set.records}, nil
}

// structural is positive for records that no wildcard can make.
func (l *lookup) structural(z *zone, set *rrset, is kind) (finding, error) {
	if err := l.verifyExact(z, set); err != nil {
		return finding{}, err
	}
	return finding{is, set.records}, nil
}
