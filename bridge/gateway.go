package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/bridge/internal/keyring"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/outbox"
	"github.com/sealpost/sealpost/bridge/upstream"
)

// A gateway stands beside a company's MTA, which hands it what leaves the company (gateway_outbound.go) and what comes in
// (gateway_inbound.go), and takes it back from it or has it sent on. It has no queue of its own to speak of: it answers after the
// next hop has, so that the MTA keeps what could not be delivered. Keys of users are made when they first send (hosted.go).

// GatewayOptions configure the gateway.
type GatewayOptions struct {
	Domains []string // whose users' keys are here
	// Where mail goes afterwards; nil: none goes in that direction.
	Outbound, Inbound *upstream.NextHop
	CAFile            string     // extra roots for the next hops
	Headers           HeaderMode // of what is encrypted; "" is baseline
	Company           Company
	Pass              []string       // addresses and domains whose users open their mail themselves
	Submission        string         // the address of the Web Key Service; "": none
	Trusted           []netip.Prefix // from where mail is taken
}

// Gateway relays mail for the users of its domains. Safe for concurrent use. Its options never change: SetGateway makes another one.
type Gateway struct {
	sender         // of mail that leaves the company
	in      sender // of mail that enters it
	options GatewayOptions
	out     *upstream.Relay // nil: none
	inside  *upstream.Relay // likewise
	users   *hosted
	id      string
}

// Refusals are why recipients do not get a message.
type Refusals map[string]*Refusal

// Of is why one recipient does not get it; nil: he does.
func (r Refusals) Of(address string) *Refusal { return r[normalized(address)] }

func (r Refusals) add(refusal *Refusal, addresses ...string) {
	for _, address := range addresses {
		r[normalized(address)] = refusal
	}
}

func (b *Bridge) openGateway(ctx context.Context, o Options) error {
	if o.Gateway == nil {
		return nil
	}
	g, err := b.newGateway(ctx, *o.Gateway, newHosted(b))
	if err == nil {
		b.gateway.Store(g)
	}
	return err
}

func (b *Bridge) newGateway(ctx context.Context, o GatewayOptions, users *hosted) (*Gateway, error) {
	tlsConfig, err := tlsConfigFor(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	relay := func(to *upstream.NextHop) *upstream.Relay {
		if to == nil {
			return nil
		}
		return upstream.NewRelay(upstream.RelayOptions{To: *to, TLS: tlsConfig})
	}
	o.Company = o.Company.inASCII()
	g := &Gateway{options: o, out: relay(o.Outbound), inside: relay(o.Inbound), users: users, id: b.vault.GatewayID()}
	log := b.log.With("account", gatewayOutbound)
	g.sender = sender{bridge: b, log: log, origin: g}
	g.in = sender{bridge: b, log: b.log.With("account", gatewayInbound), origin: inbound{g}}
	return g, errors.Join(g.enrolAll(ctx), g.openSubmissionKey(ctx), g.openDomainKeys(ctx))
}

// close ends the connections to the next hops that nobody uses.
func (g *Gateway) close() {
	for _, relay := range []*upstream.Relay{g.out, g.inside} {
		if relay != nil {
			relay.Close()
		}
	}
}

// Gateway of this installation; false if it has none.
func (b *Bridge) Gateway() (*Gateway, bool) {
	g := b.gateway.Load()
	return g, g != nil
}

// The names of the two directions in the log of decisions and in the outbox.
const (
	gatewayOutbound = "gateway-outbound"
	gatewayInbound  = "gateway-inbound"
)

// relayOf is the way out of what the outbox holds for the gateway.
func (b *Bridge) relayOf(account string) (outbox.Submitter, bool) {
	g, ok := b.Gateway()
	switch {
	case !ok:
		return nil, false
	case account == gatewayOutbound && g.out != nil:
		return g.out, true
	case account == gatewayInbound && g.inside != nil:
		return g.inside, true
	}
	return nil, false
}

// Domains of the gateway, in ASCII.
func (g *Gateway) Domains() []string {
	domains := make([]string, len(g.options.Domains))
	for i, domain := range g.options.Domains {
		domains[i] = strings.TrimPrefix(normalized("x@"+domain), "x@")
	}
	return domains
}

// Hosts says whether an address is in one of the gateway's domains.
func (g *Gateway) Hosts(address string) bool {
	return slices.ContainsFunc(g.options.Domains, func(domain string) bool { return matches(domain, address) })
}

// Address is the gateway's name in the log of decisions, for mail that leaves.
func (g *Gateway) Address() string { return gatewayOutbound }

// MaxMessageSize is what Outbound accepts, in bytes.
func (g *Gateway) MaxMessageSize() int64 { return maxPlain(g.out.MaxSize()) }

// MaxInboundSize is what Inbound accepts, in bytes.
func (g *Gateway) MaxInboundSize() int64 {
	limit := g.inside.MaxSize()
	if limit <= 0 {
		return defaultMaxMessage
	}
	return max(0, limit-traceRoom)
}

// traceRoom is what the status field and the trace field may add.
const traceRoom = 4 << 10

func (g *Gateway) event() string                    { return "relay" }
func (g *Gateway) ringOf(m *outgoing) *keyring.Ring { return m.ring }
func (g *Gateway) submit(ctx context.Context, t []upstream.Transaction) ([]error, error) {
	return g.out.Submit(ctx, t)
}

// neverSent: a relay keeps what other programs have written.
func (g *Gateway) neverSent(m *outgoing) []string {
	drop := []string{"Bcc", "Resent-Bcc"}
	if m.ours {
		drop = append(drop, "Autocrypt", "Autocrypt-Gossip")
	}
	for _, f := range m.header {
		if strings.Contains(strings.ToLower(strings.Join(strings.Fields(f.Name), "")), "x-sealpost-") {
			drop = append(drop, f.Name)
		}
	}
	return drop
}

// regime implements origin. The levels are about the gateway's own users. Whoever writes under a colleague's name is held to what is in force
// for either.
func (g *Gateway) regime(senders ...string) Regime {
	regime, found := Regime{Policy: g.bridge.Policy(), Headers: g.options.Headers}, false
	base := regime
	for _, sender := range slices.Backward(unique(senders)) { // the first one's rules are asked first
		switch one := g.options.Company.For(base, normalized(sender)); {
		case !g.Hosts(sender):
		case found:
			regime = one.and(regime)
		default:
			regime, found = one, true
		}
	}
	return regime
}

// account implements origin: the log names the user, the one that the MTA has let send.
func (g *Gateway) account(m *outgoing) string {
	for _, address := range append([]string{normalized(m.from)}, m.authors...) {
		if g.Hosts(address) {
			return address
		}
	}
	return gatewayOutbound
}

// lookup asks nobody about those inside, and for mail that passes or is a list's.
func (g *Gateway) lookup(ctx context.Context, p Policy, m MessageFacts, address string) (contacts.Lookup, RecipientFacts) {
	if g.Hosts(address) {
		return g.lookupHosted(ctx, p, m, address)
	}
	l := g.find(ctx, p, m, address)
	f := factsOf(address, l)
	if partner := g.partnerOf(address); partner != nil && !f.Usable && f.Problem == "" && !f.Blocked {
		l = contacts.Lookup{
			Contact: contacts.Contact{Address: address, Certificate: partner, Source: sourcePartner, Trust: contacts.Verified, Ever: l.Ever},
			Usable:  partner.CheckAny(g.bridge.now()), Conclusive: true,
		}
		f = factsOf(address, l)
	}
	return l, f
}

// lookupHosted is about a user of the gateway.
func (g *Gateway) lookupHosted(ctx context.Context, p Policy, m MessageFacts, address string) (l contacts.Lookup, f RecipientFacts) {
	inside := g.staysWith(m, address)
	if !inside || p.speaksOf(m, address) {
		l = g.users.lookup(ctx, address)
	}
	f = factsOf(address, l)
	f.Inside = inside
	return l, f
}

// staysWith says whether a message does not leave its company on its way to a user. What was opened may be any company's, unless a user has sent it.
func (g *Gateway) staysWith(m MessageFacts, address string) bool {
	senders := slices.DeleteFunc(append([]string{m.From, m.Envelope}, m.Authors...), func(sender string) bool { return !g.Hosts(sender) })
	if len(senders) == 0 {
		return len(g.options.Company.Tenants) == 0 || !m.RepliesToEncrypted
	}
	return allOf(senders, func(sender string) bool { return g.options.Company.together(sender, address) })
}

func (g *Gateway) find(ctx context.Context, p Policy, m MessageFacts, address string) contacts.Lookup {
	mode, _ := p.modeFor(m, address)
	if m.Bulk || m.passes(mode) || m.Report && mode != Require {
		return g.bridge.contacts.Known(ctx, address)
	}
	return g.bridge.certificateOf(ctx, address)
}

// inbound is the origin of mail that enters the company.
type inbound struct{ *Gateway }

func (i inbound) Address() string       { return gatewayInbound }
func (i inbound) MaxMessageSize() int64 { return i.MaxInboundSize() }
func (i inbound) submit(ctx context.Context, t []upstream.Transaction) ([]error, error) {
	return i.inside.Submit(ctx, t)
}

const (
	// maxReceived is how many trace fields a message may have (RFC 5321 §6.3).
	maxReceived = 100
	// maxPasses is how often a message may come this way: a list inside the company or a forwarding user sends it again, a loop
	// does so without end.
	maxPasses = 5
)

// mark is in the trace field of every message that has passed in that direction.
func (g *Gateway) mark(direction string) string { return "Sealpost " + direction + " " + g.id }

func (g *Gateway) trace(m *outgoing) []pgpmime.Field {
	return []pgpmime.Field{g.received("outbound", m.client)}
}

// received is the gateway's trace field (RFC 5321 §4.4).
func (g *Gateway) received(direction string, c Client) pgpmime.Field {
	return pgpmime.Field{Name: "Received", Value: fmt.Sprintf("from %s ([%s]) by localhost (%s); %s",
		plainWord(c.Hello), plainWord(c.IP), g.mark(direction), g.bridge.now().UTC().Format(time.RFC1123Z))}
}

// plainWord keeps what a client says about itself from being more than a word.
func plainWord(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune(".-:_", r) {
			return r
		}
		return -1
	}, s)
	if s == "" {
		return "unknown"
	}
	return s[:min(len(s), 255)]
}

// checkLoop refuses what has been here before, or has been everywhere.
func (g *Gateway) checkLoop(h mimescan.Header, direction string) error {
	passes := g.passes(h, direction)
	if passes >= maxPasses {
		return &Refusal{Reason: ReasonLoop, Text: fmt.Sprintf("the message has passed this gateway %d times before: a mail loop. Check what forwards it, and the next hop", passes)}
	}
	if len(h.Values("Received")) > maxReceived {
		return &Refusal{Reason: ReasonLoop, Text: fmt.Sprintf("the message has been relayed more than %d times: a mail loop", maxReceived)}
	}
	return nil
}

// passes counts how often a message has come this way.
func (g *Gateway) passes(h mimescan.Header, direction string) (n int) {
	for _, value := range h.Values("Received") {
		if strings.Contains(strings.Join(strings.Fields(value), " "), g.mark(direction)) {
			n++
		}
	}
	return n
}

// handOverApart gives all bodies to a next hop, and every recipient the answer that is his. Nothing is queued here: who
// hands in keeps what is refused.
func handOverApart(ctx context.Context, to *upstream.Relay, m *outgoing, parcels []parcel, refused Refusals) error {
	if len(parcels) == 0 {
		return nil
	}
	results, err := to.SubmitApart(ctx, transactions(m, parcels))
	if err != nil {
		return providerRefusal(err)
	}
	for _, u := range withoutDelivered(parcels, results) {
		for _, address := range u.to {
			refused.add(nextHopRefusal(u.failure, address), address)
		}
	}
	return nil
}

// nextHopRefusal is what a failure means for one recipient.
func nextHopRefusal(failure error, address string) *Refusal {
	var all *upstream.RecipientError
	var some *upstream.PartialError
	switch {
	case errors.As(failure, &all) && all.Replies[address] != nil:
		return providerRefusal(all.Replies[address])
	case errors.As(failure, &some) && some.Replies[address] != nil:
		return providerRefusal(some.Replies[address])
	}
	return providerRefusal(failure)
}

// Notice and NoticeEvents are what a sender wants to hear of a message's fate (RFC 3461).
type (
	Notice       = upstream.Notice
	NoticeEvents = upstream.Events
)

// Lane is one direction of the gateway, for a listener. Every message is judged by one set of options, those in force when it
// was handed in.
type Lane struct {
	bridge *Bridge
	leaves bool
}

func (l Lane) gateway() *Gateway { return l.bridge.gateway.Load() }

// Lanes of the gateway: of mail that leaves the company, and of mail that enters it.
func (g *Gateway) Lanes() (outbound, inbound Lane) {
	return Lane{g.bridge, true}, Lane{g.bridge, false}
}

// Relay is Outbound or Inbound.
func (l Lane) Relay(ctx context.Context, e Envelope, message io.Reader, apart bool) (Refusals, error) {
	if l.leaves {
		return l.gateway().Outbound(ctx, e, message, apart)
	}
	return l.gateway().Inbound(ctx, e, message, apart)
}

// CheckRecipient refuses those whom nobody here could deliver to: into the company only its own addresses go.
func (l Lane) CheckRecipient(address string) error {
	if !l.leaves && !l.gateway().Hosts(address) {
		return relayDenied(address)
	}
	return nil
}

// MaxMessageSize is what Relay accepts, in bytes.
func (l Lane) MaxMessageSize() int64 {
	if l.leaves {
		return l.gateway().MaxMessageSize()
	}
	return l.gateway().MaxInboundSize()
}

// Offers says whether the next hop offers an SMTP extension. The error is an *upstream.Error.
func (l Lane) Offers(ctx context.Context, extension string) (bool, error) {
	return l.way().Offers(ctx, extension)
}

func (l Lane) way() *upstream.Relay {
	if l.leaves {
		return l.gateway().out
	}
	return l.gateway().inside
}
