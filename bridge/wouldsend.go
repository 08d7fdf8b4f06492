package bridge

import (
	"context"
	"slices"

	"github.com/sealpost/sealpost/bridge/internal/keyring"
)

// Preview is what would happen to a message, without sending it.
type Preview struct {
	Decision   string             `json:"decision"` // encrypt, clear, refuse
	Split      bool               `json:"split"`    // some get ciphertext, others clear text
	Recipients []PreviewRecipient `json:"recipients"`
	Archive    []string           `json:"archive,omitempty"` // fingerprints of those who can read whatever is encrypted, too
}

// PreviewRecipient is the decision for one recipient, and what it rests on.
type PreviewRecipient struct {
	Address     string `json:"address"`
	Decision    string `json:"decision"`
	Fingerprint string `json:"fingerprint"`
	Source      string `json:"source"`
	Trust       string `json:"trust"`
	PQ          bool   `json:"pq"`
	Rule        string `json:"rule"`
	Reason      string `json:"reason"`
	Text        string `json:"text,omitempty"` // the reason in words, with the way out
}

// WouldSend decides about a new message from an address of the account to these recipients, exactly as Submit does.
func (a *Account) WouldSend(ctx context.Context, from string, to, bcc []string) Preview {
	return a.preview(ctx, MessageFacts{From: from}, a.ring, to, bcc)
}

// WouldSend decides about a new message from a hosted address, or any other, exactly as Outbound does. It makes no key.
func (g *Gateway) WouldSend(ctx context.Context, from string, to, bcc []string) (Preview, error) {
	facts := MessageFacts{From: normalized(from), Foreign: !g.Hosts(from)}
	var ring *keyring.Ring
	if g.Hosts(from) {
		var err error
		if ring, err = g.users.ring(ctx, from); err != nil {
			return Preview{}, err
		}
	}
	return g.preview(ctx, facts, ring, to, bcc), nil
}

// preview tells the decision about a message whose author's keys are in ring, nil: it is signed by nobody.
func (s *sender) preview(ctx context.Context, m MessageFacts, ring *keyring.Ring, to, bcc []string) Preview {
	visible := map[string]bool{}
	for _, address := range to {
		visible[normalized(address)] = true
	}
	regime := s.origin.regime(m.From, m.Envelope)
	recipients := s.decide(ctx, regime.Policy, m, unique(append(append([]string{}, to...), bcc...)), visible)
	verdicts := make([]Verdict, len(recipients))
	preview := Preview{Recipients: make([]PreviewRecipient, len(recipients))}
	for i, r := range recipients {
		verdicts[i] = r.Verdict
		preview.Recipients[i] = previewOf(r)
		preview.Recipients[i].PQ = s.postQuantum(m.From, ring, r, recipients)
	}
	for _, c := range regime.Archive {
		preview.Archive = append(preview.Archive, string(c.Fingerprint()))
	}
	preview.Decision, preview.Split = Overall(verdicts).String(), Mixed(verdicts)
	return preview
}

func previewOf(r recipient) PreviewRecipient {
	p := PreviewRecipient{
		Address: r.Address, Decision: r.Decision.String(), Rule: r.Rule, Reason: string(r.Reason), Text: r.Text,
		Source: string(r.lookup.Source), Trust: string(r.lookup.Trust),
	}
	if c := r.lookup.Certificate; c != nil {
		p.Fingerprint = string(c.Fingerprint())
	}
	return p
}

// postQuantum says whether every way to the session key of what a recipient would get is post-quantum: those of all who get the same,
// the sender among them. Bcc gets a ciphertext of its own; see compose.
func (s *sender) postQuantum(from string, ring *keyring.Ring, r recipient, all []recipient) bool {
	now := s.bridge.now()
	pq := func(r recipient) bool {
		return r.Decision == Encrypt && r.lookup.Certificate != nil && r.lookup.Certificate.PostQuantum(now)
	}
	if !r.visible || !pq(r) {
		return pq(r)
	}
	if ring != nil {
		own, err := ring.CertificateFor(normalized(from), now)
		if err != nil || !own.PostQuantum(now) {
			return false
		}
	}
	return !slices.ContainsFunc(all, func(other recipient) bool {
		return other.visible && other.Decision == Encrypt && !pq(other)
	})
}
