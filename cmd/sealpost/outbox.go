package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge"
)

type outboxCmd struct {
	List   outboxListCmd   `cmd:"" help:"List the messages that wait."`
	Retry  outboxRetryCmd  `cmd:"" help:"Try one again now."`
	Cancel outboxCancelCmd `cmd:"" help:"Give one up: its recipients do not get it."`
}

func (outboxCmd) Help() string { return "Example:\n\n    sealpost outbox list" }

// waiting is a message of the outbox as printed.
type waiting struct {
	ID        int64     `json:"id"`
	Account   string    `json:"account"`
	MessageID string    `json:"message_id"`
	To        []string  `json:"to"`
	Queued    time.Time `json:"queued"`
	NextTry   time.Time `json:"next_try"`
	Attempts  int       `json:"attempts"`
	LastError string    `json:"last_error"`
}

type outboxListCmd struct {
	JSON bool `help:"Print JSON."`
}

func (outboxListCmd) Help() string { return "Example:\n\n    sealpost outbox list" }

var outboxListOperation = operation[none, []waiting]{"outbox-list", false, func(ctx context.Context, s *service, _ none, _ bridge.Progress) ([]waiting, error) {
	messages, err := s.bridge.Outbox().List(ctx)
	list := make([]waiting, len(messages))
	for i, m := range messages {
		list[i] = waiting{m.ID, m.Account, m.MessageID, m.To, m.Queued.UTC(), m.NextTry.UTC(), m.Attempts, m.LastError}
	}
	return list, err
}}

// Run implements the command.
func (c outboxListCmd) Run(ctx context.Context, g *globals) error {
	list, err := call(ctx, g, outboxListOperation, none{})
	if err != nil {
		return err
	}
	if c.JSON {
		return g.printJSON(list)
	}
	for _, m := range list {
		fmt.Fprintf(g.stdout, "%d  %s  to %s, queued %s, %d attempts\n  %s\n", m.ID, m.Account, strings.Join(m.To, ", "), m.Queued.Local().Format(time.DateTime), m.Attempts, m.LastError)
	}
	return nil
}

type outboxRetryCmd struct {
	ID int64 `arg:"" help:"Number from sealpost outbox list."`
}

func (outboxRetryCmd) Help() string { return "Example:\n\n    sealpost outbox retry 3" }

var outboxRetryOperation = operation[int64, none]{"outbox-retry", false, func(ctx context.Context, s *service, id int64, _ bridge.Progress) (none, error) {
	if err := s.bridge.Outbox().Retry(ctx, id); err != nil {
		return none{}, fmt.Errorf("message %d: %w; see sealpost outbox list", id, err)
	}
	return none{}, nil
}}

// Run implements the command.
func (c outboxRetryCmd) Run(ctx context.Context, g *globals) error {
	_, err := call(ctx, g, outboxRetryOperation, c.ID)
	return err
}

type outboxCancelCmd struct {
	ID int64 `arg:"" help:"Number from sealpost outbox list."`
}

func (outboxCancelCmd) Help() string {
	return "Example:\n\n    sealpost outbox cancel 3\n\nThose of the message's recipients who have not got it yet will not. The log of decisions names them."
}

var outboxCancelOperation = operation[int64, none]{"outbox-cancel", false, func(ctx context.Context, s *service, id int64, _ bridge.Progress) (none, error) {
	if err := s.bridge.CancelQueued(ctx, id); err != nil {
		return none{}, fmt.Errorf("message %d: %w; see sealpost outbox list", id, err)
	}
	return none{}, nil
}}

// Run implements the command.
func (c outboxCancelCmd) Run(ctx context.Context, g *globals) error {
	_, err := call(ctx, g, outboxCancelOperation, c.ID)
	return err
}
