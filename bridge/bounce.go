package bridge

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/outbox"
)

// bounce tells the user, in the account's own INBOX, that a message could not be delivered
// to some recipients (RFC 3464). It carries no content of the message, and is sealed like everything
// else that is appended.
func (b *Bridge) bounce(ctx context.Context, m outbox.Message, cause error) error {
	a, ok := b.Account(m.Account)
	if _, relayed := b.relayOf(m.Account); relayed {
		return b.gateway.Load().bounce(ctx, m, cause)
	}
	if !ok {
		b.log.Error("a message was given up and its account is gone", "account", m.Account, "message_id", m.MessageID)
		return nil
	}
	report := spool.New(b.spoolDir)
	defer report.Close()
	if _, err := report.Write([]byte(bounceText(a.Address(), domainOf(a.Address()), m, cause, b.now()))); err != nil {
		return err
	}
	_, err := a.Append(ctx, "INBOX", report.Reader(), report.Size(), nil)
	return err
}

func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

// bounceText is a report to address from a domain's postmaster.
func bounceText(address, domain string, m outbox.Message, cause error, now time.Time) string {
	reason := strings.Join(strings.Fields(cause.Error()), " ")
	const boundary = "=_sealpost_report"
	var s strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&s, format+"\r\n", args...) }
	line("From: Sealpost <postmaster@%s>", domain)
	line("To: <%s>", address)
	line("Date: %s", now.UTC().Format(time.RFC1123Z))
	line("Message-ID: %s", newMessageID(address))
	line("In-Reply-To: %s", m.MessageID)
	line("Subject: Your message could not be delivered")
	line("Auto-Submitted: auto-replied")
	line("MIME-Version: 1.0")
	line("Content-Type: multipart/report; report-type=delivery-status; boundary=\"%s\"\r\n", boundary)
	line("--%s\r\nContent-Type: text/plain; charset=utf-8\r\n", boundary)
	line("Your message %s of %s could not be delivered to:\r\n", m.MessageID, m.Queued.UTC().Format(time.RFC1123Z))
	for _, to := range m.To {
		line("  %s", to)
	}
	line("\r\nThe provider's last answer: %s\r\n\r\nSend it again to these recipients alone: others have it, or Sealpost is still trying.", reason)
	line("--%s\r\nContent-Type: message/delivery-status\r\n", boundary)
	line("Reporting-MTA: dns; localhost\r\n")
	for _, to := range m.To {
		line("Final-Recipient: rfc822; %s\r\nAction: failed\r\nStatus: 5.0.0\r\nDiagnostic-Code: X-Sealpost; %s\r\n", to, reason)
	}
	line("--%s--", boundary)
	return s.String()
}
