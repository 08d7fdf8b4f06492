package mimescan

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/*.parts from what Scan finds")

// TestScan compares each testdata/*.eml with the listing beside it.
func TestScan(t *testing.T) {
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) < 10 {
		t.Fatalf("corpus: %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			message := readFile(t, file)
			root := scan(t, message)
			checkInvariants(t, message, root)
			got := listing(message, root)
			golden := strings.TrimSuffix(file, ".eml") + ".parts"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(readFile(t, golden)), got); diff != "" {
				t.Errorf("parts (-want +got):\n%s", diff)
			}
		})
	}
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func scan(t testing.TB, message []byte) *Part {
	t.Helper()
	root, err := Scan(bytes.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// listing is what a reader of the test data needs to see of the parts.
func listing(message []byte, root *Part) string {
	var out strings.Builder
	walk(root, "root", func(name string, p *Part) {
		body := message[p.Body.Start:p.Body.End]
		if len(p.Children) > 0 || p.Message != nil {
			body = nil
		}
		fmt.Fprintf(&out, "%s %s %s header=%d+%d body=%d+%d lines=%d", name, p.MediaType, p.Encoding,
			p.Header.Start, p.Header.Len(), p.Body.Start, p.Body.Len(), p.Lines)
		if p.Limited {
			out.WriteString(" limited")
		}
		for _, x := range []struct {
			name  string
			value any
		}{
			{"params", p.Params}, {"disposition", p.Disposition}, {"disposition-params", p.DispositionParams}, {"id", p.ID},
			{"description", p.Description}, {"language", p.Language}, {"location", p.Location}, {"md5", p.MD5}, {"envelope", p.Envelope},
		} {
			if text, _ := json.Marshal(x.value); string(text) != `""` && string(text) != "null" {
				fmt.Fprintf(&out, "\n  %s %s", x.name, text)
			}
		}
		if len(body) > 60 {
			body = append(append([]byte{}, body[:30]...), append([]byte("…"), body[len(body)-30:]...)...)
		}
		fmt.Fprintf(&out, "\n  %q\n", body)
	})
	return out.String()
}

func walk(p *Part, name string, f func(string, *Part)) {
	f(name, p)
	for i, c := range p.Children {
		walk(c, fmt.Sprintf("%s.%d", name, i+1), f)
	}
	if p.Message != nil {
		walk(p.Message, name+".message", f)
	}
}

// checkInvariants is what holds for any message.
func checkInvariants(t testing.TB, message []byte, root *Part) {
	t.Helper()
	size := int64(len(message))
	if root.Header.Start != 0 || root.Header.End != root.Body.Start || root.Body.End != size {
		t.Fatalf("root %v %v does not cover %d bytes", root.Header, root.Body, size)
	}
	parts := 0
	walk(root, "root", func(name string, p *Part) {
		parts++
		if p.Header.Start > p.Header.End || p.Header.End != p.Body.Start || p.Body.Start > p.Body.End {
			t.Fatalf("%s: header %v body %v", name, p.Header, p.Body)
		}
		if got := int64(bytes.Count(message[p.Body.Start:p.Body.End], []byte("\n"))); got != p.Lines {
			t.Fatalf("%s: %d lines, counted %d", name, p.Lines, got)
		}
		at := p.Body.Start
		for i, c := range p.Children {
			if c.Header.Start < at || c.Body.End > p.Body.End {
				t.Fatalf("%s.%d: %v %v outside of %v or before %d", name, i+1, c.Header, c.Body, p.Body, at)
			}
			at = c.Body.End
		}
		if m := p.Message; m != nil && (m.Header.Start != p.Body.Start || m.Body.End != p.Body.End) {
			t.Fatalf("%s: message %v %v is not the body %v", name, m.Header, m.Body, p.Body)
		}
		if p.Limited && (p.Message != nil || len(p.Children) > 0) {
			t.Fatalf("%s: limited and not a leaf", name)
		}
		if strings.Count(name, ".") > MaxDepth {
			t.Fatalf("%s: too deep", name)
		}
	})
	if parts > MaxParts {
		t.Fatalf("%d parts", parts)
	}
	checkJSON(t, root)
}

// checkJSON makes sure that a Part can be stored as JSON.
func checkJSON(t testing.TB, root *Part) {
	t.Helper()
	text, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	var back *Part
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(root, back) {
		t.Fatalf("JSON changes it:\n%s", text)
	}
}

// hostile are messages that are cheaper made than stored.
var hostile = map[string]struct {
	message string
	check   func(*Part) error
}{
	"deep multiparts": {nested("multipart/mixed; boundary=b%d", 500, true), limitedBelow(MaxDepth)},
	"deep messages":   {nested("message/rfc822", 500, false), limitedBelow(MaxDepth)},
	"same boundary":   {nested("multipart/mixed; boundary=b", 30, true), limitedBelow(0)},
	"many parts": {"Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\nx\n", 5000), func(p *Part) error {
		return want(p.Limited && p.Children == nil, "the multipart is not opaque")
	}},
	"many empty parts": {"Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n", 999) + "--b--\n", func(p *Part) error {
		return want(len(p.Children) == 999 && !p.Limited, "parts below the limit are missing")
	}},
	"endless header": {"Subject: " + strings.Repeat("x", 3*MaxHeader) + "\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n", func(p *Part) error {
		return want(p.Limited && p.Body.Len() == 10, "the header's end is wrong")
	}},
	"endless line": {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n" + strings.Repeat("x", 5*bufferSize) + "\r\n--b--\n", func(p *Part) error {
		return want(len(p.Children) == 1 && p.Children[0].Body.Len() == 5*bufferSize, "the part's end is wrong")
	}},
	"break across the buffer": {"A: " + strings.Repeat("x", bufferSize-4) + "\r\n\r\nbody", func(p *Part) error {
		return want(p.Body.Len() == 4, "the body is wrong")
	}},
	"boundary as long as the buffer": {"Content-Type: multipart/mixed; boundary=" + strings.Repeat("b", bufferSize-2) + "\n\n--" + strings.Repeat("b", bufferSize-2) + "x\n", func(p *Part) error {
		return want(len(p.Children) == 0, "a longer line was taken for the boundary")
	}},
	"headers that fill memory": {"Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\nContent-ID: "+strings.Repeat("x", MaxHeader/4)+"\n\n\n", 40), func(p *Part) error {
		kept := 0
		for _, c := range p.Children {
			kept += len(c.ID)
		}
		return want(kept <= maxKept && p.Children[39].Limited, "too much is kept")
	}},
}

func want(ok bool, otherwise string) error {
	if ok {
		return nil
	}
	return errors.New(otherwise)
}

func nested(contentType string, depth int, multipart bool) string {
	var out strings.Builder
	for i := range depth {
		kind := contentType
		if strings.Contains(kind, "%d") {
			kind = fmt.Sprintf(kind, i)
		}
		fmt.Fprintf(&out, "Content-Type: %s\r\n\r\n", kind)
		if _, boundary, ok := strings.Cut(kind, "boundary="); ok && multipart {
			fmt.Fprintf(&out, "--%s\r\n", boundary)
		}
	}
	return out.String()
}

// limitedBelow checks that the part at that depth, and none before, is limited.
func limitedBelow(depth int) func(*Part) error {
	return func(root *Part) error {
		limited := 0
		walk(root, "", func(name string, p *Part) {
			if p.Limited {
				limited = strings.Count(name, ".") + 1
			}
		})
		if limited != depth {
			return fmt.Errorf("limited at depth %d", limited)
		}
		return nil
	}
}

func TestHostile(t *testing.T) {
	for name, c := range hostile {
		t.Run(name, func(t *testing.T) {
			root := scan(t, []byte(c.message))
			checkInvariants(t, []byte(c.message), root)
			if err := c.check(root); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEveryCut scans each message of the corpus cut off at every byte.
func TestEveryCut(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.eml")
	for _, file := range files {
		message := readFile(t, file)
		for n := range message[:min(len(message), 3000)] {
			checkInvariants(t, message[:n], scan(t, message[:n]))
		}
	}
}

// lines is a source of 76-byte lines with a multipart around them.
type lines struct {
	head string
	size int64
}

func (l lines) Size() int64 { return l.size }

func (l lines) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, p[:max(0, min(int64(len(p)), l.size-off))])
	for i := range p[:n] {
		at := off + int64(i)
		switch {
		case at < int64(len(l.head)):
			p[i] = l.head[at]
		case at%77 == 76:
			p[i] = '\n'
		default:
			p[i] = '-'
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func TestMemoryDoesNotGrow(t *testing.T) {
	src := lines{head: "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n", size: 32 << 20}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Scan(src); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if total := after.TotalAlloc - before.TotalAlloc; total > 1<<20 {
		t.Errorf("%d bytes allocated", total)
	}
}

type failing struct {
	*bytes.Reader
	err error
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off > 0 {
		return 0, f.err
	}
	return f.Reader.ReadAt(p[:min(len(p), 10)], off)
}

func TestReadErrors(t *testing.T) {
	cause := errors.New("disk")
	src := failing{bytes.NewReader(bytes.Repeat([]byte("x"), 100)), cause}
	if _, err := Scan(src); !errors.Is(err, cause) {
		t.Errorf("Scan: %v", err)
	}
	if _, err := ReadHeader(src, Span{5, 50}); !errors.Is(err, cause) {
		t.Errorf("ReadHeader: %v", err)
	}
	src.err = io.EOF
	if _, err := Scan(src); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Scan of a source that is too short: %v", err)
	}
	if _, err := ReadHeader(src, Span{5, 50}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ReadHeader of a source that is too short: %v", err)
	}
}

func TestFind(t *testing.T) {
	message := readFile(t, "testdata/nested-message.eml")
	root := scan(t, message)
	second := root.Children[1]
	for path, want := range map[string]*Part{
		"": root, "1": root.Children[0], "2": second, "2.1": second.Message.Children[0], "2.2": second.Message.Children[1],
		"2.2.1": second.Message.Children[1].Children[0], "3": root.Children[2], "3.1": root.Children[2].Message,
		"1.1": nil, "2.3": nil, "3.1.1": nil, "3.2": nil, "4": root.Children[3], "4.1": nil, "5": nil, "0": nil, "2.2.1.1": nil,
	} {
		var numbers []int
		for n := range strings.SplitSeq(path, ".") {
			var number int
			if _, err := fmt.Sscan(n, &number); err == nil {
				numbers = append(numbers, number)
			}
		}
		if got := root.Find(numbers); got != want {
			t.Errorf("%s: %+v", path, got)
		}
	}
	single := scan(t, []byte("Content-Type: message/rfc822\n\nSubject: x\n\nbody"))
	if single.Find([]int{1}) != single || single.Find([]int{1, 1}) != single.Message || single.Find([]int{1, 1, 1}) != nil {
		t.Error("a message that is a message")
	}
}

func FuzzScan(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.eml")
	for _, file := range files {
		f.Add(readFile(f, file))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		root := scan(t, message)
		checkInvariants(t, message, root)
		walk(root, "", func(_ string, p *Part) {
			text, _ := Text(bytes.NewReader(message), p)
			if _, err := io.Copy(io.Discard, text); err != nil {
				t.Fatal(err)
			}
		})
	})
}
