package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/export"
)

type exportTimestampCmd struct {
	Dir  string `arg:"" help:"Folder of the export." type:"existingdir"`
	URL  string `name:"url" required:"" help:"The authority: http:// or https://." placeholder:"URL"`
	TSA  string `name:"tsa-certificate" help:"Certificates that the authority's must come from, PEM." placeholder:"FILE" type:"existingfile"`
	JSON bool   `help:"Print JSON."`
}

func (exportTimestampCmd) Help() string {
	return `Example:

    sealpost export timestamp acme-export --url https://tsa.example.org/

The authority sees the digest of the signed list of files, nothing else. Its token is put beside the list, as SHA256SUMS.tst, where
sealpost export verify and openssl ts -verify check it.`
}

// Run implements the command: without the configuration, the daemon or the state folder.
func (c exportTimestampCmd) Run(ctx context.Context, g *globals) error {
	if !strings.HasPrefix(c.URL, "https://") && !strings.HasPrefix(c.URL, "http://") {
		return fmt.Errorf("%w: %q is no address of an authority; write https://…", errUsage, c.URL)
	}
	var roots []byte
	if c.TSA != "" {
		var err error
		if roots, err = os.ReadFile(c.TSA); err != nil {
			return err
		}
	}
	stamp, err := export.Timestamp(ctx, c.Dir, c.URL, roots)
	if err != nil {
		return err
	}
	if c.JSON {
		return g.printJSON(stamp)
	}
	fmt.Fprintf(g.stdout, "Stamped: %s, says %s.\n", stamp.Time.Format(time.RFC3339), stamp.Authority)
	return nil
}

type exportHandoverCmd struct {
	Dir  string `arg:"" help:"Folder of the export." type:"existingdir"`
	To   string `required:"" help:"Who has it now." placeholder:"\"NAME, FIRM\""`
	Note string `help:"Anything to remember: how, by whom." placeholder:"TEXT"`
	JSON bool   `help:"Print JSON."`
}

func (exportHandoverCmd) Help() string {
	return `Example:

    sealpost export handover acme-export --to "R. Roe, Roe & Partners" --note "on an encrypted disk, by courier"

The export is verified, and a record signed by this device is put into its folder; the decision log has its digest. Hand over the folder
with the record in it.`
}

type handoverParams struct{ Dir, To, Note string }

var exportHandoverOperation = operation[handoverParams, *export.HandOver]{"export-handover", false, func(ctx context.Context, s *service, p handoverParams, _ bridge.Progress) (*export.HandOver, error) {
	return s.desk().HandOver(ctx, p.Dir, p.To, p.Note)
}}

// Run implements the command.
func (c exportHandoverCmd) Run(ctx context.Context, g *globals) error {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return err
	}
	h, err := call(ctx, g, exportHandoverOperation, handoverParams{dir, c.To, c.Note})
	if err != nil {
		return err
	}
	if c.JSON {
		return g.printJSON(h)
	}
	fmt.Fprintf(g.stdout, "Recorded as hand-over %d of the export.\n", h.Number)
	return nil
}
