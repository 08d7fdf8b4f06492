package smtpd

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-smtp"

	"github.com/sealpost/sealpost/bridge"
)

// maxReplyText keeps a reply line, with code, enhanced code and CRLF, within 500 octets; RFC 5321
// §4.5.3.1.5 allows 512.
const maxReplyText = 480

// status is a reply code with its enhanced code (RFC 3463).
type status struct {
	code     int
	enhanced [3]int
}

// statuses are the replies to the bridge's refusals, as bridge/errors.go describes them.
var statuses = map[bridge.Reason]status{
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
	bridge.ReasonLoop:          {554, [3]int{5, 4, 6}},
	bridge.ReasonRelay:         {550, [3]int{5, 7, 1}},
	bridge.ReasonRate:          {450, [3]int{4, 7, 1}},
}

// reply is an answer to the client; lines are joined by LF.
func reply(code int, enhanced [3]int, text string) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: replyText(enhanced, strings.Split(text, "\n"))}
}

// refused turns what Submit returned into a reply. The client sees safe texts alone; the cause goes
// to the log.
func (s *session) refused(err error) error {
	var r *bridge.Refusal
	var direct *smtp.SMTPError
	switch {
	case errors.As(err, &r):
		s.s.o.Log.Info("message refused", "reason", string(r.Reason), "recipients", len(r.Recipients), "cause", r.Err)
		st := statusOf(r)
		return &smtp.SMTPError{Code: st.code, EnhancedCode: st.enhanced, Message: replyText(st.enhanced, refusalLines(r))}
	case errors.As(err, &direct):
		return direct
	}
	s.s.o.Log.Error("message not accepted", "cause", err)
	return reply(451, [3]int{4, 3, 0}, "Local error, nothing was sent; the log of Sealpost says more")
}

// statusOf takes the provider's own code where it gave one that refuses.
func statusOf(r *bridge.Refusal) status {
	if r.Reason == bridge.ReasonProvider && (r.Code/100 == 4 || r.Code/100 == 5) {
		st := status{r.Code, r.Enhanced}
		if st.enhanced[0] != r.Code/100 { // none, or one that contradicts the code (RFC 2034 §4)
			st.enhanced = [3]int{r.Code / 100, 0, 0}
		}
		return st
	}
	if st, ok := statuses[r.Reason]; ok {
		return st
	}
	return statuses[bridge.ReasonLocal]
}

func refusalLines(r *bridge.Refusal) []string {
	var lines []string
	if r.Text != "" {
		lines = append(lines, r.Text)
	}
	for _, rcpt := range r.Recipients {
		lines = append(lines, fmt.Sprintf("<%s>: %s", rcpt.Address, rcpt.Text))
	}
	if lines == nil {
		return []string{"The message was refused (" + string(r.Reason) + ")"}
	}
	return lines
}

// replyText makes the lines safe and short and puts the enhanced code before each but the last,
// where the library writes it (RFC 2034 §4).
func replyText(enhanced [3]int, lines []string) string {
	var list []string
	for _, line := range lines {
		list = append(list, wrap(printable(line), maxReplyText)...)
	}
	for i := range list[:len(list)-1] {
		list[i] = fmt.Sprintf("%d.%d.%d %s", enhanced[0], enhanced[1], enhanced[2], list[i])
	}
	return strings.Join(list, "\n")
}

// printable leaves printable ASCII (RFC 5321 §4.2: textstring); other characters become "?", control
// characters vanish.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < ' ' || (r >= 0x7f && r <= 0x9f):
			return -1
		case r > 0x9f || r == utf8.RuneError:
			return '?'
		}
		return r
	}, s)
}

// wrap breaks ASCII text into lines of at most width octets, between words where there are any.
func wrap(s string, width int) []string {
	var lines []string
	for len(s) > width {
		at := strings.LastIndexByte(s[:width+1], ' ')
		if at <= 0 {
			at = width
		}
		lines = append(lines, s[:at])
		s = strings.TrimLeft(s[at:], " ")
	}
	return append(lines, s)
}
