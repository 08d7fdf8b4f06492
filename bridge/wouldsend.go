package bridge

import "context"

// Preview is what would happen to a message, without sending it.
type Preview struct {
	Decision   string             `json:"decision"` // encrypt, clear, refuse
	Split      bool               `json:"split"`    // some get ciphertext, others clear text
	Recipients []PreviewRecipient `json:"recipients"`
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
	visible := map[string]bool{}
	for _, address := range to {
		visible[normalized(address)] = true
	}
	recipients := a.decide(ctx, MessageFacts{From: from}, unique(append(append([]string{}, to...), bcc...)), visible)
	verdicts := make([]Verdict, len(recipients))
	preview := Preview{Recipients: make([]PreviewRecipient, len(recipients))}
	for i, r := range recipients {
		verdicts[i] = r.Verdict
		preview.Recipients[i] = a.previewOf(r)
	}
	preview.Decision, preview.Split = Overall(verdicts).String(), Mixed(verdicts)
	return preview
}

func (a *Account) previewOf(r recipient) PreviewRecipient {
	p := PreviewRecipient{
		Address: r.Address, Decision: r.Decision.String(), Rule: r.Rule, Reason: string(r.Reason), Text: r.Text,
		Source: string(r.lookup.Source), Trust: string(r.lookup.Trust),
	}
	if c := r.lookup.Certificate; c != nil {
		p.Fingerprint, p.PQ = string(c.Fingerprint()), c.PostQuantum(a.bridge.now())
	}
	return p
}
