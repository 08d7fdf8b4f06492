package bridgetest

import (
	"io"
	"log"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/emersion/go-smtp"
)

// NextHopOptions of a NextHop.
type NextHopOptions struct {
	LMTP           bool  // RFC 2033
	MaxMessageSize int64 // RFC 1870; 0: no limit
	Bare           bool  // offers neither SMTPUTF8 nor DSN
}

// NextHop is the server behind a gateway: it takes mail from anybody and keeps it. Safe for concurrent use.
type NextHop struct {
	o        NextHopOptions
	server   *smtp.Server
	listener net.Listener

	mu       sync.Mutex
	received []Relayed
	refusals map[string]string // recipient, or "data" for all → reply
	late     map[string]string // recipient → reply to the message
	drop     bool
}

// Relayed is a transaction that a NextHop has accepted.
type Relayed struct {
	From       string
	To         []string
	Bytes      []byte
	UTF8       bool
	Return     string // RFC 3461
	EnvelopeID string
	Notify     map[string][]string // by recipient
	Original   map[string]string
}

// StartNextHop starts one on a loopback port.
func StartNextHop(o NextHopOptions) (*NextHop, error) {
	n := &NextHop{o: o, refusals: map[string]string{}, late: map[string]string{}}
	n.server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &hopSession{n: n, conn: c}, nil }))
	n.server.Domain, n.server.LMTP = "nexthop.test", o.LMTP
	n.server.MaxMessageBytes, n.server.MaxLineLength = o.MaxMessageSize, 1<<20
	n.server.EnableSMTPUTF8, n.server.EnableDSN = !o.Bare, !o.Bare
	n.server.ErrorLog = log.New(io.Discard, "", 0)
	var err error
	if n.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	go func() { _ = n.server.Serve(n.listener) }()
	return n, nil
}

// Close ends it and all its connections.
func (n *NextHop) Close() error { return n.server.Close() }

// Address is host:port.
func (n *NextHop) Address() string { return n.listener.Addr().String() }

// Refuse has a recipient refused at RCPT, with a reply such as "550 5.1.1 no such user"; "" ends that.
func (n *NextHop) Refuse(address, reply string) { n.set(n.refusals, address, reply) }

// RefuseLate has a recipient refused after the message: over SMTP with everybody of that transaction.
func (n *NextHop) RefuseLate(address, reply string) { n.set(n.late, address, reply) }

// DropLate has the connection break instead of an answer to the message, which is not kept.
func (n *NextHop) DropLate(yes bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop = yes
}

func (n *NextHop) set(table map[string]string, address, reply string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if table[address] = reply; reply == "" {
		delete(table, address)
	}
}

// Received are the transactions so far, in the order of their acceptance.
func (n *NextHop) Received() []Relayed {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.received)
}

// For is what a recipient has got.
func (n *NextHop) For(address string) (messages [][]byte) {
	for _, r := range n.Received() {
		if slices.Contains(r.To, address) {
			messages = append(messages, r.Bytes)
		}
	}
	return messages
}

// Forget forgets what was received.
func (n *NextHop) Forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.received = nil
}

type hopSession struct {
	n    *NextHop
	conn *smtp.Conn
	mail Relayed
}

var _ smtp.LMTPSession = (*hopSession)(nil)

func (s *hopSession) Mail(from string, o *smtp.MailOptions) error {
	s.mail = Relayed{From: from, UTF8: o.UTF8, Return: string(o.Return), EnvelopeID: o.EnvelopeID, Notify: map[string][]string{}, Original: map[string]string{}}
	return nil
}

func (s *hopSession) Rcpt(to string, o *smtp.RcptOptions) error {
	if text := s.look(s.n.refusals, to); text != "" {
		return replyOf(text)
	}
	s.mail.To = append(s.mail.To, to)
	for _, event := range o.Notify {
		s.mail.Notify[to] = append(s.mail.Notify[to], string(event))
	}
	s.mail.Original[to] = o.OriginalRecipient
	return nil
}

func (s *hopSession) look(table map[string]string, address string) string {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	return table[address]
}

func (s *hopSession) Data(r io.Reader) error {
	return s.take(r, func(string, error) {})
}

func (s *hopSession) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	_ = s.take(r, status.SetStatus)
	return nil
}

// take keeps the message for those who do not refuse it.
func (s *hopSession) take(r io.Reader, answer func(string, error)) error {
	message, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.n.mu.Lock()
	drop := s.n.drop
	s.n.mu.Unlock()
	if drop {
		_ = s.conn.Conn().Close()
		return io.ErrClosedPipe
	}
	if refuser := s.refuser(); refuser != "" && !s.n.o.LMTP {
		return replyOf(s.look(s.n.late, refuser))
	}
	s.keep(message) // before anybody is told
	for _, to := range s.mail.To {
		if text := s.look(s.n.late, to); text != "" {
			answer(to, replyOf(text))
		} else {
			answer(to, nil)
		}
	}
	return nil
}

func (s *hopSession) keep(message []byte) {
	kept := s.mail
	kept.Bytes = message
	kept.To = slices.DeleteFunc(slices.Clone(kept.To), func(to string) bool { return s.look(s.n.late, to) != "" })
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	if len(kept.To) > 0 {
		s.n.received = append(s.n.received, kept)
	}
}

// refuser is the first recipient who refuses after the content, "" if none does.
func (s *hopSession) refuser() string {
	i := slices.IndexFunc(s.mail.To, func(to string) bool { return s.look(s.n.late, to) != "" })
	if i < 0 {
		return ""
	}
	return s.mail.To[i]
}

// replyOf reads "550 5.1.1 no such user".
func replyOf(text string) *smtp.SMTPError {
	code, rest, _ := strings.Cut(text, " ")
	n := 0
	for _, digit := range code {
		n = 10*n + int(digit-'0')
	}
	return reply(n, rest)
}

func (s *hopSession) Reset()        { s.mail = Relayed{} }
func (s *hopSession) Logout() error { return nil }
