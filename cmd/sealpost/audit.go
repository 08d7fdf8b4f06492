package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/dashboard"
)

type auditCmd struct {
	Days int    `help:"Count the decisions of so many days, today included." default:"30" placeholder:"N"`
	HTML string `help:"Write a report with charts, for a browser or a printer." placeholder:"FILE" name:"html"`
	JSON bool   `help:"Print JSON."`
}

func (auditCmd) Help() string {
	return "Example:\n\n    sealpost audit --html report.html\n\nThe share of ciphertext in each mailbox, correspondents with and without certificates, transport, weak or expiring keys, and what the provider " +
		"sees all the same. The report names your correspondents.\n\nExits with 3 if something needs attention."
}

// Validate implements kong's check of the flags.
func (c auditCmd) Validate() error {
	if c.Days < 1 || c.Days > bridge.MaxStackDays {
		return fmt.Errorf("--days is 1 to %d", bridge.MaxStackDays)
	}
	return nil
}

var auditOperation = operation[int, bridge.Stack]{"audit", false, func(ctx context.Context, s *service, days int, _ bridge.Progress) (bridge.Stack, error) {
	if !s.running {
		for _, a := range s.bridge.Accounts() {
			_ = a.Check(ctx) // its outcome is in the stack
		}
	}
	return s.bridge.Stack(ctx, days)
}}

// Run implements the command.
func (c auditCmd) Run(ctx context.Context, g *globals) error {
	stack, err := call(ctx, g, auditOperation, c.Days)
	if err != nil {
		return err
	}
	if c.HTML != "" {
		err = writeReport(c.HTML, stack)
	}
	switch {
	case err != nil:
	case c.JSON:
		err = g.printJSON(stack)
	default:
		printStack(g.stdout, stack)
	}
	if err == nil && stack.NeedsAttention() {
		err = errAttention
	}
	return err
}

// writeReport replaces the file at once, or not at all. It names people: only its owner may read it.
func writeReport(path string, stack bridge.Stack) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".sealpost-audit-*") // of mode 0600
	if err != nil {
		return err
	}
	err = errors.Join(dashboard.WriteReport(file, stack), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}

func printStack(w io.Writer, s bridge.Stack) {
	for _, a := range s.Accounts {
		printAccountStack(w, a)
	}
	fmt.Fprintf(w, "Sent since %s\n", s.Since.Format(time.DateOnly))
	var sum bridge.Decisions
	for _, d := range s.Days {
		sum.Encrypted, sum.Clear, sum.Refused = sum.Encrypted+d.Encrypted, sum.Clear+d.Clear, sum.Refused+d.Refused
	}
	fmt.Fprintf(w, "  %d encrypted, %d clear, %d refused, each recipient counted\n\n", sum.Encrypted, sum.Clear, sum.Refused)
	printCorrespondents(w, s.Correspondents)
	fmt.Fprintln(w, "What to know")
	for _, f := range s.Findings {
		fmt.Fprintf(w, "  %s: %s: %s (%s)\n", f.Level, f.Subject, f.What, f.Remedy)
	}
	if len(s.Findings) == 0 {
		fmt.Fprintln(w, "  nothing needs your attention")
	}
}

func printAccountStack(w io.Writer, a bridge.AccountStack) {
	fmt.Fprintf(w, "%s: provider %s\n", a.Address, a.Provider)
	for _, m := range a.Mailboxes {
		share := "empty"
		if m.Messages > 0 {
			share = fmt.Sprintf("%d %% ciphertext of %d messages: %d end to end, %d sealed, %d clear, %d not looked at yet",
				m.Ciphertext*100/m.Messages, m.Messages, m.EndToEnd, m.Sealed, m.Clear, m.Unopened)
		}
		fmt.Fprintf(w, "  %s: %s\n", m.Name, share)
	}
	for _, h := range a.Transport {
		protection := h.Security
		if h.TLS != "" {
			protection += ", " + h.TLS + ", " + h.Cipher + ", certificate until " + h.Ends.Format(time.DateOnly)
		}
		fmt.Fprintf(w, "  %s %s: %s\n", h.Protocol, h.Server, protection)
	}
	for _, k := range a.Keys {
		fmt.Fprintf(w, "  key %s: %s%s\n", k.Fingerprint, k.Profile, untilWhen(k.Expires))
	}
	fmt.Fprintln(w, "  what the provider still sees:")
	for _, v := range a.Visible {
		fmt.Fprintf(w, "  - %s\n", v)
	}
	fmt.Fprintln(w)
}

func printCorrespondents(w io.Writer, all []bridge.Correspondent) {
	with := 0
	for _, c := range all {
		if c.Fingerprint != "" {
			with++
		}
	}
	fmt.Fprintf(w, "Correspondents: %d with a certificate, %d without\n", with, len(all)-with)
	for _, c := range all {
		certificate := "no certificate"
		if c.Fingerprint != "" {
			certificate = c.Trust + ", from " + c.Source + untilWhen(c.Expires)
		}
		fmt.Fprintf(w, "  %s: %s; %d encrypted, %d clear, %d refused\n", c.Address, certificate, c.Encrypted, c.Clear, c.Refused)
	}
	fmt.Fprintln(w)
}

func untilWhen(end *time.Time) string {
	if end == nil {
		return ", does not expire"
	}
	return ", expires " + end.Format(time.DateOnly)
}
