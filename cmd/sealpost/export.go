package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/export"
)

type exportCmd struct {
	Make   exportMakeCmd   `cmd:"" default:"withargs" help:"Export mail for others to check (the default)."`
	Verify exportVerifyCmd `cmd:"" help:"Check an export, offline."`
	Merge  exportMergeCmd  `cmd:"" help:"Make one export out of those of several devices."`

	Timestamp exportTimestampCmd `cmd:"" help:"Have a time-stamping authority say that an export is there now (RFC 3161)."`
	Handover  exportHandoverCmd  `cmd:"" help:"Record to whom an export was given."`
}

func (exportCmd) Help() string {
	return "Example:\n\n    sealpost export --query 'harbour' --since 2026-01-01 --until 2026-06-30 --out harbour-export\n    sealpost export verify harbour-export"
}

type exportMakeCmd struct {
	Query string `help:"What to export, as in sealpost search; without it everything." placeholder:"Q"`
	queryFlags
	Out       string   `help:"Folder for it: new, empty, or of the same export when it was cut off." placeholder:"DIR" type:"path"`
	Format    []string `help:"Beside the messages as EML: ${enum}." enum:"eml,mbox,dat,edrm" default:"eml,mbox,dat,edrm"`
	EncryptTo string   `help:"Certificate of counsel: every file is encrypted to it." placeholder:"FILE" type:"existingfile"`
	Bates     string   `help:"Number the documents with this prefix." placeholder:"PREFIX"`
	Marks     string   `help:"Reviewers' marks: CSV with the columns id,privilege,redacted,confidentiality,withhold." placeholder:"FILE" type:"existingfile"`
	Count     bool     `help:"Only count, by term and custodian, and show a sample."`
	Sample    int      `help:"How many messages the sample has." default:"10"`
}

func (exportMakeCmd) Help() string {
	return `Example:

    sealpost export --query 'harbour OR "blue folder"' --since 2026-01-01 --until 2026-06-30 --timezone Europe/Berlin --count
    sealpost export --query 'harbour OR "blue folder"' --since 2026-01-01 --until 2026-06-30 --timezone Europe/Berlin \
        --bates ACME- --encrypt-to counsel.asc --out acme-export

The query language is that of sealpost search. An export that was cut off goes on when the same command is given again. It is
plain text on your disk unless you give --encrypt-to. Exits with 3 if mail could not be decided about; exceptions.csv lists it.`
}

var exportOperation = operation[exportParams, *export.Accounting]{"export", true, func(ctx context.Context, s *service, params exportParams, p bridge.Progress) (*export.Accounting, error) {
	params.Request.Directory = params.Directory
	return s.desk().Export(ctx, params.Request, export.Progress(p))
}}

// exportParams are a request and the folder, which is no part of what is asked for.
type exportParams struct {
	export.Request
	Directory string
}

type countParams struct {
	export.Request
	Sample int
}

var exportCountOperation = operation[countParams, *export.Counted]{"export-count", true, func(ctx context.Context, s *service, params countParams, p bridge.Progress) (*export.Counted, error) {
	return s.desk().Count(ctx, params.Request, params.Sample, export.Progress(p))
}}

// Run implements the command.
func (c exportMakeCmd) Run(ctx context.Context, g *globals) error {
	r, err := c.completeRequest()
	if err == nil {
		err = checkRequest(r)
	}
	if err != nil {
		return err
	}
	if c.Count {
		return c.count(ctx, g, r)
	}
	if c.Out == "" {
		return fmt.Errorf("%w: give the folder with --out, or --count", errUsage)
	}
	out, err := filepath.Abs(c.Out)
	if err != nil {
		return err
	}
	a, err := call(ctx, g, exportOperation, exportParams{r, out})
	if err != nil {
		return err
	}
	if c.JSON {
		err = g.printJSON(a)
	} else {
		printAccounting(g, a)
		fmt.Fprintf(g.stdout, "Exported to %s. Check it with: sealpost export verify %s\n", out, out)
	}
	return attention(err, a)
}

func (c exportMakeCmd) completeRequest() (export.Request, error) {
	r := c.request(c.Query)
	r.Formats, r.Bates = c.Format, c.Bates
	if c.EncryptTo != "" {
		data, err := os.ReadFile(c.EncryptTo)
		if err != nil {
			return r, err
		}
		r.Certificates = data
	}
	if c.Marks == "" {
		return r, nil
	}
	in, err := os.Open(c.Marks)
	if err != nil {
		return r, err
	}
	defer in.Close()
	if r.Marks, err = export.ReadMarks(in); err != nil {
		return r, fmt.Errorf("%w: %s: %w", errUsage, c.Marks, err)
	}
	return r, nil
}

func (c exportMakeCmd) count(ctx context.Context, g *globals, r export.Request) error {
	counted, err := call(ctx, g, exportCountOperation, countParams{r, c.Sample})
	if err != nil {
		return err
	}
	if c.JSON {
		return attention(g.printJSON(counted), &counted.Accounting)
	}
	printAccounting(g, &counted.Accounting)
	for _, h := range counted.Sample {
		printHit(g, h)
	}
	return attention(nil, &counted.Accounting)
}

func attention(err error, a *export.Accounting) error {
	if err == nil && a.NeedsAttention() {
		return errAttention
	}
	return err
}

// printAccounting prints the hits of each term, then the funnel.
func printAccounting(g *globals, a *export.Accounting) {
	for _, t := range a.Terms {
		total := 0
		for _, n := range t.Hits {
			total += n
		}
		fmt.Fprintf(g.stdout, "%6d  %s  %s\n", total, t.Term, hitsByCustodian(a, t))
	}
	n := a.Total
	for _, line := range []struct {
		n    int
		what string
	}{{n.Held, "looked at"}, {n.OutOfRange, "outside the dates"}, {n.NotMatching, "not matching"}, {n.Undecided, "undecided: something cannot be read"},
		{n.Unavailable, "not available"}, {n.Matching, "matching"}} {
		fmt.Fprintf(g.stdout, "%6d  %s\n", line.n, line.what)
	}
	if n.Exported+n.Duplicates+n.Withheld > 0 {
		fmt.Fprintf(g.stdout, "%6d  duplicates\n%6d  withheld\n%6d  exported, %d documents\n", n.Duplicates, n.Withheld, n.Exported, n.Documents)
	}
	if n.Kept > 0 {
		fmt.Fprintf(g.stdout, "%6d  of those looked at were deleted, and kept by a hold\n", n.Kept)
	}
	printStale(g, a)
	if a.UnusedMarks > 0 {
		fmt.Fprintf(g.stderr, "%d marks are about no message that matches; check their ids\n", a.UnusedMarks)
	}
}

func hitsByCustodian(a *export.Accounting, t export.TermHits) string {
	var texts []string
	for i, c := range a.Custodians {
		texts = append(texts, fmt.Sprintf("%s %d", c.Custodian, t.Hits[i]))
	}
	return "(" + strings.Join(texts, ", ") + ")"
}
