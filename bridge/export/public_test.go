package export

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPublicMail exports what other projects have collected of odd messages: nothing is lost, nothing is made up, and the
// verifier agrees. testdata/public/expected.txt has a line for each document.
func TestPublicMail(t *testing.T) {
	r := newRig(t)
	paths, err := filepath.Glob("testdata/public/*.eml")
	check(t, err)
	if len(paths) < 60 {
		t.Fatalf("only %d messages", len(paths))
	}
	names := map[uint32]string{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		check(t, err)
		names[r.deliver(alice, "INBOX", string(data))] = strings.TrimSuffix(filepath.Base(path), ".eml")
	}
	dir := filepath.Join(t.TempDir(), "export")
	a, err := r.desk(noon).Export(t.Context(), Request{Query: "received-since:2000-01-01", Directory: dir, Formats: Formats, Custodians: []string{alice}}, quiet)
	check(t, err)
	if a.Total.Held != len(paths) || a.Total.Exported+a.Total.Duplicates != len(paths) {
		t.Errorf("%+v of %d messages", a.Total, len(paths))
	}
	if v := verify(t, dir, VerifyOptions{Trusted: fingerprintOf(t, alice)}); len(v.Problems) > 0 {
		t.Errorf("%+v", v.Problems)
	}
	for words, want := range map[string]string{
		"あいうえお": "multi_charset-japanese_shift_jis", "すみません": "multi_charset-japanese_iso_2022", "스티해": "multi_charset-ks_c_5601-1987",
		"これわてすと": "multi_charset-japanese_attachment", "päring": "attachment-attachment_with_quoted_filename",
		"subject:säying": "rfc6532-utf8_headers", `"restricted SMS"`: "multipart_report-multipart_report_multiple_status",
	} {
		if got := r.namesOf(words, names); got != want {
			t.Errorf("%s finds %q, not %s", words, got, want)
		}
	}
	got := describeRecords(t, dir, names)
	const expected = "testdata/public/expected.txt"
	if os.Getenv("UPDATE_GOLDEN") != "" {
		check(t, os.WriteFile(expected, got, 0o644))
	}
	want, err := os.ReadFile(expected)
	check(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// namesOf are the messages that a query finds.
func (r *rig) namesOf(query string, names map[uint32]string) string {
	r.t.Helper()
	var found []string
	f, err := r.desk(noon).Search(r.t.Context(), Request{Query: query, Custodians: []string{alice}}, quiet)
	check(r.t, err)
	for _, h := range f.Matching {
		found = append(found, names[h.UID])
	}
	return strings.Join(found, ", ")
}

// describeRecords is a line for each document: whose it is, when it was sent and what its Date says, subject or name, how its text
// begins, and what is the matter with it.
func describeRecords(t *testing.T, dir string, names map[uint32]string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, documentsFile))
	check(t, err)
	defer f.Close()
	var out bytes.Buffer
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r Record
		check(t, json.Unmarshal(lines.Bytes(), &r))
		text := ""
		if r.Text != "" {
			data, err := os.ReadFile(filepath.Join(dir, r.Text))
			check(t, err)
			text = strings.Join(strings.Fields(string(data)), " ")
		}
		if r.Parent != "" {
			fmt.Fprintf(&out, "  %s | %s | %s | %s | %s\n", r.Name, r.MediaType, sentOf(&r), firstRunes(text, 40), strings.Join(r.Exception, "; "))
			continue
		}
		fmt.Fprintf(&out, "%s | %s | %s | %s | %s | %s | %s\n", names[r.UID], sentOf(&r), r.SentRaw, r.From, r.Subject, firstRunes(text, 60), strings.Join(r.Exception, "; "))
	}
	check(t, lines.Err())
	return out.Bytes()
}

func sentOf(r *Record) string {
	if r.Sent.IsZero() {
		return "-"
	}
	return r.Sent.UTC().Format(time.RFC3339)
}

func firstRunes(s string, n int) string {
	if runes := []rune(s); len(runes) > n {
		return string(runes[:n]) + "…"
	}
	return s
}
