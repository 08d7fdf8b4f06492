package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Gateway is corporate mode: beside an MTA.
type Gateway struct {
	Outbound        string   `toml:"outbound"`          // listens for mail that leaves the company; see Listener
	Inbound         string   `toml:"inbound"`           // listens for mail that enters it
	NextHopOutbound string   `toml:"next_hop_outbound"` // where each goes afterwards: host:port, smtp://, smtps://, lmtp://, lmtp+unix:
	NextHopInbound  string   `toml:"next_hop_inbound"`
	Domains         []string `toml:"domains"`         // whose users' keys are here
	Trusted         []string `toml:"trusted"`         // networks of those who may hand mail in
	WKD             string   `toml:"wkd"`             // listens as the domains' Web Key Directory
	WKDCertificate  string   `toml:"wkd_certificate"` // of the directory's TLS, PEM; none: a proxy on this machine has it
	WKDKey          string   `toml:"wkd_key"`
	WKDSubmission   string   `toml:"wkd_submission"` // where users may mail certificates of their own
	CAFile          string   `toml:"ca_file"`        // a further authority for the next hops
	Headers         string   `toml:"headers"`        // baseline or shy
	Pass            []string `toml:"pass"`           // addresses and domains whose users open their mail themselves
	Archive         []string `toml:"archive"`        // certificates of those who read along with whatever leaves encrypted

	DomainPolicies []DomainPolicy `toml:"domain"`
	Groups         []GroupPolicy  `toml:"group"`
	Users          []UserPolicy   `toml:"user"`
	Partners       []Partner      `toml:"partner"`
	Tenants        []Tenant       `toml:"tenant"`
}

// Enabled says whether there is a gateway: whether any of it listens.
func (g Gateway) Enabled() bool { return g.Outbound != "" || g.Inbound != "" || g.WKD != "" }

// Listener divides a listen address: lmtp://host:port speaks LMTP, host:port SMTP.
func Listener(listen string) (address string, lmtp bool) {
	address, lmtp = strings.CutPrefix(listen, "lmtp://")
	return address, lmtp
}

// Networks are those of Trusted.
func (g Gateway) Networks() ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range g.Trusted {
		network, err := netip.ParsePrefix(text)
		if ip, errIP := netip.ParseAddr(text); errIP == nil {
			network, err = netip.PrefixFrom(ip, ip.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q is no network", text)
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

func (c *checker) gateway(g Gateway) {
	c.lane("gateway.outbound", g.Outbound, "gateway.next_hop_outbound", g.NextHopOutbound)
	c.lane("gateway.inbound", g.Inbound, "gateway.next_hop_inbound", g.NextHopInbound)
	c.directory(g)
	if g.Enabled() && len(g.Domains) == 0 {
		c.bad("gateway.domains", "there are none", "name the domains whose users' mail it is")
	}
	for _, domain := range g.Domains {
		if !isAddress("x@" + domain) {
			c.bad("gateway.domains", fmt.Sprintf("%q is no domain", domain), "write it as example.org")
		}
	}
	if _, err := g.Networks(); err != nil {
		c.bad("gateway.trusted", err.Error(), `write it as "192.0.2.0/24", or an address alone`)
	}
	c.oneOf("gateway.headers", g.Headers, "baseline", "shy")
	for _, pattern := range g.Pass {
		c.users("gateway.pass", pattern, g)
	}
	c.company(g)
}

// directory checks the Web Key Directory.
func (c *checker) directory(g Gateway) {
	if (g.WKDCertificate == "") != (g.WKDKey == "") {
		c.bad("gateway.wkd_certificate", "certificate and key belong together", "name both wkd_certificate and wkd_key, or neither")
	}
	if g.WKD != "" {
		c.listener("gateway.wkd", g.WKD)
		if host, _, _ := net.SplitHostPort(g.WKD); g.WKDCertificate == "" && !isLoopback(host) {
			c.bad("gateway.wkd", "a directory is asked over HTTPS", "name wkd_certificate and wkd_key, or listen on 127.0.0.1 behind a proxy that has them")
		}
	}
	if g.WKDSubmission == "" {
		return
	}
	_, domain, _ := strings.Cut(g.WKDSubmission, "@")
	if !isAddress(g.WKDSubmission) || !slices.ContainsFunc(g.Domains, func(d string) bool { return strings.EqualFold(d, domain) }) {
		c.bad("gateway.wkd_submission", fmt.Sprintf("%q is no address of gateway.domains", g.WKDSubmission), "write it as key-submission@example.org")
	}
	if g.Inbound == "" {
		c.bad("gateway.wkd_submission", "mail to it does not come in", "configure gateway.inbound")
	}
}

// lane checks a listener and what comes next.
func (c *checker) lane(key, listen, hopKey, hop string) {
	if listen != "" {
		address, _ := Listener(listen)
		c.listener(key, address)
		if hop == "" {
			c.bad(hopKey, "it is missing", "name where the mail goes afterwards, for example 127.0.0.1:10026")
			return
		}
	}
	if hop != "" && !isHop(hop) {
		c.bad(hopKey, fmt.Sprintf("%q is no server", hop), "write host:port, smtp://, smtps:// or lmtp://host:port, or lmtp+unix:/path")
	}
}

func isHop(hop string) bool {
	if path, ok := strings.CutPrefix(hop, "lmtp+unix:"); ok {
		return strings.HasPrefix(path, "/")
	}
	if !strings.Contains(hop, "://") {
		hop = "smtp://" + hop
	}
	u, err := url.Parse(hop)
	if err != nil || u.User != nil || u.Hostname() == "" || u.Port() == "" || !isPort(u.Port()) || strings.Trim(u.Path, "/") != "" {
		return false
	}
	return u.Scheme == "smtp" || u.Scheme == "smtps" || u.Scheme == "lmtp"
}
