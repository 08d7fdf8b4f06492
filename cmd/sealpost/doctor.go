package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/config"
	"github.com/sealpost/sealpost/bridge/doctor"
)

type doctorCmd struct {
	JSON bool `help:"Print JSON."`
}

func (doctorCmd) Help() string {
	return "Example:\n\n    sealpost doctor\n\nSays for each thing that can go wrong how it is and what to do. Changes nothing. Exits with 3 if something needs attention."
}

var doctorOperation = operation[none, []doctor.Finding]{"doctor", false, func(ctx context.Context, s *service, _ none, _ bridge.Progress) ([]doctor.Finding, error) {
	findings := s.bridge.Checkup(ctx, localHost(s.config.Local))
	if s.running {
		return append(findings, doctor.Finding{Check: "daemon", State: doctor.OK, Detail: "it runs"}), nil
	}
	findings = append(findings, doctor.Finding{Check: "daemon", State: doctor.Attention, Detail: "it does not run", Remedy: "sealpost run"})
	for _, name := range sortedListeners(s.config.Local) {
		findings = append(findings, doctor.Port(name, configuredListeners(s.config.Local)[name]))
	}
	return findings, nil
}}

// sortedListeners are the names of those that are on.
func sortedListeners(l config.Local) (names []string) {
	for name, address := range configuredListeners(l) {
		if address != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Run implements the command.
func (c doctorCmd) Run(ctx context.Context, g *globals) error {
	findings := diagnose(ctx, g)
	if c.JSON {
		if err := g.printJSON(findings); err != nil {
			return err
		}
	} else {
		printFindings(g, findings)
	}
	if slices.ContainsFunc(findings, func(f doctor.Finding) bool { return f.State != doctor.OK }) {
		return errAttention
	}
	return nil
}

// diagnose goes on as far as it gets: what keeps a check from being made is a finding itself.
func diagnose(ctx context.Context, g *globals) []doctor.Finding {
	cfg, err := g.load()
	if err != nil {
		what, _, _ := strings.Cut(err.Error(), "\n")
		return []doctor.Finding{{Check: "configuration", State: doctor.Problem, Detail: what, Remedy: "correct the file; config.example.toml has every key"}}
	}
	findings := []doctor.Finding{{Check: "configuration", State: doctor.OK, Detail: g.path()}}
	findings = append(findings, doctor.Folder(cfg.StateDir), doctor.Cloud(cfg.StateDir), doctor.Disk(cfg.StateDir))
	inside, err := call(ctx, g, doctorOperation, none{})
	if err != nil {
		inside = []doctor.Finding{{Check: "vault and database", State: doctor.Problem, Detail: firstOf(err), Remedy: withRemedy(err)}}
	}
	return append(findings, inside...)
}

// firstOf is the innermost cause, which is shorter.
func firstOf(err error) string {
	for _, known := range []error{bridge.ErrLocked, bridge.ErrNoVault, bridge.ErrVaultDamaged, bridge.ErrInUse, bridge.ErrUnreachable} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return err.Error()
}

func printFindings(g *globals, findings []doctor.Finding) {
	marks := map[doctor.State]string{doctor.OK: "ok       ", doctor.Attention: "attention", doctor.Problem: "PROBLEM  "}
	for _, f := range findings {
		fmt.Fprintf(g.stdout, "%s  %s: %s\n", marks[f.State], f.Check, f.Detail)
		if f.Remedy != "" {
			fmt.Fprintf(g.stdout, "           %s\n", f.Remedy)
		}
	}
}
