package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/config"
	"github.com/sealpost/sealpost/keydisc"
)

type logCmd struct {
	Show   logShowCmd   `cmd:"" default:"withargs" help:"Show the decisions (the default)."`
	Verify logVerifyCmd `cmd:"" help:"Check that no entry was changed or removed."`
	Prune  logPruneCmd  `cmd:"" help:"Remove old entries; what is left can still be verified."`
}

func (logCmd) Help() string { return "Example:\n\n    sealpost log --follow" }

type logShowCmd struct {
	Follow  bool   `help:"Go on showing new entries until interrupted."`
	Since   string `help:"Only entries from this day on (UTC)." placeholder:"2026-01-31"`
	Until   string `help:"Only entries up to this day, and on it." placeholder:"2026-12-31"`
	Address string `help:"Only entries in which the address sends or receives." placeholder:"ADDRESS"`
	Tenant  string `help:"Only entries of this company's users: a name in [[gateway.tenant]]." placeholder:"NAME"`
	CSV     bool   `name:"csv" help:"Print comma-separated values with a header (RFC 4180)." xor:"form"`
	JSON    bool   `help:"Print one JSON object a line." xor:"form"`
}

func (logShowCmd) Help() string {
	return "Example:\n\n    sealpost log show --since 2026-01-01 --csv\n\nAll of it as JSON can be verified elsewhere: sealpost log --json > log.jsonl, then sealpost log verify log.jsonl."
}

// page is how many entries travel at once.
const page = 1000

var logListOperation = operation[int64, []audit.Entry]{"log-list", false, func(ctx context.Context, s *service, after int64, _ bridge.Progress) ([]audit.Entry, error) {
	entries, err := s.bridge.Audit().List(ctx, after, page)
	if entries == nil {
		entries = []audit.Entry{}
	}
	return entries, err
}}

// Run implements the command.
func (c logShowCmd) Run(ctx context.Context, g *globals) error {
	wanted, err := c.filter()
	if err != nil {
		return err
	}
	domains, err := c.domains(g)
	if err != nil {
		return err
	}
	out := c.printer(g)
	for after := int64(0); ; {
		entries, err := call(ctx, g, logListOperation, after)
		if err != nil {
			return err
		}
		for _, e := range entries {
			after = e.Seq
			if !wanted(e) || domains != nil && !slices.Contains(domains, domainOf(e.Account)) {
				continue
			}
			if err := out(e); err != nil {
				return err
			}
		}
		if len(entries) == page {
			continue
		}
		if !c.Follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// filter says whether an entry is asked for.
func (c logShowCmd) filter() (func(audit.Entry) bool, error) {
	since, until := time.Time{}, time.Time{}
	var err error
	if c.Since != "" {
		if since, err = time.Parse(time.DateOnly, c.Since); err != nil {
			return nil, fmt.Errorf("%w: --since %q is no day; write it as 2026-01-31", errUsage, c.Since)
		}
	}
	if c.Until != "" {
		if until, err = time.Parse(time.DateOnly, c.Until); err != nil {
			return nil, fmt.Errorf("%w: --until %q is no day; write it as 2026-12-31", errUsage, c.Until)
		}
		until = until.AddDate(0, 0, 1)
	}
	return func(e audit.Entry) bool {
		return !e.Time.Before(since) && (until.IsZero() || e.Time.Before(until)) &&
			(c.Address == "" || strings.EqualFold(e.Account, c.Address) || strings.EqualFold(e.Recipient, c.Address))
	}, nil
}

// domains of the tenant, as the log has them; nil if none is asked for.
func (c logShowCmd) domains(g *globals) (domains []string, err error) {
	if c.Tenant == "" {
		return nil, nil
	}
	cfg, err := g.load()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(cfg.Gateway.Tenants, func(t config.Tenant) bool { return t.Name == c.Tenant })
	if i < 0 {
		return nil, fmt.Errorf("%w: there is no [[gateway.tenant]] with the name %q", errUsage, c.Tenant)
	}
	for _, domain := range cfg.Gateway.Tenants[i].Domains {
		address, err := keydisc.NormalizeAddress("x@" + domain)
		if err != nil {
			return nil, err
		}
		domains = append(domains, domainOf(address))
	}
	return domains, nil
}

func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

// printer prints entries in the form that was asked for.
func (c logShowCmd) printer(g *globals) func(audit.Entry) error {
	switch {
	case c.JSON:
		return func(e audit.Entry) error { return json.NewEncoder(g.stdout).Encode(e) }
	case c.CSV:
		w := csv.NewWriter(g.stdout)
		_ = w.Write([]string{"seq", "time", "account", "event", "message_id", "recipient", "decision", "rule", "reason", "fingerprint", "mailbox", "detail"})
		w.Flush()
		return func(e audit.Entry) error {
			_ = w.Write([]string{strconv.FormatInt(e.Seq, 10), e.Time.UTC().Format(time.RFC3339), e.Account, e.Event, harmless(e.MessageID), e.Recipient, e.Decision,
				harmless(e.Rule), e.Reason, e.Fingerprint, harmless(e.Mailbox), harmless(e.Detail)})
			w.Flush()
			return w.Error()
		}
	}
	return func(e audit.Entry) error { return c.print(g, e) }
}

// harmless keeps what others wrote from being a formula in a spreadsheet.
func harmless(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

func (c logShowCmd) print(g *globals, e audit.Entry) error {
	words := []string{e.Time.Local().Format(time.DateTime), e.Account, e.Event}
	for _, w := range []string{e.Decision, e.Recipient, e.Mailbox, e.Rule, e.Reason, e.Fingerprint, e.Detail} {
		if w != "" {
			words = append(words, w)
		}
	}
	_, err := fmt.Fprintln(g.stdout, strings.Join(words, "  "))
	return err
}

type logVerifyCmd struct {
	File string `arg:"" optional:"" help:"A log as sealpost log --json printed it, instead of the one here." type:"existingfile"`
	JSON bool   `help:"Print JSON."`
}

func (logVerifyCmd) Help() string {
	return "Example:\n\n    sealpost log verify\n\nExits with 3 if the chain is broken."
}

type logVerification struct {
	Checked int64 `json:"checked"`
	Broken  int64 `json:"broken"` // the first bad entry (of a file: line); 0: none
	// Last is the hash of the last entry of a file: noted elsewhere, it tells whether later entries were cut off.
	Last string `json:"last,omitempty"`
}

var logVerifyOperation = operation[none, logVerification]{"log-verify", false, func(ctx context.Context, s *service, _ none, _ bridge.Progress) (logVerification, error) {
	checked, broken, err := s.bridge.Audit().Verify(ctx)
	return logVerification{Checked: checked, Broken: broken}, err
}}

func (c logVerifyCmd) verify(ctx context.Context, g *globals) (v logVerification, err error) {
	if c.File == "" {
		return call(ctx, g, logVerifyOperation, none{})
	}
	f, err := os.Open(c.File)
	if err != nil {
		return v, err
	}
	defer f.Close()
	v.Checked, v.Broken, v.Last, err = audit.VerifyExport(f)
	return v, err
}

// Run implements the command.
func (c logVerifyCmd) Run(ctx context.Context, g *globals) error {
	v, err := c.verify(ctx, g)
	if err != nil {
		return err
	}
	switch {
	case c.JSON:
		err = g.printJSON(v)
	case v.Broken > 0:
		fmt.Fprintf(g.stdout, "The chain is broken at entry %d: it or one near it was changed or removed.\n", v.Broken)
	default:
		fmt.Fprintf(g.stdout, "%d entries, the chain is whole.\n", v.Checked)
		if v.Last != "" {
			fmt.Fprintf(g.stdout, "The last entry's hash: %s\n", v.Last)
		}
	}
	if err == nil && v.Broken > 0 {
		err = errAttention
	}
	return err
}

type logPruneCmd struct {
	Before string `required:"" help:"Remove what was decided before this day (UTC)." placeholder:"2026-01-31"`
	JSON   bool   `help:"Print JSON."`
}

func (logPruneCmd) Help() string {
	return "Example:\n\n    sealpost log prune --before 2025-01-01\n\nThe removal is an entry of the log itself. [policy] keep_log does it by itself every day."
}

type logPruned struct {
	Removed int64 `json:"removed"`
}

var logPruneOperation = operation[time.Time, logPruned]{"log-prune", false, func(ctx context.Context, s *service, before time.Time, _ bridge.Progress) (logPruned, error) {
	removed, err := s.bridge.Audit().Prune(ctx, before)
	return logPruned{removed}, err
}}

// Run implements the command.
func (c logPruneCmd) Run(ctx context.Context, g *globals) error {
	before, err := time.Parse(time.DateOnly, c.Before)
	if err != nil || before.After(time.Now()) {
		return fmt.Errorf("%w: --before %q is no day of the past; write it as 2026-01-31", errUsage, c.Before)
	}
	pruned, err := call(ctx, g, logPruneOperation, before)
	if err != nil {
		return err
	}
	if c.JSON {
		return g.printJSON(pruned)
	}
	fmt.Fprintf(g.stdout, "%d entries removed.\n", pruned.Removed)
	return nil
}
