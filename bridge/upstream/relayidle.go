package upstream

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// Connections to a next hop are kept for a while: opening one takes longer than most messages. Only one whose last transaction ended
// with the reply to a body is kept, because then nothing of that is left (RFC 5321 §4.1.1.4). One that turns out to be broken before
// its MAIL is answered gives way to a fresh one; later, a failure is a failure.
const (
	maxIdle  = 20               // at once
	idleTime = 10 * time.Second // less than what servers wait for a command
	maxReuse = 100              // transactions, so that a server that has changed is noticed
)

// idleSessions are the connections that nobody uses. The zero value is ready.
type idleSessions struct {
	mu     sync.Mutex
	all    []*idleSession // the newest last
	closed bool
}

type idleSession struct {
	*smtpSession
	expires *time.Timer
}

// take returns a connection, from now on bound to ctx; nil if there is none.
func (i *idleSessions) take(ctx context.Context) *smtpSession {
	i.mu.Lock()
	defer i.mu.Unlock()
	for n := len(i.all); n > 0; n = len(i.all) {
		last := i.all[n-1]
		i.all = i.all[:n-1]
		if last.expires.Stop() {
			last.stop = context.AfterFunc(ctx, func() { _ = last.conn.Conn.Close() })
			return last.smtpSession
		}
	}
	return nil
}

// put keeps a connection whose transaction is over, or ends it.
func (i *idleSessions) put(s *smtpSession) {
	alive := s.stop() // else its context has ended, and closed it
	s.uses++
	s.conn.waiting = false
	i.mu.Lock()
	keep := alive && !i.closed && len(i.all) < maxIdle && s.uses < maxReuse
	if keep {
		idle := &idleSession{smtpSession: s}
		idle.expires = time.AfterFunc(idleTime, func() { i.expire(idle) })
		i.all = append(i.all, idle)
	}
	i.mu.Unlock()
	if !keep {
		s.quit()
	}
}

// expire ends a connection that nobody has taken.
func (i *idleSessions) expire(s *idleSession) {
	i.mu.Lock()
	for n, each := range i.all {
		if each == s {
			i.all = append(i.all[:n], i.all[n+1:]...)
			break
		}
	}
	i.mu.Unlock()
	s.quit()
}

// close ends them all; none is kept from now on.
func (i *idleSessions) close() {
	i.mu.Lock()
	all := i.all
	i.all, i.closed = nil, true
	i.mu.Unlock()
	for _, s := range all {
		if s.expires.Stop() {
			s.quit()
		}
	}
}

// session is a connection that was kept, or a new one.
func (p *route) session(ctx context.Context) (*smtpSession, error) {
	if p.idle != nil {
		if s := p.idle.take(ctx); s != nil {
			return s, nil
		}
	}
	return p.connect(ctx)
}

// mail begins the transaction. If a connection that was kept is no longer one, nothing has been said on it that counts.
func (p *route) mail(ctx context.Context, s *submission, options *smtp.MailOptions) error {
	err := s.session.client.Mail(s.From, options)
	if err == nil || s.session.uses == 0 || !gone(err) || ctx.Err() != nil {
		return err
	}
	s.session.close()
	fresh, problem := p.connect(ctx)
	if problem != nil {
		return problem
	}
	s.session = fresh
	if err := p.accepts(s); err != nil {
		return err
	}
	return s.session.client.Mail(s.From, options)
}

// gone says whether an error is the connection's: it is broken, or the server is about to close it (RFC 5321 §3.8).
func gone(err error) bool {
	var reply *smtp.SMTPError
	return !errors.As(err, &reply) || reply.Code == 421
}
