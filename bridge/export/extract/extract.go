// Package extract makes searchable text of attachments. What a file is its content says, not its name or its
// declared type: text in any usual charset, HTML, calendars, messages, PDF, Office Open XML (docx, xlsx, pptx),
// OpenDocument (odt, ods, odp) and zip archives with any of these in them. What cannot be read is named, with the reason.
//
// Everything is bounded: size, nesting, number of files, text, and for the one program that is run (pdftotext) time and memory
// as well. Nothing is written to disk.
package extract

import (
	"bytes"
	"context"
	"io"
	"mime"
	"path"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
)

// Reason says why something has no text.
type Reason string

// Pictures, sound and film say nothing in words: a query is decided without them. All other reasons leave open whether
// there is text that a query asks for.
const (
	Picture     Reason = "picture, sound or film"
	Locked      Reason = "encrypted"
	Damaged     Reason = "damaged"
	TooLarge    Reason = "too large"
	TooDeep     Reason = "nested too deeply or too many parts"
	Unsupported Reason = "format is not supported"
	NoProgram   Reason = "pdftotext is not installed (Debian package poppler-utils)"
	NoText      Reason = "pages without text, such as a scan"
)

// Open says whether text that a query asks for may be hidden behind the reason.
func (r Reason) Open() bool { return r != Picture }

// Skipped is something that has no text.
type Skipped struct {
	Name   string `json:"name,omitempty"` // inside an archive or a document; "" for the attachment itself
	Reason Reason `json:"reason"`
}

// Result is the text of an attachment, and what of it could not be read. Text and Folded are of the same words; Folded is
// what queries compare.
type Result struct {
	Text, Folded string
	Skipped      []Skipped
}

// limits of one attachment, in bytes and numbers.
type limits struct {
	file  int // decoded or unpacked
	total int // all files unpacked from it
	text  int
	depth int
	files int
}

var standard = limits{file: 64 << 20, total: 256 << 20, text: 32 << 20, depth: 5, files: 10_000}

// Part is the text of one part of a message: a leaf, or an attached message with its header and text but without its attachments, which
// are parts of their own. An error is one of reading src, or ctx's: it says nothing about the part.
func Part(ctx context.Context, src mimescan.Source, p *mimescan.Part) (Result, error) {
	return standard.part(ctx, src, p)
}

func (l limits) part(ctx context.Context, src mimescan.Source, p *mimescan.Part) (Result, error) {
	e := &extractor{ctx: ctx, limits: l}
	var err error
	switch {
	case p.Limited:
		e.skip("", TooDeep)
	case p.Message != nil:
		err = e.message(src, p.Message, false)
	case isText(p):
		err = mirror.PartText(src, p, e.piece)
	default:
		err = e.leaf(src, p, Name(p))
	}
	if err == nil {
		err = ctx.Err()
	}
	return Result{e.words.String(), e.folded.String(), e.skipped}, err
}

// Name is the file name of a part, "" if it has none.
func Name(p *mimescan.Part) string {
	for _, name := range []string{p.DispositionParams["filename"], p.Params["name"]} {
		if name != "" {
			return mimescan.DecodeWords(name)
		}
	}
	return ""
}

// IsAttachment says whether a leaf or an attached message is one, and not text of the message around it: it has
// a name, or says so, or is no text. Signatures (RFC 3156 §5, RFC 8551 §3.5.3) are neither.
func IsAttachment(p *mimescan.Part) bool {
	switch {
	case len(p.Children) > 0, p.MediaType == "application/pgp-signature", strings.HasSuffix(p.MediaType, "pkcs7-signature"):
		return false
	}
	return p.Disposition == "attachment" || Name(p) != "" || !isText(p)
}

// isText says whether the mirror's search reads the part.
func isText(p *mimescan.Part) bool {
	return strings.HasPrefix(p.MediaType, "text/") && p.MediaType != "text/rtf" && p.MediaType != "text/richtext" && !p.Limited
}

// Hidden says whether there may be text in the part that the mirror's search does not know.
func Hidden(p *mimescan.Part) bool {
	for _, child := range p.Children {
		if Hidden(child) {
			return true
		}
	}
	if p.Message != nil {
		return Hidden(p.Message)
	}
	return p.Limited || len(p.Children) == 0 && IsAttachment(p) && !isText(p)
}

type extractor struct {
	ctx context.Context
	limits
	words, folded strings.Builder
	skipped       []Skipped
	nested        int // files inside files now
	seen          int // files so far
	unpacked      int // bytes of them
	full, crowded bool
}

func (e *extractor) skip(name string, r Reason) {
	e.skipped = append(e.skipped, Skipped{strings.ToValidUTF8(name, "\uFFFD"), r})
}

// piece takes text; what is too much is left out, and that is noted.
func (e *extractor) piece(s string) error {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if e.words.Len()+len(s) > e.limits.text {
		if !e.full {
			e.full = true
			e.skip("", TooLarge)
		}
		return nil
	}
	e.words.WriteString(s)
	e.folded.WriteString(mirror.Fold(s))
	return e.ctx.Err()
}

// message is the header and the text of a message; with deep its attachments, too.
func (e *extractor) message(src mimescan.Source, root *mimescan.Part, deep bool) error {
	header, err := mimescan.ReadHeader(src, root.Header)
	if err == nil {
		err = e.piece(mirror.FieldLines(header))
	}
	if err != nil {
		return err
	}
	return e.body(src, root, deep)
}

func (e *extractor) body(src mimescan.Source, p *mimescan.Part, deep bool) error {
	for _, child := range p.Children {
		if err := e.body(src, child, deep); err != nil {
			return err
		}
	}
	switch {
	case len(p.Children) > 0:
		return nil
	case !IsAttachment(p):
		if isText(p) {
			return mirror.PartText(src, p, e.piece)
		}
		return nil
	case !deep:
		return nil
	case p.Message != nil:
		return e.message(src, p.Message, true)
	case isText(p):
		return mirror.PartText(src, p, e.piece)
	}
	return e.leaf(src, p, Name(p))
}

func (e *extractor) leaf(src mimescan.Source, p *mimescan.Part, name string) error {
	data, err := io.ReadAll(io.LimitReader(mimescan.DecodeBody(src, p), int64(e.limits.file)+1))
	if err != nil {
		return err
	}
	if len(data) > e.limits.file {
		e.skip("", TooLarge)
		return nil
	}
	return e.file("", name, p.MediaType, data)
}

// file reads a file by what is in it. inside is its path in the attachment, "" if it is that itself.
func (e *extractor) file(inside, name, mediaType string, data []byte) error {
	if e.nested++; e.nested > e.depth {
		e.nested--
		e.skip(inside, TooDeep)
		return nil
	}
	defer func() { e.nested-- }()
	if err := e.ctx.Err(); err != nil {
		return err
	}
	switch {
	case len(data) == 0:
		return nil
	case bytes.Contains(data[:min(len(data), 1024)], []byte("%PDF-")):
		return e.pdf(inside, data)
	case bytes.HasPrefix(data, []byte("PK\x03\x04")), bytes.HasPrefix(data, []byte("PK\x05\x06")):
		return e.zip(inside, data)
	case bytes.HasPrefix(data, []byte(`{\rtf`)):
		e.skip(inside, Unsupported)
		return nil
	case isPicture(name, mediaType, data):
		e.skip(inside, Picture)
		return nil
	}
	if text, ok := plainText(data); ok {
		return e.plain(name, mediaType, text)
	}
	e.skip(inside, Unsupported)
	return nil
}

// plain is a file of text: a message or HTML is read as one.
func (e *extractor) plain(name, mediaType, text string) error {
	ending := strings.ToLower(path.Ext(name))
	asType := ""
	switch {
	case ending == ".eml", strings.HasPrefix(mediaType, "message/"):
		src := strings.NewReader(text)
		root, err := mimescan.Scan(src)
		if err != nil {
			return err
		}
		return e.message(src, root, true)
	case ending == ".html", ending == ".htm", ending == ".xhtml", mediaType == "application/xhtml+xml":
		asType = "text/html"
	default:
		return e.piece(text + "\n")
	}
	src := strings.NewReader(text)
	return mirror.PartText(src, &mimescan.Part{MediaType: asType, Encoding: "8bit", Params: map[string]string{"charset": "utf-8"},
		Body: mimescan.Span{Start: 0, End: src.Size()}}, e.piece)
}

// isPicture trusts the bytes first: a name may lie.
func isPicture(name, mediaType string, data []byte) bool {
	for _, magic := range []string{"\x89PNG", "\xff\xd8\xff", "GIF8", "BM", "II*\x00", "MM\x00*", "ID3", "OggS", "fLaC", "\x1aE\xdf\xa3"} {
		if bytes.HasPrefix(data, []byte(magic)) && (len(magic) > 2 || len(data) > 14 && bytes.Equal(data[6:10], make([]byte, 4))) {
			return true
		}
	}
	if bytes.HasPrefix(data, []byte("RIFF")) || len(data) > 12 && string(data[4:8]) == "ftyp" {
		return true
	}
	if _, ok := plainText(data); ok {
		return false // SVG, say
	}
	for _, declared := range []string{mediaType, mime.TypeByExtension(path.Ext(name))} {
		major, _, _ := strings.Cut(declared, "/")
		if major == "audio" || major == "video" {
			return true
		}
	}
	return false
}

// plainText decodes what is text: UTF-8, UTF-16 with a byte order mark, or one byte a character without control characters.
func plainText(data []byte) (string, bool) {
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}):
		return wide(data[2:], func(a, b byte) uint16 { return uint16(a) | uint16(b)<<8 })
	case bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		return wide(data[2:], func(a, b byte) uint16 { return uint16(a)<<8 | uint16(b) })
	}
	for _, c := range data {
		if c < ' ' && c != '\n' && c != '\r' && c != '\t' && c != '\f' && c != 0x1b {
			return "", false
		}
	}
	if utf8.Valid(data) {
		return strings.TrimPrefix(string(data), "\ufeff"), true
	}
	return mimescan.DecodeWords(string(data)), mostlyLetters(data)
}

// mostlyLetters tells Windows-1252 from noise.
func mostlyLetters(data []byte) bool {
	high := 0
	for _, c := range data {
		if c >= 0x7f {
			high++
		}
	}
	return high*3 < len(data)
}

func wide(data []byte, unit func(a, b byte) uint16) (string, bool) {
	units := make([]uint16, len(data)/2)
	for i := range units {
		if units[i] = unit(data[2*i], data[2*i+1]); units[i] == 0 {
			return "", false
		}
	}
	return string(utf16.Decode(units)), len(data)%2 == 0
}
