package main

import (
	"context"
	"fmt"
	"net/mail"
	"slices"

	"github.com/sealpost/sealpost/bridge"
)

type wouldSendCmd struct {
	From string   `required:"" help:"The account's address, or any at a gateway." placeholder:"ADDRESS"`
	To   []string `required:"" help:"Recipients in To and Cc." placeholder:"ADDRESS"`
	Bcc  []string `help:"Hidden recipients." placeholder:"ADDRESS"`
	JSON bool     `help:"Print JSON."`
}

func (wouldSendCmd) Help() string {
	return "Example:\n\n    sealpost would-send --from alice@alpha.test --to bob@bravo.test,carol@charlie.test\n\nExits with 3 if the message would be refused."
}

type wouldSendParams struct {
	From    string
	To, Bcc []string
}

var wouldSendOperation = operation[wouldSendParams, bridge.Preview]{"would-send", false, func(ctx context.Context, s *service, p wouldSendParams, _ bridge.Progress) (bridge.Preview, error) {
	if a, ok := s.bridge.Account(p.From); ok {
		return a.WouldSend(ctx, p.From, p.To, p.Bcc), nil
	}
	if g, ok := s.bridge.Gateway(); ok {
		return g.WouldSend(ctx, p.From, p.To, p.Bcc)
	}
	_, err := s.account(p.From)
	return bridge.Preview{}, err
}}

// account is the one with that address, or the only one if address is "".
func (s *service) account(address string) (*bridge.Account, error) {
	accounts := s.bridge.Accounts()
	if address == "" && len(accounts) == 1 {
		return accounts[0], nil
	}
	if a, ok := s.bridge.Account(address); ok {
		return a, nil
	}
	if address == "" {
		return nil, fmt.Errorf("there are %d accounts; name one with --account", len(accounts))
	}
	return nil, fmt.Errorf("%s is not an account or alias in %s", address, s.configPath)
}

// accounts are all, or the one with that address.
func (s *service) accounts(address string) ([]*bridge.Account, error) {
	if address == "" {
		return s.bridge.Accounts(), nil
	}
	a, err := s.account(address)
	return []*bridge.Account{a}, err
}

// owner of the keys of an account, a device or a gateway's user with that address; "" is the only account.
func (s *service) owner(ctx context.Context, address string) (*bridge.Owner, error) {
	if o, ok, err := s.bridge.DeviceOwner(ctx, address); ok {
		return o, err
	}
	if g, ok := s.bridge.Gateway(); ok && address != "" {
		if _, account := s.bridge.Account(address); !account {
			return g.User(ctx, address)
		}
	}
	a, err := s.account(address)
	if err != nil {
		return nil, err
	}
	return &a.Owner, nil
}

// owners are all who have keys, or the one with that address.
func (s *service) owners(ctx context.Context, address string) (all []*bridge.Owner, err error) {
	if address != "" {
		o, err := s.owner(ctx, address)
		return []*bridge.Owner{o}, err
	}
	for _, a := range s.bridge.Accounts() {
		all = append(all, &a.Owner)
	}
	for _, d := range s.bridge.Devices() {
		o, ok, err := s.bridge.DeviceOwner(ctx, d.Address())
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, o)
		}
	}
	g, ok := s.bridge.Gateway()
	if !ok {
		return all, nil
	}
	users, err := g.Users(ctx)
	for _, user := range users {
		o, err := g.User(ctx, user)
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, err
}

// checkAddresses says which is none.
func checkAddresses(addresses ...string) error {
	for _, address := range addresses {
		if parsed, err := mail.ParseAddress(address); err != nil || parsed.Address != address {
			return fmt.Errorf("%w: %q is not a mail address; write it as name@example.org", errUsage, address)
		}
	}
	return nil
}

// Run implements the command.
func (c wouldSendCmd) Run(ctx context.Context, g *globals) error {
	if err := checkAddresses(slices.Concat([]string{c.From}, c.To, c.Bcc)...); err != nil {
		return err
	}
	preview, err := call(ctx, g, wouldSendOperation, wouldSendParams{c.From, c.To, c.Bcc})
	if err != nil {
		return err
	}
	if c.JSON {
		err = g.printJSON(preview)
	} else {
		printPreview(g, preview)
	}
	if err == nil && preview.Decision == bridge.Refuse.String() {
		err = errAttention
	}
	return err
}

func printPreview(g *globals, p bridge.Preview) {
	what := map[string]string{"encrypt": "sent encrypted", "clear": "sent in clear", "refuse": "refused; nobody would get it"}[p.Decision]
	if p.Split {
		what = "split: some recipients get it encrypted, others in clear"
	}
	fmt.Fprintf(g.stdout, "The message would be: %s\n", what)
	for _, fingerprint := range p.Archive {
		fmt.Fprintf(g.stdout, "The archive %s can read whatever is encrypted.\n", fingerprint)
	}
	for _, r := range p.Recipients {
		fmt.Fprintf(g.stdout, "\n%s: %s (%s)\n", r.Address, r.Decision, r.Rule)
		if r.Fingerprint != "" {
			fmt.Fprintf(g.stdout, "  certificate %s from %s, trust %s\n", r.Fingerprint, r.Source, r.Trust)
		}
		if r.Text != "" {
			fmt.Fprintf(g.stdout, "  %s: %s\n", r.Reason, r.Text)
		}
	}
}
