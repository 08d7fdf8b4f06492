// Package dnssectest is a DNS server on loopback for tests. It serves a hierarchy of zones that it signs
// itself, answers as a recursive server does, and breaks its answers as a test wants.
package dnssectest

import (
	"crypto"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Zone is one zone to serve. Its SOA, its NS record, and the NS and DS records of the zones below it are
// added.
type Zone struct {
	Name      string // "." or "example.com."
	Text      string // further records, in master-file format, relative to Name
	Algorithm uint8  // 0: ECDSAP256SHA256
	Digest    uint8  // of its DS in the parent; 0: SHA256
	Unsigned  bool
	NSEC3     *NSEC3        // nil: NSEC
	Late      time.Duration // how much later than at the server's time its signatures hold, each for two hours
}

// NSEC3 are a zone's parameters.
type NSEC3 struct {
	Iterations uint16
	Salt       string
	OptOut     bool // zones below that are not signed get no record
}

// Server answers over UDP and TCP on one port.
type Server struct {
	Addr    string    // "127.0.0.1:port"
	Anchors []*dns.DS // of the root zone

	now     time.Time
	zones   map[string]*zone
	mu      sync.Mutex
	damage  Damage
	asked   []dns.Question
	servers []*dns.Server
}

// Damage changes an answer before it is sent, and says whether it is sent at all.
type Damage func(q dns.Question, network string, m *dns.Msg) (send bool)

type zone struct {
	Zone
	key     *dns.DNSKEY
	signer  crypto.Signer
	records map[string]map[uint16][]dns.RR // by owner and type; empty non-terminals have none
	server  *Server
}

// Serve signs for the time and starts. The first zone is the root; a zone comes after those above it.
func Serve(now time.Time, zones ...Zone) (*Server, error) {
	s := &Server{now: now, zones: map[string]*zone{}}
	for _, each := range zones {
		if err := s.add(each); err != nil {
			return nil, err
		}
	}
	if root := s.zones["."]; root.key != nil {
		s.Anchors = []*dns.DS{root.key.ToDS(dns.SHA256)}
	}
	return s, s.listen()
}

func (s *Server) listen() error {
	udp, tcp, err := pair()
	if err != nil {
		return err
	}
	s.Addr = udp.LocalAddr().String()
	s.servers = []*dns.Server{
		{PacketConn: udp, Handler: s.handler("udp")},
		{Listener: tcp, Handler: s.handler("tcp")},
	}
	for _, server := range s.servers {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
	}
	return nil
}

// pair listens on one port for both protocols. The port that the system gives for one can be taken for the other.
func pair() (udp net.PacketConn, tcp net.Listener, err error) {
	for range 20 {
		if udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			return nil, nil, err
		}
		if tcp, err = net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			return udp, tcp, nil
		}
		_ = udp.Close()
	}
	return nil, nil, err
}

// Close ends it.
func (s *Server) Close() {
	for _, server := range s.servers {
		_ = server.Shutdown()
	}
}

// passes does the damage, one answer at a time.
func (s *Server) passes(q dns.Question, network string, m *dns.Msg) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, q)
	return s.damage == nil || s.damage(q, network, m)
}

// Break sets what happens to answers from now on; nil for nothing. What the damage wrote before can be read afterwards.
func (s *Server) Break(d Damage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damage = d
}

// Asked are the questions so far.
func (s *Server) Asked() []dns.Question {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]dns.Question(nil), s.asked...)
}

func (s *Server) handler(network string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, query *dns.Msg) {
		q := query.Question[0]
		m := s.answer(q)
		rcode := m.Rcode
		m.SetReply(query)
		m.Rcode = rcode
		m.RecursionAvailable = true
		m.SetEdns0(1232, true)
		if !s.passes(q, network, m) {
			return
		}
		if network == "udp" && !m.Truncated {
			m.Truncate(int(query.IsEdns0().UDPSize()))
		}
		_ = w.WriteMsg(m)
	}
}
