package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/export"
)

type exportVerifyCmd struct {
	Dir         string `arg:"" help:"Folder of the export." type:"existingdir"`
	Certificate string `help:"Certificate of the signer, got over another way." placeholder:"FILE" type:"existingfile"`
	Fingerprint string `help:"Fingerprint the signer must have." placeholder:"HEX"`
	TSA         string `name:"tsa-certificate" help:"Certificates of the time-stamping authority, PEM." placeholder:"FILE" type:"existingfile"`
	JSON        bool   `help:"Print JSON."`
}

func (exportVerifyCmd) Help() string {
	return `Example:

    sealpost export verify --fingerprint 0123456789ABCDEF0123456789ABCDEF01234567 acme-export

Needs no account, no keys and no network. Exits with 3 if anything was changed, added, removed or renamed, or does not add up. HOW-TO-VERIFY.txt
in the export does the same with gpg and sha256sum.`
}

// Run implements the command: without the configuration, the daemon or the state folder.
func (c exportVerifyCmd) Run(ctx context.Context, g *globals) error {
	o := export.VerifyOptions{Trusted: c.Fingerprint, CheckSignature: bridge.CheckSignature}
	if c.Certificate != "" {
		data, err := os.ReadFile(c.Certificate)
		if err != nil {
			return err
		}
		o.Certificates = data
	}
	if c.TSA != "" {
		data, err := os.ReadFile(c.TSA)
		if err != nil {
			return err
		}
		o.Authority = data
	}
	v, err := export.Verify(ctx, c.Dir, o)
	if err != nil {
		return err
	}
	if c.JSON {
		err = g.printJSON(v)
	} else {
		printVerification(g, v)
	}
	if err == nil && len(v.Problems) > 0 {
		err = errAttention
	}
	return err
}

func printVerification(g *globals, v *export.Verification) {
	for _, problem := range v.Problems {
		fmt.Fprintln(g.stdout, problem)
	}
	if len(v.Problems) > 0 {
		fmt.Fprintf(g.stdout, "%d files were looked at: the export is not as it was signed, or contradicts itself.\n", v.Files)
		return
	}
	fmt.Fprintf(g.stdout, "%d files, each as it was signed by %s.\n", v.Files, v.Fingerprint)
	if v.Documents > 0 {
		fmt.Fprintf(g.stdout, "%d documents; families are whole and the numbers add up.\n", v.Documents)
	}
	if s := v.Stamp; s != nil {
		fmt.Fprintf(g.stdout, "It was there on %s, says %s.\n", s.Time.Format(time.RFC3339), s.Authority)
		if !s.Compared {
			fmt.Fprintln(g.stdout, "That authority's certificate is the one in the token: compare it with one you got over another way (--tsa-certificate).")
		}
	}
	for _, h := range v.HandOvers {
		fmt.Fprintf(g.stdout, "Handed over on %s to %s. %s\n", h.Time, h.To, h.Note)
	}
	if !v.Compared {
		fmt.Fprintln(g.stdout, "The certificate is the one in the export: compare that fingerprint with one you got over another way (--fingerprint).")
	}
}
