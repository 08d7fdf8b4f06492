package bridgetest

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// submission is one SMTP connection.
type submission struct {
	p    *Provider
	conn *smtp.Conn
	user *user
	from string
	to   []string
}

var _ smtp.AuthSession = (*submission)(nil)

func newSMTPServer(p *Provider) *smtp.Server {
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &submission{p: p, conn: c}, nil
	}))
	server.Domain = "provider.test"
	server.MaxMessageBytes = p.o.MaxMessageSize
	server.MaxLineLength = 1 << 20 // the library counts the message's lines too
	server.AllowInsecureAuth = true
	server.EnableSMTPUTF8 = true
	server.ErrorLog = log.New(io.Discard, "", 0)
	return server
}

func (s *submission) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *submission) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, username, password string) error {
		if s.user = s.p.login(username, password); s.user == nil {
			return reply(535, "5.7.8 Authentication failed")
		}
		return nil
	}), nil
}

func reply(code int, text string) *smtp.SMTPError {
	e := &smtp.SMTPError{Code: code, Message: text}
	if _, err := fmt.Sscanf(text, "%d.%d.%d", &e.EnhancedCode[0], &e.EnhancedCode[1], &e.EnhancedCode[2]); err == nil {
		_, e.Message, _ = strings.Cut(text, " ")
	} else {
		e.EnhancedCode = smtp.EnhancedCode{}
	}
	return e
}

// Mail accepts the user's own address alone, as a real provider does (RFC 6409 §6.1).
func (s *submission) Mail(from string, o *smtp.MailOptions) error {
	switch {
	case s.user == nil:
		return reply(530, "5.7.0 Authentication required")
	case normal(from) != normal(s.user.Address):
		return reply(553, "5.7.1 Sender address rejected: not owned by the user")
	}
	s.from, s.to = from, nil
	return nil
}

// Rcpt accepts strangers, and of the domains served here those users that exist.
func (s *submission) Rcpt(to string, _ *smtp.RcptOptions) error {
	if s.p.store.user(to) == nil && s.p.serves(to) {
		return reply(550, fmt.Sprintf("5.1.1 <%s>: no such user here", to))
	}
	s.to = append(s.to, to)
	return nil
}

// serves says whether the domain of the address has users here.
func (p *Provider) serves(address string) bool {
	_, domain, _ := strings.Cut(normal(address), "@")
	for _, u := range p.o.Users {
		if strings.HasSuffix(normal(u.Address), "@"+domain) {
			return true
		}
	}
	return false
}

// Data takes the whole message, lets a fault strike, and only then delivers.
func (s *submission) Data(r io.Reader) error {
	message, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	fault, struck := s.p.faults.strike("smtp", "BODY", "")
	if struck && !fault.After {
		wait(fault.Delay)
		if err := s.suffer(fault); err != nil {
			return err
		}
	}
	s.p.accept(Submission{From: s.from, To: s.to, Bytes: message}, s.conn.Hostname())
	if struck && fault.After {
		wait(fault.Delay)
		return s.suffer(fault)
	}
	return nil
}

func (s *submission) suffer(f Fault) error {
	if f.Drop {
		_ = s.conn.Conn().Close()
		return io.ErrClosedPipe
	}
	if f.Reply == "" {
		return nil
	}
	code, text, _ := strings.Cut(f.Reply, " ")
	n, err := strconv.Atoi(code)
	if err != nil {
		n, text = 451, f.Reply
	}
	return reply(n, text)
}

// accept records a transaction and delivers it: users here find it in their INBOX with the trace
// fields of a final delivery on top (RFC 5321 §4.4).
func (p *Provider) accept(m Submission, helo string) {
	p.mu.Lock()
	p.submissions = append(p.submissions, m)
	p.mu.Unlock()
	outside := Submission{From: m.From, Bytes: m.Bytes}
	for _, to := range m.To {
		if p.store.user(to) == nil {
			outside.To = append(outside.To, to)
			continue
		}
		trace := fmt.Sprintf("Return-Path: <%s>\r\nReceived: from %s by provider.test with ESMTPSA\r\n\tfor <%s>; %s\r\n",
			m.From, helo, to, p.o.Now().UTC().Format(time.RFC1123Z))
		// The mailbox is missing only if the user deleted INBOX, which is refused.
		_, _ = p.store.deliver(to, "INBOX", bytes.Join([][]byte{[]byte(trace), m.Bytes}, nil), p.o.Now(), nil)
	}
	if outside.To != nil {
		p.mu.Lock()
		p.outside = append(p.outside, outside)
		p.mu.Unlock()
	}
}

func (s *submission) Reset()        { s.from, s.to = "", nil }
func (s *submission) Logout() error { return nil }
