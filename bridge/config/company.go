package config

import (
	"fmt"
	"slices"
	"strings"
)

// PolicyLevel is what a domain, a group or a user has of the policy; what is left out is as above.
type PolicyLevel struct {
	Encrypt  string   `toml:"encrypt"`  // require, prefer, never
	Mixed    string   `toml:"mixed"`    // split, refuse
	Override string   `toml:"override"` // allow, forbid: senders and the levels below to loosen
	Headers  string   `toml:"headers"`  // baseline, shy
	Archive  []string `toml:"archive"`  // certificates of those who read along
	Rules    []Rule   `toml:"rule"`
}

// DomainPolicy is about the users of a hosted domain.
type DomainPolicy struct {
	Name string `toml:"name"`
	PolicyLevel
}

// GroupPolicy is about some users.
type GroupPolicy struct {
	Name    string   `toml:"name"`
	Members []string `toml:"members"` // addresses and domains
	PolicyLevel
}

// UserPolicy is about one user.
type UserPolicy struct {
	Address string `toml:"address"`
	PolicyLevel
}

// Partner is a domain behind another gateway.
type Partner struct {
	Domain      string `toml:"domain"`
	Certificate string `toml:"certificate"` // of the domain
}

// Tenant is a company that shares the gateway with others.
type Tenant struct {
	Name    string   `toml:"name"`
	Domains []string `toml:"domains"`
}

// levels are the levels of the policy, with their keys for messages.
func (g *Gateway) levels() map[string]*PolicyLevel {
	all := map[string]*PolicyLevel{}
	for i := range g.DomainPolicies {
		all[fmt.Sprintf("gateway.domain.%d", i)] = &g.DomainPolicies[i].PolicyLevel
	}
	for i := range g.Groups {
		all[fmt.Sprintf("gateway.group.%d", i)] = &g.Groups[i].PolicyLevel
	}
	for i := range g.Users {
		all[fmt.Sprintf("gateway.user.%d", i)] = &g.Users[i].PolicyLevel
	}
	return all
}

// files are all that the gateway reads besides.
func (g *Gateway) files() (paths []*string) {
	paths = []*string{&g.CAFile, &g.WKDCertificate, &g.WKDKey}
	for i := range g.Archive {
		paths = append(paths, &g.Archive[i])
	}
	for _, level := range g.levels() {
		for i := range level.Archive {
			paths = append(paths, &level.Archive[i])
		}
	}
	for i := range g.Partners {
		paths = append(paths, &g.Partners[i].Certificate)
	}
	return paths
}

func (c *checker) company(g Gateway) {
	for key, level := range g.levels() {
		c.level(key, *level)
	}
	hosted := g.hosts
	for i, d := range g.DomainPolicies {
		if !hosted(d.Name) {
			c.bad(fmt.Sprintf("gateway.domain.%d.name", i), fmt.Sprintf("%q is not in gateway.domains", d.Name), "add it there, or correct it")
		}
	}
	for i, group := range g.Groups {
		key := fmt.Sprintf("gateway.group.%d", i)
		if strings.TrimSpace(group.Name) == "" {
			c.bad(key+".name", "it is missing", "name the group; the log shows it")
		}
		for _, member := range group.Members {
			c.users(key+".members", member, g)
		}
	}
	for i, u := range g.Users {
		_, domain, _ := strings.Cut(u.Address, "@")
		if !isAddress(u.Address) || !hosted(domain) {
			c.bad(fmt.Sprintf("gateway.user.%d.address", i), fmt.Sprintf("%q is no address of gateway.domains", u.Address), "correct it")
		}
	}
	c.partners(g, hosted)
	c.tenants(g, hosted)
}

func (g Gateway) hosts(domain string) bool {
	return slices.ContainsFunc(g.Domains, func(d string) bool { return strings.EqualFold(d, domain) })
}

// users checks a pattern for users of the gateway. One that can match none of them is a slip, and a policy that is not in force.
func (c *checker) users(key, pattern string, g Gateway) {
	c.pattern(key, pattern)
	if domain := pattern[strings.LastIndexByte(pattern, '@')+1:]; domain != "" && domain != "*" && !g.hosts(domain) {
		c.bad(key, fmt.Sprintf("%q is nobody of gateway.domains", pattern), "correct it, or add the domain there")
	}
}

func (c *checker) level(key string, l PolicyLevel) {
	for name, one := range map[string]struct {
		value   string
		allowed []string
	}{
		"encrypt": {l.Encrypt, []string{"require", "prefer", "never"}}, "mixed": {l.Mixed, []string{"split", "refuse"}},
		"override": {l.Override, []string{"allow", "forbid"}}, "headers": {l.Headers, []string{"baseline", "shy"}},
	} {
		if one.value != "" {
			c.oneOf(key+"."+name, one.value, one.allowed...)
		}
	}
	c.rules(key+".rule", l.Rules)
}

func (c *checker) partners(g Gateway, hosted func(string) bool) {
	for i, p := range g.Partners {
		key := fmt.Sprintf("gateway.partner.%d", i)
		if !isAddress("x@"+p.Domain) || hosted(p.Domain) {
			c.bad(key+".domain", fmt.Sprintf("%q is no domain of somebody else", p.Domain), "write it as example.org")
		}
		if p.Certificate == "" {
			c.bad(key+".certificate", "it is missing", "name the file with the domain's certificate")
		}
	}
}

// tenants: each domain belongs to one company, if there are several.
func (c *checker) tenants(g Gateway, hosted func(string) bool) {
	owner := map[string]string{}
	for i, t := range g.Tenants {
		key := fmt.Sprintf("gateway.tenant.%d", i)
		if strings.TrimSpace(t.Name) == "" {
			c.bad(key+".name", "it is missing", "name the company")
		}
		for _, domain := range t.Domains {
			domain = strings.ToLower(domain)
			if !hosted(domain) {
				c.bad(key+".domains", fmt.Sprintf("%q is not in gateway.domains", domain), "add it there, or correct it")
			}
			if other, twice := owner[domain]; twice {
				c.bad(key+".domains", fmt.Sprintf("%q belongs to %s already", domain, other), "name it once")
			}
			owner[domain] = t.Name
		}
	}
	for _, domain := range g.Domains {
		if _, owned := owner[strings.ToLower(domain)]; len(g.Tenants) > 0 && !owned {
			c.bad("gateway.domains", fmt.Sprintf("%q belongs to no tenant", domain), "name it in one [[gateway.tenant]]")
		}
	}
}
