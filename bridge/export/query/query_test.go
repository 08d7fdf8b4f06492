package query

import (
	"bufio"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the machine may have none
	"unicode"

	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/bridge/mirror"
)

func cases(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for in := bufio.NewScanner(strings.NewReader(string(data))); in.Scan(); {
		if line := in.Text(); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// zone is Berlin's without a database of zones: an hour, two from 29 March 2026 on.
func zone(t *testing.T) *time.Location {
	t.Helper()
	z, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestParse(t *testing.T) {
	for _, line := range cases(t, "testdata/parse.txt") {
		text, want, ok := strings.Cut(line, " => ")
		if ok {
			e, err := Parse(text, zone(t))
			if err != nil || e.String() != want {
				t.Errorf("%s\n got %v, %v\nwant %s", text, e, err, want)
			}
			continue
		}
		text, want, _ = strings.Cut(line, " !! ")
		_, err := Parse(text, zone(t))
		var problem *Error
		if !errors.As(err, &problem) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
}

func TestLimits(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("(", maxDepth+1) + "a" + strings.Repeat(")", maxDepth+1), strings.Repeat("NOT ", maxDepth+1) + "a",
		strings.Repeat("a ", maxTerms+1), strings.Repeat("a", MaxLength+1), "\xff",
	} {
		if _, err := Parse(text, time.UTC); err == nil {
			t.Errorf("%.20s… was taken", text)
		}
	}
}

func TestIn(t *testing.T) {
	for _, line := range cases(t, "testdata/match.txt") {
		term, text, not := strings.Cut(line, " !~ ")
		if !not {
			term, text, _ = strings.Cut(line, " ~ ")
		}
		e, err := Parse(term, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		text, err = strconv.Unquote(`"` + text + `"`)
		if err != nil {
			t.Fatal(err)
		}
		if e.(*Term).In(mirror.Fold(text)) == not {
			t.Errorf("wrong: %s", line)
		}
	}
}

// tokens are the words of a text, by an algorithm that has nothing in common with In's.
func tokens(folded string) []string {
	return strings.FieldsFunc(folded, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) })
}

func inTokens(words, text []string) bool {
	for i := range text {
		if i+len(words) > len(text) {
			return false
		}
		same := true
		for j, w := range words {
			stem, prefix := strings.CutSuffix(w, "*")
			same = same && (text[i+j] == stem || prefix && strings.HasPrefix(text[i+j], stem))
		}
		if same {
			return true
		}
	}
	return false
}

// In finds what comparing words one by one finds, and never what its needles are missing from.
func TestInAgainstTokens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vocabulary := rapid.SampledFrom([]string{"a", "ab", "aba", "b", "é", "ab1", "straße"})
		words := rapid.SliceOfN(vocabulary, 1, 3).Draw(t, "words")
		for i := range words {
			if rapid.Bool().Draw(t, "prefix") {
				words[i] += "*"
			}
		}
		var text strings.Builder
		for range rapid.IntRange(0, 8).Draw(t, "length") {
			text.WriteString(vocabulary.Draw(t, "word"))
			text.WriteString(rapid.SampledFrom([]string{" ", "\n", ", ", "", "-", "_"}).Draw(t, "separator"))
		}
		e, err := Parse(`"`+strings.Join(words, " ")+`"`, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		folded := mirror.Fold(text.String())
		for i := range words {
			words[i] = mirror.Fold(words[i])
		}
		if got, want := e.(*Term).In(folded), inTokens(words, tokens(folded)); got != want {
			t.Fatalf("%v in %q: %v, not %v", words, folded, got, want)
		}
		for _, needle := range e.(*Term).Needles() {
			if e.(*Term).In(folded) && !strings.Contains(folded, needle) {
				t.Fatalf("found without %q", needle)
			}
		}
	})
}

func TestTruth(t *testing.T) {
	truth := map[string]Truth{"t": True, "f": False, "u": Unknown}
	for text, want := range map[string]Truth{
		"t t": True, "t u": Unknown, "f u": False, "u f": False, "t OR u": True, "u OR f": Unknown, "f OR f": False,
		"-t": False, "-f": True, "-u": Unknown, "-(u f)": True, "-(u OR t)": False, "u -u": Unknown,
	} {
		e, err := Parse(text, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Eval(func(t *Term) Truth { return truth[t.Value] }); got != want {
			t.Errorf("%s is %v, not %v", text, got, want)
		}
	}
}

func TestNamesAndAddresses(t *testing.T) {
	for _, c := range []struct {
		term, subject string
		want          bool
	}{
		{"from:alice@alpha.test", "Alice@ALPHA.test", true}, {"from:alice@alpha.test", "malice@alpha.test", false},
		{"from:@alpha.test", "bob@alpha.test", true}, {"from:*@alpha.test", "bob@alpha.test", true}, {"from:@alpha.test", "bob@not.alpha.test", false},
		{"in:inbox", "INBOX", true}, {"in:arch*", "Archive/2026", true}, {"in:Archive", "Archive/2026", false},
		{"type:pdf", "application/octet-stream Plan.PDF", true}, {"type:pdf", "application/pdf plan", false}, {"type:application/pdf", "application/pdf plan", true},
		{"type:image/*", "image/png x", true}, {"type:.pdf", "a/b notpdf", false},
	} {
		e, err := Parse(c.term, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		term, got := e.(*Term), false
		switch term.Field {
		case From:
			got = term.IsAddress(mirror.Fold(c.subject))
		case In:
			got = term.Names(c.subject)
		case Type:
			media, name, _ := strings.Cut(c.subject, " ")
			got = term.IsType(media, name)
		}
		if got != c.want {
			t.Errorf("%s, %s: %v", c.term, c.subject, got)
		}
	}
}

// The first moment of a day at whose midnight clocks are changed.
func TestMidnights(t *testing.T) {
	for _, line := range cases(t, "testdata/midnights.txt") {
		field := strings.Fields(line)
		zone, err := time.LoadLocation(field[0])
		if err != nil {
			t.Fatal(err)
		}
		since, err := ParseWhen(field[1], false, zone)
		if got := since.UTC().Format(time.RFC3339); err != nil || got != field[2] {
			t.Errorf("%s begins at %s, %v", line, got, err)
		}
		y, m, d := since.Date()
		until, err := ParseWhen(time.Date(y, m, d-1, 12, 0, 0, 0, time.UTC).Format(time.DateOnly), true, zone)
		if err != nil || !until.Equal(since) {
			t.Errorf("%s: the day before ends at %s, %v", line, until.UTC(), err)
		}
	}
}

// What is parsed can be written and means the same.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{`a OR (b -"c d") from:x@y`, `since:2026-01-31 until:2026-01-31T00:00:00Z`, `“a” «b» NOT(c)`, "in:x* is:signed", "\"(", "id:<a\\b>"} {
		f.Add(seed, "ein Text a b")
	}
	f.Fuzz(func(t *testing.T, text, where string) {
		e, err := Parse(text, time.UTC)
		if err != nil {
			var problem *Error
			if !errors.As(err, &problem) || problem.Offset > len(text) {
				t.Fatalf("%v", err)
			}
			return
		}
		again, err := Parse(e.String(), time.UTC)
		if err != nil || again.String() != e.String() {
			t.Fatalf("%q is written %q, which is read %v, %v", text, e, again, err)
		}
		for _, term := range Terms(e) {
			term.In(mirror.Fold(where))
		}
	})
}
