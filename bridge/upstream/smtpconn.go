package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// helloName is all that the provider learns about this computer's name (RFC 5321 §4.1.4
// allows an address literal).
const helloName = "[127.0.0.1]"

// maxReplyBytes bounds one reply, all lines together; the SMTP client would read for ever.
const maxReplyBytes = 64 << 10

// finalPatience is how many times the time-out the reply to a body may take: content
// scanners are slow, and giving up early means a second copy (RFC 5321 §4.5.3.2.6: 10 minutes).
const finalPatience = 10

// smtpSession is one logged-in submission connection.
type smtpSession struct {
	at     Endpoint
	conn   *smtpConn
	client *smtp.Client
	lmtp   bool // RFC 2033
	stop   func() bool
	uses   int // transactions before this one
}

// connectSMTP opens a logged-in connection that lives as long as ctx. force tries even
// after a refused login.
func (p *Provider) connectSMTP(ctx context.Context, force bool) (*smtpSession, error) {
	at := p.options.SMTP
	who, err := p.credentials(ctx, at)
	if err == nil && !force {
		err = p.smtp.closed(who.password, time.Now())
	}
	if err != nil {
		return nil, err
	}
	s, err := dialSMTP(ctx, at, p.options.TLS, p.options.Timeout)
	if err != nil {
		return nil, err
	}
	err = s.login(ctx, who)
	p.smtp.result(who.password, err, time.Now())
	if err != nil {
		s.close()
		return nil, err
	}
	p.noteTransport(at, s.conn.Conn)
	if size, ok := s.client.MaxMessageSize(); ok {
		p.maxSize.Store(int64(size))
	}
	return s, nil
}

// dialSMTP connects, secures the connection and says EHLO.
func dialSMTP(ctx context.Context, at Endpoint, config *tls.Config, timeout time.Duration) (*smtpSession, error) {
	w, err := dial(ctx, at, config, timeout)
	if err != nil {
		return nil, err
	}
	greeting := ""
	if at.Security == "starttls" {
		if err := w.smtpStartTLS(ctx, config); err != nil {
			w.close()
			return nil, failure(ctx, "connect", at, err)
		}
		// There is no greeting after STARTTLS (RFC 3207 §4.2); the client wants one.
		greeting = "220 ready\r\n"
	}
	return w.greet(ctx, greeting, smtp.NewClient)
}

// greet hands the connection over and says EHLO or, for an LMTP client, LHLO. greeting is what the server is taken to have said
// before it is read from.
func (w *wire) greet(ctx context.Context, greeting string, client func(net.Conn) *smtp.Client) (*smtpSession, error) {
	w.detach()
	s := &smtpSession{at: w.at, conn: &smtpConn{Conn: w.conn, timeout: w.timeout, reader: io.MultiReader(strings.NewReader(greeting), w.reader)}}
	s.stop = context.AfterFunc(ctx, func() { _ = w.conn.Close() })
	s.client = client(s.conn)
	if err := s.client.Hello(helloName); err != nil {
		s.close()
		return nil, s.helloError(ctx, err)
	}
	return s, nil
}

func (s *smtpSession) helloError(ctx context.Context, err error) error {
	e := s.replyError(ctx, "connect", err)
	if e.Kind == KindRejected && (e.Code < 400 || e.Code > 599) {
		return notSpoken("connect", s.at, e.Reply)
	}
	return e
}

// smtpStartTLS secures the connection (RFC 3207). There is no going on without.
func (w *wire) smtpStartTLS(ctx context.Context, config *tls.Config) error {
	offered, err := w.offersStartTLS()
	if err != nil {
		return err
	}
	if !offered {
		return noStartTLS(w.at)
	}
	if err := w.write("STARTTLS\r\n"); err != nil {
		return err
	}
	if _, err := w.smtpReply(220); err != nil {
		return err
	}
	return w.secure(ctx, config)
}

// offersStartTLS reads the greeting and asks for the extensions.
func (w *wire) offersStartTLS() (bool, error) {
	if _, err := w.smtpReply(220); err != nil {
		return false, err
	}
	if err := w.write("EHLO " + helloName + "\r\n"); err != nil {
		return false, err
	}
	offers, err := w.smtpReply(250)
	return slices.ContainsFunc(offers, func(line string) bool { return strings.EqualFold(strings.TrimSpace(line), "STARTTLS") }), err
}

// smtpReply reads one reply of any number of lines (RFC 5321 §4.2.1).
func (w *wire) smtpReply(want int) ([]string, error) {
	var lines []string
	for range maxHandshakeLines {
		line, err := w.line()
		if err != nil {
			return nil, err
		}
		code, err := strconv.Atoi(line[:min(3, len(line))])
		if err != nil || code < 200 || code > 599 || (len(line) > 3 && line[3] != ' ' && line[3] != '-') {
			return nil, notSpoken("connect", w.at, line)
		}
		lines = append(lines, line[min(4, len(line)):])
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if code != want {
			return nil, replyFailure("connect", w.at, code, strings.Join(lines, " "), nil)
		}
		return lines, nil
	}
	return nil, &limitError{"the server's reply has no end"}
}

// login uses PLAIN or LOGIN, whichever is offered.
func (s *smtpSession) login(ctx context.Context, who credentials) error {
	var mechanism sasl.Client
	switch {
	case s.client.SupportsAuth(sasl.Plain):
		mechanism = sasl.NewPlainClient("", who.username, who.password)
	case s.client.SupportsAuth(sasl.Login):
		mechanism = sasl.NewLoginClient(who.username, who.password)
	default:
		return &Error{Kind: KindAuth, Host: s.at.Address(), Op: "login",
			Err: errors.New("the server offers no login with a password"), Remedy: "Check the port, or use OAuth 2.0 if the provider requires it"}
	}
	err := s.client.Auth(mechanism)
	if err == nil {
		return nil
	}
	e := s.replyError(ctx, "login", err)
	if e.Kind == KindRejected {
		e.Kind, e.Remedy = KindAuth, remedyPassword
	}
	return e
}

// replyError turns the client's error into an *Error.
func (s *smtpSession) replyError(ctx context.Context, op string, err error) *Error {
	var reply *smtp.SMTPError
	if !errors.As(err, &reply) {
		if s.conn.excess.Load() {
			err = &limitError{"the server's reply has no end"}
		}
		return failure(ctx, op, s.at, err)
	}
	text := reply.Message
	if reply.EnhancedCode != (smtp.EnhancedCode{}) && reply.EnhancedCode != smtp.NoEnhancedCode {
		c := reply.EnhancedCode
		text = strconv.Itoa(c[0]) + "." + strconv.Itoa(c[1]) + "." + strconv.Itoa(c[2]) + " " + text
	}
	return replyFailure(op, s.at, reply.Code, text, err)
}

func replyFailure(op string, at Endpoint, code int, text string, err error) *Error {
	e := &Error{Kind: KindRejected, Host: at.Address(), Op: op, Code: code, Reply: oneLine(text), Err: err}
	if code >= 400 && code < 500 { // RFC 5321 §4.2.1
		e.Kind, e.Remedy = KindTemporary, "Try again later"
	}
	return e
}

// quit ends the session; what the server says to it does not matter.
func (s *smtpSession) quit() {
	s.conn.waiting, s.conn.timeout = false, min(s.conn.timeout, logoutLimit)
	_ = s.client.Quit()
	s.close()
}

func (s *smtpSession) close() {
	s.stop()
	_ = s.conn.Close()
}

// smtpConn is the connection go-smtp's client gets. The client sets no deadline at all
// while it writes a body, and none of its own is needed: every read and every piece written
// must move within the time-out.
type smtpConn struct {
	net.Conn
	reader  io.Reader
	timeout time.Duration
	reply   int  // bytes of the reply so far
	waiting bool // for the reply to a body
	excess  atomic.Bool
}

// final says that the next reply is the one to a body.
func (c *smtpConn) final() { c.waiting = true }

func (c *smtpConn) Read(p []byte) (int, error) {
	timeout := c.timeout
	if c.waiting {
		timeout *= finalPatience
	}
	if c.reply > maxReplyBytes {
		c.excess.Store(true)
		return 0, &limitError{"the server's reply has no end"}
	}
	_ = c.Conn.SetReadDeadline(time.Now().Add(timeout))
	n, err := c.reader.Read(p)
	c.reply += n
	return n, err
}

func (c *smtpConn) Write(p []byte) (int, error) {
	c.reply = 0
	return writePieces(c.Conn, p, c.timeout)
}

func (c *smtpConn) SetDeadline(time.Time) error      { return nil }
func (c *smtpConn) SetReadDeadline(time.Time) error  { return nil }
func (c *smtpConn) SetWriteDeadline(time.Time) error { return nil }
