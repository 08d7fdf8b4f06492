package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/bridge"
)

type statusCmd struct {
	JSON bool `help:"Print JSON."`
}

func (statusCmd) Help() string {
	return "Example:\n\n    sealpost status --json\n\nExits with 3 if something needs attention."
}

type status struct {
	Version  string          `json:"version"`
	Running  bool            `json:"running"`
	Accounts []accountStatus `json:"accounts"`
	Outbox   int             `json:"outbox"`
	// Lists are those of organisations; VerifyAgain the contacts whose comparison should be repeated.
	Lists       []listStatus `json:"lists,omitempty"`
	VerifyAgain []string     `json:"verify_again,omitempty"`
	Backup      backupStatus `json:"backup"`

	Devices []deviceStatus `json:"devices,omitempty"`
}

// backupStatus says whether the keys would survive this device.
type backupStatus struct {
	Created  *time.Time `json:"created"`
	Drilled  *time.Time `json:"drilled"` // the last drill that passed
	Unproven []string   `json:"unproven,omitempty"`
}

// nag is what the user is told until a drill has brought back all keys; "" when it has.
func (b backupStatus) nag() string {
	switch {
	case len(b.Unproven) == 0:
		return ""
	case b.Created == nil:
		return "There is no backup: without this device and its keys your mail cannot be read. Make one: sealpost backup create --out FILE"
	case b.Drilled == nil:
		return "The backup has not been tried. Whether it and its code bring your keys back shows: sealpost backup drill FILE"
	}
	return "Keys were added since the last backup that was tried. Make a new one: sealpost backup create --out FILE, then sealpost backup drill FILE"
}

func backupStatusOf(ctx context.Context, b *bridge.Bridge) (backupStatus, error) {
	state, err := b.BackupState(ctx)
	return backupStatus{unlessZero(state.Created), unlessZero(state.Drilled), state.Unproven}, err
}

type accountStatus struct {
	Address   string `json:"address"`
	Provider  string `json:"provider"` // online, offline, auth-failed
	Problem   string `json:"problem,omitempty"`
	Mailboxes int    `json:"mailboxes"`
	Messages  int    `json:"messages"`
	Opened    int    `json:"opened"`
	Sealed    int    `json:"sealed"`
	Clear     int    `json:"clear"`
	// Unpublished says what keeps the certificate from being published where the user wants it.
	Unpublished []string `json:"unpublished,omitempty"`
}

type none struct{}

var statusOperation = operation[none, status]{"status", false, func(ctx context.Context, s *service, _ none, _ bridge.Progress) (status, error) {
	st := status{Version: version(), Running: s.running, Accounts: []accountStatus{}}
	var err error
	if st.Outbox, err = s.bridge.Outbox().Len(ctx); err != nil {
		return st, err
	}
	if st.Lists, err = listStatuses(ctx, s); err != nil {
		return st, err
	}
	if st.VerifyAgain, err = s.bridge.Contacts().VerifyAgain(ctx); err != nil {
		return st, err
	}
	if st.Backup, err = backupStatusOf(ctx, s.bridge); err != nil {
		return st, err
	}
	if st.Devices, err = deviceStatuses(ctx, s.bridge); err != nil {
		return st, err
	}
	for _, a := range s.bridge.Accounts() {
		one, err := statusOf(ctx, s, a)
		if err != nil {
			return st, err
		}
		st.Accounts = append(st.Accounts, one)
	}
	return st, nil
}}

func statusOf(ctx context.Context, s *service, a *bridge.Account) (accountStatus, error) {
	if !s.running {
		_ = a.Check(ctx) // its outcome is in State
	}
	state, problem := a.State()
	counts, err := a.Mirror().Counts(ctx)
	one := accountStatus{
		Address: a.Address(), Provider: string(state), Mailboxes: counts.Mailboxes, Messages: counts.Messages,
		Opened: counts.Opened, Sealed: counts.Sealed, Clear: counts.Clear,
	}
	if problem != nil {
		one.Problem = problem.Error()
	}
	publications, problems := a.Publications(ctx)
	for _, p := range publications {
		if p.State == bridge.PublicationFailed {
			one.Unpublished = append(one.Unpublished, fmt.Sprintf("%s at %s: %s", p.Address, p.Place, p.Reason))
		}
	}
	return one, errors.Join(err, problems)
}

// Run implements the command.
func (c statusCmd) Run(ctx context.Context, g *globals) error {
	st, err := call(ctx, g, statusOperation, none{})
	if err != nil {
		return err
	}
	if c.JSON {
		err = g.printJSON(st)
	} else {
		st.print(g)
		err = printDashboard(ctx, g, st)
	}
	if err == nil && st.needsAttention() {
		err = errAttention
	}
	return err
}

func (st status) needsAttention() bool {
	attention := !st.Running
	for _, a := range st.Accounts {
		attention = attention || a.Problem != "" || len(a.Unpublished) > 0
	}
	for _, l := range st.Lists {
		attention = attention || l.Problem != "" && !l.InForce
	}
	return attention
}

func (st status) print(g *globals) {
	if st.Running {
		fmt.Fprintf(g.stdout, "Sealpost %s is running.\n", st.Version)
	} else {
		fmt.Fprintf(g.stdout, "Sealpost %s is not running. Start it with: sealpost run\n", st.Version)
	}
	for _, a := range st.Accounts {
		fmt.Fprintf(g.stdout, "\n%s: provider %s\n", a.Address, a.Provider)
		if a.Problem != "" {
			fmt.Fprintf(g.stdout, "  %s\n", a.Problem)
		}
		fmt.Fprintf(g.stdout, "  %d messages in %d mailboxes, %d opened, %d sealed, %d clear at the provider\n", a.Messages, a.Mailboxes, a.Opened, a.Sealed, a.Clear)
	}
	for _, a := range st.Accounts {
		for _, one := range a.Unpublished {
			fmt.Fprintf(g.stdout, "\nThe certificate was not published for %s (sealpost key publish)\n", one)
		}
	}
	for _, d := range st.Devices {
		d.print(g)
	}
	for _, l := range st.Lists {
		l.print(g)
	}
	if n := len(st.VerifyAgain); n > 0 {
		fmt.Fprintf(g.stdout, "\n%d contacts were compared long ago; compare again (sealpost contact verify %s)\n", n, st.VerifyAgain[0])
	}
	if st.Outbox > 0 {
		fmt.Fprintf(g.stdout, "\n%d messages wait in the outbox (sealpost outbox list)\n", st.Outbox)
	}
	if nag := st.Backup.nag(); nag != "" {
		fmt.Fprintf(g.stdout, "\n%s\n", nag)
	}
}
