package dnssec

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// rrset is the records of one name and type, with the signatures that claim to cover them. There are none
// without records.
type rrset struct {
	name       string
	rrtype     uint16
	records    []dns.RR
	signatures []*dns.RRSIG
}

// reply is what a server sent, sorted and not yet verified.
type reply struct{ answer, authority []*rrset }

// newReply sorts a message.
func newReply(m *dns.Msg) *reply {
	return &reply{answer: rrsets(m.Answer), authority: rrsets(m.Ns)}
}

// rrsets groups the records of a section. It puts owner names into lower case, which their signatures allow and the
// library expects.
func rrsets(section []dns.RR) (sets []*rrset) {
	for _, rr := range section {
		h := rr.Header()
		h.Name = dns.CanonicalName(h.Name)
		if h.Class != dns.ClassINET || h.Rrtype == dns.TypeRRSIG {
			continue
		}
		set := find(sets, h.Name, h.Rrtype)
		if set == nil {
			set = &rrset{name: h.Name, rrtype: h.Rrtype}
			sets = append(sets, set)
		}
		set.records = append(set.records, rr)
	}
	for _, rr := range section {
		sig, ok := rr.(*dns.RRSIG)
		if !ok || sig.Hdr.Class != dns.ClassINET {
			continue
		}
		if set := find(sets, sig.Hdr.Name, sig.TypeCovered); set != nil && len(set.signatures) < maxSignatures {
			set.signatures = append(set.signatures, sig)
		}
	}
	return sets
}

// find is nil if there is no such set.
func find(sets []*rrset, name string, rrtype uint16) *rrset {
	for _, set := range sets {
		if set.name == name && set.rrtype == rrtype {
			return set
		}
	}
	return nil
}

// labels counts those of the owner as RRSIG does: without the root and an asterisk in front (RFC 4034 §3.1.3).
func (s *rrset) labels() int {
	n := dns.CountLabel(s.name)
	if strings.HasPrefix(s.name, "*.") {
		n--
	}
	return n
}

// verify finds a signature by the zone that holds for the set, and returns how many labels of the owner it
// covers: fewer than set.labels() if the set was made from a wildcard. An error says why none holds.
func (l *lookup) verify(z *zone, set *rrset) (labels int, err error) {
	problem := errors.New("no signature")
	tries := 0
	for _, sig := range set.signatures {
		if err := unfit(sig, z, set, l.now); err != nil {
			problem = err
			continue
		}
		problem = errors.New("no signature by a key of the zone holds")
		for _, key := range z.keys {
			if key.tag != sig.KeyTag || key.Algorithm != sig.Algorithm {
				continue
			}
			if tries++; tries > maxTries {
				return 0, errCostly
			}
			if err := spend(&l.spent.verifications, maxVerifications); err != nil {
				return 0, err
			}
			if sig.Verify(key.DNSKEY, set.records) == nil {
				return int(sig.Labels), nil
			}
		}
	}
	return 0, fmt.Errorf("%s in zone %s: %w", dns.TypeToString[set.rrtype], z.name, problem)
}

// unfit says what keeps a signature from counting, whatever its bits (RFC 4035 §5.3.1).
func unfit(sig *dns.RRSIG, z *zone, set *rrset, now time.Time) error {
	switch {
	case dns.CanonicalName(sig.SignerName) != z.name:
		return errors.New("signed by another zone")
	case !dns.IsSubDomain(z.name, set.name): // the library compares strings, not labels
		return errors.New("not in the zone")
	case !supportedAlgorithm(sig.Algorithm):
		return errors.New("signature of an unsupported algorithm")
	case int(sig.Labels) > set.labels():
		return errors.New("signature for a longer name")
	case ahead(sig.Inception, now) > 0:
		return errors.New("signature not yet valid: is the clock right?")
	case ahead(sig.Expiration, now) < 0:
		return errors.New("signature expired: is the clock right?")
	}
	return nil
}

// ahead is how many seconds a time of an RRSIG lies after another, in serial number arithmetic (RFC 4034 §3.1.5). The
// library's own check goes wrong for times more than 68 years away.
func ahead(stamp uint32, of time.Time) int32 {
	return int32(stamp - uint32(of.Unix()))
}

// verifyExact is verify for a set that no wildcard may make: what structures the zone.
func (l *lookup) verifyExact(z *zone, set *rrset) error {
	labels, err := l.verify(z, set)
	if err != nil {
		return err
	}
	if labels != set.labels() {
		return fmt.Errorf("%s in zone %s: made from a wildcard", dns.TypeToString[set.rrtype], z.name)
	}
	return nil
}
