package bridge

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/sealpost/sealpost/bridge/doctor"
	"github.com/sealpost/sealpost/bridge/upstream"
	"github.com/sealpost/sealpost/keydisc"
)

// checkHops asks the next hops whether they are there.
func (g *Gateway) checkHops(ctx context.Context) (findings []doctor.Finding) {
	ctx, cancel := context.WithTimeout(ctx, accountChecks)
	defer cancel()
	for _, hop := range []struct {
		name  string
		relay *upstream.Relay
	}{{"next hop of what leaves", g.out}, {"next hop of what enters", g.inside}} {
		if hop.relay == nil {
			continue
		}
		f := doctor.Finding{Check: hop.name, State: doctor.OK, Detail: "it answers"}
		if err := hop.relay.Check(ctx); err != nil {
			f.State, f.Detail, f.Remedy = doctor.Problem, err.Error(), "start that server, or correct next_hop_outbound and next_hop_inbound in [gateway]; until then the mail server keeps the mail"
		}
		findings = append(findings, f)
	}
	return findings
}

// checkCertificates looks at those that the configuration names: nobody else asks whether there are newer ones.
func (g *Gateway) checkCertificates() (findings []doctor.Finding) {
	for _, c := range g.options.Company.archives() {
		findings = append(findings, g.checkConfigured("archive "+string(c.Fingerprint()), c, "what would be encrypted to it waits at the mail server"))
	}
	partners := g.options.Company.Partners
	for _, domain := range slices.Sorted(maps.Keys(partners)) {
		findings = append(findings, g.checkConfigured("partner "+domain, partners[domain], "mail to users there who have none of their own is refused"))
	}
	return findings
}

func (g *Gateway) checkConfigured(name string, c *keydisc.Certificate, otherwise string) doctor.Finding {
	f := doctor.Finding{Check: name, State: doctor.OK, Detail: "it can be used"}
	now, remedy := g.bridge.now(), "ask for a current certificate, put it into the file that the configuration names, and reload"
	if err := c.CheckAny(now); err != nil {
		f.State, f.Detail, f.Remedy = doctor.Problem, fmt.Sprintf("%v; %s", err, otherwise), remedy
	} else if c.CheckAny(now.Add(keyEndsSoon)) != nil {
		f.State, f.Detail, f.Remedy = doctor.Attention, fmt.Sprintf("it can be used for less than %d days", int(keyEndsSoon.Hours()/24)), remedy
	}
	return f
}

// archives of all levels, each once.
func (c Company) archives() (all []*keydisc.Certificate) {
	levels := slices.Concat(c.Domains, c.Users)
	for _, group := range c.Groups {
		levels = append(levels, group.PolicyLevel)
	}
	for _, l := range levels {
		for _, archive := range l.Archive {
			if !slices.ContainsFunc(all, func(known *keydisc.Certificate) bool { return known.Fingerprint() == archive.Fingerprint() }) {
				all = append(all, archive)
			}
		}
	}
	return all
}
