package mimescan

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestReadHeader(t *testing.T) {
	raw := "From me Mon Jan 1 00:00:00 2024\nSubject: a\r\n  b\r\n\tc\r\nno colon\n more\nTo : x@y\nto:z\r\nX:\xff\x00y\rz\nLast: unended"
	h, err := ReadHeader(strings.NewReader(raw+"\n\nbody"), Span{0, int64(len(raw))})
	if err != nil {
		t.Fatal(err)
	}
	var joined []byte
	var got [][2]string
	for _, f := range h {
		joined = append(joined, f.Raw...)
		got = append(got, [2]string{f.Name, f.Value()})
	}
	want := [][2]string{
		{"", "From me Mon Jan 1 00:00:00 2024"}, {"Subject", "a  b c"}, {"", "no colon more"},
		{"To", "x@y"}, {"to", "z"}, {"X", "\xff\x00y\rz"}, {"Last", "unended"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if string(joined) != raw {
		t.Errorf("fields do not make up the header: %q", joined)
	}
	if diff := cmp.Diff([]string{"x@y", "z"}, h.Values("TO")); diff != "" || h.Get("tO") != "x@y" || h.Get("absent") != "" {
		t.Error("Get and Values", diff)
	}
}

func TestHeaderEndsAtEmptyLine(t *testing.T) {
	for _, raw := range []string{"A: b\r\n\r\nC: d", "A: b\n\nC: d", "A: b\n\r\n"} {
		if h := ParseHeader([]byte(raw)); len(h) != 1 || h.Get("A") != "b" {
			t.Errorf("%q: %q", raw, h)
		}
	}
	long := bytes.Repeat([]byte("x"), MaxHeader+10)
	if h, err := ReadHeader(bytes.NewReader(long), Span{0, int64(len(long))}); err != nil || len(h[0].Raw) != MaxHeader {
		t.Errorf("a header over the limit: %v", err)
	}
}

func TestParams(t *testing.T) {
	for in, want := range map[string]struct {
		value  string
		params map[string]string
	}{
		`text/plain`:                          {"text/plain", nil},
		`Text/HTML; Charset="UTF-8"`:          {"text/html", map[string]string{"charset": "UTF-8"}},
		` a/b ; x = y ;; z="q;\"r" `:          {"a/b", map[string]string{"x": "y", "z": `q;"r`}},
		`a/b (comment (nested \) x)); x=y(c)`: {"a/b", map[string]string{"x": "y"}},
		`a/b; x=1; X=2`:                       {"a/b", map[string]string{"x": "1"}},
		`a/b; name=two words; x="open`:        {"a/b", map[string]string{"name": "two words", "x": "open"}},
		`a/b; nothing; =v; b@d=1; x=1`:        {"a/b", map[string]string{"x": "1"}},
		`attachment; filename*=UTF-8''%e2%82%ac%20rates; filename="EUR rates"`: {"attachment", map[string]string{"filename": "€ rates"}},
		`a/b; t*1*=%20fun; t*0*=us-ascii'en'This%20is; t*2=" it!%20"`:          {"a/b", map[string]string{"t": "This is fun it!%20"}},
		`a/b; f*=iso-8859-1'en'%A3%zz%`:                                        {"a/b", map[string]string{"f": "£%zz%"}},
		`a/b; f*=unknown-charset''%c3%a9`:                                      {"a/b", map[string]string{"f": "é"}},
		"a/b; f=caf\xe9":                                                       {"a/b", map[string]string{"f": "café"}},
		`a/b; f*0=a; f*0=b; f*x=c; *=d`:                                        {"a/b", map[string]string{"f": "a", "f*x": "c", "*": "d"}},
		`; x=y`:                                                                {"", map[string]string{"x": "y"}},
		`a/b; x=`:                                                              {"a/b", map[string]string{"x": ""}},
		`a/b (`:                                                                {"a/b", nil},
		`a/b; x="\`:                                                            {"a/b", map[string]string{"x": ""}},
	} {
		value, params := parseParams(in)
		if diff := cmp.Diff(want.params, params); diff != "" || value != want.value {
			t.Errorf("%s: %q %s", in, value, diff)
		}
	}
}

func FuzzParams(f *testing.F) {
	f.Add(`a/b; f*0*=utf-8''%20; f*1="x\"";(c)y=z`)
	f.Fuzz(func(t *testing.T, s string) {
		value, params := parseParams(s)
		for name, v := range params {
			if toUTF8(v) != v || !isToken(name) {
				t.Errorf("%q=%q", name, v)
			}
		}
		if toUTF8(value) != value {
			t.Errorf("%q", value)
		}
	})
}

func TestDecodeWords(t *testing.T) {
	for in, want := range map[string]string{
		"=?utf-8?q?caf=C3=A9?= x": "café x", "=?iso-8859-1?Q?=A3?=": "£", "=?nope?q?x?=": "=?nope?q?x?=",
		"caf\xe9": "café", "plain": "plain", "=?utf-8?b?!!?=": "=?utf-8?b?!!?=",
	} {
		if got := DecodeWords(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestBodies(t *testing.T) {
	for _, c := range []struct{ name, encoding, charset, body, want string }{
		{"identity", "8bit", "utf-8", "é\r\n", "é\r\n"},
		{"latin in utf-8", "8bit", "utf-8", "a\xe9\xe2\x82\xacb\x80", "aé€b€"},
		{"no charset", "7bit", "", "\xe9", "é"},
		{"latin1", "8bit", "ISO-8859-1", "\xa3", "£"},
		{"unknown charset", "8bit", "x-nothing", "caf\xc3\xa9\xe9", "caféé"},
		{"unknown encoding", "x-what", "", "=41", "=41"},
		{"shift-jis", "8bit", "shift_jis", "\x93\xfa\x96{", "日本"},
		{"utf-16", "base64", "utf-16le", "YQBiAA==", "ab"},
		{"base64", "base64", "", "aGVs\r\nbG8=\r\n", "hello"},
		{"base64 without padding", "base64", "", "aGVsbG8", "hello"},
		{"base64 concatenated", "base64", "", "aGVsbG8=aGVsbG8=", "hellohello"},
		{"base64 with rubbish", "base64", "", "a-G*V\x00s\nbG8=\n-- \nlist footer!", "hello\x96\xcb-\x7aè´\xe8"},
		{"base64 of one character", "base64", "", "a", ""},
		{"qp", "quoted-printable", "", "a=3D=C3=A9=\r\nb  \r\nc =\r\n d", "a=éb\r\nc  d"},
		{"qp broken", "quoted-printable", "", "=ZZ =4 = \t\r\n=e9x=\nrest   ", "=ZZ =4 éxrest"},
		{"qp at the end", "quoted-printable", "", "x=", "x"},
		{"qp long white space", "quoted-printable", "", strings.Repeat(" ", 3000) + "x", strings.Repeat(" ", 3000) + "x"},
	} {
		p := &Part{Body: Span{0, int64(len(c.body))}, Encoding: c.encoding, Params: map[string]string{"charset": c.charset}}
		r, err := Text(strings.NewReader(c.body), p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(iotest.OneByteReader(r))
		if c.name == "base64 with rubbish" {
			got, c.want = got[:5], c.want[:5] // what follows is noise; that it ends is the point
		}
		if string(got) != c.want || err != nil {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

func FuzzDecodeBody(f *testing.F) {
	f.Add("quoted-printable", []byte("a=3D=\r\n b \t\r\n="))
	f.Add("base64", []byte("aGVs\r\nbG8=\r\n"))
	f.Fuzz(func(t *testing.T, encoding string, body []byte) {
		p := &Part{Body: Span{0, int64(len(body))}, Encoding: encoding}
		decoded, err := io.ReadAll(DecodeBody(bytes.NewReader(body), p))
		if err != nil || len(decoded) > len(body) {
			t.Errorf("%d bytes of %d, %v", len(decoded), len(body), err)
		}
	})
}

// ReadTop sees what Scan sees of a message's header, wherever it ends.
func FuzzReadTop(f *testing.F) {
	for _, seed := range []string{"", "\r\n", "\n", "a: b", "a: b\r\n\r\nbody", "a: b\n\nx\r\n\r\n", "a: b\r\n\n", "A: b\r\n c\r\nContent-Type: Multipart/Report; x=y\r\n\r\n", "x: " + strings.Repeat("y", 20<<10) + "\r\n\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		src := bytes.NewReader(message)
		root, err := Scan(src)
		if err != nil {
			t.Fatal(err)
		}
		want, err := ReadHeader(src, root.Header)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadTop(src)
		if err != nil {
			t.Fatal(err)
		}
		if !root.Limited && rawFields(got) != rawFields(want) {
			t.Fatalf("%q is not %q", rawFields(got), rawFields(want))
		}
	})
}

func rawFields(h Header) string {
	var all []string
	for _, f := range h {
		all = append(all, string(f.Raw))
	}
	return strings.TrimRight(strings.Join(all, "|"), "\r\n|")
}
