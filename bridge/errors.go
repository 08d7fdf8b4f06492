package bridge

import (
	"errors"
	"strings"

	"github.com/sealpost/sealpost/bridge/upstream"
)

// ErrCredentials says that user name or password are wrong.
var ErrCredentials = errors.New("user name or password is wrong")

// Reason is a stable token for a refusal.
type Reason string

// The reasons of a Refusal; comments give smtpd's reply (RFC 5321, RFC 3463).
const (
	ReasonNoCertificate Reason = "no-certificate" // 550 5.7.1
	ReasonCertificate   Reason = "certificate"    // 550 5.7.1: revoked, expired, weak, changed
	ReasonPolicy        Reason = "policy"         // 550 5.7.1
	ReasonLookup        Reason = "lookup"         // 451 4.7.5: no definite answer, try again
	ReasonSender        Reason = "sender"         // 553 5.7.1: not the account's address
	ReasonMalformed     Reason = "malformed"      // 554 5.6.0
	ReasonTooLarge      Reason = "too-large"      // 552 5.3.4
	ReasonProvider      Reason = "provider"       // the provider's own code, else 451 4.4.1
	ReasonUnreachable   Reason = "unreachable"    // 451 4.4.1
	ReasonLocal         Reason = "local"          // 451 4.3.0: disk full, vault locked, …
	ReasonLoop          Reason = "loop"           // 554 5.4.6: it has been here before
	ReasonRelay         Reason = "relay"          // 550 5.7.1: not for us to deliver
	ReasonRate          Reason = "rate"           // 450 4.7.1: a device sends too much
)

// RecipientRefusal is why one recipient stands in the way.
type RecipientRefusal struct {
	Address string
	Reason  Reason
	Text    string // one sentence, safe to show: what is wrong and what the user can do
}

// Refusal says that a message was not accepted and that nothing left the device.
type Refusal struct {
	Reason     Reason
	Text       string // one sentence, safe to show to the client
	Recipients []RecipientRefusal
	Code       int    // SMTP reply code if the provider gave one, else 0
	Enhanced   [3]int // likewise
	Err        error  // the cause, for the log only
}

func (r *Refusal) Error() string {
	texts := []string{r.Text}
	for _, rcpt := range r.Recipients {
		texts = append(texts, rcpt.Address+": "+rcpt.Text)
	}
	return strings.Join(texts, "; ")
}

func (r *Refusal) Unwrap() error { return r.Err }

// localRefusal is for what went wrong on this device: the client keeps the message and may
// try again.
func localRefusal(err error) *Refusal {
	return &Refusal{
		Reason: ReasonLocal, Err: err,
		Text: "Sealpost could not process the message; nothing was sent. Its log says why (disk full, key missing); then try again",
	}
}

// providerRefusal passes on why the provider did not take the message.
func providerRefusal(err error) *Refusal {
	var refused *upstream.RecipientError
	if errors.As(err, &refused) {
		return recipientRefusal(refused)
	}
	var failure *upstream.Error
	if !errors.As(err, &failure) {
		return &Refusal{Reason: ReasonUnreachable, Err: err, Text: "the provider could not be reached; nothing was sent. Try again later"}
	}
	r := &Refusal{Reason: ReasonUnreachable, Text: failure.Error(), Err: err}
	if failure.Kind == upstream.KindRejected || failure.Kind == upstream.KindTemporary {
		r.Reason, r.Code = ReasonProvider, failure.Code
	}
	return r
}

func recipientRefusal(refused *upstream.RecipientError) *Refusal {
	r := &Refusal{Reason: ReasonProvider, Err: refused, Text: "the provider refuses these recipients; nothing was sent to anybody"}
	for address, reply := range refused.Replies {
		r.Recipients = append(r.Recipients, RecipientRefusal{Address: address, Reason: ReasonProvider, Text: reply.Reply})
		if r.Code == 0 || reply.Code >= 500 {
			r.Code = reply.Code
		}
	}
	return r
}
