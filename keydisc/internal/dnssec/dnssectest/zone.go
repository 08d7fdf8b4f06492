package dnssectest

import (
	"crypto"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const ttl = 300

// add makes the zone's key and records, and its delegation in the zone above.
func (s *Server) add(c Zone) error {
	if c.Algorithm == 0 {
		c.Algorithm = dns.ECDSAP256SHA256
	}
	if c.Digest == 0 {
		c.Digest = dns.SHA256
	}
	z := &zone{Zone: c, server: s, records: map[string]map[uint16][]dns.RR{}}
	if err := z.parse(); err != nil {
		return err
	}
	parent := s.zoneOf(c.Name, dns.TypeDS)
	if parent != nil {
		parent.put(record(c.Name + " NS ns.invalid."))
	}
	s.zones[c.Name] = z
	if c.Unsigned {
		return nil
	}
	key, signer, err := NewKey(c.Name, c.Algorithm)
	if err != nil {
		return err
	}
	z.key, z.signer = key, signer
	z.put(key)
	if parent != nil {
		parent.put(key.ToDS(c.Digest))
	}
	return nil
}

// NewKey makes a key that signs both keys and data.
func NewKey(owner string, algorithm uint8) (*dns.DNSKEY, crypto.Signer, error) {
	key := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: owner, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: ttl},
		Flags: dns.ZONE | dns.SEP, Protocol: 3, Algorithm: algorithm,
	}
	bits := map[uint8]int{dns.RSASHA256: 2048, dns.RSASHA512: 2048, dns.RSASHA1: 2048, dns.ECDSAP256SHA256: 256, dns.ECDSAP384SHA384: 384, dns.ED25519: 256}[algorithm]
	private, err := key.Generate(bits)
	if err != nil {
		return nil, nil, err
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("key of algorithm %d does not sign", algorithm)
	}
	return key, signer, nil
}

func record(text string) dns.RR {
	rr, err := dns.NewRR(text)
	if err != nil {
		panic(err)
	}
	rr.Header().Ttl = ttl
	return rr
}

func (z *zone) parse() error {
	z.put(record(z.Name + " SOA ns.invalid. hostmaster.invalid. 1 7200 3600 86400 300"))
	z.put(record(z.Name + " NS ns.invalid."))
	parser := dns.NewZoneParser(strings.NewReader("$TTL 300\n"+z.Text), z.Name, "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		z.put(rr)
	}
	return parser.Err()
}

// put adds a record and the empty names above it.
func (z *zone) put(rr dns.RR) {
	name := rr.Header().Name
	for at := name; at != z.Name; at = parentOf(at) {
		if z.records[at] == nil {
			z.records[at] = map[uint16][]dns.RR{}
		}
	}
	if z.records[name] == nil {
		z.records[name] = map[uint16][]dns.RR{}
	}
	t := rr.Header().Rrtype
	z.records[name][t] = append(z.records[name][t], rr)
}

func parentOf(name string) string {
	if next, end := dns.NextLabel(name, 0); !end {
		return name[next:]
	}
	return "."
}

// zoneOf is the lowest zone that a question is for; for DS that of the parent.
func (s *Server) zoneOf(name string, qtype uint16) *zone {
	if qtype == dns.TypeDS && name != "." {
		name = parentOf(name)
	}
	for {
		if z, ok := s.zones[name]; ok {
			return z
		}
		if name == "." {
			return nil
		}
		name = parentOf(name)
	}
}

// Sign returns the records of one RRset and their signature by the zone. Their owner may be a wildcard.
func (s *Server) Sign(zoneName string, records ...dns.RR) []dns.RR {
	return s.zones[zoneName].sign(records, records[0].Header().Name)
}

// SignText is Sign for records in master-file format.
func (s *Server) SignText(zoneName string, lines ...string) []dns.RR {
	var records []dns.RR
	for _, line := range lines {
		records = append(records, record(line))
	}
	return s.Sign(zoneName, records...)
}

// sign returns copies under the owner, which a wildcard can have been expanded to, and their signature.
func (z *zone) sign(records []dns.RR, owner string) []dns.RR {
	var all []dns.RR
	if z.key != nil {
		at := z.server.now.Add(z.Late)
		sig := &dns.RRSIG{
			Hdr: dns.RR_Header{Ttl: ttl}, Algorithm: z.key.Algorithm, KeyTag: z.key.KeyTag(), SignerName: z.Name,
			Inception: uint32(at.Add(-time.Hour).Unix()), Expiration: uint32(at.Add(time.Hour).Unix()),
		}
		if err := sig.Sign(z.signer, records); err != nil {
			panic(err)
		}
		all = append(all, sig)
	}
	for _, rr := range records {
		all = append(all, dns.Copy(rr))
	}
	for _, rr := range all {
		rr.Header().Name = owner
	}
	return all
}
