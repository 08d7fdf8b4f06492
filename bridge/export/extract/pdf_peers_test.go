//go:build peers

package extract

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// pages is a PDF file with one line of text on each page, as small as may be.
func pages(texts ...string) []byte {
	var out bytes.Buffer
	var offsets []int
	object := func(body string) {
		offsets = append(offsets, out.Len())
		fmt.Fprintf(&out, "%d 0 obj\n%s\nendobj\n", len(offsets), body)
	}
	out.WriteString("%PDF-1.4\n")
	object("<</Type/Catalog/Pages 2 0 R>>")
	kids := ""
	for i := range texts {
		kids += fmt.Sprintf("%d 0 R ", 4+2*i)
	}
	object(fmt.Sprintf("<</Type/Pages/Kids[%s]/Count %d>>", kids, len(texts)))
	object("<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>")
	for i, text := range texts {
		object(fmt.Sprintf("<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents %d 0 R/Resources<</Font<</F 3 0 R>>>>>>", 5+2*i))
		stream := "BT /F 12 Tf 20 100 Td (" + text + ") Tj ET"
		object(fmt.Sprintf("<</Length %d>>\nstream\n%s\nendstream", len(stream), stream))
	}
	start := out.Len()
	fmt.Fprintf(&out, "xref\n0 %d\n0000000000 65535 f \n", len(offsets)+1)
	for _, o := range offsets {
		fmt.Fprintf(&out, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(&out, "trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n", len(offsets)+1, start)
	return out.Bytes()
}

func TestPDF(t *testing.T) {
	if _, err := exec.LookPath("pdftotext"); err != nil {
		t.Fatal("pdftotext is missing; install poppler-utils")
	}
	for name, c := range map[string]struct {
		data    []byte
		text    string
		skipped Reason
	}{
		"text":                {pages("Meet me at the old harbour"), "meet me at the old harbour", ""},
		"a scan":              {pages(""), "", NoText},
		"damaged":             {[]byte("%PDF-1.4\nand no more"), "", Damaged},
		"a scan with a cover": {pages("cover", ""), "cover", NoText},
		"with a file in it":   {append(pages("cover"), "\n9 0 obj\n<</Type/EmbeddedFile/Length 7>>\nstream\nharbour\nendstream\nendobj\n"...), "cover", Unsupported},
		"in zip":              {archive(t, "plan.pdf", string(pages("harbour"))), "plan.pdf harbour", ""},
	} {
		src, part := attach(t, "application/octet-stream", "x.txt", c.data)
		got, err := Part(t.Context(), src, part)
		if words := strings.Join(strings.Fields(got.Folded), " "); err != nil || words != c.text {
			t.Errorf("%s: %q, %v", name, words, err)
		}
		if c.skipped == "" && len(got.Skipped) > 0 || c.skipped != "" && (len(got.Skipped) != 1 || got.Skipped[0].Reason != c.skipped) {
			t.Errorf("%s: %v", name, got.Skipped)
		}
	}
}
