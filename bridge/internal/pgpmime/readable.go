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
	quiet, err := quietParts(src, s.root)
	if err != nil || !quiet {
		return false, firstError(err, f)
	}
	whole, err := wholeArmor(mimescan.DecodeBody(src, s.ciphertext), armoredMessage, isQuietArmorHeader)
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
	if hasJunk(h) {
		return false
	}
	for _, f := range h {
		if tellsContent(f.Name) && !standIns[strings.ToLower(mimescan.DecodeWords(f.Value()))] {
			return false
		}
	}
	return true
}

// standIns are what programs write in place of a subject.
var standIns = map[string]bool{"": true, hiddenSubject: true, "...": true, "encrypted message": true}

// standardPreamble is what widespread mail programs write for readers without MIME.
var standardPreamble = regexp.MustCompile(`^(This is an OpenPGP/MIME (encrypted|signed) message \(RFC \d+ and \d+\)\.?|` +
	`This is a (multi-part message|cryptographically signed message) in MIME format\.{0,3}|` +
	`This is a MIME-formatted message\.  If you see this text it means that your\s+E-mail software does not support MIME-formatted messages\.)$`)

// nothingBeside says whether a multipart of two parts is closed, and its preamble and epilogue hold no text.
func nothingBeside(src mimescan.Source, multipart *mimescan.Part) (bool, error) {
	boundary := "--" + multipart.Params["boundary"]
	preamble, short, err := shortText(within(src, multipart.Body.Start, multipart.Children[0].Header.Start))
	preamble = strings.TrimSpace(strings.TrimSuffix(preamble, boundary))
	if err != nil || !short || preamble != "" && !standardPreamble.MatchString(preamble) {
		return false, err
	}
	epilogue, short, err := shortText(within(src, multipart.Children[1].Body.End, multipart.Body.End))
	return short && epilogue == boundary+"--", err
}

func within(src mimescan.Source, start, end int64) io.Reader {
	return io.NewSectionReader(src, start, end-start)
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
