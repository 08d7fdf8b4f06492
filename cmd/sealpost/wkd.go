package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/keydisc"
)

type wkdCmd struct {
	Export wkdExportCmd `cmd:"" help:"Write the files of a Web Key Directory with your certificates."`
}

func (wkdCmd) Help() string { return "Example:\n\n    sealpost wkd export /var/www/openpgpkey" }

type wkdExportCmd struct {
	Dir     string   `arg:"" help:"Folder that the web server serves as the root of its host." type:"path"`
	Account string   `help:"Only this account." placeholder:"ADDRESS"`
	Layout  []string `help:"advanced: for the host openpgpkey.DOMAIN; direct: for DOMAIN itself, one domain only." enum:"advanced,direct" default:"advanced"`
	JSON    bool     `help:"Print JSON."`
}

func (wkdExportCmd) Help() string {
	return `Example:

    sealpost wkd export /var/www/openpgpkey

Then have https://openpgpkey.DOMAIN/ serve that folder, as application/octet-stream and without an index;
others find your certificate with gpg --locate-keys. Run it again when the key changes.`
}

// publication is a certificate and the addresses of the account that it is for.
type publication struct {
	Addresses   []string
	Certificate []byte
}

var wkdExportOperation = operation[string, []publication]{"wkd-export", false, func(ctx context.Context, s *service, account string, _ bridge.Progress) ([]publication, error) {
	owners, err := s.owners(ctx, account)
	if err != nil {
		return nil, err
	}
	var all []publication
	for _, a := range owners {
		c, err := a.Certificate()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.Address(), err)
		}
		own := slices.DeleteFunc(c.Addresses(), func(address string) bool { return !a.Owns(address) })
		if len(own) == 0 {
			return nil, fmt.Errorf("the key of %s has no user ID of that address", a.Address())
		}
		all = append(all, publication{own, c.Bytes()})
	}
	return all, nil
}}

// Run implements the command.
func (c wkdExportCmd) Run(ctx context.Context, g *globals) error {
	publications, err := call(ctx, g, wkdExportOperation, c.Account)
	if err != nil {
		return err
	}
	tree, err := treeOf(publications, c.Layout)
	if err != nil {
		return err
	}
	if err := tree.Write(c.Dir); err != nil {
		return err
	}
	if c.JSON {
		return g.printJSON(tree.Paths())
	}
	for _, path := range tree.Paths() {
		fmt.Fprintln(g.stdout, path)
	}
	return nil
}

func treeOf(publications []publication, layouts []string) (*keydisc.WKDTree, error) {
	tree := &keydisc.WKDTree{}
	for _, p := range publications {
		certificates, err := keydisc.ParseCertificates(p.Certificate)
		if err != nil {
			return nil, err
		}
		for _, address := range p.Addresses {
			if err := tree.Add(address, certificates, layouts...); err != nil {
				return nil, err
			}
		}
	}
	if len(tree.Paths()) == 0 {
		return nil, errors.New("there is no certificate to publish; see sealpost key generate")
	}
	return tree, nil
}
