package extract

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
)

// attach is a message with one attachment, and that part.
func attach(t testing.TB, contentType, name string, data []byte) (mimescan.Source, *mimescan.Part) {
	t.Helper()
	src := strings.NewReader("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\nContent-Type: " + contentType +
		"\r\nContent-Disposition: attachment; filename=\"" + name + "\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		base64.StdEncoding.EncodeToString(data) + "\r\n--b--\r\n")
	root, err := mimescan.Scan(src)
	if err != nil || len(root.Children) != 2 {
		t.Fatal(err, root)
	}
	return src, root.Children[1]
}

// archive is a zip file; names and contents take turns.
func archive(t testing.TB, files ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for i := 0; i < len(files); i += 2 {
		f, err := w.Create(files[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func document(t testing.TB, name, xml string) []byte {
	return archive(t, "[Content_Types].xml", "<Types/>", name, xml, "_rels/.rels", "<x>relations</x>")
}

func TestPart(t *testing.T) {
	locked := archive(t, "secret.txt", "x")
	locked[6] |= 1
	at := bytes.Index(locked, []byte("PK\x01\x02"))
	locked[at+8] |= 1
	png := []byte("\x89PNG\r\n\x1a\n\x00\x00")
	for name, c := range map[string]struct {
		contentType, file string
		data              []byte
		text              string // the words of it
		skipped           string
	}{
		"text by another name":                 {"application/octet-stream", "x.bin", []byte("Plain words"), "plain words", ""},
		"UTF-16":                               {"application/octet-stream", "x.csv", []byte("\xff\xfea\x00;\x00\xe9\x00"), "a;é", ""},
		"Windows-1252":                         {"application/octet-stream", "x.csv", []byte("caf\xe9 und anderes"), "café und anderes", ""},
		"text with a charset":                  {"text/plain; charset=iso-8859-1", "x.txt", []byte("caf\xe9"), "café", ""},
		"calendar":                             {"text/calendar", "x.ics", []byte("SUMMARY:Harbour"), "summary:harbour", ""},
		"HTML by its name":                     {"application/octet-stream", "x.html", []byte("<p>bold<b>er</b><script>no</script>"), "bolder", ""},
		"message by its name":                  {"application/octet-stream", "x.eml", []byte("Subject: =?utf-8?q?caf=C3=A9?=\r\nContent-Transfer-Encoding: base64\r\n\r\naGFyYm91cg=="), "subject: café content-transfer-encoding: base64 harbour", ""},
		"MIME HTML by its name":                {"application/octet-stream", "x.mht", []byte("Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nhar=\r\nbour"), "content-type: text/html content-transfer-encoding: quoted-printable harbour", ""},
		"mailbox":                              {"application/mbox", "x", []byte("From a@b Mon Nov 23 09:00:00 2026\nSubject: one\nContent-Transfer-Encoding: base64\n\naGFyYm91cg==\n\nFrom a@b Mon\nSubject: two\n\nlast"), "subject: one content-transfer-encoding: base64 harbour subject: two last", ""},
		"calendar by its name":                 {"application/octet-stream", "x.ics", []byte("SUMMARY:Har\r\n bour\r\n"), "summary:harbour", ""},
		"Japanese, unlabelled":                 {"application/octet-stream", "x.txt", []byte("\x1b$BEl5~\x1b(B"), "東京", ""},
		"text with the first letters of sound": {"application/octet-stream", "x.txt", []byte("ID3 the harbour"), "id3 the harbour", ""},
		"docx as text":                         {"text/plain", "x.txt", document(t, "word/document.xml", "<p>harbour</p>"), "harbour", ""},
		"HTML as text":                         {"text/plain", "x.html", []byte("har<b>bour</b>"), "har<b>bour</b> harbour", ""},
		"UTF-16 as text":                       {"text/csv", "x.csv", []byte("\xff\xfea\x00;\x00\xe9\x00"), "ÿþa ; é a;é", ""},
		"binary as text":                       {"text/plain", "x.txt", []byte("a\x00\x01b"), "a \x01b", ": format is not supported"},
		"text in Shift JIS":                    {"text/plain; charset=shift_jis", "x.txt", []byte("\x93\x8c\x8b\x9e"), "東京", ""},
		"encrypted":                            {"application/octet-stream", "plan.pdf.asc", []byte("-----BEGIN PGP MESSAGE-----\n\nhQ==\n"), "-----begin pgp message----- hq==", ": encrypted"},
		"encrypted, in a text":                 {"text/plain", "x.txt", []byte("see\n> -----BEGIN PGP MESSAGE-----\n"), "see > -----begin pgp message-----", ": encrypted"},
		"encrypted, in a zip":                  {"application/zip", "x.zip", archive(t, "a", "-----BEGIN PGP MESSAGE-----"), "a -----begin pgp message-----", ": encrypted"},
		"odt with a footnote":                  {"a/b", "x.odt", archive(t, "META-INF/manifest.xml", "<m/>", "content.xml", `<text:p>harbour<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>see</text:p></text:note-body></text:note>plan</text:p>`), "harbour 1 see plan", ""},
		"docx in capitals":                     {"a/b", "X.DOCX", archive(t, "[content_types].XML", "<T/>", "word/document.XML", "<w:p><w:t>har</w:t><w:t>bour</w:t></w:p>"), "harbour", ""},
		"zip, a file as folder":                {"application/zip", "x.zip", bytes.ReplaceAll(archive(t, "abcd.txt!", "harbour"), []byte("abcd.txt!"), []byte("abcd.txt/")), "abcd.txt/", "abcd.txt: damaged"},
		"old office as sound":                  {"audio/mpeg", "x.mp3", []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00"), "", ": format is not supported"},
		"docx":                                 {"application/octet-stream", "x.docx", document(t, "word/document.xml", `<w:p><w:r><w:t>Har</w:t></w:r><w:r><w:t>bour</w:t></w:r></w:p><w:p><w:delText>gone</w:delText></w:p>`), "harbour gone", ""},
		"xlsx":                                 {"a/b", "x.xlsx", document(t, "xl/sheet1.xml", `<row><c t="s"><v>17</v></c><c><v>42</v></c><c t="inlineStr"><is><t>Blue</t></is></c></row>`), "42 blue", ""},
		"odt":                                  {"a/b", "x.odt", archive(t, "mimetype", "application/vnd.oasis", "META-INF/manifest.xml", "<m/>", "content.xml", `<text:p>Har<text:span>bour</text:span><text:tab/>nine</text:p>`), "harbour nine", ""},
		"docx with a picture":                  {"a/b", "x.docx", archive(t, "[Content_Types].xml", "<T/>", "word/document.xml", "<p>text</p>", "word/media/1.png", string(png)), "text", "word/media/1.png: picture, sound or film"},
		"docx, broken":                         {"a/b", "x.docx", document(t, "word/document.xml", "<p>half</x"), "half", "word/document.xml: damaged"},
		"zip":                                  {"application/zip", "x.zip", archive(t, "dir/", "", "dir/a.txt", "inner words"), "dir/a.txt inner words", ""},
		"zip in zip":                           {"application/zip", "x.zip", archive(t, "b.zip", string(archive(t, "a.txt", "deep"))), "b.zip a.txt deep", ""},
		"zip, too deep":                        {"application/zip", "x.zip", nested(t, standard.depth), strings.TrimSpace(strings.Repeat("n.zip ", standard.depth)), strings.Repeat("n.zip/", standard.depth-1) + "n.zip: nested too deeply or too many parts"},
		"zip, encrypted":                       {"application/zip", "x.zip", locked, "secret.txt", "secret.txt: encrypted"},
		"zip, damaged":                         {"application/zip", "x.zip", []byte("PK\x03\x04 and no more"), "", ": damaged"},
		"picture":                              {"application/octet-stream", "x.doc", png, "", ": picture, sound or film"},
		"sound":                                {"audio/basic", "x.au", []byte(".snd\x00\x00"), "", ": picture, sound or film"},
		"picture that is text":                 {"image/svg+xml", "x.svg", []byte("<svg>words</svg>"), "<svg>words</svg>", ""},
		"text that says it is":                 {"image/png", "x.png", []byte("words"), "words", ""},
		"RTF":                                  {"application/rtf", "x.txt", []byte(`{\rtf1 words}`), "", ": format is not supported"},
		"winmail.dat":                          {"application/ms-tnef", "winmail.dat", []byte("\x78\x9f\x3e\x22\x00"), "", ": format is not supported"},
		"old office":                           {"application/msword", "x.doc", []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "", ": format is not supported"},
		"empty":                                {"application/pdf", "x.pdf", nil, "", ""},
	} {
		src, part := attach(t, c.contentType, c.file, c.data)
		got, err := Part(t.Context(), src, part)
		var skipped []string
		for _, s := range got.Skipped {
			skipped = append(skipped, fmt.Sprintf("%s: %s", s.Name, s.Reason))
		}
		if words := strings.Join(strings.Fields(got.Folded), " "); err != nil || words != mirror.Fold(c.text) || strings.Join(skipped, "; ") != c.skipped {
			t.Errorf("%s: %q, %q, %v\nwant %q, %q", name, words, skipped, err, c.text, c.skipped)
		}
	}
}

func nested(t *testing.T, n int) []byte {
	data := []byte("PK\x03\x04")
	for range n {
		data = archive(t, "n.zip", string(data))
	}
	return data
}

// A bomb is cut off, and said to be.
func TestBombs(t *testing.T) {
	small := limits{file: 10_000, total: 15_000, text: 2_000, depth: 2, files: 10}
	big := strings.Repeat("a", small.file+1)
	var files []string
	for i := range small.files + 2 {
		files = append(files, fmt.Sprint(i), "")
	}
	long := strings.Repeat("b ", small.text/2+1)
	for name, c := range map[string]struct {
		data   []byte
		reason Reason
	}{
		"a large file": {archive(t, "a", big), TooLarge}, "a large attachment": {[]byte(big), TooLarge}, "two large files": {archive(t, "a", big[:9000], "b", big[:9000]), TooLarge},
		"many files": {archive(t, files...), TooDeep}, "much text": {[]byte(long), TooLarge},
	} {
		src, part := attach(t, "a/b", "x", c.data)
		got, err := small.part(t.Context(), src, part)
		if err != nil || !slices.ContainsFunc(got.Skipped, func(s Skipped) bool { return s.Reason == c.reason }) || len(got.Skipped) > 2 || len(got.Text) > small.text {
			t.Errorf("%s: %v, %v", name, got.Skipped, err)
		}
	}
}

func TestProgramIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	src, part := attach(t, "application/pdf", "x.pdf", []byte("%PDF-1.4"))
	if got, err := Part(t.Context(), src, part); err != nil || len(got.Skipped) != 1 || got.Skipped[0].Reason != NoProgram {
		t.Error(got, err)
	}
}

// What is called off says nothing about the attachment.
func TestCalledOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	src, part := attach(t, "a/b", "x", []byte("words"))
	if _, err := Part(ctx, src, part); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestHidden(t *testing.T) {
	for text, want := range map[string]bool{
		"\r\nplain":                              false,
		"Content-Type: application/pdf\r\n\r\nx": true,
		"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--b--":          false,
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: application/zip\r\n\r\nx\r\n--b--": true,
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: a\r\n\r\nx\r\n--b--":                    false,
		"Content-Type: text/rtf\r\n\r\nx": true,
	} {
		root, err := mimescan.Scan(strings.NewReader(text))
		if err != nil || Hidden(root) != want {
			t.Errorf("%q: %v, %v", text, Hidden(root), err)
		}
	}
}

func FuzzPart(f *testing.F) {
	f.Add("application/zip", "x.zip", archive(f, "a.txt", "words", "b.docx", string(document(f, "w.xml", "<p>x</p>"))))
	f.Add("text/plain; charset=utf-7", "x.eml", []byte("Subject: a\n\nb"))
	f.Add("application/x", "a.html", []byte("\xff\xfe<\x00p\x00"))
	f.Fuzz(func(t *testing.T, contentType, name string, data []byte) {
		if bytes.Contains(data, []byte("%PDF-")) {
			return // it would run a program
		}
		src := bytes.NewReader(data)
		got, err := Part(t.Context(), src, &mimescan.Part{MediaType: contentType, Params: map[string]string{"name": name}, Body: mimescan.Span{End: src.Size()}})
		if err != nil || strings.Contains(got.Folded, "\x00") {
			t.Fatalf("%v %q", err, got.Folded)
		}
	})
}
