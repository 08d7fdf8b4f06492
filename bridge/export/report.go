package export

import (
	"context"
	_ "embed"
	"html/template"
	"io"
	"time"
)

// reportPage is a page that needs nothing else: no script, no network.
//
//go:embed report.html
var reportPage string

var reportTemplate = template.Must(template.New("report").Parse(reportPage))

// bar is one of the funnel's.
type bar struct {
	Label   string
	N       int
	Percent float64 // of all
}

// missing is a line of the list of what is not there.
type missing struct{ Custodian, Folder, DocID, Reason string }

// maxMissing is how many lines the page shows; all are in exceptions.csv.
const maxMissing = 500

type report struct {
	Request
	*Accounting
	Understood, Created, Program, Signer, Fingerprint string
	Bars                                              []bar
	Missing                                           []missing
	More                                              int
	Files                                             []string
	Encrypted                                         bool
}

// writeReport writes the page for those who read.
func (x *run) writeReport(ctx context.Context, w io.Writer, a *Accounting) error {
	return x.reportOf(w, a, func(miss func(missing)) error { return x.eachMissing(ctx, miss) })
}

// reportOf writes the page; each calls its parameter for what is not there.
func (x *run) reportOf(w io.Writer, a *Accounting, each func(miss func(missing)) error) error {
	r := report{Request: x.Request, Accounting: a, Created: x.job.started.UTC().Format(time.RFC1123), Program: "sealpost " + x.o.Version,
		Signer: x.signer.Address, Fingerprint: x.signer.Fingerprint, Bars: funnel(a.Total), Encrypted: x.sink.encrypt != nil, Understood: "everything"}
	if x.question.Query != nil {
		r.Understood = x.question.Query.String()
	}
	for _, f := range x.files {
		r.Files = append(r.Files, f.Path)
	}
	if err := each(r.miss); err != nil {
		return err
	}
	return reportTemplate.Execute(w, r)
}

// eachMissing are the messages that could not be decided about, and what of documents is out of the ordinary.
func (x *run) eachMissing(ctx context.Context, miss func(missing)) error {
	return x.job.each(ctx, func(row row) error {
		if row.Outcome == Undecided || row.Outcome == Unavailable {
			miss(missing{row.Custodian, row.Mailbox, "", row.Reason})
		}
		for _, record := range row.Records {
			for _, e := range record.Exception {
				miss(missing{record.Custodian, record.Folder, record.DocID, e})
			}
		}
		return nil
	})
}

func (r *report) miss(m missing) {
	if len(r.Missing) < maxMissing {
		r.Missing = append(r.Missing, m)
	} else {
		r.More++
	}
}

// funnel is what is left after each step.
func funnel(n Numbers) []bar {
	bars := []bar{
		{Label: "in the mailboxes", N: n.Held},
		{Label: "within the dates", N: n.Held - n.OutOfRange},
		{Label: "could be read and decided", N: n.Held - n.OutOfRange - n.Undecided - n.Unavailable},
		{Label: "match the query", N: n.Matching},
		{Label: "without duplicates", N: n.Matching - n.Duplicates},
		{Label: "exported (not withheld)", N: n.Exported},
	}
	for i := range bars {
		if n.Held > 0 {
			bars[i].Percent = float64(bars[i].N) * 100 / float64(n.Held)
		}
	}
	return bars
}
