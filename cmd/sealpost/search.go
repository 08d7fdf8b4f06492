package main

import (
	"context"
	"fmt"
	"time"
	_ "time/tzdata" // --timezone works on machines that have no such files

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/export"
)

// queryFlags are those of search and export.
type queryFlags struct {
	Since     string   `help:"Sent on that day or later (2026-01-31, or a moment as in RFC 3339)." placeholder:"D"`
	Until     string   `help:"Sent on that day or earlier." placeholder:"D"`
	Timezone  string   `help:"Whose days are meant." default:"UTC" placeholder:"ZONE"`
	Custodian []string `help:"Only the mail of this account; can be given more than once." placeholder:"ADDRESS"`
	JSON      bool     `help:"Print JSON."`
}

func (q queryFlags) request(query string) export.Request {
	return export.Request{Query: query, Since: q.Since, Until: q.Until, Timezone: q.Timezone, Custodians: q.Custodian}
}

type searchCmd struct {
	Query string `arg:"" help:"What to look for."`
	queryFlags
}

func (searchCmd) Help() string {
	return `Example:

    sealpost search 'from:@bravo.test ("harbour plan" OR merger*) -subject:newsletter type:pdf' --since 2026-01-01

Words match whole words in subject, participants, text, and names and text of attachments; * stands for the rest of a word. AND, OR, NOT
(or -) and parentheses combine. Fields: subject: body: from: to: cc: bcc: participants: attachment: attachment-text: type: in: custodian:
is: id: since: until: received-since: received-until:. Values of is: encrypted sealed clear failed signed unsigned signature-good
signature-bad verified attached. The time of sending is that of the Date field; without one, when the provider got the message.

Exits with 3 if there is mail about which the query could not be decided, because it cannot be decrypted or something attached cannot
be read; it is listed.`
}

var searchOperation = operation[export.Request, *export.Found]{"search", true, func(ctx context.Context, s *service, r export.Request, p bridge.Progress) (*export.Found, error) {
	return s.desk().Search(ctx, r, export.Progress(p))
}}

// desk is where questions about the mail of this device are answered.
func (s *service) desk() *export.Desk { return s.bridge.Discovery(version()) }

// Run implements the command.
func (c searchCmd) Run(ctx context.Context, g *globals) error {
	r := c.request(c.Query)
	if err := checkRequest(r); err != nil {
		return err
	}
	found, err := call(ctx, g, searchOperation, r)
	if err != nil {
		return err
	}
	if c.JSON {
		err = g.printJSON(found)
	} else {
		printFound(g, found)
	}
	if err == nil && found.Accounting.NeedsAttention() {
		err = errAttention
	}
	return err
}

func printFound(g *globals, f *export.Found) {
	for _, h := range f.Matching {
		printHit(g, h)
	}
	if len(f.Undecided) > 0 {
		fmt.Fprintln(g.stdout, "\nUndecided:")
	}
	for _, h := range f.Undecided {
		printHit(g, h)
	}
	total := f.Accounting.Total
	fmt.Fprintf(g.stdout, "%d of %d messages match; about %d the query could not be decided.\n", total.Matching, total.Held, total.Undecided+total.Unavailable)
	printStale(g, f.Accounting)
}

func printHit(g *globals, h export.Hit) {
	fmt.Fprintf(g.stdout, "%s  %s  %s %d  %s  %s", h.Sent.Format(time.DateOnly), h.Custodian, h.Mailbox, h.UID, h.From, h.Subject)
	if h.Kept != "" {
		fmt.Fprintf(g.stdout, "  [kept by a hold: %s]", h.Kept)
	}
	if h.Reason != "" {
		fmt.Fprintf(g.stdout, "  (%s)", h.Reason)
	}
	fmt.Fprintln(g.stdout)
}

func printStale(g *globals, a *export.Accounting) {
	for _, mailbox := range a.Stale {
		fmt.Fprintf(g.stdout, "%s could not be compared with the provider's; it is as it was at the last time.\n", mailbox)
	}
}

// checkRequest says what is wrong with a request as it is written.
func checkRequest(r export.Request) error {
	if err := r.Check(); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return nil
}
