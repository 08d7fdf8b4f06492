package upstream

import (
	"crypto/tls"
	"net"
	"time"
)

// Transport is how the connections to one of the provider's servers are protected.
type Transport struct {
	Protocol string    // "imap" or "smtp"
	Host     string    // host:port
	Security string    // "tls", "starttls", "insecure"
	Version  string    // of TLS, such as "TLS 1.3"; "" before the first connection and without TLS
	Cipher   string    // the IANA's name; "" likewise
	Ends     time.Time // when the server's certificate ends; zero likewise
}

// Transports are IMAP and submission, as the last connection of each was.
func (p *Provider) Transports() []Transport {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Transport
	for _, at := range []Endpoint{p.options.IMAP, p.options.SMTP} {
		t := Transport{Protocol: at.Protocol, Host: at.Address(), Security: at.Security}
		if state := p.secured[at.Protocol]; state != nil {
			t.Version, t.Cipher = tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite)
			t.Ends = state.PeerCertificates[0].NotAfter // verified, so there is one
		}
		all = append(all, t)
	}
	return all
}

// noteTransport remembers how a connection that has logged in is protected.
func (p *Provider) noteTransport(at Endpoint, conn net.Conn) {
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return
	}
	state := secure.ConnectionState()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.secured == nil {
		p.secured = map[string]*tls.ConnectionState{}
	}
	p.secured[at.Protocol] = &state
}
