package bridge

import (
	"context"
	"errors"
	"slices"

	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/outbox"
	"github.com/sealpost/sealpost/bridge/upstream"
)

// errNotQueued says that what the next hop did not take could not be kept either.
var errNotQueued = errors.New("the next hop did not take it, and it could not be queued")

// notice is what m's sender wants to hear of it: of what was opened, nothing that returns it.
func (p parcel) notice(m *outgoing) upstream.Notice {
	n := m.notice
	if p.opened {
		n.Return = "HDRS" // RFC 3461 §4.3
	}
	return n
}

// partlyDelivered names those who get nothing although others have the message. It is permanent: at a temporary reply the MTA
// would send to all again.
func partlyDelivered(lost []string) *Refusal {
	r := &Refusal{Reason: ReasonProvider, Code: 554, Enhanced: [3]int{5, 3, 0}, Text: "the message was delivered, but not to everybody"}
	for _, address := range lost {
		r.Recipients = append(r.Recipients, RecipientRefusal{Address: address, Reason: ReasonLocal, Text: errNotQueued.Error()})
	}
	return r
}

// bounce tells the sender of what the outbox has given up (RFC 3464), as an MTA does, without anything of the message. Nobody is
// told of what nobody sent, nor who did not want to be.
func (g *Gateway) bounce(ctx context.Context, m outbox.Message, cause error) error {
	if m.From == "" || !slices.ContainsFunc(m.To, func(to string) bool { return !slices.Contains(m.Notice.To[to].Notify, "NEVER") }) {
		g.log.Warn("a message was given up and its sender is not told", "message_id", m.MessageID, "recipients", len(m.To), "cause", cause)
		return nil
	}
	way := g.out
	if g.Hosts(m.From) && g.inside != nil || way == nil {
		way = g.inside
	}
	report := spool.New(g.bridge.spoolDir)
	defer report.Close()
	if _, err := report.Write([]byte(bounceText(m.From, g.options.Domains[0], m, cause, g.bridge.now()))); err != nil {
		return err
	}
	results, err := way.Submit(ctx, []upstream.Transaction{{To: []string{m.From}, Body: report, UTF8: m.UTF8}})
	return errors.Join(append(results, err)...)
}
