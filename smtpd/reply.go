package smtpd

import (
	"errors"
	"strings"

	"github.com/emersion/go-smtp"

	"github.com/sealpost/sealpost/bridge"
)

// maxReply bounds the text of a line of a reply, in bytes (RFC 5321 §4.5.3.1.5: 512 with
// code and line ending).
const maxReply = 480

func reply(code int, enhanced [3]int, text string) *smtp.SMTPError {
	return &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: text}
}

var (
	errAuthRequired = reply(530, [3]int{5, 7, 0}, "log in first; see sealpost client for user name and password")
	errBadAddress   = reply(553, [3]int{5, 1, 3}, "this address cannot be used: only plain name@domain addresses can")
	errTooLarge     = reply(552, [3]int{5, 3, 4}, "the message is larger than the provider accepts once encrypted")
)

// codes are the replies for each reason, as bridge's errors.go has them.
var codes = map[bridge.Reason]struct {
	code     int
	enhanced [3]int
}{
	bridge.ReasonNoCertificate: {550, [3]int{5, 7, 1}},
	bridge.ReasonCertificate:   {550, [3]int{5, 7, 1}},
	bridge.ReasonPolicy:        {550, [3]int{5, 7, 1}},
	bridge.ReasonLookup:        {451, [3]int{4, 7, 5}},
	bridge.ReasonSender:        {553, [3]int{5, 7, 1}},
	bridge.ReasonMalformed:     {554, [3]int{5, 6, 0}},
	bridge.ReasonTooLarge:      {552, [3]int{5, 3, 4}},
	bridge.ReasonProvider:      {451, [3]int{4, 4, 1}},
	bridge.ReasonUnreachable:   {451, [3]int{4, 4, 1}},
	bridge.ReasonLocal:         {451, [3]int{4, 3, 0}},
}

// refused turns the bridge's error into a reply: the client gets the safe text, the log the cause.
func (s *session) refused(err error) error {
	log := s.peer.server.options.Log
	var refusal *bridge.Refusal
	if !errors.As(err, &refusal) {
		log.Error("a message could not be processed", "cause", err)
		return reply(451, [3]int{4, 3, 0}, "Sealpost could not process the message; nothing was sent. Its log says why")
	}
	log.Warn("a message was refused", "reason", refusal.Reason, "recipients", len(refusal.Recipients), "cause", refusal.Err)
	c, ok := codes[refusal.Reason]
	if !ok {
		c = codes[bridge.ReasonLocal]
	}
	if refusal.Code >= 400 && refusal.Code < 600 {
		c.code, c.enhanced = refusal.Code, [3]int{refusal.Code / 100, 0, 0}
		if refusal.Enhanced[0] == refusal.Code/100 {
			c.enhanced = refusal.Enhanced
		}
	}
	return reply(c.code, c.enhanced, textOf(refusal))
}

// textOf is a line for the message and one for each recipient; one for all where that fits.
func textOf(r *bridge.Refusal) string {
	lines := []string{clean(r.Text)}
	for _, recipient := range r.Recipients {
		lines = append(lines, clean(recipient.Address+": "+recipient.Text))
	}
	if one := strings.Join(lines, "; "); len(one) <= maxReply {
		return one
	}
	return strings.Join(lines, "\n")
}

// clean makes text fit for one line of a reply: printable ASCII of bounded length.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\r' || r == '\n':
			return ' '
		case r < ' ' || r == 0x7f:
			return -1
		case r > 0x7f:
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), maxReply)]
}
