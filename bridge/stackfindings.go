package bridge

import (
	"fmt"
	"time"

	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/outbox"
)

// Finding is something about the stack that the user should know, and what to do about it.
type Finding struct {
	Level   Level  `json:"level"`
	Subject string `json:"subject"` // the account, mailbox or address it is about
	What    string `json:"what"`
	Remedy  string `json:"remedy"`
}

// Level says how much a finding matters.
type Level string

// The levels of findings.
const (
	Attention Level = "attention" // something is not as protected as it should be, or soon will not be
	Note      Level = "note"      // good to know
)

// NeedsAttention says whether there is a finding that does.
func (s Stack) NeedsAttention() bool {
	return len(s.Findings) > 0 && s.Findings[0].Level == Attention // those come first
}

// How long before the end of something it is worth saying so.
const (
	ownKeyNotice      = 60 * 24 * time.Hour
	contactNotice     = 30 * 24 * time.Hour
	serverNotice      = 7 * 24 * time.Hour
	waitingIsNoMatter = time.Hour
)

// findings are in the order in which they matter: attention first, accounts before correspondents.
func findings(s *Stack, waiting []outbox.Message) []Finding {
	var all []Finding
	for _, a := range s.Accounts {
		all = append(all, a.findings(s.Made)...)
	}
	all = append(all, waitingFindings(waiting, s.Made)...)
	for _, c := range s.Correspondents {
		all = append(all, c.findings(s.Made)...)
	}
	sorted := []Finding{} // [] in JSON, not null
	for _, level := range []Level{Attention, Note} {
		for _, f := range all {
			if f.Level == level {
				sorted = append(sorted, f)
			}
		}
	}
	return sorted
}

func (a AccountStack) findings(now time.Time) []Finding {
	var all []Finding
	if a.Problem != "" {
		all = append(all, Finding{Attention, a.Address, "the provider is " + a.Provider + ": " + a.Problem, "see sealpost status"})
	}
	all = append(all, a.keyFindings(now)...)
	for _, h := range a.Transport {
		all = append(all, h.findings(a.Address, now)...)
	}
	for _, m := range a.Mailboxes {
		all = append(all, m.findings(a.Address)...)
	}
	return all
}

func (a AccountStack) keyFindings(now time.Time) []Finding {
	if len(a.Keys) == 0 {
		return []Finding{{Attention, a.Address, "it has no key: nothing can be sealed, and nobody can encrypt to you", "sealpost key generate"}}
	}
	for _, k := range a.Keys {
		switch {
		case !k.Primary:
		case k.Problem != "":
			return []Finding{{Attention, a.Address, "nobody can encrypt to your key: " + k.Problem, "make another: sealpost key generate --primary; if it has only expired: sealpost key rotate --expires 2y"}}
		case endsWithin(k.Expires, ownKeyNotice, now):
			return []Finding{{Attention, a.Address, "your key expires on " + k.Expires.Format(time.DateOnly), "give it a later end: sealpost key rotate --expires 2y"}}
		}
	}
	return nil
}

func (h Hop) findings(account string, now time.Time) []Finding {
	switch {
	case h.Security == "insecure":
		return []Finding{{Note, account, h.Protocol + " to " + h.Server + " is without TLS; it does not leave this machine", "use TLS if that program offers it"}}
	case endsWithin(h.Ends, serverNotice, now):
		return []Finding{{Note, account, "the certificate of " + h.Server + " ends on " + h.Ends.Format(time.DateOnly), "if the provider does not renew it in time, connections will be refused"}}
	}
	return nil
}

func (m MailboxStack) findings(account string) []Finding {
	var all []Finding
	subject := account + ", " + m.Name
	if m.Clear > 0 && m.Seals {
		all = append(all, Finding{Attention, subject, fmt.Sprintf("the provider can read %s", messages(m.Clear)), fmt.Sprintf("sealpost seal --mailbox %q", m.Name)})
	}
	if m.Clear > 0 && !m.Seals {
		all = append(all, Finding{Note, subject, fmt.Sprintf("the provider can read %s, and mail that arrives clear stays so", messages(m.Clear)), `seal = "all" in the configuration, then sealpost seal`})
	}
	if m.Failed > 0 {
		all = append(all, Finding{Note, subject, messages(m.Failed) + " cannot be opened with your keys", "if you have an older key: sealpost key import"})
	}
	if m.Unopened > 0 {
		all = append(all, Finding{Note, subject, "not looked at yet: " + messages(m.Unopened), "leave sealpost run running; it opens them, the newest first"})
	}
	return all
}

func messages(n int) string {
	if n == 1 {
		return "1 message"
	}
	return fmt.Sprintf("%d messages", n)
}

func waitingFindings(waiting []outbox.Message, now time.Time) []Finding {
	var all []Finding
	for _, m := range waiting {
		if now.Sub(m.Queued) > waitingIsNoMatter {
			all = append(all, Finding{Attention, m.Account, fmt.Sprintf("message %d has been waiting in the outbox since %s: %s", m.ID, m.Queued.UTC().Format(time.DateTime+" UTC"), m.LastError),
				fmt.Sprintf("sealpost outbox retry %d, or cancel %d", m.ID, m.ID)})
		}
	}
	return all
}

func (c Correspondent) findings(now time.Time) []Finding {
	var all []Finding
	switch {
	case c.Blocked:
		return []Finding{{Note, c.Address, "it is blocked: nothing is sent there", "sealpost contact block --off " + c.Address}}
	case c.Pending != "":
		all = append(all, Finding{Attention, c.Address, "another certificate was seen; nothing is sent until you decide", "compare: sealpost contact verify " + c.Address})
	}
	switch {
	case c.Problem != "":
		all = append(all, Finding{Attention, c.Address, "the certificate cannot be used: " + c.Problem, "ask for a new one, then sealpost contact find " + c.Address})
	case endsWithin(c.Expires, contactNotice, now):
		all = append(all, Finding{Note, c.Address, "the certificate expires on " + c.Expires.Format(time.DateOnly), "sealpost contact find " + c.Address})
	case c.Fingerprint == "" && c.Clear > 0:
		all = append(all, Finding{Note, c.Address, messages(c.Clear) + " went there in clear; no certificate is known", "ask for one, or sealpost contact find " + c.Address})
	case c.Fingerprint != "" && c.Clear > 0:
		all = append(all, Finding{Note, c.Address, messages(c.Clear) + " went there in clear, though a certificate is known now", "sealpost log says by which rule"})
	}
	return all
}

func endsWithin(end *time.Time, notice time.Duration, now time.Time) bool {
	return end != nil && end.Before(now.Add(notice))
}

// visible is what the provider sees of encrypted and sealed mail.
func visible(h HeaderMode) []string {
	header := "who writes to whom: From, To and Cc, with display names"
	date := "when: Date with its time zone, and when each message arrived"
	if h == pgpmime.Shy {
		header = "who writes to whom: the addresses in From, To and Cc (of mail sealed here with display names)"
		date = "when: Date in UTC (of mail sealed here as it was), and when each message arrived"
	}
	return []string{
		header, date,
		"which messages belong together: Message-ID, In-Reply-To, References",
		"how much: the size of each message, in which mailbox it is, whether it was read or answered",
		"that it is encrypted, and to which keys; header fields that mail programs add, but none that repeats the subject",
		"from which network address and when this device connects",
	}
}
