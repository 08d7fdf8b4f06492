package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/audit"
)

type logCmd struct {
	Show   logShowCmd   `cmd:"" default:"withargs" help:"Show the decisions (the default)."`
	Verify logVerifyCmd `cmd:"" help:"Check that no entry was changed or removed."`
}

func (logCmd) Help() string { return "Example:\n\n    sealpost log --follow" }

type logShowCmd struct {
	Follow bool `help:"Go on showing new entries until interrupted."`
	JSON   bool `help:"Print one JSON object a line."`
}

func (logShowCmd) Help() string { return "Example:\n\n    sealpost log show --follow --json" }

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
	for after := int64(0); ; {
		entries, err := call(ctx, g, logListOperation, after)
		if err != nil {
			return err
		}
		for _, e := range entries {
			after = e.Seq
			if err := c.print(g, e); err != nil {
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

func (c logShowCmd) print(g *globals, e audit.Entry) error {
	if c.JSON {
		return json.NewEncoder(g.stdout).Encode(e)
	}
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
	JSON bool `help:"Print JSON."`
}

func (logVerifyCmd) Help() string {
	return "Example:\n\n    sealpost log verify\n\nExits with 3 if the chain is broken."
}

type logVerification struct {
	Checked int64 `json:"checked"`
	Broken  int64 `json:"broken"` // the first bad entry; 0: none
}

var logVerifyOperation = operation[none, logVerification]{"log-verify", false, func(ctx context.Context, s *service, _ none, _ bridge.Progress) (logVerification, error) {
	checked, broken, err := s.bridge.Audit().Verify(ctx)
	return logVerification{checked, broken}, err
}}

// Run implements the command.
func (c logVerifyCmd) Run(ctx context.Context, g *globals) error {
	v, err := call(ctx, g, logVerifyOperation, none{})
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
	}
	if err == nil && v.Broken > 0 {
		err = errAttention
	}
	return err
}
