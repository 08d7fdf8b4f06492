package export

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// exportOf makes an export of some accounts, as another device would.
func (r *rig) exportOf(query string, marks []Mark, custodians ...string) string {
	r.t.Helper()
	dir := filepath.Join(r.t.TempDir(), "out")
	_, err := r.desk(noon).Export(r.t.Context(), Request{Query: query, Custodians: custodians, Formats: Formats, Marks: marks, Directory: dir}, quiet)
	check(r.t, err)
	return dir
}

func (r *rig) merge(dirs ...string) (string, *Accounting, error) {
	r.t.Helper()
	out := filepath.Join(r.t.TempDir(), "merged")
	a, err := r.desk(noon).Merge(r.t.Context(), MergeRequest{Directories: dirs, Directory: out}, quiet)
	return out, a, err
}

const withAttachment = "From: bob@bravo.test\nTo: alice@alpha.test\nSubject: Plan\nMessage-ID: <plan@bravo.test>\nDate: Mon, 23 Nov 2026 09:00:00 +0000\n" +
	"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nharbour\n--b\nContent-Type: text/plain; name=plan.txt\n" +
	"Content-Disposition: attachment; filename=plan.txt\n\nthe plan\n--b--\n"

// TestMerge merges exports of two custodians who share mail: everything once, everybody who has it, numbers that add up.
func TestMerge(t *testing.T) {
	r := newRig(t)
	for _, address := range []string{alice, bob} {
		r.deliver(address, "INBOX", encryptedMark+withAttachment)
		r.deliver(address, "INBOX", lockedMark+note("Secret", "locked"))
		r.deliver(address, "INBOX", note("Harbour of "+address, address))
		r.deliver(address, "Archive", note("Airport", "2"))
	}
	r.deliver(bob, "Archive", encryptedMark+withAttachment)
	one, two := r.exportOf("harbour", nil, alice), r.exportOf("harbour", nil, bob)
	out, a, err := r.merge(one, two)
	check(t, err)
	want := Numbers{Held: 9, NotMatching: 2, Undecided: 2, Matching: 5, Duplicates: 2, Exported: 3, Documents: 4}
	if a.Total != want || a.check(false) != nil {
		t.Errorf("%+v, not %+v", a.Total, want)
	}
	if v := verify(t, out, VerifyOptions{}); len(v.Problems) > 0 || v.Documents != 4 {
		t.Errorf("%+v", v)
	}
	data, err := os.ReadFile(filepath.Join(out, documentsFile))
	check(t, err)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) != 4 || strings.Count(string(data), `"AllCustodians":["alice@alpha.test","bob@bravo.test"]`) != 2 ||
		!strings.Contains(lines[3], `"Source":"sources/2 DOC00000003"`) {
		t.Errorf("%s", data)
	}
	var m Manifest
	data, err = os.ReadFile(filepath.Join(out, manifestFile))
	check(t, err)
	check(t, json.Unmarshal(data, &m))
	sums, err := os.ReadFile(filepath.Join(two, sumsFile))
	check(t, err)
	if len(m.Sources) != 2 || m.Sources[1].SHA256Sums != hashOf(sums) || m.Sources[1].Total.Held != 5 {
		t.Errorf("%+v", m.Sources)
	}
	duplicates, err := os.ReadFile(filepath.Join(out, duplicatesFile))
	check(t, err)
	copies := strings.Split(strings.TrimSpace(string(duplicates)), "\n")[1:]
	if len(copies) != 2 || strings.SplitN(copies[0], ",", 5)[4] != strings.SplitN(copies[1], ",", 5)[4] {
		t.Errorf("the copies do not have one original and identity: %q", copies)
	}
	again, _, err := r.merge(out, one) // a source of both
	check(t, err)
	if v := verify(t, again, VerifyOptions{}); len(v.Problems) > 0 || v.Documents != 4 {
		t.Errorf("%+v", v)
	}
}

// TestMergeRefuses names what is wrong with sources, and delivers nothing.
func TestMergeRefuses(t *testing.T) {
	r := newRig(t)
	r.deliver(alice, "INBOX", note("Harbour", "1"))
	r.deliver(bob, "INBOX", note("Harbour", "1"))
	one := r.exportOf("harbour", nil, alice)
	changed := r.exportOf("harbour", nil, bob)
	check(t, os.WriteFile(filepath.Join(changed, "native/DOC00000001.eml"), []byte("forged"), 0o600))
	withheld := r.exportOf("harbour", []Mark{{ID: "1@bravo.test", Privilege: "attorney-client", Withhold: true}}, bob)
	for want, dirs := range map[string][]string{
		"does not verify":          {one, changed},
		"another question":         {one, r.exportOf("nine", nil, bob)},
		"the same export":          {one, one},
		"is delivered by another":  {withheld, one},
		"has two sources at least": {one},
	} {
		out, _, err := r.merge(dirs...)
		if !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if _, err := os.Stat(filepath.Join(out, "native")); err == nil {
			t.Errorf("%s: something was written", want)
		}
	}
}

// TestMergedSourceMustBeProven: a merged export whose sources are not what its manifest says does not verify, even if it is signed.
func TestMergedSourceMustBeProven(t *testing.T) {
	r := newRig(t)
	r.deliver(alice, "INBOX", note("Harbour", "1"))
	r.deliver(bob, "INBOX", note("Harbour", "2"))
	out, _, err := r.merge(r.exportOf("harbour", nil, alice), r.exportOf("harbour", nil, bob))
	check(t, err)
	for what, change := range map[string]func(s *Source){
		"another list":   func(s *Source) { s.SHA256Sums = strings.Repeat("0", 64) },
		"another signer": func(s *Source) { s.Fingerprint = strings.Repeat("0", 40) },
		"other numbers":  func(s *Source) { s.Total.Held++ },
	} {
		var m Manifest
		data, err := os.ReadFile(filepath.Join(out, manifestFile))
		check(t, err)
		check(t, json.Unmarshal(data, &m))
		change(&m.Sources[1])
		root, err := os.OpenRoot(out)
		check(t, err)
		v := &verifier{root: root, o: VerifyOptions{CheckSignature: checkSignature}}
		v.mergedFrom(&m)
		check(t, root.Close())
		if len(v.Problems) != 1 {
			t.Errorf("%s: %q", what, v.Problems)
		}
	}
}

// TestMergeWithholdsWhatCannotBeOpened: one source withholds it, the other delivers it.
func TestMergeWithholdsWhatCannotBeOpened(t *testing.T) {
	r := newRig(t)
	for _, a := range []string{alice, bob} {
		r.deliver(a, "INBOX", lockedMark+note("Harbour", "1"))
	}
	with := r.exportOf("from:bob", []Mark{{ID: "1@bravo.test", Privilege: "attorney-client", Withhold: true}}, alice)
	without := r.exportOf("from:bob", nil, bob)
	out, a, err := r.merge(with, without)
	if err == nil {
		entries, _ := os.ReadDir(filepath.Join(out, "native"))
		t.Errorf("merged: %+v, native has %d files", a.Total, len(entries))
	}
}
