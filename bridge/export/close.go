package export

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/sealpost/sealpost/bridge/audit"
)

// The files that close an export. All but the list and its signature are in the list.
const (
	custodyFile       = "custody.jsonl"
	certificateFile   = "certificate.asc"
	certificationFile = "certification-draft.txt"
	howToFile         = "HOW-TO-VERIFY.txt"
	manifestFile      = "manifest.json"
	sumsFile          = "SHA256SUMS"
	signatureFile     = "SHA256SUMS.asc"
)

// Manifest says what an export consists of.
type Manifest struct {
	Format      int        `json:"format"` // 1
	Program     string     `json:"program"`
	Signer      string     `json:"signer"`
	Fingerprint string     `json:"fingerprint"`
	Begun       time.Time  `json:"begun"` // of the device's clock, which is not a trusted one
	Closed      time.Time  `json:"closed"`
	Clock       string     `json:"clock"`
	Custody     string     `json:"custody"` // hex SHA-256 of the last line of the custody log
	Encrypted   bool       `json:"encrypted"`
	Accounting  Accounting `json:"accounting"`
	Stamped     []string   `json:"stamped"`           // files that say when: the same query makes all others again, byte for byte
	Sources     []Source   `json:"sources,omitempty"` // of a merged export: what it was made from
	Files       []File     `json:"files"`             // all but this, the list and its signature
}

//go:embed how-to-verify.txt
var howTo string

//go:embed certification.txt
var certification string

// close writes custody log, manifest and the signed list, sees to it that all is on the disk, and checks it as anybody else would.
func (x *run) close(ctx context.Context, a *Accounting) error {
	closed := x.o.Now().UTC()
	detail := fmt.Sprintf("%d messages looked at, %d exported with %d documents", a.Total.Held, a.Total.Exported, a.Total.Documents)
	if err := x.job.record(ctx, closed, "closed", detail); err != nil {
		return err
	}
	if err := x.writeClosing(ctx); err != nil {
		return err
	}
	m, err := x.manifest(ctx, a, closed)
	if err != nil {
		return err
	}
	sums, err := x.writeSums(m)
	if err != nil {
		return err
	}
	syscall.Sync()
	found, err := Verify(ctx, x.Directory, VerifyOptions{Trusted: x.signer.Fingerprint, CheckSignature: x.o.CheckSignature})
	if err == nil && len(found.Problems) > 0 {
		err = fmt.Errorf("it was read back and is not as it should be: %s", found.Problems[0])
	}
	if err != nil {
		return err
	}
	err = x.o.Audit.Append(ctx, audit.Entry{Account: strings.Join(x.Custodians, ","), Event: "export", Decision: "closed", Fingerprint: x.signer.Fingerprint,
		Detail: fmt.Sprintf("%s to %s, %s %s", detail, x.Directory, sumsFile, sums.SHA256)})
	if err != nil {
		return err
	}
	return x.job.finish(ctx, closed)
}

func (x *run) writeClosing(ctx context.Context) error {
	values := map[string]any{"Signer": x.signer.Address, "Fingerprint": x.signer.Fingerprint, "Program": "sealpost " + x.o.Version,
		"Begun": x.job.started.UTC().Format(time.RFC3339), "Query": x.Query, "Encrypted": x.sink.encrypt != nil, "Merged": len(x.sources)}
	for _, t := range []table{
		{custodyFile, func(ctx context.Context, w io.Writer) error { return x.job.custody(ctx, w) }},
		{certificationFile, func(_ context.Context, w io.Writer) error {
			return template.Must(template.New("").Parse(certification)).Execute(w, values)
		}},
	} {
		if err := x.table(ctx, t); err != nil {
			return err
		}
	}
	for _, t := range []table{
		{certificateFile, func(_ context.Context, w io.Writer) error { _, err := w.Write(x.signer.Certificate); return err }},
		{howToFile, func(_ context.Context, w io.Writer) error {
			return template.Must(template.New("").Parse(howTo)).Execute(w, values)
		}},
	} {
		f, err := x.sink.putClear(t.path, func(w io.Writer) error { return t.write(ctx, w) })
		if err != nil {
			return err
		}
		x.files = append(x.files, f)
	}
	return nil
}

// manifest collects all files.
func (x *run) manifest(ctx context.Context, a *Accounting, closed time.Time) (*Manifest, error) {
	m := &Manifest{Format: 1, Program: "sealpost " + x.o.Version, Signer: x.signer.Address, Fingerprint: x.signer.Fingerprint, Begun: x.job.started.UTC(),
		Closed: closed, Clock: "the device's own clock", Encrypted: x.sink.encrypt != nil, Accounting: *a, Sources: x.sources}
	if m.Encrypted {
		m.Accounting.Terms = nil // the manifest is in clear, the words that were looked for are not
	}
	for _, name := range []string{custodyFile, certificationFile, reportFile} {
		if m.Encrypted {
			name += encryptedEnding
		}
		m.Stamped = append(m.Stamped, name)
	}
	m.Stamped = append(m.Stamped, manifestFile, sumsFile, signatureFile)
	m.Files = slices.Clone(x.files)
	err := x.job.each(ctx, func(r row) error {
		for _, record := range r.Records {
			m.Files = append(m.Files, record.Files...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	err = x.o.DB.Read().QueryRowContext(ctx, `SELECT hash FROM export_custody WHERE job = ? ORDER BY seq DESC LIMIT 1`, x.job.id).Scan(&m.Custody)
	return m, err
}

// writeSums writes the manifest, the list of all files in the form of sha256sum, and the signature over it.
func (x *run) writeSums(m *Manifest) (File, error) {
	manifest, err := x.sink.putClear(manifestFile, func(w io.Writer) error { return writeJSON(w, m) })
	if err != nil {
		return File{}, err
	}
	all := append(slices.Clone(m.Files), manifest)
	slices.SortFunc(all, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	var list bytes.Buffer
	for _, f := range all {
		fmt.Fprintf(&list, "%s  %s\n", f.SHA256, f.Path)
	}
	sums, err := x.sink.putClear(sumsFile, func(w io.Writer) error { _, err := w.Write(list.Bytes()); return err })
	if err != nil {
		return sums, err
	}
	_, err = x.sink.putClear(signatureFile, func(w io.Writer) error { return x.signer.Sign(w, bytes.NewReader(list.Bytes())) })
	return sums, errors.Join(err, removeParts(x.Directory))
}

// removeParts takes away what a crash left half written.
func removeParts(dir string) error {
	parts, err := filepath.Glob(filepath.Join(dir, "*"+partEnding))
	for _, p := range parts {
		err = errors.Join(err, os.Remove(p))
	}
	return err
}
