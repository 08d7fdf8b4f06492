package upstream

import "github.com/emersion/go-smtp"

// Notice is what the sender wants to hear of the message's fate (RFC 3461). It is passed on to servers that offer DSN. The
// zero value asks for nothing.
type Notice struct {
	Return     string            `json:"return,omitempty"`      // FULL or HDRS: what of the message comes back
	EnvelopeID string            `json:"envelope_id,omitempty"` // decoded
	To         map[string]Events `json:"to,omitempty"`          // by recipient, as the envelope has it
}

// Events are what to tell about one recipient, and for which address the message was at first.
type Events struct {
	Notify       []string `json:"notify,omitempty"`        // NEVER, or of SUCCESS, FAILURE, DELAY
	OriginalType string   `json:"original_type,omitempty"` // RFC822 or UTF-8
	Original     string   `json:"original,omitempty"`      // decoded
}

// Empty says that nothing is asked for.
func (n Notice) Empty() bool { return n.Return == "" && n.EnvelopeID == "" && len(n.To) == 0 }

func (n Notice) mail() *smtp.MailOptions {
	return &smtp.MailOptions{Return: smtp.DSNReturn(n.Return), EnvelopeID: n.EnvelopeID}
}

func (n Notice) rcpt(to string) *smtp.RcptOptions {
	e := n.To[to]
	o := &smtp.RcptOptions{OriginalRecipientType: smtp.DSNAddressType(e.OriginalType), OriginalRecipient: e.Original}
	for _, event := range e.Notify {
		o.Notify = append(o.Notify, smtp.DSNNotify(event))
	}
	return o
}
