package pgpmime

import (
	"io"
	"regexp"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// Readable says whether someone without keys can read the subject or the body of a stored
// message: the question `sealpost prove` asks. It needs no keys. Whatever is not well-formed
// PGP/MIME with integrity protection counts as readable, so does a subject that is not one of the usual
// stand-ins.
func Readable(message mimescan.Source) (bool, error) {
	hidden, err := hides(message, hidesSubject)
	return !hidden, err
}

// Ciphertext says whether a message is PGP/MIME encrypted already, with nothing readable beside
// the ciphertext, whatever its subject shows. It needs no keys.
func Ciphertext(message mimescan.Source) (bool, error) {
	return hides(message, func(mimescan.Header) bool { return true })
}

// hides says whether a message with such a header is well-formed PGP/MIME and nothing else.
func hides(message mimescan.Source, header func(mimescan.Header) bool) (bool, error) {
	f := &faults{}
	src := watched{message, f}
	s, err := classify(src)
	if err != nil || s.kind != kindEncrypted || s.reason != "" || !header(s.head.fields) {
		return false, firstError(err, f)
	}
	alone, err := nothingBeside(src, s.root)
	if err != nil || !alone {
		return false, firstError(err, f)
	}
	whole, err := wholeArmor(mimescan.DecodeBody(src, s.ciphertext))
	if err != nil || !whole {
		return false, firstError(err, f)
	}
	hidden := isCiphertext(mimescan.DecodeBody(src, s.ciphertext))
	return hidden && f.err == nil, f.err
}

func firstError(err error, f *faults) error {
	if err != nil {
		return err
	}
	return f.err
}

func hidesSubject(h mimescan.Header) bool {
	for _, f := range h {
		if f.Name == "" { // text to some readers
			return false
		}
	}
	for _, name := range []string{"Subject", "Comments", "Keywords", "Thread-Topic"} {
		for _, value := range h.Values(name) {
			switch strings.ToLower(mimescan.DecodeWords(value)) {
			case "", hiddenSubject, "...", "encrypted message":
			default:
				return false
			}
		}
	}
	return true
}

// standardPreamble is what widespread mail programs write for readers without MIME.
var standardPreamble = regexp.MustCompile(`^This is an OpenPGP/MIME encrypted message \(RFC \d+ and \d+\)\.?$`)

// nothingBeside says whether the preamble and the epilogue of a multipart of two parts hold no text.
func nothingBeside(src mimescan.Source, root *mimescan.Part) (bool, error) {
	before, err := text(src, mimescan.Span{Start: root.Body.Start, End: root.Children[0].Header.Start})
	if err != nil {
		return false, err
	}
	boundary := "--" + root.Params["boundary"]
	preamble := strings.TrimSpace(strings.TrimSuffix(before, boundary))
	after, err := text(src, mimescan.Span{Start: root.Children[1].Body.End, End: src.Size()})
	if err != nil {
		return false, err
	}
	epilogue := strings.TrimSpace(strings.TrimPrefix(after, boundary+"--"))
	return (preamble == "" || standardPreamble.MatchString(preamble)) && epilogue == "", nil
}

// text is the beginning of a span without surrounding white space: enough of it to see that it
// is not empty.
func text(src mimescan.Source, span mimescan.Span) (string, error) {
	b, err := io.ReadAll(io.NewSectionReader(src, span.Start, min(span.Len(), 4<<10)))
	return strings.TrimSpace(string(b)), err
}

// isCiphertext says whether r is session keys and integrity-protected data to its end. The library
// may not survive hostile packets: then it is not.
func isCiphertext(r io.Reader) (ok bool) {
	var err error
	defer func() { ok = ok && err == nil }()
	defer guard(&err)
	c, err := readCiphertext(r)
	if err != nil || len(c.keys) == 0 {
		return false
	}
	var contents io.Reader
	switch data := c.data.(type) {
	case *packet.SymmetricallyEncrypted:
		contents = data.Contents
	case *packet.AEADEncrypted:
		contents = data.Contents
	}
	n, err := io.Copy(io.Discard, contents)
	if err != nil || n < minCiphertext {
		return false
	}
	_, end := c.rest.Next()
	return end == io.EOF
}

// minCiphertext is shorter than any encrypted literal packet with its integrity code.
const minCiphertext = 32
