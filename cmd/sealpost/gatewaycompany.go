package main

import (
	"fmt"
	"os"
	"time"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/config"
	"github.com/sealpost/sealpost/keydisc"
)

// companyOf turns the levels of the configuration into the gateway's policy. It reads the certificates of archives and partners.
func companyOf(g config.Gateway) (c bridge.Company, err error) {
	add := func(name string, l config.PolicyLevel) (level bridge.PolicyLevel) {
		if err == nil {
			level, err = levelOf(name, l)
		}
		return level
	}
	for _, domain := range g.Domains { // the archives of all
		c.Domains = append(c.Domains, add(domain, config.PolicyLevel{Archive: g.Archive}))
	}
	for _, d := range g.DomainPolicies {
		c.Domains = append(c.Domains, add(d.Name, d.PolicyLevel))
	}
	for _, group := range g.Groups {
		c.Groups = append(c.Groups, bridge.PolicyGroup{PolicyLevel: add(group.Name, group.PolicyLevel), Members: group.Members})
	}
	for _, u := range g.Users {
		c.Users = append(c.Users, add(u.Address, u.PolicyLevel))
	}
	if err == nil {
		c.Partners, err = partnersOf(g.Partners)
	}
	c.Tenants = map[string]string{}
	for _, tenant := range g.Tenants {
		for _, domain := range tenant.Domains {
			c.Tenants[domain] = tenant.Name
		}
	}
	return c, err
}

func levelOf(name string, l config.PolicyLevel) (bridge.PolicyLevel, error) {
	level := bridge.PolicyLevel{
		Name: name, Encrypt: bridge.Mode(l.Encrypt), Mixed: bridge.Mixture(l.Mixed), Fixed: l.Override == "forbid", Headers: bridge.HeaderMode(l.Headers),
		Rules: rulesOf(l.Rules),
	}
	for _, path := range l.Archive {
		c, err := certificateIn(path)
		if err != nil {
			return level, fmt.Errorf("an archive's certificate (archive in [gateway]): %w", err)
		}
		level.Archive = append(level.Archive, c)
	}
	return level, nil
}

func partnersOf(partners []config.Partner) (map[string]*keydisc.Certificate, error) {
	all := map[string]*keydisc.Certificate{}
	for _, p := range partners {
		c, err := certificateIn(p.Certificate)
		if err != nil {
			return nil, fmt.Errorf("the certificate of the partner %s ([[gateway.partner]]): %w", p.Domain, err)
		}
		all[p.Domain] = c
	}
	return all, nil
}

// certificateIn reads a file with one certificate that can be encrypted to now. Whose address is in it does not matter here.
func certificateIn(path string) (*keydisc.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	certificates, err := keydisc.ParseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(certificates) != 1 {
		return nil, fmt.Errorf("%s holds %d certificates; there must be one", path, len(certificates))
	}
	if err := certificates[0].CheckAny(time.Now()); err != nil {
		return nil, fmt.Errorf("%s cannot be used: %w; ask for a current one", path, err)
	}
	return certificates[0], nil
}
