package bridge

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"
)

// How a message leaves the company. It is the story of outgoing.go, told by a relay:
//
//	receive   spool it, read its header, add a trace field
//	check     it is no loop; whose it is: a user's, who signs, or somebody else's
//	report    an MTA's report about mail that was opened here loses what it quotes
//	decide    as for accounts; what stays inside, and what is not ours to change, passes by rules with names
//	compose, hand over, record
//
// The MTA gets its answer after the next hop has answered.

// Outbound takes a message from the company's MTA. apart: each recipient has an answer of his own (LMTP), in refused;
// otherwise one refused recipient refuses the message for all. The error, a *Refusal, is about all recipients.
func (g *Gateway) Outbound(ctx context.Context, e Envelope, message io.Reader, apart bool) (refused Refusals, err error) {
	start := time.Now()
	refused, err = g.leave(ctx, e, message, apart)
	g.bridge.metrics.Submitted(resultOf(err), time.Since(start))
	return refused, err
}

func (g *Gateway) leave(ctx context.Context, e Envelope, message io.Reader, apart bool) (Refusals, error) {
	m, err := g.receive(ctx, e, message)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if err := g.checkLoop(m.header, "outbound"); err != nil {
		return nil, err
	}
	facts, err := g.outboundFacts(ctx, m)
	if err != nil {
		return nil, err
	}
	recipients := g.decide(ctx, m.regime.Policy, facts, m.to, m.visible)
	if refusal := refusalOf(recipients); refusal != nil && !apart {
		g.record(ctx, m, recipients)
		return nil, refusal
	}
	going, refused := withoutRefused(recipients)
	if err := g.lendKey(ctx, m, going); err != nil {
		return nil, localRefusal(err)
	}
	parcels, err := g.compose(ctx, m, going)
	defer closeAll(parcels)
	if err != nil {
		return nil, err
	}
	if apart {
		err = g.giveApart(ctx, m, parcels, recipients, refused)
	} else {
		err = g.giveAll(ctx, m, parcels, recipients)
	}
	return refused, err
}

// giveAll is for an MTA that takes one answer.
func (g *Gateway) giveAll(ctx context.Context, m *outgoing, parcels []parcel, recipients []recipient) error {
	lost, err := g.handOver(ctx, m, parcels)
	if err != nil {
		return err
	}
	refusal := partlySent(recipients, lost)
	g.record(ctx, m, recipients)
	if refusal != nil {
		return refusal
	}
	return nil
}

// giveApart is for an MTA that takes an answer for each recipient.
func (g *Gateway) giveApart(ctx context.Context, m *outgoing, parcels []parcel, recipients []recipient, refused Refusals) error {
	if err := handOverApart(ctx, g.out, m, parcels, refused); err != nil {
		return err
	}
	for i, r := range recipients {
		if refusal := refused.Of(r.Address); refusal != nil && r.Decision != Refuse {
			recipients[i].Verdict = refuse(r.Verdict, refusal.Reason, refusal.Text)
		}
	}
	g.record(ctx, m, recipients)
	return nil
}

// withoutRefused are those who may get the message, and why the others may not.
func withoutRefused(recipients []recipient) (going []recipient, refused Refusals) {
	refused = Refusals{}
	for _, r := range recipients {
		if r.Decision != Refuse {
			going = append(going, r)
			continue
		}
		one := RecipientRefusal{Address: r.Address, Reason: r.Reason, Text: r.Text}
		refused.add(&Refusal{Reason: r.Reason, Text: "not sent", Recipients: []RecipientRefusal{one}}, r.Address)
	}
	return going, refused
}

// meet implements origin. Whoever opens his mail himself signs himself: to a key of ours he would get answers that he cannot read.
func (g *Gateway) meet(ctx context.Context, m *outgoing) error {
	if !g.speaksFor(m) || slices.ContainsFunc(g.options.Pass, func(pattern string) bool { return matches(pattern, m.author) }) {
		return nil
	}
	own, err := g.keepsOwnKey(ctx, m.author)
	m.ours = !own && !m.ciphertext
	return err
}

// speaksFor says whether the gateway may sign for the author: one of its users who is the envelope's sender, too, and has written
// the message himself. What came in from outside before, a forwarded message, bears our trace field for that direction, and our status
// field unless it has passed on its way out, too, or its recipient opens his mail himself.
func (g *Gateway) speaksFor(m *outgoing) bool {
	if m.author == "" || !g.Hosts(m.author) || normalized(m.from) != m.author || len(m.fromFields) != 1 || g.passes(m.header, "inbound") > 0 {
		return false
	}
	for _, sender := range m.senders {
		if list := addressesIn(sender); len(list) != 1 || normalized(list[0]) != m.author {
			return false
		}
	}
	return !slices.ContainsFunc([]string{statusField, "List-Id", "Resent-From", "Resent-Sender"}, func(name string) bool { return len(m.header.Values(name)) > 0 })
}

// outboundFacts are messageFacts, and what only a gateway sees. Wishes count for the users alone.
func (g *Gateway) outboundFacts(ctx context.Context, m *outgoing) (MessageFacts, error) {
	if !g.speaksFor(m) && m.force == ForceClear {
		m.force = ForceNothing
	}
	report := g.isReport(m) && !allOf(m.to, g.Hosts)
	if report {
		if err := g.stripReport(ctx, m); err != nil {
			return MessageFacts{}, err
		}
	}
	quoted, marked, err := g.quotedMessages(m.message, m.from == "")
	if err != nil {
		return MessageFacts{}, localRefusal(err)
	}
	quoted, marked = append(quoted, messageIDs(m.header, "Message-ID")...), marked || openedHere(m.header) // forwarded as it is
	m.references = append(m.references, quoted...)
	facts, err := g.messageFacts(ctx, m)
	facts.RepliesToEncrypted = facts.RepliesToEncrypted || marked
	facts.Authors = m.authors
	facts.Foreign = m.certain && !slices.ContainsFunc(m.authors, g.Hosts) // in doubt it is a user's
	facts.Bulk = isBulk(m)
	if err == nil && report && !marked { // it answers what was opened, but stripReport has left nothing of that
		var opened bool
		opened, err = g.bridge.journal.arrivedEncrypted(ctx, quoted)
		facts.Report, facts.RepliesToEncrypted = !opened, opened
	}
	return facts, err
}

func allOf(addresses []string, is func(string) bool) bool {
	return !slices.ContainsFunc(addresses, func(address string) bool { return !is(address) })
}

// isBulk says whether a message is a list's (RFC 2919, and what older programs write).
func isBulk(m *outgoing) bool {
	switch strings.ToLower(strings.TrimSpace(m.header.Get("Precedence"))) {
	case "list", "bulk", "junk":
		return true
	}
	return len(m.header.Values("List-Id")) > 0
}

// lendKey gives the message its author's key, made now if he has none, unless it stays inside or passes as it is.
func (g *Gateway) lendKey(ctx context.Context, m *outgoing, going []recipient) (err error) {
	ours := func(r recipient) bool { return r.Rule != ruleInside && r.Rule != ruleForeign && r.Rule != ruleReport }
	if m.ours && slices.ContainsFunc(going, ours) {
		m.ring, err = g.users.sending(ctx, m.author)
	}
	return err
}
