package smtpd

import (
	"context"
	"io"
	"net"
	"net/netip"
	"slices"

	"github.com/emersion/go-smtp"

	"github.com/sealpost/sealpost/bridge"
)

// Relay takes mail from an MTA, which needs no login. Its errors are *bridge.Refusal.
type Relay interface {
	// Relay hands a message on. apart: each recipient has an answer of his own, in refused; the error is about all of them.
	Relay(ctx context.Context, e bridge.Envelope, message io.Reader, apart bool) (refused bridge.Refusals, err error)
	// CheckRecipient says beforehand who cannot get anything.
	CheckRecipient(address string) error
	// Trusts says whether mail is taken from an address; it is asked for every message.
	Trusts(ip netip.Addr) bool
	MaxMessageSize() int64
	// Offers says whether what comes next offers an extension; only then is it offered here.
	Offers(ctx context.Context, extension string) (bool, error)
}

// maxRelayed is how many recipients one message may have, each of whom may need a ciphertext of his own. MTAs divide their mail
// accordingly; 50 is what Postfix does unasked.
const maxRelayed = 50

// passedOn are the extensions that are offered only if what comes next offers them.
var passedOn = []string{"8BITMIME", "SMTPUTF8", "DSN"}

// relaySession is a connection of an MTA.
type relaySession struct {
	session *session // not embedded: an MTA does not log in
	handIn  *handIn
}

var _ smtp.LMTPSession = (*relaySession)(nil)

// handIn is a Relay as the account of a session.
type handIn struct {
	Relay
	apart   bool
	refused bridge.Refusals // of the message last handed in
}

// Submit implements Account.
func (h *handIn) Submit(ctx context.Context, e bridge.Envelope, message io.Reader) (err error) {
	h.refused, err = h.Relay.Relay(ctx, e, message, h.apart)
	return err
}

// newRelaySession asks what comes next for its extensions. If it cannot be asked, the MTA shall come again: it would return for good
// what seems to need an extension that is not there.
func (s *Server) newRelaySession(g *gate, c *smtp.Conn) (smtp.Session, error) {
	h := &handIn{Relay: s.o.Relay, apart: s.o.LMTP}
	r := &relaySession{session: &session{s: s, g: g, conn: c, account: h}, handIn: h}
	if !s.trusts(g.RemoteAddr()) {
		return r, nil
	}
	g.offers = map[string]bool{}
	for _, extension := range passedOn {
		offered, err := h.Offers(s.ctx, extension)
		if err != nil {
			s.o.Log.Warn("the next hop cannot be asked what it offers", "cause", err)
			return nil, reply(451, [3]int{4, 4, 1}, "The next hop cannot be reached, try again later")
		}
		g.offers[extension] = offered
	}
	return r, nil
}

func (s *Server) trusts(remote net.Addr) bool {
	a, ok := remote.(*net.TCPAddr)
	if !ok {
		return false
	}
	ip, ok := netip.AddrFromSlice(a.IP)
	return ok && s.o.Relay.Trusts(ip.Unmap())
}

// Mail implements smtp.Session.
func (r *relaySession) Mail(from string, o *smtp.MailOptions) error {
	if !r.session.s.trusts(r.session.g.RemoteAddr()) {
		r.session.s.o.Log.Warn("a host that is not trusted wants to relay", "remote", r.session.g.RemoteAddr().String())
		return reply(550, [3]int{5, 7, 1}, "Relaying denied: this host is not among the trusted ones of the configuration")
	}
	if err := r.session.Mail(from, o); err != nil {
		return err
	}
	r.session.envelope.Notice = noticeOf(o)
	return nil
}

func noticeOf(o *smtp.MailOptions) bridge.Notice {
	return bridge.Notice{Return: string(o.Return), EnvelopeID: o.EnvelopeID, To: map[string]bridge.NoticeEvents{}}
}

// Rcpt implements smtp.Session.
func (r *relaySession) Rcpt(to string, o *smtp.RcptOptions) error {
	if err := r.handIn.CheckRecipient(to); err != nil {
		return r.session.refused(err)
	}
	if err := r.session.Rcpt(to, o); err != nil {
		return err
	}
	events := bridge.NoticeEvents{OriginalType: string(o.OriginalRecipientType), Original: o.OriginalRecipient}
	for _, event := range o.Notify {
		events.Notify = append(events.Notify, string(event))
	}
	r.session.envelope.Notice.To[to] = events
	return nil
}

// Data implements smtp.Session: one answer for all recipients.
func (r *relaySession) Data(body io.Reader) error { return r.session.Data(body) }

// LMTPData implements smtp.LMTPSession: an answer for each (RFC 2033 §4.2).
func (r *relaySession) LMTPData(body io.Reader, status smtp.StatusCollector) error {
	to := slices.Clone(r.session.envelope.To)
	r.session.g.expectReplies(len(to))
	r.handIn.refused = nil
	err := r.session.Data(body)
	// The library drains what was left unread only after the answers, and the gate would take that for commands.
	if _, rest := io.Copy(io.Discard, body); rest != nil && err == nil {
		err = reply(451, [3]int{4, 3, 0}, "The message was not read to its end")
	}
	for _, address := range to {
		answer := err
		if refusal := r.handIn.refused.Of(address); err == nil && refusal != nil {
			answer = r.session.refused(refusal)
		}
		status.SetStatus(address, answer)
	}
	return err
}

// Reset implements smtp.Session.
func (r *relaySession) Reset() { r.session.Reset() }

// Logout implements smtp.Session.
func (r *relaySession) Logout() error { return r.session.Logout() }
