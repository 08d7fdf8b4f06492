package export

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// CheckSignature says which certificate's key has made a detached signature over data; an error if none of them has.
type CheckSignature func(certificates, data, signature []byte) (fingerprint string, err error)

// VerifyOptions say what an export is compared with.
type VerifyOptions struct {
	Certificates   []byte // of the signer, got over another way; nil: the one in the export
	Trusted        string // fingerprint the signer must have; "": any
	Authority      []byte // certificates of the time-stamping authority, PEM; nil: those in the token
	CheckSignature CheckSignature
}

// Verification is what was found out about an export.
type Verification struct {
	Files       int        `json:"files"`               // looked at
	Documents   int        `json:"documents"`           // described in it; 0 if they are encrypted
	Fingerprint string     `json:"fingerprint"`         // of the key that signed the list of files; "" if that is not signed
	Compared    bool       `json:"compared"`            // with a fingerprint or certificate from outside the export
	Stamp       *Stamp     `json:"stamp,omitempty"`     // what a time-stamping authority says; nil: none was asked
	HandOvers   []HandOver `json:"handovers,omitempty"` // to whom it was given
	Problems    []string   `json:"problems"`
}

// maxList bounds what is read into memory of an export: lists, not mail.
const maxList = 1 << 30

// verifier checks one folder.
type verifier struct {
	Verification
	root *os.Root
	sums map[string]string // SHA-256 by path
	o    VerifyOptions
}

func (v *verifier) problem(format string, args ...any) {
	v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
}

// Verify checks an export with nothing but the folder and the signer's certificate: the signature over the list of files; that exactly
// these files are there, each with its digest; and that what they say fits together. What is wrong is in Problems; an error means that
// it could not be checked.
func Verify(ctx context.Context, dir string, o VerifyOptions) (*Verification, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	v := &verifier{Verification: Verification{Problems: []string{}}, root: root, o: o, sums: map[string]string{}}
	list, err := v.read(sumsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s has no %s: it is no export, or not a finished one", dir, sumsFile)
	}
	if err != nil {
		return nil, err
	}
	v.signature(list)
	v.stamp(ctx, list)
	v.handOvers(list)
	v.parseSums(list)
	if err := v.files(ctx); err != nil {
		return nil, err
	}
	if len(v.Problems) == 0 { // else what the files say is of no use
		v.contents()
	}
	return &v.Verification, nil
}

func (v *verifier) read(name string) ([]byte, error) {
	info, err := v.root.Lstat(name)
	if err == nil && !info.Mode().IsRegular() { // opening a pipe would wait for its other end
		err = fmt.Errorf("%s is no regular file", name)
	}
	if err != nil {
		return nil, err
	}
	f, err := v.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxList+1))
	if len(data) > maxList {
		return nil, fmt.Errorf("%s is larger than any export's", name)
	}
	return data, err
}

// signature checks who has signed the list.
func (v *verifier) signature(list []byte) {
	certificates, err := v.o.Certificates, error(nil)
	if certificates == nil {
		certificates, err = v.read(certificateFile)
	}
	var signature []byte
	if err == nil {
		signature, err = v.read(signatureFile)
	}
	if err != nil {
		v.problem("the signature cannot be checked: %v", err)
		return
	}
	v.Fingerprint, err = v.o.CheckSignature(certificates, list, signature)
	switch {
	case err != nil:
		v.Fingerprint = ""
		v.problem("%s is not signed by the certificate: %v", sumsFile, err)
	case v.o.Trusted != "" && !strings.EqualFold(v.o.Trusted, v.Fingerprint):
		v.problem("it is signed by %s, not by %s", v.Fingerprint, v.o.Trusted)
	default:
		v.Compared = v.o.Trusted != "" || v.o.Certificates != nil
	}
}

var sumsLine = regexp.MustCompile(`^([0-9a-f]{64})  ([A-Za-z0-9_][A-Za-z0-9_./-]*)$`)

func (v *verifier) parseSums(list []byte) {
	last := ""
	for line := range strings.Lines(string(list)) {
		found := sumsLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if found == nil || !filepath.IsLocal(found[2]) || found[2] <= last || !strings.HasSuffix(line, "\n") {
			v.problem("%s has a line that is not one of an export: %.100q", sumsFile, line)
			return
		}
		last = found[2]
		v.sums[last] = found[1]
	}
}

// plain keeps the name of a file that somebody has added from writing anything else on a terminal.
func plain(name string) string {
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}

// files compares what is there with the list.
func (v *verifier) files(ctx context.Context) error {
	seen := map[string]bool{}
	err := fs.WalkDir(v.root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || d.IsDir() {
			return err
		}
		seen[path] = true
		want, listed := v.sums[path]
		switch {
		case !listed && v.beside(path):
		case !listed:
			v.problem("%s was added: it is not in the list of files", plain(path))
		case !d.Type().IsRegular():
			v.problem("%s is no regular file", path)
		default:
			v.Files++
			return v.compare(path, want)
		}
		return nil
	})
	for path := range v.sums {
		if !seen[path] {
			v.problem("%s is missing", path)
		}
	}
	return err
}

func (v *verifier) compare(path, want string) error {
	f, err := v.root.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != want {
		v.problem("%s was changed: its SHA-256 is not that in the list", path)
	}
	return nil
}

// contents checks what the files say against each other.
func (v *verifier) contents() {
	data, err := v.read(manifestFile)
	var m Manifest
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil || m.Format != 1 {
		v.problem("%s cannot be read by this version of the program: %v", manifestFile, err)
		return
	}
	v.manifest(&m)
	if m.Encrypted {
		return
	}
	v.custody(&m)
	v.mergedFrom(&m)
	c := newContents(&m)
	if err := v.documents(c); err != nil {
		v.problem("%s: %v", documentsFile, err)
		return
	}
	v.Documents = c.documents
	v.numbers(c)
	v.remake()
}

func (v *verifier) manifest(m *Manifest) {
	if m.Fingerprint != v.Fingerprint {
		v.problem("%s names another signer", manifestFile)
	}
	listed := len(v.sums) - 1 // without the manifest itself
	for _, f := range m.Files {
		if v.sums[f.Path] != f.SHA256 {
			v.problem("%s and %s disagree about %s", manifestFile, sumsFile, f.Path)
		}
		if info, err := v.root.Stat(f.Path); err != nil || info.Size() != f.Size {
			v.problem("%s has the wrong size of %s", manifestFile, f.Path)
		}
	}
	if len(m.Files) != listed {
		v.problem("%s names %d files, %s %d", manifestFile, len(m.Files), sumsFile, listed)
	}
	if err := m.Accounting.check(false); err != nil {
		v.problem("the numbers do not add up: %v", err)
	}
}

func (v *verifier) custody(m *Manifest) {
	data, err := v.read(custodyFile)
	if err == nil {
		_, err = readCustody(bytes.NewReader(data))
	}
	if err != nil {
		v.problem("%s: %v", custodyFile, err)
		return
	}
	lines := bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	if hashOf(lines[len(lines)-1]) != m.Custody {
		v.problem("%s ends otherwise than %s says", custodyFile, manifestFile)
	}
}

// records reads the documents one by one.
func (v *verifier) records(f func(*Record) error) error {
	in, err := v.root.Open(documentsFile)
	if err != nil {
		return err
	}
	defer in.Close()
	for decoder := json.NewDecoder(bufio.NewReader(in)); ; {
		var r Record
		err := decoder.Decode(&r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = f(&r)
		}
		if err != nil {
			return err
		}
	}
}

// remake makes the load files again from the documents: they say the same.
func (v *verifier) remake() {
	for path, write := range map[string]func(io.Writer, eachRecord) error{documentsFile: writeDocuments, datFile: writeDAT, edrmFile: writeEDRM} {
		want, there := v.sums[path]
		if !there && path != documentsFile {
			continue
		}
		h := sha256.New()
		if err := write(h, v.records); err != nil {
			v.problem("%s: %v", path, err)
		} else if hex.EncodeToString(h.Sum(nil)) != want {
			v.problem("%s does not say what %s says", path, documentsFile)
		}
	}
}
