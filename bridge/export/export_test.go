package export

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/keydisc"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// desk is one on the rig whose clock stands still.
func (r *rig) desk(now time.Time) *Desk {
	clock := func() time.Time { return now }
	return New(Options{DB: r.db, Audit: audit.New(r.db, clock), Holds: r.holds, Custodians: r.custodians, Version: "test", Now: clock, CheckSignature: checkSignature,
		Signer: func(address string) (Signer, error) {
			ring, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(bridgetest.SecretKey(alice)))
			check(r.t, err)
			sign := func(w io.Writer, data io.Reader) error { return pgpmime.SignFile(w, data, ring[0], now) }
			return Signer{alice, fingerprintOf(r.t, alice), bridgetest.PublicKey(alice), sign}, nil
		},
		Encrypt: func(w io.Writer, certificates []byte) (io.WriteCloser, error) {
			parsed, err := keydisc.ParseCertificates(certificates)
			if err != nil {
				return nil, err
			}
			return pgpmime.EncryptFile(w, parsed, now)
		}})
}

func fingerprintOf(t testing.TB, address string) string {
	t.Helper()
	parsed, err := keydisc.ParseCertificates(bridgetest.PublicKey(address))
	check(t, err)
	return string(parsed[0].Fingerprint())
}

func checkSignature(certificates, data, signature []byte) (string, error) {
	parsed, err := keydisc.ParseCertificates(certificates)
	if err != nil {
		return "", err
	}
	f, _, err := pgpmime.CheckFile(parsed, data, signature, noon)
	return string(f), err
}

func verify(t testing.TB, dir string, o VerifyOptions) *Verification {
	t.Helper()
	o.CheckSignature = checkSignature
	v, err := Verify(t.Context(), dir, o)
	check(t, err)
	return v
}

// deliverAll delivers every message of testdata/mail to both users' INBOX, and what only one has.
func (r *rig) deliverAll() {
	r.t.Helper()
	paths, err := filepath.Glob("testdata/mail/*.eml")
	check(r.t, err)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		check(r.t, err)
		r.deliver(alice, "INBOX", string(data))
		if !strings.Contains(path, "alice-only") {
			first, rest, _ := strings.Cut(string(data), "\n")
			r.deliver(bob, "INBOX", first+"\nReceived: from elsewhere\n"+rest)
		}
	}
}

func request(dir string) Request {
	return Request{Query: "harbour -body:newsletter", Since: "2026-01-01", Until: "2026-12-31", Directory: dir, Formats: Formats, Bates: "ACME-",
		Marks: []Mark{{ID: "privileged@alpha.test", Privilege: "attorney-client", Withhold: true}, {ID: "plan@alpha.test", Confidentiality: "attorneys' eyes only"}}}
}

func TestExport(t *testing.T) {
	r := newRig(t)
	r.deliverAll()
	dir := filepath.Join(t.TempDir(), "export")
	a, err := r.desk(noon).Export(t.Context(), request(dir), quiet)
	check(t, err)
	want := Numbers{Held: 15, OutOfRange: 2, NotMatching: 2, Undecided: 2, Matching: 9, Duplicates: 3, Withheld: 2, Exported: 4, Documents: 9}
	if a.Total != want {
		t.Errorf("\n got %+v\nwant %+v", a.Total, want)
	}
	v := verify(t, dir, VerifyOptions{Trusted: fingerprintOf(t, alice)})
	if len(v.Problems) > 0 || !v.Compared || v.Documents != want.Documents || v.Fingerprint != fingerprintOf(t, alice) {
		t.Errorf("%+v", v)
	}
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if info, _ := d.Info(); err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s may be read by others", path)
		}
		return err
	}))
	golden(t, dir, "documents.jsonl", "duplicates.csv", "exceptions.csv", "privilege.csv", "counts.csv", "accounting.json", "loadfile.dat", "edrm.xml", "query.json")
}

// golden compares files with those in testdata/golden; UPDATE_GOLDEN=1 writes these.
func golden(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		got, err := os.ReadFile(filepath.Join(dir, name))
		check(t, err)
		path := filepath.Join("testdata/golden", name)
		if os.Getenv("UPDATE_GOLDEN") != "" {
			check(t, os.WriteFile(path, got, 0o644))
		}
		want, err := os.ReadFile(path)
		check(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s is\n%s\nnot\n%s", name, got, want)
		}
	}
}

// contentsOf are all files of a folder.
func contentsOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		found[name] = string(data)
		return err
	}))
	return found
}

// The same query at another time makes the same bytes, but for the files that say when.
func TestReproducible(t *testing.T) {
	r := newRig(t)
	r.deliverAll()
	first, second := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	_, err := r.desk(noon.Add(-48*time.Hour)).Export(t.Context(), request(first), quiet)
	check(t, err)
	_, err = r.desk(noon).Export(t.Context(), request(second), quiet)
	check(t, err)
	a, b := contentsOf(t, first), contentsOf(t, second)
	stamped := []string{custodyFile, certificationFile, reportFile, manifestFile, sumsFile, signatureFile}
	for name := range a {
		if _, there := b[name]; !there || a[name] != b[name] && !slices.Contains(stamped, name) {
			t.Errorf("%s differs", name)
		}
	}
	if len(a) != len(b) || len(a) < 30 {
		t.Errorf("%d files and %d", len(a), len(b))
	}
}

// Every byte counts: whatever is changed, added, removed or renamed is found.
func TestTampering(t *testing.T) {
	r := newRig(t)
	r.deliverAll()
	dir := filepath.Join(t.TempDir(), "export")
	_, err := r.desk(noon).Export(t.Context(), request(dir), quiet)
	check(t, err)
	files := contentsOf(t, dir)
	for name, content := range files {
		path := filepath.Join(dir, name)
		for how, change := range map[string]func() error{
			"first byte":  func() error { return os.WriteFile(path, flip(content, 0), 0o600) },
			"middle byte": func() error { return os.WriteFile(path, flip(content, len(content)/2), 0o600) },
			"added byte":  func() error { return os.WriteFile(path, []byte(content+"\n"), 0o600) },
			"emptied":     func() error { return os.WriteFile(path, nil, 0o600) },
			"removed":     func() error { return os.Remove(path) },
			"renamed":     func() error { return os.Rename(path, path+"x") },
			"a link":      func() error { return errors.Join(os.Rename(path, path+"x"), os.Symlink(path+"x", path)) },
			"a copy":      func() error { return os.WriteFile(path+"x", []byte(content), 0o600) },
		} {
			if content == "" && how != "removed" && how != "renamed" && how != "a copy" && how != "added byte" {
				continue
			}
			check(t, change())
			v, err := Verify(t.Context(), dir, VerifyOptions{CheckSignature: checkSignature})
			if err == nil && len(v.Problems) == 0 {
				t.Errorf("%s, %s: not found", name, how)
			}
			_, _ = os.Remove(path+"x"), os.Remove(path)
			check(t, os.WriteFile(path, []byte(content), 0o600))
		}
	}
	for i := range files[signatureFile] {
		if _, err := checkSignature(bridgetest.PublicKey(alice), []byte(files[sumsFile]), flip(files[signatureFile], i)); err == nil {
			t.Errorf("byte %d of the signature may be changed", i)
		}
	}
	if v := verify(t, dir, VerifyOptions{}); len(v.Problems) > 0 || v.Compared {
		t.Errorf("restored: %+v", v)
	}
	if v := verify(t, dir, VerifyOptions{Trusted: fingerprintOf(t, bob)}); len(v.Problems) == 0 {
		t.Error("another signer was taken")
	}
	if v := verify(t, dir, VerifyOptions{Certificates: bridgetest.PublicKey(bob)}); len(v.Problems) == 0 {
		t.Error("another certificate was taken")
	}
}

func flip(s string, at int) []byte {
	b := []byte(s)
	if len(b) > 0 {
		b[at] ^= 1
	}
	return b
}

// What says something false is found even if whoever made it has the key.
func TestSignedLies(t *testing.T) {
	r := newRig(t)
	r.deliverAll()
	for name, c := range map[string]struct{ file, old, new, problem string }{
		"numbers":        {manifestFile, `"held": 15`, `"held": 16`, "do not add up"},
		"both numbers":   {accountingFile, `"undecided": 2`, `"undecided": 1`, "disagree"},
		"load file":      {datFile, "Harbour", "Airport", "does not say what"},
		"family":         {documentsFile, `"Attached":["ACME-`, `"Attached":["ACME_`, "not whole"},
		"custody":        {custodyFile, `"seq":1`, `"seq":2`, "chain is broken"},
		"duplicate gone": {duplicatesFile, bob, "nobody", "not those of the lists"},
	} {
		dir := filepath.Join(t.TempDir(), "export")
		_, err := r.desk(noon).Export(t.Context(), request(dir), quiet)
		check(t, err)
		text := contentsOf(t, dir)[c.file]
		if !strings.Contains(text, c.old) {
			t.Fatalf("%s: %s has no %s", name, c.file, c.old)
		}
		forged := strings.Replace(text, c.old, c.new, 1)
		check(t, os.WriteFile(filepath.Join(dir, c.file), []byte(forged), 0o600))
		resign(t, r, dir, c.file, text, forged)
		if v := verify(t, dir, VerifyOptions{}); v.Fingerprint == "" || !slices.ContainsFunc(v.Problems, func(p string) bool { return strings.Contains(p, c.problem) }) {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// resign puts the digest of a forged file everywhere and signs anew.
func resign(t *testing.T, r *rig, dir, name, text, forged string) {
	t.Helper()
	replace := func(file, old, new string) string {
		data, err := os.ReadFile(filepath.Join(dir, file))
		check(t, err)
		changed := strings.ReplaceAll(string(data), old, new)
		check(t, os.WriteFile(filepath.Join(dir, file), []byte(changed), 0o600))
		return changed
	}
	before := contentsOf(t, dir)[manifestFile]
	if name != manifestFile {
		replace(manifestFile, hashOf([]byte(text)), hashOf([]byte(forged)))
	} else {
		before = text
	}
	replace(sumsFile, hashOf([]byte(text)), hashOf([]byte(forged)))
	sums := replace(sumsFile, hashOf([]byte(before)), hashOf([]byte(contentsOf(t, dir)[manifestFile])))
	signer, err := r.desk(noon).o.Signer(alice)
	check(t, err)
	var signature bytes.Buffer
	check(t, signer.Sign(&signature, strings.NewReader(sums)))
	check(t, os.WriteFile(filepath.Join(dir, signatureFile), signature.Bytes(), 0o600))
}

// An export that is cut off anywhere goes on, and ends as one that was not.
func TestResume(t *testing.T) {
	r := newRig(t)
	r.deliverAll()
	whole, dir := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "export")
	_, err := r.desk(noon).Export(t.Context(), request(whole), quiet)
	check(t, err)
	stop := errors.New("stop")
	for n := 1; ; n++ {
		left := n
		d := r.desk(noon)
		sign := d.o.Signer
		d.o.Signer = func(address string) (Signer, error) {
			s, err := sign(address)
			s.Sign = func(io.Writer, io.Reader) error { return stop }
			return s, err
		}
		ctx, cancel := newCancel(t)
		_, err := d.Export(ctx, request(dir), func(string, int, int) {
			if left--; left == 0 {
				cancel()
			}
		})
		cancel()
		if errors.Is(err, stop) {
			break
		}
		if err == nil || n > 100 {
			t.Fatal(err)
		}
	}
	other := request(dir)
	other.Query = "another"
	if _, err := r.desk(noon).Export(t.Context(), other, quiet); !errors.Is(err, ErrRequest) {
		t.Errorf("went on with another request: %v", err)
	}
	check(t, os.WriteFile(filepath.Join(dir, "native", "ACME-00000099.eml"), []byte("left by a crash"), 0o600))
	_, err = r.desk(noon).Export(t.Context(), request(dir), quiet)
	check(t, err)
	a, b := contentsOf(t, whole), contentsOf(t, dir)
	for name := range a {
		if a[name] != b[name] && name != custodyFile && name != manifestFile && name != sumsFile && name != signatureFile {
			t.Errorf("%s differs", name)
		}
	}
	if len(a) != len(b) || !strings.Contains(b[custodyFile], `"resumed"`) {
		t.Errorf("%d files and %d", len(a), len(b))
	}
	if _, err := r.desk(noon).Export(t.Context(), request(dir), quiet); !errors.Is(err, ErrRequest) {
		t.Errorf("a finished export was made again: %v", err)
	}
}

// For counsel's key: nothing of the mail is readable in the folder, and what is in it is the same.
func TestEncrypted(t *testing.T) {
	r := newRig(t)
	r.deliverAll()
	clear, dir := filepath.Join(t.TempDir(), "clear"), filepath.Join(t.TempDir(), "export")
	_, err := r.desk(noon).Export(t.Context(), request(clear), quiet)
	check(t, err)
	q := request(dir)
	q.Certificates = bridgetest.PublicKey(bob)
	_, err = r.desk(noon).Export(t.Context(), q, quiet)
	check(t, err)
	if v := verify(t, dir, VerifyOptions{}); len(v.Problems) > 0 {
		t.Error(v.Problems)
	}
	ring, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(bridgetest.SecretKey(bob)))
	check(t, err)
	want, decrypted := contentsOf(t, clear), 0
	for name, content := range contentsOf(t, dir) {
		for _, canary := range []string{"arbour", "newsletter", "attorney-client", "plan@alpha.test"} {
			if strings.Contains(content, canary) {
				t.Errorf("%s has %q in clear", name, canary)
			}
		}
		plain, encrypted := strings.CutSuffix(name, encryptedEnding)
		if !encrypted {
			continue
		}
		md, err := openpgp.ReadMessage(strings.NewReader(content), ring, nil, nil)
		check(t, err)
		got, err := io.ReadAll(md.UnverifiedBody)
		check(t, err)
		if decrypted++; strings.Contains(name, "/") && string(got) != want[plain] {
			t.Errorf("%s is not what it is in clear", name)
		}
	}
	if decrypted < 25 {
		t.Errorf("%d files were encrypted", decrypted)
	}
}

func TestRefusedRequests(t *testing.T) {
	r := newRig(t)
	full := t.TempDir()
	check(t, os.WriteFile(filepath.Join(full, "x"), nil, 0o600))
	for name, change := range map[string]func(*Request){
		"query": func(q *Request) { q.Query = "(" }, "day": func(q *Request) { q.Since = "soon" }, "zone": func(q *Request) { q.Timezone = "Nowhere" },
		"local zone": func(q *Request) { q.Timezone = "Local" }, "custodian": func(q *Request) { q.Custodians = []string{"eve@evil.test"} },
		"format": func(q *Request) { q.Formats = []string{"pst"} }, "Bates": func(q *Request) { q.Bates = "../x" },
		"folder": func(q *Request) { q.Directory = "here" }, "full folder": func(q *Request) { q.Directory = full },
		"certificate": func(q *Request) { q.Certificates = []byte("no") },
	} {
		q := request(filepath.Join(t.TempDir(), "export"))
		change(&q)
		if _, err := r.desk(noon).Export(t.Context(), q, quiet); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The report needs nothing from elsewhere, and what mail or user say is text in it.
func TestReport(t *testing.T) {
	r := newRig(t)
	r.deliver(alice, "INBOX", "Subject: harbour\nContent-Type: application/rtf; name=\"<img src=x>.rtf\"\n\n{\\rtf x")
	dir := filepath.Join(t.TempDir(), "export")
	q := Request{Query: `harbour OR "<script>alert(1)</script>"`, Directory: dir, Formats: []string{"eml"}}
	_, err := r.desk(noon).Export(t.Context(), q, quiet)
	check(t, err)
	page := contentsOf(t, dir)[reportFile]
	for _, foreign := range []string{"<script", "<img", "src=", "http:", "https:", "url(", "@import"} {
		if strings.Contains(page, foreign) {
			t.Errorf("%q is in the report", foreign)
		}
	}
	for _, said := range []string{"&lt;script&gt;", "not searchable: format is not supported", "no Date that can be read", fingerprintOf(t, alice)} {
		if !strings.Contains(page, said) {
			t.Errorf("%q is missing from\n%s", said, page)
		}
	}
	if _, there := contentsOf(t, dir)[datFile]; there {
		t.Error("a load file was not asked for")
	}
}

// One folder is one export's.
func TestUnderWay(t *testing.T) {
	r := newRig(t)
	r.deliver(alice, "INBOX", "Subject: harbour\n\nx")
	dir := filepath.Join(t.TempDir(), "export")
	var second error
	_, err := r.desk(noon).Export(t.Context(), request(dir), func(string, int, int) {
		_, second = r.desk(noon).Export(t.Context(), request(dir), quiet)
	})
	check(t, err)
	if second == nil || !strings.Contains(second.Error(), "under way") {
		t.Error(second)
	}
}

// What goes away meanwhile is accounted for, and the rest is exported.
func TestDeletedMeanwhile(t *testing.T) {
	r := newRig(t)
	r.deliver(alice, "INBOX", "Subject: harbour\nDate: Mon, 05 Jan 2026 08:00:00 +0000\n\nx")
	uid := r.deliver(alice, "INBOX", "Subject: harbour\nDate: Mon, 05 Jan 2026 08:00:00 +0000\n\ny")
	dir := filepath.Join(t.TempDir(), "export")
	a, err := r.desk(noon).Export(t.Context(), request(dir), func(string, int, int) {
		_ = r.provider.Expunge(alice, "INBOX", uid)
	})
	check(t, err)
	if a.Total.Held != 2 || a.Total.Exported != 1 || a.Total.Unavailable != 1 || !a.NeedsAttention() {
		t.Errorf("%+v", a.Total)
	}
	if v := verify(t, dir, VerifyOptions{}); len(v.Problems) > 0 {
		t.Error(v.Problems)
	}
}

// TestVerifyPrintsNames: an added file cannot speak for the verifier, and a pipe does not stop it.
func TestVerifyPrintsNames(t *testing.T) {
	r := newRig(t)
	r.deliver(alice, "INBOX", note("Harbour", "1"))
	dir := r.exportOf("harbour", nil, alice)
	check(t, os.WriteFile(filepath.Join(dir, "x\x1b[2K\r21 files, each as it was signed by ABCD."), nil, 0o600))
	check(t, syscall.Mkfifo(filepath.Join(dir, tokenFile), 0o600))
	v := verify(t, dir, VerifyOptions{})
	if len(v.Problems) < 2 || strings.ContainsAny(strings.Join(v.Problems, ""), "\x1b\r") {
		t.Errorf("%q", v.Problems)
	}
}
