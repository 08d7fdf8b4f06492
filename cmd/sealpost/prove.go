package main

import (
	"context"
	"fmt"

	"github.com/sealpost/sealpost/bridge"
)

type proveCmd struct {
	Account string `help:"Only this account." placeholder:"ADDRESS"`
	Mailbox string `help:"Only this mailbox." placeholder:"NAME"`
	JSON    bool   `help:"Print JSON."`
}

func (proveCmd) Help() string {
	return "Example:\n\n    sealpost prove --mailbox INBOX\n\nReadable means that subject or body can be read without your key. Exits with 3 if there is such a message."
}

// proof is what the provider stores: how many messages are readable there, and which.
type proof struct {
	Readable  int                    `json:"readable"`
	Mailboxes []bridge.ProvenMailbox `json:"mailboxes"`
}

type proveParams struct{ Account, Mailbox string }

var proveOperation = operation[proveParams, proof]{"prove", true, func(ctx context.Context, s *service, params proveParams, p bridge.Progress) (proof, error) {
	result := proof{Mailboxes: []bridge.ProvenMailbox{}}
	accounts, err := s.accounts(params.Account)
	if err != nil {
		return result, err
	}
	for _, a := range accounts {
		mailboxes, err := a.Prove(ctx, params.Mailbox, p)
		if err != nil {
			return result, err
		}
		for _, m := range mailboxes {
			if len(accounts) > 1 {
				m.Account = a.Address()
			}
			result.Readable += len(m.Readable)
			result.Mailboxes = append(result.Mailboxes, m)
		}
	}
	return result, nil
}}

// Run implements the command.
func (c proveCmd) Run(ctx context.Context, g *globals) error {
	result, err := call(ctx, g, proveOperation, proveParams{c.Account, c.Mailbox})
	if err != nil {
		return err
	}
	if c.JSON {
		err = g.printJSON(result)
	} else {
		result.print(g)
	}
	if err == nil && result.Readable > 0 {
		err = errAttention
	}
	return err
}

func (p proof) print(g *globals) {
	for _, m := range p.Mailboxes {
		fmt.Fprintf(g.stdout, "%-30s %6d messages, %6d ciphertext, %6d readable\n", m.Account+" "+m.Name, m.Messages, m.Ciphertext, len(m.Readable))
	}
	if p.Readable == 0 {
		fmt.Fprintln(g.stdout, "The provider can read none of these messages.")
		return
	}
	fmt.Fprintf(g.stdout, "The provider can read %d messages. Seal them with: sealpost seal\n", p.Readable)
}
