package smtpd

import (
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/sealpost/sealpost/bridge"
)

// peer is one client connection. It is the backend of its own go-smtp server.
type peer struct {
	server *Server
	gate   *gate

	mu          sync.Mutex
	busy        bool // a message is being taken
	ending      bool
	loginErrors int
}

// NewSession implements smtp.Backend.
func (p *peer) NewSession(*smtp.Conn) (smtp.Session, error) { return &session{peer: p}, nil }

// finish ends the connection: now, or after the reply to the message being taken.
func (p *peer) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ending = true
	if p.busy {
		p.gate.closeAfterWrite()
		return
	}
	_ = p.gate.Close()
}

func (p *peer) setBusy(busy bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = busy
	if !busy && p.ending {
		p.gate.closeAfterWrite()
	}
}

// session is one mail session. With BDAT go-smtp runs Data beside Reset and Logout: the
// envelope is guarded, and Data takes a copy.
type session struct {
	peer *peer

	mu       sync.Mutex
	account  Account
	envelope bridge.Envelope
}

// AuthMechanisms implements smtp.AuthSession.
func (s *session) AuthMechanisms() []string { return []string{sasl.Plain, sasl.Login} }

// Auth implements smtp.AuthSession.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	switch mechanism {
	case sasl.Plain:
		return sasl.NewPlainServer(func(identity, username, password string) error {
			if identity != "" && identity != username {
				return s.loginFailed()
			}
			return s.login(username, password)
		}), nil
	case sasl.Login:
		return &loginServer{authenticate: s.login}, nil
	}
	return nil, reply(504, [3]int{5, 5, 4}, "this authentication mechanism is not offered")
}

func (s *session) login(username, password string) error {
	account, err := s.peer.server.options.Login(s.peer.server.ctx, username, password)
	if errors.Is(err, bridge.ErrCredentials) {
		return s.loginFailed()
	}
	if err != nil {
		s.peer.server.options.Log.Error("a login could not be checked", "cause", err)
		return reply(454, [3]int{4, 7, 0}, "the login could not be checked; try again later")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account = account
	return nil
}

// loginFailed counts, and ends the connection at the third time.
func (s *session) loginFailed() error {
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	s.peer.loginErrors++
	if s.peer.loginErrors >= maxLoginErrors {
		s.peer.gate.closeAfterWrite()
		return reply(421, [3]int{4, 7, 0}, "too many wrong passwords; see sealpost client for the right one")
	}
	return reply(535, [3]int{5, 7, 8}, "user name or password is wrong; see sealpost client for the right ones")
}

// Mail implements smtp.Session.
func (s *session) Mail(from string, o *smtp.MailOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.account == nil {
		return errAuthRequired
	}
	if from != "" && !plainAddress(from) {
		return errBadAddress
	}
	if o != nil && o.Size > s.account.MaxMessageSize() {
		return errTooLarge
	}
	s.envelope = bridge.Envelope{From: from, UTF8: o != nil && o.UTF8}
	return nil
}

// Rcpt implements smtp.Session.
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.account == nil {
		return errAuthRequired
	}
	if !plainAddress(to) {
		return errBadAddress
	}
	s.envelope.To = append(s.envelope.To, to)
	return nil
}

// plainAddress refuses what would need quoting: go-smtp unquotes local parts and its client does not
// quote them again, so that they could smuggle parameters into the provider's dialogue.
func plainAddress(address string) bool {
	local, domain, ok := cutLast(address, "@")
	return ok && local != "" && domain != "" && !strings.ContainsFunc(address, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune(`"<>()[]\,;:`, r)
	}) && !strings.Contains(local, "@")
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// Data implements smtp.Session.
func (s *session) Data(r io.Reader) error {
	s.mu.Lock()
	account, envelope := s.account, s.envelope
	s.mu.Unlock()
	if account == nil {
		return errAuthRequired
	}
	s.peer.setBusy(true)
	defer s.peer.setBusy(false)
	source := &watched{r: r}
	err := account.Submit(s.peer.server.ctx, envelope, source)
	if err == nil {
		return nil
	}
	if errors.Is(source.err, smtp.ErrDataTooLarge) {
		return errTooLarge
	}
	return s.refused(err)
}

// watched remembers why reading failed: Submit reports its own view of it.
type watched struct {
	r   io.Reader
	err error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// Reset implements smtp.Session.
func (s *session) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.envelope = bridge.Envelope{}
}

// Logout implements smtp.Session.
func (s *session) Logout() error { return nil }

// loginServer is AUTH LOGIN, obsolete but all that some clients know
// (draft-murchison-sasl-login): user name, then password.
type loginServer struct {
	authenticate func(username, password string) error
	username     *string
}

// Next implements sasl.Server.
func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case l.username == nil && response == nil:
		return []byte("Username:"), false, nil
	case l.username == nil:
		username := string(response)
		l.username = &username
		return []byte("Password:"), false, nil
	}
	return nil, true, l.authenticate(*l.username, string(response))
}
