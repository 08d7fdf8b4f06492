package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/keydisc"
)

type keyPublishCmd struct {
	Account string `help:"The account, if there are several, or an alias to publish for." placeholder:"ADDRESS"`
	To      string `help:"Where: ${enum}. wks is the directory of your mail domain, vks the key server keys.openpgp.org." enum:"wks,vks,all" default:"all"`
	Key     string `help:"Another key than the one in use." placeholder:"FINGERPRINT"`
	Status  bool   `help:"Publish nothing; show where you have published and how that stands."`
	JSON    bool   `help:"Print JSON."`
}

func (keyPublishCmd) Help() string {
	return `Example:

    sealpost key publish --to vks

The key server sends you a mail with a link, which you have to open before anybody finds the certificate. The Web Key
Service of a mail domain asks by mail; the daemon answers. Later changes of the same certificate are published by
themselves where you have published it. Nothing else ever is: an alias is published only if you name it with --account.
Publishing cannot be taken back by this command.`
}

// publicationInfo is one publication as printed.
type publicationInfo struct {
	Account     string     `json:"account"`
	Address     string     `json:"address"`
	Place       string     `json:"place"`
	State       string     `json:"state"`
	Fingerprint string     `json:"fingerprint"`
	Reason      string     `json:"reason"`
	Changed     time.Time  `json:"changed"`
	Next        *time.Time `json:"next"`
}

func publicationInfos(all []bridge.Publication) []publicationInfo {
	infos := make([]publicationInfo, len(all))
	for i, p := range all {
		infos[i] = publicationInfo{
			p.Account, p.Address, string(p.Place), string(p.State), string(p.Fingerprint), p.Reason, p.Changed.UTC(), unlessZero(p.Next),
		}
	}
	return infos
}

// publications are what the daemon answers. Running says that it is the daemon.
type publications struct {
	All     []publicationInfo
	Running bool
}

type keyPublishParams struct {
	Account, Fingerprint string
	Places               []bridge.Place
}

var keyPublishOperation = operation[keyPublishParams, publications]{"key-publish", true, func(ctx context.Context, s *service, p keyPublishParams, _ bridge.Progress) (publications, error) {
	a, err := s.account(p.Account)
	if err != nil {
		return publications{}, err
	}
	done, err := a.Publish(ctx, cmp.Or(p.Account, a.Address()), p.Places, keydisc.Fingerprint(p.Fingerprint))
	if errors.Is(err, bridge.ErrNoKey) {
		err = fmt.Errorf("%w; see sealpost key list", err)
	}
	return publications{publicationInfos(done), s.running}, err
}}

var keyPublicationsOperation = operation[string, publications]{"key-publications", false, func(ctx context.Context, s *service, account string, _ bridge.Progress) (publications, error) {
	accounts, err := s.accounts(account)
	if err != nil {
		return publications{}, err
	}
	all := publications{All: []publicationInfo{}, Running: s.running}
	for _, a := range accounts {
		some, err := a.Publications(ctx)
		if err != nil {
			return publications{}, err
		}
		all.All = append(all.All, publicationInfos(some)...)
	}
	return all, nil
}}

// Run implements the command.
func (c keyPublishCmd) Run(ctx context.Context, g *globals) error {
	if c.Status {
		return c.show(ctx, g)
	}
	places := []bridge.Place{bridge.Place(c.To)}
	if c.To == "all" {
		places = []bridge.Place{bridge.PlaceWKS, bridge.PlaceVKS}
	}
	done, err := call(ctx, g, keyPublishOperation, keyPublishParams{c.Account, c.Key, places})
	if err != nil {
		return err
	}
	if len(done.failed()) == len(done.All) {
		return done.All[len(done.All)-1].failure()
	}
	return done.print(g, c.JSON)
}

func (c keyPublishCmd) show(ctx context.Context, g *globals) error {
	all, err := call(ctx, g, keyPublicationsOperation, c.Account)
	if err != nil {
		return err
	}
	return all.print(g, c.JSON)
}

func (p publications) failed() (failed []publicationInfo) {
	for _, one := range p.All {
		if one.State == string(bridge.PublicationFailed) {
			failed = append(failed, one)
		}
	}
	return failed
}

func (p publicationInfo) failure() error {
	if p.Next != nil {
		return fmt.Errorf("not published yet: %s; sealpost run tries again", p.Reason)
	}
	return fmt.Errorf("not published: %s", p.Reason)
}

// print ends with errAttention if something failed.
func (p publications) print(g *globals, asJSON bool) error {
	var err error
	if asJSON {
		err = g.printJSON(p.All)
	} else {
		p.printText(g)
	}
	if err == nil && len(p.failed()) > 0 {
		return errAttention
	}
	return err
}

func (p publications) printText(g *globals) {
	if len(p.All) == 0 {
		fmt.Fprintln(g.stdout, "Nothing is published from here.")
	}
	waits := false
	for _, one := range p.All {
		fmt.Fprintf(g.stdout, "%s  %s  %s  %s\n", one.Address, one.Place, one.State, one.Fingerprint)
		if one.Reason != "" {
			fmt.Fprintf(g.stdout, "  %s\n", oneLine(one.Reason))
		}
		if one.Next != nil && one.State == string(bridge.PublicationFailed) {
			fmt.Fprintf(g.stdout, "  tried again at %s\n", one.Next.Format(time.RFC3339))
		}
		waits = waits || one.State != string(bridge.PublicationPublished)
	}
	if waits && !p.Running {
		fmt.Fprintln(g.stdout, "Start the daemon (sealpost run): it answers the Web Key Service, tries again, and sees when others find the certificate.")
	}
}
