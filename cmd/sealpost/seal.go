package main

import (
	"context"
	"fmt"

	"github.com/sealpost/sealpost/bridge"
)

// replaceFlags are those of seal and unseal.
type replaceFlags struct {
	Account string `help:"Only this account." placeholder:"ADDRESS"`
	Mailbox string `help:"Only this mailbox." placeholder:"NAME"`
	DryRun  bool   `help:"Only count."`
	JSON    bool   `help:"Print JSON."`
}

type sealCmd struct{ replaceFlags }

func (sealCmd) Help() string {
	return "Example:\n\n    sealpost seal --mailbox Archive --dry-run\n\nEach message is replaced by a copy encrypted to your key, after the copy has been read back and compared. It can be stopped and started again."
}

type unsealCmd struct{ replaceFlags }

func (unsealCmd) Help() string {
	return "Example:\n\n    sealpost unseal --mailbox Archive\n\nThe account needs seal = \"off\" first."
}

type replaceParams struct {
	Account, Mailbox string
	DryRun           bool
}

// replaceResult is one account's.
type replaceResult struct {
	Address string `json:"address"`
	bridge.BacklogResult
}

type backlogFunc func(a *bridge.Account, ctx context.Context, mailbox string, dryRun bool, p bridge.Progress) (bridge.BacklogResult, error)

var (
	sealOperation   = backlogOperation("seal", (*bridge.Account).SealBacklog)
	unsealOperation = backlogOperation("unseal", (*bridge.Account).UnsealBacklog)
)

func backlogOperation(name string, do backlogFunc) operation[replaceParams, []replaceResult] {
	return operation[replaceParams, []replaceResult]{name, true, func(ctx context.Context, s *service, params replaceParams, p bridge.Progress) ([]replaceResult, error) {
		accounts, err := s.accounts(params.Account)
		if err != nil {
			return nil, err
		}
		results := []replaceResult{}
		for _, a := range accounts {
			result, err := do(a, ctx, params.Mailbox, params.DryRun, p)
			if err != nil {
				return nil, err
			}
			results = append(results, replaceResult{a.Address(), result})
		}
		return results, nil
	}}
}

// Run implements the command.
func (c sealCmd) Run(ctx context.Context, g *globals) error {
	return c.run(ctx, g, sealOperation, "sealed", "clear")
}

// Run implements the command.
func (c unsealCmd) Run(ctx context.Context, g *globals) error {
	return c.run(ctx, g, unsealOperation, "unsealed", "sealed")
}

func (f replaceFlags) run(ctx context.Context, g *globals, op operation[replaceParams, []replaceResult], done, left string) error {
	results, err := call(ctx, g, op, replaceParams{f.Account, f.Mailbox, f.DryRun})
	if err != nil {
		return err
	}
	if f.JSON {
		err = g.printJSON(results)
	}
	for _, r := range results {
		if !f.JSON {
			fmt.Fprintf(g.stdout, "%s: %d messages looked at, %d %s, %d left %s\n", r.Address, r.Messages, r.Done, done, r.Left, left)
			for _, failure := range r.Failures {
				fmt.Fprintln(g.stderr, "  "+failure)
			}
		}
		if len(r.Failures) > 0 && err == nil {
			err = errAttention
		}
	}
	return err
}
