package bridge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/keydisc"
)

// Company is the policy of a gateway's users: what the whole installation says (Policy), then a domain, a group, a user. Each level has what
// it leaves out from the one above. What a level fixes those below can tighten, never loosen. A pure value; its truth table is
// testdata/company.txt.
type Company struct {
	Domains []PolicyLevel     // Name: the domain
	Groups  []PolicyGroup     // in the order in which they apply
	Users   []PolicyLevel     // Name: the address
	Tenants map[string]string // by domain, in ASCII; none: all domains are one company
	// Partners are certificates of other gateways, by their domains: for recipients who have none of their own.
	Partners map[string]*keydisc.Certificate
}

// PolicyLevel is one step. The zero value changes nothing.
type PolicyLevel struct {
	Name    string
	Encrypt Mode       // "": as above
	Mixed   Mixture    // "": as above
	Fixed   bool       // the levels below, and senders, cannot loosen what is in force here
	Headers HeaderMode // "": as above
	Rules   []Rule     // come before those of the levels above, unless those are fixed
	// Archive are certificates to which whatever is encrypted is encrypted, too. They add up over the levels.
	Archive []*keydisc.Certificate
}

// Mixture says what happens where some recipients cannot read ciphertext: "split" or "refuse".
type Mixture string

// The values of Mixture.
const (
	MixtureSplit  Mixture = "split"
	MixtureRefuse Mixture = "refuse"
)

// PolicyGroup is a level for some users.
type PolicyGroup struct {
	PolicyLevel
	Members []string // addresses, and domains as rules have them
}

// Regime is what is in force for a sender.
type Regime struct {
	Policy
	Headers HeaderMode
	Archive []*keydisc.Certificate
}

// For is the regime of a user. Of an address that nobody hosts it is the base.
func (c Company) For(base Regime, address string) Regime {
	r := base
	for _, l := range c.levels(address) {
		r = r.under(l)
	}
	return r
}

// levels are those that are about an address, from the top. alice+x@ is held to what alice@ is (RFC 5233 §4): a detail is no way out.
func (c Company) levels(address string) (levels []PolicyLevel) {
	user := withoutDetail(address)
	for _, l := range c.Domains {
		if matches(l.Name, address) {
			l.Name = "domain " + l.Name
			levels = append(levels, l)
		}
	}
	for _, g := range c.Groups {
		if slices.ContainsFunc(g.Members, func(pattern string) bool { return matches(pattern, address) || matches(pattern, user) }) {
			g.Name = "group " + g.Name
			levels = append(levels, g.PolicyLevel)
		}
	}
	for _, l := range c.Users {
		if name := normalized(l.Name); name == normalized(address) || name == user {
			l.Name = "user " + l.Name
			levels = append(levels, l)
		}
	}
	return levels
}

// withoutDetail is the user to whom a subaddress belongs.
func withoutDetail(address string) string {
	address = normalized(address)
	local, rest, _ := strings.Cut(address, "+")
	if local == "" || strings.Contains(local, "@") {
		return address
	}
	return local + rest[max(0, strings.LastIndexByte(rest, '@')):]
}

// under is what is left to decide below a level.
func (r Regime) under(l PolicyLevel) Regime {
	locked := r.Fixed
	if l.Encrypt != "" && (!locked || strictness(l.Encrypt) > strictness(r.Default)) {
		r.Default, r.Level = l.Encrypt, l.Name
	}
	if l.Mixed == MixtureRefuse || l.Mixed == MixtureSplit && !locked {
		r.AllowSplit = l.Mixed == MixtureSplit
	}
	if l.Headers != "" && (!locked || l.Headers == pgpmime.Shy) {
		r.Headers = l.Headers
	}
	r.Rules = r.rulesUnder(l, locked)
	if l.Fixed && !locked {
		for i := range r.Rules {
			r.Rules[i].Fixed = true
		}
	}
	r.Fixed = locked || l.Fixed
	r.Archive = append(slices.Clone(r.Archive), l.Archive...)
	return r
}

// and is what is in force where both are.
func (r Regime) and(other Regime) Regime {
	second := other.Policy
	r.And = &second
	r.AllowSplit = r.AllowSplit && other.AllowSplit
	if other.Headers == pgpmime.Shy {
		r.Headers = pgpmime.Shy
	}
	for _, c := range other.Archive {
		known := func(mine *keydisc.Certificate) bool { return mine.Fingerprint() == c.Fingerprint() }
		if !slices.ContainsFunc(r.Archive, known) {
			r.Archive = append(slices.Clone(r.Archive), c)
		}
	}
	return r
}

// inASCII has all domains as addresses are compared.
func (c Company) inASCII() Company {
	tenants, partners := map[string]string{}, map[string]*keydisc.Certificate{}
	for domain, name := range c.Tenants {
		tenants[domainOf(normalized("x@"+domain))] = name
	}
	for domain, certificate := range c.Partners {
		partners[domainOf(normalized("x@"+domain))] = certificate
	}
	c.Tenants, c.Partners = tenants, partners
	return c
}

// rulesUnder puts a level's rules before those above, which are then asked only where none of the level's matches.
func (r Regime) rulesUnder(l PolicyLevel, locked bool) []Rule {
	own := slices.Clone(l.Rules)
	for i := range own {
		own[i].Name = fmt.Sprintf("%s, rule %d", l.Name, i+1)
	}
	if locked {
		return r.tightened(own)
	}
	fixed := func(above Rule) bool { return above.Fixed || above.Encrypt == Require }
	first, open := divide(r.Rules, fixed)
	return slices.Concat(first, own, open) // a new slice, whose rules may be changed
}

// tightened are the rules of a level below one that fixes everything: what requires comes first, and what would loosen is left out.
func (r Regime) tightened(own []Rule) []Rule {
	for i := range own {
		own[i].Fixed = true // nor can a sender loosen it
	}
	strict, rest := divide(own, func(rule Rule) bool { return rule.Encrypt == Require })
	harmless, _ := divide(rest, func(rule Rule) bool { return strictness(rule.Encrypt) >= strictness(r.Default) })
	return slices.Concat(strict, r.Rules, harmless)
}

func divide(rules []Rule, first func(Rule) bool) (yes, no []Rule) {
	for _, rule := range rules {
		if first(rule) {
			yes = append(yes, rule)
		} else {
			no = append(no, rule)
		}
	}
	return yes, no
}

// strictness orders modes.
func strictness(m Mode) int {
	switch m {
	case Never:
		return 0
	case Prefer:
		return 1
	}
	return 2
}

// together says whether two addresses are of the same company.
func (c Company) together(one, other string) bool {
	return c.Tenant(one) == c.Tenant(other)
}

// Tenant is the company that an address belongs to; "" if the gateway serves only one.
func (c Company) Tenant(address string) string { return c.Tenants[domainOf(normalized(address))] }
