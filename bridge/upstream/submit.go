package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/emersion/go-smtp"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// Transaction is one SMTP transaction: one body for some recipients.
type Transaction struct {
	From string
	To   []string
	Body mimescan.Source // CRLF lines only
	// UTF8 asks for SMTPUTF8 (RFC 6531); the provider must offer it.
	UTF8   bool
	Notice Notice
}

// maxTransactions bounds the connections of one Submit.
const maxTransactions = 50

// Submit runs all transactions of one message: each on its own connection, none sends
// its body before all have reached the provider's 354, and a refusal of any recipient before
// that ends them all with nothing sent (the error is then a *RecipientError or *Error).
// Otherwise results has one entry per transaction, nil where the provider answered 250,
// else an *Error.
func (p *Provider) Submit(ctx context.Context, t []Transaction) (results []error, err error) {
	return p.route().submit(ctx, t)
}

func (p *Provider) route() *route {
	return &route{
		host: p.options.SMTP.Address(), size: p.MaxSize,
		connect: func(ctx context.Context) (*smtpSession, error) { return p.connectSMTP(ctx, false) },
	}
}

// route is where mail goes: a provider's submission, or a gateway's next hop.
type route struct {
	host    string // for errors
	size    func() int64
	connect func(ctx context.Context) (*smtpSession, error)
	idle    *idleSessions // nil: no connection is kept
	// apart: whoever is refused stays behind, and the others go. The results then hold *PartialError, too.
	apart bool
}

func (p *route) submit(ctx context.Context, t []Transaction) (results []error, err error) {
	jobs, err := p.prepare(t)
	if err != nil {
		return nil, err
	}
	if len(jobs) == 0 {
		return nil, nil
	}
	defer p.closeAll(jobs)
	// The first login alone: a wrong password is tried once, not once per transaction.
	if jobs[0].session, err = p.session(ctx); err != nil {
		return nil, err
	}
	// Connect, MAIL, RCPT everywhere; then DATA everywhere: a refused recipient is known
	// before any server waits for a body.
	for _, stage := range []func(context.Context, *submission) error{p.envelope, p.data} {
		if err := joined(each(jobs, func(s *submission) error { return p.attempt(ctx, s, stage) })); err != nil {
			return nil, err
		}
	}
	return each(jobs, func(s *submission) error {
		if s.ended != nil {
			return s.ended
		}
		return s.outcome(p.body(ctx, s))
	}), nil
}

// attempt runs a stage. Where transactions go apart, one that fails ends alone.
func (p *route) attempt(ctx context.Context, s *submission, stage func(context.Context, *submission) error) error {
	if s.ended != nil {
		return nil
	}
	err := stage(ctx, s)
	if p.apart {
		s.ended, err = err, nil
	}
	return err
}

// submission is one transaction under way.
type submission struct {
	Transaction
	facts   facts
	session *smtpSession
	writer  *smtp.DataCommand
	refused map[string]*Error // who stays behind
	ended   error             // the transaction, and why
	// complete: the reply to the body has come, and is good.
	complete bool
}

// outcome is what a transaction came to, after the reply to its body.
func (s *submission) outcome(err error) error {
	var some *PartialError
	switch {
	case errors.As(err, &some):
		for address, reply := range some.Replies {
			s.refused[address] = reply
		}
	case err != nil:
		return err
	}
	switch len(s.refused) {
	case 0:
		return nil
	case len(s.To):
		return &RecipientError{Replies: s.refused}
	}
	return &PartialError{Replies: s.refused}
}

func (p *route) closeAll(jobs []*submission) {
	each(jobs, func(s *submission) error {
		if s.session == nil {
			return nil
		}
		if s.complete && p.idle != nil {
			p.idle.put(s.session)
			return nil
		}
		if s.writer != nil {
			// In DATA only closing tells the server that no message comes
			// (RFC 5321 §4.1.1.4); after its reply the transaction is over.
			s.session.close()
			return nil
		}
		s.session.quit()
		return nil
	})
}

// prepare checks everything that needs no connection.
func (p *route) prepare(all []Transaction) ([]*submission, error) {
	if len(all) > maxTransactions {
		return nil, p.reject(554, fmt.Errorf("the message needs %d separate copies, at most %d can be sent at once", len(all), maxTransactions),
			"Send it to fewer blind-copy recipients at a time")
	}
	var jobs []*submission
	for _, t := range all {
		s, err := p.prepareOne(t)
		var rejected *Error
		if p.apart && errors.As(err, &rejected) {
			s.ended, err = err, nil
		}
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, s)
	}
	return jobs, nil
}

// prepareOne is never nil. An *Error is about the message, another one about this computer.
func (p *route) prepareOne(t Transaction) (*submission, error) {
	s := &submission{Transaction: t, refused: map[string]*Error{}}
	if len(t.To) == 0 {
		return s, p.reject(554, errors.New("a transaction has no recipients"), "")
	}
	if err := p.checkAddresses(t); err != nil {
		return s, err
	}
	var err error
	if s.facts, err = inspect(t.Body); errors.Is(err, errLines) {
		return s, p.reject(554, err, "")
	}
	return s, err
}

func (p *route) reject(code int, err error, remedy string) *Error {
	return &Error{Kind: KindRejected, Host: p.host, Op: "submit", Code: code, Err: err, Remedy: remedy}
}

// each runs f for all at once.
func each(jobs []*submission, f func(*submission) error) []error {
	errs := make([]error, len(jobs))
	var wg sync.WaitGroup
	for i, s := range jobs {
		wg.Go(func() { errs[i] = f(s) })
	}
	wg.Wait()
	return errs
}

// joined is the error of a stage: refused recipients of all transactions together, else the
// first other failure.
func joined(errs []error) error {
	refused := &RecipientError{Replies: map[string]*Error{}}
	var first error
	for _, err := range errs {
		var r *RecipientError
		switch {
		case errors.As(err, &r):
			for address, reply := range r.Replies {
				refused.Replies[address] = reply
			}
		case err != nil && first == nil:
			first = err
		}
	}
	if len(refused.Replies) > 0 {
		return refused
	}
	return first
}

// envelope connects and names sender and recipients.
func (p *route) envelope(ctx context.Context, s *submission) error {
	if s.session == nil {
		var err error
		if s.session, err = p.session(ctx); err != nil {
			return err
		}
	}
	if err := p.accepts(s); err != nil {
		return err
	}
	options := s.Notice.mail()
	options.Size, options.UTF8 = s.Body.Size(), s.UTF8
	if err := p.mail(ctx, s, options); err != nil {
		var known *Error
		if errors.As(err, &known) {
			return known
		}
		return s.session.replyError(ctx, "submit", err)
	}
	for _, to := range s.To {
		err := s.session.client.Rcpt(to, s.Notice.rcpt(to))
		var reply *smtp.SMTPError
		if err != nil && !errors.As(err, &reply) {
			return s.session.replyError(ctx, "submit", err)
		}
		if err != nil {
			s.refused[to] = s.session.replyError(ctx, "submit", err)
		}
	}
	if len(s.refused) == len(s.To) || len(s.refused) > 0 && !p.apart {
		return &RecipientError{Replies: s.refused}
	}
	return nil
}

// accepts compares the message with what the server offers.
func (p *route) accepts(s *submission) error {
	if limit := p.size(); limit > 0 && s.Body.Size() > limit { // RFC 1870 §6.1
		return p.reject(552, fmt.Errorf("the message has %d bytes, the provider takes %d", s.Body.Size(), limit), "Send a smaller one")
	}
	if ok, _ := s.session.client.Extension("8BITMIME"); !ok && s.facts.eightBit { // RFC 6152 §3
		return p.reject(554, errors.New("the message has 8-bit text, which the provider does not take (no 8BITMIME)"),
			"Let the mail program send it as quoted-printable")
	}
	if ok, _ := s.session.client.Extension("SMTPUTF8"); !ok && s.UTF8 { // RFC 6531 §3.2
		return p.reject(553, errors.New("the provider takes no international addresses (no SMTPUTF8)"), "Use ASCII addresses")
	}
	return nil
}

// data gets the server to 354.
func (p *route) data(ctx context.Context, s *submission) error {
	w, err := s.session.client.Data()
	if err != nil {
		return s.session.replyError(ctx, "submit", err)
	}
	s.writer = w
	return nil
}

// body sends the message and waits for the reply to it.
func (p *route) body(ctx context.Context, s *submission) error {
	_, err := io.Copy(s.writer, io.NewSectionReader(s.Body, 0, s.Body.Size()))
	if err == nil {
		s.session.conn.final()
		err = s.close(ctx)
	}
	var some *PartialError
	if err != nil && !errors.As(err, &some) {
		return s.session.replyError(ctx, "submit", err)
	}
	s.writer, s.complete = nil, err == nil
	return err
}

// close ends the body and waits for the reply, or over LMTP for the replies (RFC 2033 §4.2).
func (s *submission) close(ctx context.Context) error {
	if !s.session.lmtp {
		_, err := s.writer.CloseWithResponse()
		return err
	}
	accepted, err := s.writer.CloseWithLMTPResponse()
	if err == nil {
		return nil
	}
	some := &PartialError{Replies: map[string]*Error{}}
	for _, to := range s.To {
		if accepted[to] == nil && s.refused[to] == nil {
			some.Replies[to] = s.session.replyError(ctx, "submit", replyTo(to, err))
		}
	}
	return some
}

// replyTo is the reply about one recipient, or what kept it from coming.
func replyTo(to string, err error) error {
	var replies smtp.LMTPDataError
	if errors.As(err, &replies) && replies[to] != nil {
		return replies[to]
	}
	if errors.As(err, &replies) { // the connection broke between the replies
		return io.ErrUnexpectedEOF
	}
	return err
}

// checkAddresses refuses what the SMTP client would write into the command as it is: it
// does not quote, so "a> NOTIFY=NEVER"@example.org would inject parameters.
func (p *route) checkAddresses(t Transaction) error {
	for i, address := range append([]string{t.From}, t.To...) {
		if address == "" && i == 0 { // RFC 5321 §4.5.5
			continue
		}
		if err := checkAddress(address, t.UTF8); err != nil {
			return p.reject(553, err, "Correct the address")
		}
	}
	return nil
}

// maxAddress is local part, @ and domain (RFC 5321 §4.5.3.1).
const maxAddress = 64 + 1 + 255

func checkAddress(address string, utf8 bool) error {
	bad := func(why string) error {
		return fmt.Errorf("the address %s %s", oneLine(fmt.Sprintf("%q", address)), why)
	}
	at := -1
	for i := range len(address) {
		switch b := address[i]; {
		case b <= ' ' || b == 0x7f || b == '<' || b == '>' || b == '"' || b == '\\':
			return bad("holds a quote, space or control character, which cannot be sent safely")
		case b >= 0x80 && !utf8:
			return bad("is not ASCII")
		case b == '@':
			at = i
		}
	}
	if at < 1 || at == len(address)-1 {
		return bad("has no local part or no domain")
	}
	if len(address) > maxAddress {
		return bad("is too long")
	}
	return nil
}

var errLines = errors.New("the message has a line that does not end in CRLF")

// facts about a body that the envelope depends on.
type facts struct{ eightBit bool }

// inspect reads the body once before anything is sent. Every line must end in CRLF and no
// CR or LF stand alone: go-smtp passes a bare CR on, which smuggles (RFC 5321 §2.3.8).
func inspect(body mimescan.Source) (facts, error) {
	var f facts
	buf := make([]byte, 64<<10)
	r := io.NewSectionReader(body, 0, body.Size())
	var last byte
	for {
		n, err := r.Read(buf)
		for _, b := range buf[:n] {
			if (b == '\n') != (last == '\r') {
				return f, errLines
			}
			if b >= 0x80 {
				f.eightBit = true
			}
			last = b
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return f, fmt.Errorf("the message cannot be read: %w", err)
		}
	}
	if last == '\r' {
		return f, errLines
	}
	return f, nil
}
