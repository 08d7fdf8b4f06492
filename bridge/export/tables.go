package export

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
)

// The tables of an export. Where formats choose, the file is there if it was asked for.
const (
	documentsFile  = "documents.jsonl"
	accountingFile = "accounting.json"
	queryFile      = "query.json"
	duplicatesFile = "duplicates.csv"
	exceptionsFile = "exceptions.csv"
	privilegeFile  = "privilege.csv"
	countsFile     = "counts.csv"
	datFile        = "loadfile.dat"
	edrmFile       = "edrm.xml"
	mboxFile       = "messages.mbox"
	reportFile     = "index.html"
)

// table is one file that is made from the rows of the job.
type table struct {
	path  string
	write func(ctx context.Context, w io.Writer) error
}

// tabulate writes the tables.
func (x *run) tabulate(ctx context.Context) (*Accounting, error) {
	accounting, err := x.account(ctx)
	if err != nil {
		return nil, err
	}
	tables := []table{
		{queryFile, x.writeQuery},
		{documentsFile, x.fromRecords(writeDocuments)},
		{accountingFile, func(_ context.Context, w io.Writer) error { return writeJSON(w, accounting) }},
		{countsFile, func(_ context.Context, w io.Writer) error { return writeCounts(w, accounting) }},
		{duplicatesFile, x.writeDuplicates},
		{exceptionsFile, x.writeExceptions},
		{privilegeFile, x.writePrivilege},
		{holdsFile, x.writeHolds},
		{reportFile, func(ctx context.Context, w io.Writer) error { return x.writeReport(ctx, w, accounting) }},
	}
	for _, optional := range []struct {
		format string
		table
	}{{"dat", table{datFile, x.fromRecords(writeDAT)}}, {"edrm", table{edrmFile, x.fromRecords(writeEDRM)}}, {"mbox", table{mboxFile, x.writeMbox}}} {
		if slices.Contains(x.Formats, optional.format) {
			tables = append(tables, optional.table)
		}
	}
	for _, t := range tables {
		if err := x.table(ctx, t); err != nil {
			return nil, fmt.Errorf("%s: %w", t.path, err)
		}
	}
	return accounting, nil
}

func (x *run) table(ctx context.Context, t table) error {
	f, err := x.sink.put(t.path, func(w io.Writer) error {
		buffered := bufio.NewWriter(w)
		if err := t.write(ctx, buffered); err != nil {
			return err
		}
		return buffered.Flush()
	})
	x.files = append(x.files, f)
	return err
}

func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// writeQuery says what was asked: as it was written, and as it was understood.
func (x *run) writeQuery(_ context.Context, w io.Writer) error {
	understood := ""
	if x.question.Query != nil {
		understood = x.question.Query.String()
	}
	return writeJSON(w, struct {
		Request
		Understood string `json:"understood"`
		From       string `json:"sent_from,omitempty"`
		Before     string `json:"sent_before,omitempty"`
		Program    string `json:"program"`
	}{x.Request, understood, format(x.question.Since, time.RFC3339Nano), format(x.question.Until, time.RFC3339Nano), "sealpost " + x.o.Version})
}

// writeDocuments is one record a line.
func writeDocuments(w io.Writer, records eachRecord) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return records(func(r *Record) error { return encoder.Encode(r) })
}

// fromRecords is a table that is made of nothing but the records: the verifier makes it again.
func (x *run) fromRecords(write func(io.Writer, eachRecord) error) func(context.Context, io.Writer) error {
	return func(ctx context.Context, w io.Writer) error {
		return write(w, func(f func(*Record) error) error { return x.job.eachRecord(ctx, f) })
	}
}

func writeCounts(w io.Writer, a *Accounting) error {
	out := csv.NewWriter(w)
	header := []string{"TERM"}
	for _, c := range a.Custodians {
		header = append(header, c.Custodian)
	}
	_ = out.Write(append(header, "TOTAL"))
	for _, t := range a.Terms {
		line, total := []string{t.Term}, 0
		for _, n := range t.Hits {
			line, total = append(line, strconv.Itoa(n)), total+n
		}
		_ = out.Write(append(line, strconv.Itoa(total)))
	}
	out.Flush()
	return out.Error()
}

// placeColumns are the columns that say where a message is.
var placeColumns = []string{"CUSTODIAN", "FOLDER", "UIDVALIDITY", "UID"}

func (r row) place() []string {
	return []string{r.Custodian, r.Mailbox, strconv.FormatUint(uint64(r.Validity), 10), strconv.FormatUint(uint64(r.UID), 10)}
}

// csvOf writes the rows that line makes lines of.
func (x *run) csvOf(ctx context.Context, w io.Writer, more []string, lines func(row) [][]string) error {
	out := csv.NewWriter(w)
	_ = out.Write(slices.Concat(placeColumns, more))
	err := x.job.each(ctx, func(r row) error {
		for _, line := range lines(r) {
			if err := out.Write(slices.Concat(r.place(), line)); err != nil {
				return err
			}
		}
		return nil
	})
	out.Flush()
	if err == nil {
		err = out.Error()
	}
	return err
}

func (x *run) writeDuplicates(ctx context.Context, w io.Writer) error {
	return x.csvOf(ctx, w, []string{"COPY_OF", "IDENTITY"}, func(r row) [][]string {
		if r.Outcome != Duplicate {
			return nil
		}
		return [][]string{{r.Original, r.Identity}}
	})
}

func (x *run) writePrivilege(ctx context.Context, w io.Writer) error {
	return x.csvOf(ctx, w, []string{"PRIVILEGE", "IDENTITY"}, func(r row) [][]string {
		if r.Outcome != Withheld {
			return nil
		}
		return [][]string{{r.Reason, r.Identity}}
	})
}

// joined is a reason, and how the message left its mailbox if it did.
func joined(reason, kept string) string {
	if kept == "" {
		return reason
	}
	return reason + "; kept by a hold: " + kept
}

// writeExceptions lists the messages that could not be decided about, then what of the exported documents is out of the ordinary.
func (x *run) writeExceptions(ctx context.Context, w io.Writer) error {
	return x.csvOf(ctx, w, []string{"DOCID", "OUTCOME", "REASON"}, func(r row) [][]string {
		if r.Outcome == Undecided || r.Outcome == Unavailable {
			return [][]string{{"", string(r.Outcome), joined(r.Reason, r.Kept)}}
		}
		var lines [][]string
		for _, record := range r.Records {
			for _, e := range record.Exception {
				lines = append(lines, []string{record.DocID, string(Exported), e})
			}
		}
		return lines
	})
}
