package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/export"
)

type holdCmd struct {
	Add     holdAddCmd     `cmd:"" help:"Open a hold."`
	List    holdListCmd    `cmd:"" help:"Show the holds and what they have kept."`
	Release holdReleaseCmd `cmd:"" help:"End a hold."`
}

func (holdCmd) Help() string {
	return "Example:\n\n    sealpost hold add harbour --query 'harbour OR \"blue folder\"' --reason 'Bravo v. Alpha, letter of 3 November'\n    sealpost hold list"
}

type holdAddCmd struct {
	Name   string `arg:"" help:"Name of the hold, or of the matter."`
	Query  string `help:"What to keep, as in sealpost search; without it everything." placeholder:"Q"`
	Reason string `help:"Why; for the custody log." placeholder:"TEXT"`
	queryFlags
}

func (holdAddCmd) Help() string {
	return `Example:

    sealpost hold add harbour --query 'harbour OR "blue folder"' --since 2026-01-01 --reason 'Bravo v. Alpha, letter of 3 November'

While the hold stands, whatever matches, or cannot be opened or read so that nobody knows, is kept on this device before a mail client's deletion
or move goes to the provider; if it cannot be kept, the deletion is refused. What is removed by other devices is kept as far as this one
has it. Mail that is not deleted stays where it is. sealpost search and export find what was kept.`
}

type holdParams struct {
	Name, Reason string
	Request      export.Request
}

var holdAddOperation = operation[holdParams, export.Hold]{"hold-add", false, func(ctx context.Context, s *service, p holdParams, _ bridge.Progress) (export.Hold, error) {
	return s.desk().AddHold(ctx, p.Name, p.Reason, p.Request)
}}

// Run implements the command.
func (c holdAddCmd) Run(ctx context.Context, g *globals) error {
	r := c.request(c.Query)
	if err := checkRequest(r); err != nil {
		return err
	}
	hold, err := call(ctx, g, holdAddOperation, holdParams{c.Name, c.Reason, r})
	if err != nil {
		return err
	}
	if c.JSON {
		return g.printJSON(hold)
	}
	fmt.Fprintf(g.stdout, "The hold %s stands. What is deleted through this device and matches is kept from now on.\n", hold.Name)
	return nil
}

type holdListCmd struct {
	Check bool `help:"Also read all that was kept back, and follow the custody logs."`
	JSON  bool `help:"Print JSON."`
}

func (holdListCmd) Help() string {
	return "Example:\n\n    sealpost hold list --check\n\nExits with 3 if something was lost because it was removed elsewhere, or is not as it was kept."
}

// holdList is what hold list prints.
type holdList struct {
	Holds    []heldInfo `json:"holds"`
	Checked  bool       `json:"checked"`
	Problems []string   `json:"problems"`
}

type heldInfo struct {
	export.Hold
	Custody []export.CustodyEntry `json:"custody"`
}

var holdListOperation = operation[bool, holdList]{"hold-list", false, func(ctx context.Context, s *service, check bool, _ bridge.Progress) (holdList, error) {
	holds := s.desk().Holds()
	list := holdList{Holds: []heldInfo{}, Checked: check, Problems: []string{}}
	all, err := holds.List(ctx)
	if err != nil {
		return list, err
	}
	for _, hold := range all {
		custody, err := holds.Custody(ctx, hold.Name)
		if err != nil && !check {
			return list, err
		}
		list.Holds = append(list.Holds, heldInfo{hold, custody})
	}
	if check {
		problems, err := holds.Check(ctx)
		list.Problems = append(list.Problems, problems...)
		return list, err
	}
	return list, nil
}}

// Run implements the command.
func (c holdListCmd) Run(ctx context.Context, g *globals) error {
	list, err := call(ctx, g, holdListOperation, c.Check)
	if err != nil {
		return err
	}
	if c.JSON {
		err = g.printJSON(list)
	} else {
		printHolds(g, list)
	}
	attention := len(list.Problems) > 0
	for _, hold := range list.Holds {
		attention = attention || hold.Lost > 0
	}
	if err == nil && attention {
		err = errAttention
	}
	return err
}

func printHolds(g *globals, list holdList) {
	if len(list.Holds) == 0 {
		fmt.Fprintln(g.stdout, "There are no holds.")
	}
	for _, hold := range list.Holds {
		state := "stands since " + hold.Opened.Format(time.DateOnly)
		if !hold.Released.IsZero() {
			state = "released " + hold.Released.Format(time.DateOnly)
		}
		fmt.Fprintf(g.stdout, "%s  %s  %d messages kept, %d bytes  query: %s\n", hold.Name, state, hold.Messages, hold.Bytes, hold.Request.Query)
		if hold.Lost > 0 {
			fmt.Fprintf(g.stdout, "    %d of them are not whole: they were removed elsewhere before this device had them\n", hold.Lost)
		}
	}
	for _, problem := range list.Problems {
		fmt.Fprintln(g.stdout, problem)
	}
	if list.Checked && len(list.Problems) == 0 {
		fmt.Fprintln(g.stdout, "All that was kept is as it was, and the custody logs are whole.")
	}
}

type holdReleaseCmd struct {
	Name       string `arg:"" help:"Name of the hold."`
	Purge      bool   `help:"Remove what it has kept and no other hold wants. Only what a finished export has."`
	Unexported bool   `help:"With --purge: also what no export has. It is gone for good."`
	JSON       bool   `help:"Print JSON."`
}

func (holdReleaseCmd) Help() string {
	return "Example:\n\n    sealpost hold release harbour\n\nWhat was kept stays until sealpost hold release harbour --purge, which can come later."
}

var holdReleaseOperation = operation[export.ReleaseOptions, export.Released]{"hold-release", false, func(ctx context.Context, s *service, o export.ReleaseOptions, _ bridge.Progress) (export.Released, error) {
	return s.desk().Holds().Release(ctx, o)
}}

// Run implements the command.
func (c holdReleaseCmd) Run(ctx context.Context, g *globals) error {
	if c.Unexported && !c.Purge {
		return fmt.Errorf("%w: --unexported goes with --purge", errUsage)
	}
	done, err := call(ctx, g, holdReleaseOperation, export.ReleaseOptions{Name: c.Name, Purge: c.Purge, Unexported: c.Unexported})
	if err != nil {
		return err
	}
	if c.JSON {
		return g.printJSON(done)
	}
	fmt.Fprintf(g.stdout, "The hold %s has ended. %d messages were removed from its archive, %d stay.\n", c.Name, done.Purged, done.Stay)
	return nil
}
