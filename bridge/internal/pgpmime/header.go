package pgpmime

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/keydisc"
)

// head is the header of a message and where its body begins.
type head struct {
	fields mimescan.Header
	raw    []byte // with the empty line
	body   int64  // offset
}

// errHeaderTooLong says that the header does not end within mimescan.MaxHeader.
var errHeaderTooLong = errors.New("message header is too long")

// readHead reads the header of src without looking at the rest.
func readHead(src mimescan.Source) (head, error) {
	limit := min(src.Size(), mimescan.MaxHeader)
	for n := min(limit, 8<<10); ; n = min(limit, n*4) {
		raw := make([]byte, n)
		if got, err := src.ReadAt(raw, 0); got < len(raw) {
			return head{}, unexpected(err)
		}
		end := headerEnd(raw)
		if end < 0 && n == src.Size() {
			end = len(raw) // a message that is all header
		}
		if end >= 0 {
			return head{mimescan.ParseHeader(raw[:end]), raw[:end], int64(end)}, nil
		}
		if n == limit {
			return head{}, errHeaderTooLong
		}
	}
}

func unexpected(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// headerEnd is the length of the header with the empty line that ends it, -1 if there is none.
func headerEnd(raw []byte) int {
	for i := 0; i < len(raw); {
		if raw[i] == '\n' {
			return i + 1
		}
		if bytes.HasPrefix(raw[i:], []byte("\r\n")) {
			return i + 2
		}
		n := bytes.IndexByte(raw[i:], '\n')
		if n < 0 {
			return -1
		}
		i += n + 1
	}
	return -1
}

// mediaType is what a header says about the entity it heads.
func mediaType(raw []byte) (*mimescan.Part, error) {
	return mimescan.Scan(bytes.NewReader(raw))
}

// structural fields describe the MIME structure, all others the message
// (RFC 9787 §1.1).
func structural(name string) bool {
	name = strings.ToLower(name)
	return name == "mime-version" || strings.HasPrefix(name, "content-")
}

// userFacing fields are those a mail program shows or acts upon: unprotected ones are
// never shown beside protected ones (RFC 9788 §4.2).
func userFacing(name string) bool {
	switch name = strings.ToLower(name); name {
	case "from", "sender", "reply-to", "to", "cc", "bcc", "date", "subject", "comments",
		"keywords", "message-id", "in-reply-to", "references", "followup-to", "mail-followup-to",
		"disposition-notification-to", "return-receipt-to":
		return true
	}
	return strings.HasPrefix(name, "resent-")
}

// contentWords are in the names of fields that repeat the subject or sum up the content: Subject,
// Comments and Keywords (RFC 5322 §3.6.5), Thread-Topic (Outlook), X-Original-Subject, Summary
// (RFC 5536 §3.2.14), msip_labels, X-Spam-Prev-Subject and what else programs have invented.
var contentWords = []string{"subject", "comment", "keyword", "topic", "summary", "abstract", "label", "preview", "snippet"}

// tellsContent says whether a field goes inside the encryption only.
func tellsContent(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc(contentWords, func(word string) bool { return strings.Contains(name, word) })
}

// ourPrefix begins the names of all fields that only we may write.
const ourPrefix = "x-sealpost-"

// lookalike says whether some mail program could take a field for one of ours: any
// case, white space or control bytes in the name, an encoded word, a name folded away from
// its colon, or one behind a bare CR that ends a line for some readers.
func lookalike(raw []byte) bool {
	if ourName(raw) {
		return true
	}
	for i, line := range bytes.Split(raw, []byte("\r")) {
		if i > 0 && !bytes.HasPrefix(line, []byte("\n")) && ourName(line) {
			return true
		}
	}
	return false
}

func ourName(line []byte) bool {
	name, _, _ := bytes.Cut(line, []byte(":"))
	if bytes.Contains(name, []byte("=?")) {
		// An encoded word may hold a colon of its own or "?=" before it.
		return strings.Contains(visible([]byte(mimescan.DecodeWords(string(bytes.TrimSpace(line))))), ourPrefix)
	}
	return strings.Contains(visible(name), ourPrefix)
}

// visible is s in lower case without white space and bytes outside printable ASCII.
func visible(s []byte) string {
	return strings.ToLower(string(bytes.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return -1
		}
		return r
	}, s)))
}

// writeField writes one field folded at white space (RFC 5322 §2.2.3). Line ends and
// other control bytes in value become spaces: a value can never begin another field.
func writeField(w io.Writer, name, value string) error {
	s := name + ": " + clean(value)
	var out []byte
	for len(s) > maxLine {
		cut := foldPoint(s, len(name)+1)
		if cut < 0 {
			break
		}
		out = append(append(out, s[:cut]...), "\r\n"...)
		s = s[cut:]
	}
	_, err := w.Write(append(append(out, s...), "\r\n"...))
	return err
}

// maxLine is the recommended length of a line (RFC 5322 §2.1.1).
const maxLine = 78

// foldPoint is where to break the line s: before the last white space that fits, else
// before the first after that; -1 if there is none.
func foldPoint(s string, nameEnd int) int {
	best := -1
	first := min(nameEnd, len(s))
	if s[0] == ' ' || s[0] == '\t' {
		first = len(s) - len(strings.TrimLeft(s, " \t")) // a line of white space alone is no line
	}
	for i := first + 1; i < len(s); i++ {
		if s[i] != ' ' && s[i] != '\t' || s[i-1] == ' ' || s[i-1] == '\t' {
			continue
		}
		if i > maxLine && best >= 0 {
			break
		}
		if best = i; i > maxLine {
			break
		}
	}
	return best
}

// clean replaces control bytes; a value need not be UTF-8.
func clean(value string) string {
	b := []byte(value)
	for i, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			b[i] = ' '
		}
	}
	return string(bytes.Trim(b, " \t"))
}

// addrSpecs are the addresses in all fields of that name, normalised, without display names.
func addrSpecs(h mimescan.Header, name string) []string {
	var specs []string
	for _, value := range h.Values(name) {
		list, err := mimescan.StrictAddresses(value)
		if err != nil {
			continue
		}
		for _, a := range list {
			if spec, err := keydisc.NormalizeAddress(a.Address); err == nil {
				specs = append(specs, spec)
			}
		}
	}
	return specs
}

// soleFrom is the one address of the one From field, "" if there is any doubt about it: two
// fields, two addresses, a group, lines that are no fields at all or are lines to some readers only.
func soleFrom(h mimescan.Header) string {
	if hasJunk(h) || bareCR(h) {
		return ""
	}
	values := h.Values("From")
	if len(values) != 1 || len(values[0]) > 2000 || strings.ContainsAny(unquoted(values[0]), ":;") {
		return ""
	}
	list, err := mimescan.StrictAddresses(values[0])
	if err != nil || len(list) != 1 {
		return ""
	}
	// Not strings.ToLower: it makes ASCII of letters that only look it.
	spec, _ := keydisc.NormalizeAddress(list[0].Address)
	return spec
}

// unquoted is s without its quoted strings.
func unquoted(s string) string {
	var out strings.Builder
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted:
			out.WriteByte(s[i])
		}
	}
	return out.String()
}
