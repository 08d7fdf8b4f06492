package export

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
)

// copyAll copies the files of all documents, and what proves each source.
func (m *merge) copyAll(ctx context.Context) error {
	done := 0
	for _, s := range m.sources {
		err := s.records(func(r *Record) error {
			if s.dropped[r.DocID] {
				return ctx.Err()
			}
			before := *r
			before.Files = slices.Clone(r.Files)
			m.renumber(s, r)
			for i, f := range r.Files {
				if err := m.copy(s, before.Files[i].Path, f.Path, f.SHA256); err != nil {
					return err
				}
			}
			done++
			m.progress(s.Name, done, m.last)
			return ctx.Err()
		})
		if err != nil {
			return err
		}
		for _, name := range proofs {
			err := m.copy(s, name, s.Name+"/"+name, "")
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// copy copies one file of a source, whose digest must be the one that was verified ("": any).
func (m *merge) copy(s *source, from, to, sha256 string) error {
	in, err := os.Open(s.path(from))
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := m.sink.put(to, func(w io.Writer) error { _, err := io.Copy(w, in); return err })
	if err == nil && sha256 != "" && f.SHA256 != sha256 {
		err = fmt.Errorf("%s was changed while it was copied", s.path(from))
	}
	m.files = append(m.files, f)
	return err
}

// tabulate writes the tables, each from those of the sources.
func (m *merge) tabulate(ctx context.Context) (*Accounting, error) {
	a, err := m.account()
	if err != nil {
		return nil, err
	}
	for _, t := range []table{
		{queryFile, m.writeQuery},
		{documentsFile, m.fromEach(writeDocuments)},
		{accountingFile, func(_ context.Context, w io.Writer) error { return writeJSON(w, a) }},
		{countsFile, func(_ context.Context, w io.Writer) error { return writeCounts(w, a) }},
		{duplicatesFile, m.list(duplicatesFile, []string{"COPY_OF", "IDENTITY"}, m.suppressedLines)},
		{exceptionsFile, m.list(exceptionsFile, []string{"DOCID", "OUTCOME", "REASON"}, nil)},
		{privilegeFile, m.list(privilegeFile, []string{"PRIVILEGE", "IDENTITY"}, nil)},
		{reportFile, func(_ context.Context, w io.Writer) error { return m.reportOf(w, a, m.eachMissing) }},
		{datFile, m.fromEach(writeDAT)},
		{edrmFile, m.fromEach(writeEDRM)},
		{mboxFile, func(ctx context.Context, w io.Writer) error { return m.mboxOf(ctx, w, m.each) }},
	} {
		if err := m.table(ctx, t); err != nil {
			return nil, fmt.Errorf("%s: %w", t.path, err)
		}
	}
	return a, nil
}

func (m *merge) fromEach(write func(io.Writer, eachRecord) error) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error { return write(w, m.each) }
}

// account adds the numbers of the sources up. What another source has too was exported there and is a duplicate here.
func (m *merge) account() (*Accounting, error) {
	a := newAccounting(m.Custodians, m.termTexts())
	at := func(custodian string) int { return slices.Index(m.Custodians, custodian) }
	for _, s := range m.sources {
		from := s.manifest.Accounting
		if len(from.Terms) != len(a.Terms) {
			return nil, fmt.Errorf("%w: %s counts other terms than its query has", ErrRequest, s.dir)
		}
		for i, c := range from.Custodians {
			a.Custodians[at(c.Custodian)].add(c.Numbers)
			for t := range from.Terms {
				a.Terms[t].Hits[at(c.Custodian)] += from.Terms[t].Hits[i]
			}
		}
		for id, custodian := range s.custodian {
			n := &a.Custodians[at(custodian)].Numbers
			n.Exported, n.Duplicates, n.Documents = n.Exported-1, n.Duplicates+1, n.Documents-s.pages[id]
		}
		for _, stale := range from.Stale {
			a.Stale = append(a.Stale, stale+" ("+s.Name+")")
		}
	}
	for _, c := range a.Custodians {
		a.Total.add(c.Numbers)
	}
	return a, a.check(false)
}

// list joins the lists of the sources, with the new numbers; more adds lines of each.
func (m *merge) list(name string, columns []string, more func(s *source, add func([]string) error) error) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		out := csv.NewWriter(w)
		_ = out.Write(slices.Concat(placeColumns, columns))
		for _, s := range m.sources {
			err := s.lines(name, func(line []string) error {
				if line = s.renumbered(name, line); line == nil {
					return nil
				}
				return out.Write(line)
			})
			if err == nil && more != nil {
				err = more(s, out.Write)
			}
			if err != nil {
				return err
			}
		}
		out.Flush()
		return out.Error()
	}
}

// renumbered is a line of a list with the new number of the document it names; nil if that was dropped.
func (s *source) renumbered(name string, line []string) []string {
	id := line[len(placeColumns)]
	if name == privilegeFile || id == "" {
		return line
	}
	if name == exceptionsFile && s.dropped[id] {
		return nil
	}
	line = slices.Clone(line)
	line[len(placeColumns)] = s.ids[id]
	return line
}

// suppressedLines are the messages that another source has, too.
func (m *merge) suppressedLines(s *source, add func([]string) error) error {
	for _, id := range slices.Sorted(maps.Keys(s.suppressed)) {
		at := s.suppressed[id]
		line := []string{s.custodian[id], at.mailbox, strconv.FormatUint(uint64(at.validity), 10), strconv.FormatUint(uint64(at.uid), 10), s.ids[id], s.identity[id]}
		if err := add(line); err != nil {
			return err
		}
	}
	return nil
}

// eachMissing are the lines of all sources' exceptions.
func (m *merge) eachMissing(miss func(missing)) error {
	for _, s := range m.sources {
		err := s.lines(exceptionsFile, func(line []string) error {
			if line = s.renumbered(exceptionsFile, line); line != nil {
				miss(missing{line[0], line[1], line[4], line[6]})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// mergedFrom checks what proves the sources of a merged export: the signed list of each, and that no message went missing on the way.
func (v *verifier) mergedFrom(m *Manifest) {
	held, matching := 0, 0
	for _, s := range m.Sources {
		held, matching = held+s.Total.Held, matching+s.Total.Matching
		list, err := v.read(s.Name + "/" + sumsFile)
		if err != nil || hashOf(list) != s.SHA256Sums {
			v.problem("%s is not the list of files of the source that %s names", s.Name+"/"+sumsFile, manifestFile)
			continue
		}
		certificate, err := v.read(s.Name + "/" + certificateFile)
		var signature []byte
		if err == nil {
			signature, err = v.read(s.Name + "/" + signatureFile)
		}
		fingerprint := ""
		if err == nil {
			fingerprint, err = v.o.CheckSignature(certificate, list, signature)
		}
		if err != nil || fingerprint != s.Fingerprint {
			v.problem("%s is not signed by %s: %v", s.Name, s.Fingerprint, err)
		}
	}
	if t := m.Accounting.Total; len(m.Sources) > 0 && (held != t.Held || matching != t.Matching) {
		v.problem("the sources looked at %d messages, of which %d match, and not at %d and %d", held, matching, t.Held, t.Matching)
	}
}
