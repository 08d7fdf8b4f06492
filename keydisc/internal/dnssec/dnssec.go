// Package dnssec looks records up in the DNS and validates the answers on this device, from the root's keys down
// (RFC 4033-4035, 5155, 6840, 9276). The recursive servers asked are trusted with nothing: they carry messages, and
// what they say counts only as far as signatures prove it.
package dnssec

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// Options of a Resolver.
type Options struct {
	Servers []string         // recursive servers, "host:port"; none: those of /etc/resolv.conf at the time of a Lookup
	Anchors []*dns.DS        // of the root zone; none: those of IANA
	Now     func() time.Time // against which signatures' periods are checked; nil: time.Now
	Timeout time.Duration    // for one Lookup; 0: 10 s
}

// Resolver validates; it remembers nothing from one Lookup to the next. It is safe for concurrent use.
type Resolver struct {
	options Options
	try     time.Duration // for one message to one server
}

// New checks the options. An anchor that cannot be used is an error, as without one the whole DNS
// would count as not signed.
func New(o Options) (*Resolver, error) {
	for _, server := range o.Servers {
		if _, _, err := net.SplitHostPort(server); err != nil {
			return nil, fmt.Errorf("DNS server %q: %w", server, err)
		}
	}
	if len(o.Anchors) == 0 {
		o.Anchors = rootAnchors
	}
	for _, ds := range o.Anchors {
		if ds.Hdr.Name != "." || !supportedDS(ds) {
			return nil, fmt.Errorf("trust anchor %q: not of the root zone, or of no supported algorithm", ds.String())
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	return &Resolver{o, tryTimeout}, nil
}

// Status is what is proven about an Answer. Its zero value means nothing.
type Status int

const (
	Secure   Status = iota + 1 // signed all the way: the records, or that there are none
	Insecure                   // proven to lie where nothing is signed: nothing is known
)

// Answer is what is proven about a name and type.
type Answer struct {
	Records []dns.RR // none if Insecure, or if there are none; from the end of aliases, if the name has any
	Status  Status
}

// Lookup finds the records of a name, following aliases (CNAME, DNAME) that are signed themselves. An error
// is everything that is not proven: broken signatures, missing proofs, servers that fail or do
// not answer, limits exceeded. It is never to be read as "there is none". Errors name zones and servers but not the
// name looked up, which may stand for a person.
func (r *Resolver) Lookup(ctx context.Context, name string, qtype uint16) (Answer, error) {
	kind := dns.TypeToString[qtype]
	if _, ok := dns.IsDomainName(name); !ok {
		return Answer{}, fmt.Errorf("%s lookup: not a domain name", kind)
	}
	if slices.Contains(notData, qtype) {
		return Answer{}, fmt.Errorf("%s lookup: records of this type are not looked up by themselves", kind)
	}
	ctx, cancel := context.WithTimeout(ctx, r.options.Timeout)
	defer cancel()
	l := &lookup{resolver: r, now: r.options.Now(), zones: map[string]*zone{}}
	name = dns.CanonicalName(name)
	for range maxAliases + 1 {
		answer, alias, err := l.resolve(ctx, name, qtype)
		if err != nil {
			return Answer{}, fmt.Errorf("%s lookup: %w", kind, err)
		}
		if alias == "" {
			return answer, nil
		}
		name = alias
	}
	return Answer{}, errors.New(kind + " lookup: too many aliases")
}

// notData are types whose answers do not follow the rules of a zone's ordinary data.
var notData = []uint16{
	dns.TypeNone, dns.TypeDS, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeNXNAME, dns.TypeOPT, dns.TypeTSIG, dns.TypeTKEY,
	dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILA, dns.TypeMAILB,
}
