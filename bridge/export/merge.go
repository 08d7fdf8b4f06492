package export

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/export/query"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
)

// Source is an export that went into a merged one. What proves it, its signed list of files above all, is in sources/N.
type Source struct {
	Name        string   `json:"name"`       // sources/1 and so on
	SHA256Sums  string   `json:"sha256sums"` // hex SHA-256 of its SHA256SUMS
	Signer      string   `json:"signer"`
	Fingerprint string   `json:"fingerprint"`
	Total       Numbers  `json:"total"`
	Custodians  []string `json:"custodians"`
}

// proofs are the files of a source that are taken over as they are.
var proofs = []string{manifestFile, sumsFile, signatureFile, certificateFile, custodyFile, queryFile, accountingFile, countsFile, holdsFile}

// source is one that is being read.
type source struct {
	Source
	dir        string
	manifest   Manifest
	request    Request
	ids        map[string]string // new DOCID of each document, of a suppressed one that of the document it is a copy of
	suppressed map[string]place  // messages that another source has too, by DOCID there
	identity   map[string]string // of suppressed messages, by DOCID there
	custodian  map[string]string
	pages      map[string]int  // how many documents a suppressed family has
	dropped    map[string]bool // documents of suppressed families
}

// merge is a merged export under way.
type merge struct {
	*run
	sources []*source
	kept    map[string]string   // DOCID by identity
	holders map[string][]string // custodians by DOCID
	last    int
}

// MergeRequest says what to merge.
type MergeRequest struct {
	Directories []string // finished exports of the same question, absolute
	Directory   string   // absolute; new or empty
	Bates       string
}

// Merge makes one export out of those of several devices. Each is verified first; they must have asked the same. What several of them have
// is there once, with all custodians; the numbers of all add up. Documents get new numbers; Source says which they had. Errors of
// the request wrap ErrRequest.
func (d *Desk) Merge(ctx context.Context, r MergeRequest, p Progress) (*Accounting, error) {
	m := &merge{run: &run{Desk: d, progress: p}, kept: map[string]string{}, holders: map[string][]string{}}
	if len(d.o.Custodians) == 0 || len(r.Directories) < 2 || r.Bates != "" && !batesPrefix.MatchString(r.Bates) {
		return nil, fmt.Errorf("%w: a merged export has two sources at least, a Bates prefix of letters, digits, points, dashes and underscores, and an account that signs it", ErrRequest)
	}
	for i, dir := range r.Directories {
		if err := m.addSource(ctx, i+1, dir); err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
	}
	if err := m.begin(ctx, r); err != nil {
		return nil, err
	}
	if err := d.announce(ctx, []string{d.o.Custodians[0].Address}, "A merge of exports", "", ""); err != nil {
		return nil, err
	}
	accounting, err := m.make(ctx)
	if err != nil {
		return nil, fmt.Errorf("merge into %s: %w", r.Directory, err)
	}
	return accounting, nil
}

// make writes the merged export.
func (m *merge) make(ctx context.Context) (*Accounting, error) {
	for _, step := range []func(context.Context) error{m.number, m.checkWithheld, m.copyAll} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	accounting, err := m.tabulate(ctx)
	if err != nil {
		return nil, err
	}
	return accounting, m.close(ctx, accounting)
}

// addSource verifies a source and reads what it says of itself.
func (m *merge) addSource(ctx context.Context, n int, dir string) error {
	v, err := Verify(ctx, dir, VerifyOptions{CheckSignature: m.o.CheckSignature})
	if err != nil {
		return err
	}
	if len(v.Problems) > 0 {
		return fmt.Errorf("%w: it does not verify: %s", ErrRequest, v.Problems[0])
	}
	s := &source{dir: dir, ids: map[string]string{}, suppressed: map[string]place{}, identity: map[string]string{}, custodian: map[string]string{}, pages: map[string]int{}, dropped: map[string]bool{}}
	if err := s.read(); err != nil {
		return err
	}
	if s.manifest.Encrypted {
		return fmt.Errorf("%w: it is encrypted; decrypt it, or merge before it is encrypted", ErrRequest)
	}
	s.Name, s.Fingerprint, s.Signer, s.Total = fmt.Sprintf("sources/%d", n), v.Fingerprint, s.manifest.Signer, s.manifest.Accounting.Total
	for _, other := range m.sources {
		if other.SHA256Sums == s.SHA256Sums {
			return fmt.Errorf("%w: it is the same export as %s", ErrRequest, other.dir)
		}
		if a, b := other.request, s.request; a.Query != b.Query || a.Since != b.Since || a.Until != b.Until || a.Timezone != b.Timezone {
			return fmt.Errorf("%w: it answers another question than %s", ErrRequest, other.dir)
		}
	}
	for _, t := range s.manifest.Accounting.Terms {
		if len(t.Hits) != len(s.manifest.Accounting.Custodians) {
			return fmt.Errorf("%w: the hits of %s are not those of its custodians", ErrRequest, t.Term)
		}
	}
	for _, c := range s.manifest.Accounting.Custodians {
		s.Custodians = append(s.Custodians, c.Custodian)
	}
	m.sources = append(m.sources, s)
	return nil
}

func (s *source) read() error {
	sums, err := os.ReadFile(s.path(sumsFile))
	if err != nil {
		return err
	}
	s.SHA256Sums = hashOf(sums)
	for name, into := range map[string]any{manifestFile: &s.manifest, queryFile: &s.request} {
		data, err := os.ReadFile(s.path(name))
		if errors.Is(err, os.ErrNotExist) && name == queryFile {
			continue // it is encrypted
		}
		if err == nil {
			err = json.Unmarshal(data, into)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (s *source) path(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

// records are its documents, as it has numbered them.
func (s *source) records(f func(*Record) error) error {
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return (&verifier{root: root}).records(f)
}

// begin makes the folder and the job: its custody log names the sources.
func (m *merge) begin(ctx context.Context, r MergeRequest) (err error) {
	asked := m.sources[0].request
	m.Request = Request{Query: asked.Query, Since: asked.Since, Until: asked.Until, Timezone: asked.Timezone, Custodians: m.custodians(),
		Formats: Formats, Bates: r.Bates, Directory: r.Directory}
	if m.question, err = m.Request.parse(); err != nil {
		return err
	}
	if m.question.Query != nil {
		m.terms = query.Terms(m.question.Query)
	}
	if m.signer, err = m.o.Signer(m.o.Custodians[0].Address); err != nil {
		return err
	}
	if err := m.run.open(ctx); err != nil {
		return err
	}
	var names []string
	for _, s := range m.sources {
		m.run.sources = append(m.run.sources, s.Source)
		names = append(names, fmt.Sprintf("%s: %s %s, signed by %s", s.Name, sumsFile, s.SHA256Sums, s.Fingerprint))
	}
	if err := m.job.record(ctx, m.o.Now(), "merged", strings.Join(names, "; ")); err != nil {
		return err
	}
	return m.o.Audit.Append(ctx, audit.Entry{Account: m.signer.Address, Event: "export", Decision: "merge", Detail: "to " + r.Directory + "; " + strings.Join(names, "; ")})
}

// custodians are those of all sources.
func (m *merge) custodians() []string {
	var all []string
	for _, s := range m.sources {
		all = append(all, s.Custodians...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// number decides for every document which number it gets, or which other it is a copy of.
func (m *merge) number(context.Context) error {
	for _, s := range m.sources {
		family, copyOf := "", ""
		err := s.records(func(r *Record) (err error) {
			if r.Parent == "" {
				family = r.DocID
				if copyOf, err = m.known(s, r); err != nil {
					return err
				}
			}
			s.ids[r.DocID] = copyOf
			if copyOf != "" {
				s.pages[family]++
				s.dropped[r.DocID] = true
			} else {
				m.last++
				s.ids[r.DocID] = m.run.number(m.last)
			}
			if r.Parent == "" {
				m.hold(s.ids[r.DocID], r.AllCustodians)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", s.dir, err)
		}
	}
	return nil
}

// known is the new number of the message that this one is a copy of; "" if it is the first, which gets the next number.
func (m *merge) known(s *source, r *Record) (copyOf string, err error) {
	identity, err := s.identityOf(r)
	if err != nil {
		return "", err
	}
	if copyOf = m.kept[identity]; copyOf == "" {
		m.kept[identity] = m.run.number(m.last + 1)
		return "", nil
	}
	s.suppressed[r.DocID] = place{r.Folder, r.UIDValidity, r.UID}
	s.identity[r.DocID], s.custodian[r.DocID] = identity, r.Custodian
	return copyOf, nil
}

func (m *merge) hold(id string, custodians []string) {
	all := slices.Concat(m.holders[id], custodians)
	slices.Sort(all)
	m.holders[id] = slices.Compact(all)
}

// identityOf is the identity of an exported message, from its native file.
func (s *source) identityOf(r *Record) (string, error) {
	f, err := os.Open(s.path(r.Native))
	if err != nil {
		return "", err
	}
	defer f.Close()
	src := io.NewSectionReader(f, 0, r.Size)
	root, err := mimescan.Scan(src)
	if err != nil {
		return "", err
	}
	header, err := mimescan.ReadHeader(src, root.Header)
	if err != nil {
		return "", err
	}
	kind := mirror.Clear
	if r.Encryption == "failed" {
		kind = mirror.Failed
	}
	return identity(src, &Message{Kind: kind, Header: header, Structure: root})
}

// checkWithheld refuses to deliver what one of the sources withholds.
func (m *merge) checkWithheld(context.Context) error {
	for _, s := range m.sources {
		err := s.lines(privilegeFile, func(line []string) error {
			if id, there := m.kept[line[5]]; there {
				return fmt.Errorf("%w: a message that %s withholds (%s, UID %s) is delivered by another source, as %s; mark it in both, and export anew", ErrRequest, s.dir, line[1], line[3], id)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lines are those of a list, without its head.
func (s *source) lines(name string, f func(line []string) error) error {
	in, err := os.Open(s.path(name))
	if err != nil {
		return err
	}
	defer in.Close()
	all, err := csv.NewReader(in).ReadAll()
	if err != nil {
		return fmt.Errorf("%s: %w", s.path(name), err)
	}
	least := listColumns
	if name == exceptionsFile {
		least++
	}
	for i, line := range all {
		if i == 0 {
			continue
		}
		if len(line) < least {
			return fmt.Errorf("%s: line %d is malformed", s.path(name), i+1)
		}
		if err := f(line); err != nil {
			return err
		}
	}
	return nil
}

// each calls f for every document that is delivered, with its new numbers and all custodians.
func (m *merge) each(f func(*Record) error) error {
	for _, s := range m.sources {
		err := s.records(func(r *Record) error {
			if s.dropped[r.DocID] {
				return nil
			}
			m.renumber(s, r)
			return f(r)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", s.dir, err)
		}
	}
	return nil
}

func (m *merge) renumber(s *source, r *Record) {
	r.Source = s.Name + " " + r.DocID
	to := func(id string) string {
		if id == "" {
			return ""
		}
		return s.ids[id]
	}
	moved := func(name string) string {
		if name == "" {
			return ""
		}
		return path.Dir(name) + "/" + to(r.DocID) + strings.TrimPrefix(path.Base(name), r.DocID)
	}
	r.Native, r.Text, r.CiphertextPath = moved(r.Native), moved(r.Text), moved(r.CiphertextPath)
	for i := range r.Files {
		r.Files[i].Path = moved(r.Files[i].Path)
	}
	for i := range r.Attached {
		r.Attached[i] = to(r.Attached[i])
	}
	r.AllCustodians = m.holders[to(r.BeginAttach)]
	r.DocID, r.BeginAttach, r.EndAttach, r.Parent = to(r.DocID), to(r.BeginAttach), to(r.EndAttach), to(r.Parent)
	if r.Begin, r.End = "", ""; m.Bates != "" {
		r.Begin, r.End = r.DocID, r.DocID
	}
}
