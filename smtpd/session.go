package smtpd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/sealpost/sealpost/bridge"
)

// session is what one connection has said since its beginning or STARTTLS.
type session struct {
	s        *Server
	g        *gate
	conn     *smtp.Conn
	account  Account // nil: not logged in
	envelope bridge.Envelope
}

var _ smtp.AuthSession = (*session)(nil)

func (s *Server) newSession(c *smtp.Conn) (smtp.Session, error) {
	g, ok := c.Conn().(*gate)
	if !ok {
		return nil, errors.New("connection without a gate")
	}
	if s.o.Relay != nil {
		return s.newRelaySession(g, c)
	}
	return &session{s: s, g: g, conn: c}, nil
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain, sasl.Login} }

func (s *session) Auth(mechanism string) (sasl.Server, error) {
	switch mechanism {
	case sasl.Plain:
		return sasl.NewPlainServer(func(identity, username, password string) error {
			if identity != "" && identity != username {
				return s.failed()
			}
			return s.logIn(username, password)
		}), nil
	case sasl.Login:
		return &loginServer{logIn: s.logIn}, nil
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

func (s *session) logIn(username, password string) error {
	a, err := s.s.o.Login(s.s.ctx, username, password)
	switch {
	case err == nil:
		s.account = a
		return nil
	case errors.Is(err, bridge.ErrCredentials):
		return s.failed()
	}
	s.s.o.Log.Error("login could not be checked", "error", err)
	return reply(454, [3]int{4, 7, 0}, "The login cannot be checked now, try again later")
}

// failed counts wrong passwords and ends the connection at the third.
func (s *session) failed() error {
	s.g.failures++
	s.s.o.Log.Warn("login failed", "remote", s.g.RemoteAddr().String())
	if s.g.failures >= maxFailures {
		s.g.endAfterReply()
		return reply(421, [3]int{4, 7, 0}, "Too many failed logins")
	}
	return reply(535, [3]int{5, 7, 8}, "User name or password is wrong; 'sealpost client' shows them")
}

func (s *session) Mail(from string, o *smtp.MailOptions) error {
	if s.account == nil {
		return reply(530, [3]int{5, 7, 0}, "Authentication required")
	}
	if o.Size > s.limit() {
		return s.tooLarge()
	}
	if from != "" { // the bridge judges the null reverse-path
		if err := checkAddress(from, o.UTF8); err != nil {
			return reply(553, [3]int{5, 1, 7}, "Sender: "+err.Error())
		}
	}
	s.envelope = bridge.Envelope{From: from, UTF8: o.UTF8, Client: s.client()}
	return nil
}

// client is who sends, as far as it can be seen.
func (s *session) client() bridge.Client {
	c := bridge.Client{Hello: s.conn.Hostname()}
	if address, ok := s.g.RemoteAddr().(*net.TCPAddr); ok {
		c.IP = address.IP.String()
	}
	return c
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := checkAddress(to, s.envelope.UTF8); err != nil {
		return reply(553, [3]int{5, 1, 3}, "Recipient: "+err.Error())
	}
	s.envelope.To = append(s.envelope.To, to)
	s.g.limit = s.limit()
	return nil
}

func (s *session) limit() int64 {
	if n := s.account.MaxMessageSize(); n > 0 {
		return n
	}
	return defaultMaxSize
}

func (s *session) tooLarge() error {
	return reply(552, [3]int{5, 3, 4}, fmt.Sprintf("Message too large: the provider takes at most %d bytes once it is encrypted", s.limit()))
}

// Data submits while it receives. The reply is 250 only if the whole message was read and the
// bridge said so.
func (s *session) Data(r io.Reader) error {
	body := &bodyReader{r: r, left: s.limit()}
	err := s.submit(body)
	switch {
	case errors.Is(body.err, errTooLarge):
		return s.tooLarge()
	case errors.Is(body.err, errLongLine):
		return reply(554, [3]int{5, 6, 0}, fmt.Sprintf("A line of the message is longer than %d bytes; have it sent as base64 or quoted-printable", maxBodyLine))
	case err != nil:
		return s.refused(err)
	case body.err != io.EOF:
		return s.refused(errors.New("accepted a message that was not read to its end"))
	}
	return nil
}

func (s *session) submit(body io.Reader) (err error) {
	defer func() {
		if v := recover(); v != nil {
			logPanic(s.s.o.Log, v, debug.Stack())
			s.g.endAfterReply()
			err = reply(421, [3]int{4, 3, 0}, "Internal error, nothing was sent")
		}
	}()
	ctx, cancel := context.WithCancel(s.s.ctx)
	defer cancel()
	return s.account.Submit(ctx, s.envelope, body)
}

func logPanic(log *slog.Logger, value any, stack any) {
	log.Error("internal error in an SMTP session", "type", fmt.Sprintf("%T", value), "stack", fmt.Sprintf("%s", stack))
}

func (s *session) Reset()        { s.envelope = bridge.Envelope{} }
func (s *session) Logout() error { return nil }

var (
	errTooLarge = errors.New("message is larger than the limit")
	errLongLine = errors.New("message has a line longer than the limit")
)

// bodyReader bounds a message and its lines. It remembers how the reading ended.
type bodyReader struct {
	r    io.Reader
	left int64
	line int // octets since the last LF
	err  error
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	switch {
	case b.left < 0:
		n, err = 0, errTooLarge
	case b.tooLong(p[:n]):
		n, err = 0, errLongLine
	}
	b.err = err
	return n, err
}

// tooLong counts on through the octets just read.
func (b *bodyReader) tooLong(p []byte) bool {
	for {
		at := bytes.IndexByte(p, '\n')
		if at < 0 {
			b.line += len(p)
			return b.line > maxBodyLine
		}
		if b.line+at+1 > maxBodyLine {
			return true
		}
		b.line, p = 0, p[at+1:]
	}
}

// loginServer is AUTH LOGIN (draft-murchison-sasl-login), which go-sasl has for clients only; older
// cameras and scanners know nothing else.
type loginServer struct {
	logIn    func(username, password string) error
	username *string
	asked    bool
}

func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case l.username == nil && response == nil && !l.asked:
		l.asked = true
		return []byte("Username:"), false, nil
	case l.username == nil:
		name := string(response)
		l.username = &name
		return []byte("Password:"), false, nil
	}
	return nil, true, l.logIn(*l.username, string(response))
}
