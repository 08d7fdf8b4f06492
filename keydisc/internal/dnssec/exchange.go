package dnssec

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	udpSize    = 1232 // fits every path without fragments (DNS flag day 2020)
	tryTimeout = 3 * time.Second
	maxServers = 3 // as in resolv.conf(5)
)

// exchange asks the servers one after the other, over UDP and then over TCP, until one gives an answer
// that can be one: NOERROR or NXDOMAIN, to this question. What it says is not verified here.
func (l *lookup) exchange(ctx context.Context, name string, qtype uint16) (*reply, error) {
	if err := spend(&l.spent.queries, maxQueries); err != nil {
		return nil, err
	}
	servers, err := l.resolver.servers()
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, network := range []string{"udp", "tcp"} {
		for _, server := range servers {
			m, err := l.resolver.ask(ctx, network, server, name, qtype)
			if err == nil {
				return newReply(m), nil
			}
			failures = append(failures, fmt.Errorf("DNS server %s over %s: %w", server, network, err))
			if ctx.Err() != nil {
				return nil, errors.Join(failures...)
			}
		}
	}
	return nil, errors.Join(failures...)
}

// servers are those of the options or those that the system uses now: a laptop's change.
func (r *Resolver) servers() ([]string, error) {
	if len(r.options.Servers) > 0 {
		return r.options.Servers, nil
	}
	config, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil, fmt.Errorf("DNS servers of this system: %w", err)
	}
	if len(config.Servers) == 0 {
		return []string{"127.0.0.1:53"}, nil // as the C library does
	}
	var servers []string
	for _, host := range config.Servers[:min(len(config.Servers), maxServers)] {
		servers = append(servers, net.JoinHostPort(host, config.Port))
	}
	return servers, nil
}

// ask sends one question over a socket of its own, hence from a random port, and again over TCP if the answer
// was cut off.
func (r *Resolver) ask(ctx context.Context, network, server, name string, qtype uint16) (*dns.Msg, error) {
	query := new(dns.Msg).SetQuestion(name, qtype)
	query.SetEdns0(udpSize, true)
	query.CheckingDisabled = true // else a validating server keeps back what we are to judge
	m, err := r.send(ctx, network, server, query)
	if err != nil {
		return nil, err
	}
	if m.Truncated && network == "udp" {
		return r.ask(ctx, "tcp", server, name, qtype)
	}
	return m, usable(m, query)
}

func (r *Resolver) send(ctx context.Context, network, server string, query *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, r.try)
	defer cancel()
	client := &dns.Client{Net: network, Timeout: r.try}
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // the library heeds the deadline alone
	defer stop()
	m, _, err := client.ExchangeWithConnContext(ctx, query, conn)
	if cause := ctx.Err(); cause != nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, errors.Join(cause, errors.New("no answer in time"))
	}
	return m, err // the library has compared the ids
}

// usable says what keeps a message from being an answer to the query at all.
func usable(m, query *dns.Msg) error {
	switch {
	case !m.Response || m.Opcode != dns.OpcodeQuery || len(m.Question) != 1 || !sameQuestion(m.Question[0], query.Question[0]):
		return errors.New("an answer to another question")
	case m.Truncated:
		return errors.New("cut off")
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return fmt.Errorf("answered %s", dns.RcodeToString[m.Rcode])
	case len(m.Answer)+len(m.Ns) > maxRecords:
		return errCostly
	}
	return nil
}

func sameQuestion(a, b dns.Question) bool {
	return strings.EqualFold(a.Name, b.Name) && a.Qtype == b.Qtype && a.Qclass == b.Qclass
}
