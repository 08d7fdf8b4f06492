package pgpmime

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

const statusLine = "X-Sealpost-Status: ours\r\n"

func withStatus(t testing.TB, message string) string {
	t.Helper()
	var out bytes.Buffer
	if err := WithStatus(&out, source(message), "ours"); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestLookalikesAreDropped(t *testing.T) {
	long := strings.Repeat("x", 300<<10)
	for _, field := range []string{
		"X-Sealpost-Status: evil\r\n",
		"x-sealpost-status:evil\n",
		"X-SEALPOST-STATUS : evil\r\n",
		"X-Sealpost-Status\t: evil\r\n",
		"X-Sealpost-Status\r\n : evil\r\n",
		"X-Seal\r\n post-Status: evil\r\n",
		"X-Sealpost-Status: a\r\n evil\r\n\tmore\r\n",
		"\x00X-Sealpost-Status: evil\r\n",
		"X-Sealpost\xc2\xad-Status: evil\r\n",
		"X-Sealpost-Seal: v=1; id=evil\r\n",
		"X-Sealpost-Seal-2: evil\r\n",
		"=?utf-8?q?X-Sealpost-Status?=: evil\r\n",
		"=?utf-8?b?WC1TZWFscG9zdC1TdGF0dXM6IGV2aWw=?=\r\n",
		"X-Sealpost-Status evil\r\n",
		"X-Other: a\rX-Sealpost-Status: evil\r\n",
		"X-Other: a\r\n b\rX-Sealpost-Status: evil\r\n",
		"X-Other: " + long + "\rX-Sealpost-Status: evil\r\n",
		"X-Sealpost-Status: evil" + long + "\r\n",
	} {
		for _, before := range []string{"", "A: b\r\n", "A: " + long + "\r\n"} {
			got := withStatus(t, before+field+"C: d\r\n\r\nX-Sealpost-Status: body\r\n")
			if want := statusLine + before + "C: d\r\n\r\nX-Sealpost-Status: body\r\n"; got != want {
				t.Errorf("after %.10q, %.60q became %.200q", before, field, got)
			}
		}
	}
}

// White space at the very beginning would continue our field.
func TestNothingContinuesTheStatus(t *testing.T) {
	long := strings.Repeat("x", 300<<10)
	for _, c := range []struct{ message, want string }{
		{" ; signature=good; trust=verified\r\nC: d\r\n\r\nbody", "C: d\r\n\r\nbody"},
		{"\tsignature=good\nC: d\n\n body", "C: d\n\n body"},
		{" X-Sealpost-Status: evil\r\nC: d\r\n\r\n", "C: d\r\n\r\n"},
		{" a\r\n b\r\n\tc\r\nC: d\r\n e\r\n\r\n", "C: d\r\n e\r\n\r\n"},
		{" \r\n\r\nbody", "\r\nbody"},
		{" a\r\nX-Sealpost-Status: evil\r\n b\r\nC: d\r\n", "C: d\r\n"},
		{" " + long + "\r\n\t" + long + "\r\nC: d\r\n\r\n", "C: d\r\n\r\n"},
		{"\x00 ; signature=good\r\nC: d\r\n\r\n", "C: d\r\n\r\n"}, // for readers that drop control bytes
		{"\r\t; signature=good\r\nC: d\r\n\r\n", "C: d\r\n\r\n"},
		{"X-Sealpost-Status: evil\r\n\x00\x7f signature=good\r\nC: d\r\n\r\n", "C: d\r\n\r\n"},
		{" a\r\n\r signature=good\r\n\x00 b\r\nC: d\r\n\x00 e\r\n\r\n", "C: d\r\n\x00 e\r\n\r\n"},
		{strings.Repeat("\x00", 100<<10) + " signature=good\r\nC: d\r\n\r\n", "C: d\r\n\r\n"},
		{"\x00C: d\r\n\r\n", "\x00C: d\r\n\r\n"},
		{" signature=good", ""}, {"\r\n body", "\r\n body"}, {"C: d\r\n e\r\n", "C: d\r\n e\r\n"},
	} {
		if got := withStatus(t, c.message); got != statusLine+c.want {
			t.Errorf("%.60q became %.200q", c.message, got)
		}
	}
}

// A header made of nothing but look-alikes must cost neither time nor memory out of proportion.
func TestManyLookalikes(t *testing.T) {
	many := strings.Repeat("A: b\r\nX-Sealpost-Status: evil\r\n", maxLookalikes+100) + strings.Repeat("B\r\n ", 50000) + ": c\r\n"
	got := withStatus(t, many+"\r\nbody")
	if strings.Contains(got, "evil") || !strings.HasSuffix(got, "\r\n\r\nbody") || strings.Count(got, "A: b") < maxLookalikes {
		t.Errorf("%.200q…%q", got, got[len(got)-50:])
	}
}

func TestHarmlessFieldsStay(t *testing.T) {
	for _, message := range []string{
		"Subject: X-Sealpost-Status: what is it?\r\n\r\nbody",
		"Subject: folded\r\n X-Sealpost-Status: text\r\n\r\nbody",
		"X-Sealposter: no\r\n\r\n", "no header at all", "\r\nbody\r\nX-Sealpost-Status: body", "A: b\n\nbare \r and \n and \x00", "",
	} {
		if got := withStatus(t, message); got != statusLine+message {
			t.Errorf("%q became %q", message, got)
		}
	}
	var out bytes.Buffer
	if err := WithStatus(&out, source("\r\n"), "a\r\nB: c"); err != nil || out.String() != "X-Sealpost-Status: a  B: c\r\n\r\n" {
		t.Errorf("status injected %q, %v", out.String(), err)
	}
}

// withoutControl is how readers see a message that drop control bytes first.
var withoutControl = strings.NewReplacer("\r\n", "\r\n", "\r", "", "\x00", "")

// Whatever the message, there is one status field in it, the first, a client reads the very value
// that was written, and nothing else is gone.
func TestOneStatusField(t *testing.T) {
	piece := rapid.SampledFrom([]string{"X-Sealpost-Status", "x-sealPOST-", "A", ":", " ", "\t", "\r", "\n", "\r\n", "\x00", "=?utf-8?q?", "?=", "é"})
	rapid.Check(t, func(r *rapid.T) {
		message := strings.Join(rapid.SliceOf(piece).Draw(r, "pieces"), "")
		got := withStatus(t, message)
		rest, ours := strings.CutPrefix(got, statusLine)
		h, err := readHead(source(got))
		if err != nil || !ours || fmt.Sprint(h.fields.Values("X-Sealpost-Status")) != "[ours]" {
			r.Fatalf("%q became %q (%v)", message, got, err)
		}
		seen := mimescan.ParseHeader([]byte(withoutControl.Replace(got)))
		if value := seen.Get("X-Sealpost-Status"); value != "ours" {
			r.Fatalf("%q became %q, where some readers see %q", message, got, value)
		}
		for _, f := range h.fields[1:] {
			if lookalike(f.Raw) {
				r.Fatalf("%q still has %q", message, f.Raw)
			}
		}
		if !strings.HasSuffix(message, rest[len(rest)-min(len(rest), bodyLength(t, message)):]) {
			r.Fatalf("body of %q changed in %q", message, got)
		}
	})
}

func bodyLength(t testing.TB, message string) int {
	h, err := readHead(source(message))
	if err != nil {
		t.Fatal(err)
	}
	return len(message) - int(h.body)
}

func TestSoleFrom(t *testing.T) {
	for from, want := range map[string]string{
		"alice@alpha.test":                          "alice@alpha.test",
		`"Alice, the: first" <Alice@ALPHA.test>`:    "alice@alpha.test",
		"=?utf-8?q?bob=40bravo=2Etest?= <a@b.test>": "a@b.test",
		"a@b.test, c@d.test":                        "",
		"group: a@b.test;":                          "",
		"a@b.test\r\nFrom: c@d.test":                "",
		"a@b.test\r\nfrom : c@d.test":               "",
		"mi\u212ae@b.test":                          "mi\u212ae@b.test", // KELVIN SIGN is not k
		"alice@alpha.test <mallory@evil.test>":      "",
		"":                                          "", "nobody": "", strings.Repeat("a", 3000) + "@b.test": "",
	} {
		if got := soleFrom(mimescan.ParseHeader([]byte("From: " + from + "\r\n"))); got != want {
			t.Errorf("%q is from %q, want %q", from, got, want)
		}
	}
}
