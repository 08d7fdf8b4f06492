package extract

import (
	"bytes"
	"io"
	"mime"
	"path"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
)

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
	case isZIP(data):
		return e.zip(inside, data)
	case isPDF(data):
		return e.pdf(inside, data)
	case isBinary(data):
		e.skip(inside, Unsupported)
		return nil
	}
	if text, ok := plainText(data); ok {
		return e.plain(name, mediaType, text)
	}
	if isPicture(name, mediaType, data) {
		e.skip(inside, Picture)
	} else {
		e.skip(inside, Unsupported)
	}
	return nil
}

// isBinary says whether it is a file of a known format that is not read as text: RTF, and Word, Excel and Outlook files of before 2007, are not
// read at all.
func isBinary(data []byte) bool {
	const rtf, compoundFile = `{\rtf`, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
	return isZIP(data) || isPDF(data) || bytes.HasPrefix(data, []byte(rtf)) || bytes.HasPrefix(data, []byte(compoundFile))
}

func isZIP(data []byte) bool {
	return bytes.HasPrefix(data, []byte("PK\x03\x04")) || bytes.HasPrefix(data, []byte("PK\x05\x06"))
}

func isPDF(data []byte) bool { return bytes.Contains(data[:min(len(data), 1024)], []byte("%PDF-")) }

// isWhatItSays says whether a part that is declared as text is text in that form.
func isWhatItSays(p *mimescan.Part, data []byte) bool {
	form := formOf(Name(p), "")
	same := form == "" || form == p.MediaType || form == "text/calendar" && p.MediaType != "text/plain"
	return same && bytes.IndexByte(data, 0) < 0
}

// formOf is the media type of a file of text that is more than text: "message/rfc822", "application/mbox", or one of text that the mirror's search
// reads; "" for all others.
func formOf(name, mediaType string) string {
	switch ending := strings.ToLower(path.Ext(name)); {
	case ending == ".eml", ending == ".mht", ending == ".mhtml", strings.HasPrefix(mediaType, "message/"):
		return "message/rfc822"
	case ending == ".mbox", mediaType == "application/mbox":
		return "application/mbox"
	case ending == ".html", ending == ".htm", ending == ".xhtml", mediaType == "application/xhtml+xml":
		return "text/html"
	case ending == ".ics", ending == ".vcs", ending == ".vcf", mediaType == "application/ics":
		return "text/calendar"
	}
	return ""
}

// plain is a file of text: a message, a mailbox, a calendar or HTML is read as one.
func (e *extractor) plain(name, mediaType, text string) error {
	switch form := formOf(name, mediaType); form {
	case "":
		return e.piece(text + "\n")
	case "application/mbox":
		return e.mailbox(text)
	case "message/rfc822":
		return e.attached(text)
	default:
		src := strings.NewReader(text)
		return mirror.PartText(src, &mimescan.Part{MediaType: form, Encoding: "8bit", Params: map[string]string{"charset": "utf-8"},
			Body: mimescan.Span{Start: 0, End: src.Size()}}, e.piece)
	}
}

func (e *extractor) attached(text string) error {
	src := strings.NewReader(text)
	root, err := mimescan.Scan(src)
	if err != nil {
		return err
	}
	if root.Limited {
		e.skip("", TooDeep)
	}
	return e.message(src, root, true)
}

// mailbox is a file of messages one after the other (RFC 4155).
func (e *extractor) mailbox(text string) error {
	for message := range strings.SplitSeq("\n"+text, "\nFrom ") {
		if err := e.attached(message[strings.IndexByte(message, '\n')+1:]); err != nil {
			return err
		}
	}
	return nil
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
	if text, ok := japanese(data); ok {
		return text, true
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

// japanese is mail's old form of Japanese, which switches between ASCII and others by escapes (RFC 1468).
func japanese(data []byte) (string, bool) {
	if !bytes.Contains(data, []byte("\x1b$")) {
		return "", false
	}
	decoded, err := charset.Reader("iso-2022-jp", bytes.NewReader(data))
	if err != nil {
		return "", false
	}
	text, err := io.ReadAll(decoded)
	return string(text), err == nil
}
