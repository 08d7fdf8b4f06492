// Package extract makes searchable text of attachments. What a file is its content says, not its name or its
// declared type: text in any usual charset, HTML, calendars, messages, PDF, Office Open XML (docx, xlsx, pptx),
// OpenDocument (odt, ods, odp) and zip archives with any of these in them. What cannot be read is named, with the reason.
//
// Everything is bounded: size, nesting, number of files, text, and for the one program that is run (pdftotext) time and memory
// as well. Nothing is written to disk.
package extract

import (
	"context"
	"io"
	"path"
	"slices"
	"strings"

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

// Armor is what encrypted text begins with (RFC 9580 §6.2.1), folded: of a message with it, wherever it stands, some text is not known.
const Armor = "-----begin pgp message"

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
	default:
		err = e.leaf(src, p)
	}
	if err == nil {
		err = ctx.Err()
	}
	if strings.Contains(e.folded.String(), Armor) { // what can be decrypted has been
		e.skip("", Locked)
	}
	return Result{e.words.String(), e.folded.String(), e.skipped}, err
}

// Name is the file name of a part, "" if it has none.
func Name(p *mimescan.Part) string {
	for _, name := range Names(p) {
		return name
	}
	return ""
}

// Names are all file names of a part: it may have two that differ (RFC 2183 §2.3, RFC 2045 §5).
func Names(p *mimescan.Part) (names []string) {
	for _, name := range []string{p.DispositionParams["filename"], p.Params["name"]} {
		if name = mimescan.DecodeWords(name); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// IsAttachment says whether a leaf or an attached message is one, and not text of the message around it: it has
// a name, or says so, or is no text. Signatures (RFC 3156 §5, RFC 8551 §3.5.3) are neither, unless they are called something else.
func IsAttachment(p *mimescan.Part) bool {
	switch {
	case len(p.Children) > 0:
		return false
	case p.MediaType == "application/pgp-signature", strings.HasSuffix(p.MediaType, "pkcs7-signature"):
		return !slices.Contains([]string{"", ".asc", ".sig", ".p7s"}, strings.ToLower(path.Ext(Name(p))))
	}
	return p.Disposition == "attachment" || Name(p) != "" || !isText(p)
}

// isText says whether the mirror's search reads the part.
func isText(p *mimescan.Part) bool {
	return strings.HasPrefix(p.MediaType, "text/") && p.MediaType != "text/rtf" && p.MediaType != "text/richtext" && !p.Limited
}

// Hidden says whether there may be text in the part that the mirror's search does not know. Nor does it know that something is encrypted, see
// Armor.
func Hidden(p *mimescan.Part) bool {
	for _, child := range p.Children {
		if Hidden(child) {
			return true
		}
	}
	if p.Message != nil {
		return Hidden(p.Message)
	}
	return p.Limited || len(p.Children) == 0 && IsAttachment(p)
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
	case IsAttachment(p) && !deep:
		return nil
	case p.Message != nil:
		return e.message(src, p.Message, true)
	case IsAttachment(p) || isText(p):
		return e.leaf(src, p)
	}
	return nil
}

// leaf is a part without parts. Of what is declared as text the mirror's search knows the text; an attachment may be something else, too.
func (e *extractor) leaf(src mimescan.Source, p *mimescan.Part) error {
	if isText(p) && !IsAttachment(p) {
		return mirror.PartText(src, p, e.piece)
	}
	data, err := io.ReadAll(io.LimitReader(mimescan.DecodeBody(src, p), int64(e.limits.file)+1))
	if err != nil {
		return err
	}
	if isText(p) && !isBinary(data) {
		if err := mirror.PartText(src, p, e.piece); err != nil || isWhatItSays(p, data) {
			return err
		}
	}
	if len(data) > e.limits.file {
		e.skip("", TooLarge)
		return nil
	}
	return e.file("", Name(p), p.MediaType, data)
}
