// Package mimescan finds the parts of a message in one linear pass: the byte
// offsets of every header and body, never a re-encoded copy. What it reports can
// be served to a client or hashed for a signature exactly as it was stored.
//
// Limits keep hostile mail cheap: nesting depth 50, 1,000 parts, 256 KiB for one
// header. Beyond them the part at the limit is reported opaque, as a leaf with
// its whole body, and [Part.Limited] says so; Scan does not fail for bad mail.
package mimescan

import "io"

// Limits of one scan.
const (
	MaxDepth  = 50
	MaxParts  = 1000
	MaxHeader = 256 << 10
	// maxKept bounds what all headers of one message together leave in memory.
	maxKept = 512 << 10
)

// Source is a message of known size that can be read at any offset, by several
// goroutines at once.
type Source interface {
	io.ReaderAt
	Size() int64
}

// Span is the half-open byte range [Start, End) of a Source.
type Span struct{ Start, End int64 }

// Len is the number of bytes in the span.
func (s Span) Len() int64 { return s.End - s.Start }

// Part is one MIME entity (RFC 2045 §2.4): a whole message or a part of one.
type Part struct {
	Header Span  // with the empty line that ends it, if there is one
	Body   Span  // without the line break that belongs to the next boundary
	Lines  int64 // line breaks in Body, for IMAP's body-fld-lines

	// From the header; decoded per RFC 2045/2231, types in lower case.
	MediaType         string // "text/plain" where absent or unusable (message/rfc822 in a digest)
	Params            map[string]string
	Encoding          string // "7bit" where absent
	ID, Description   string
	Disposition       string
	DispositionParams map[string]string
	Language          []string
	Location, MD5     string

	Children []*Part           // of a multipart with at least one part; a multipart without is a leaf
	Message  *Part             // of a message/rfc822 (or message/global) in an identity encoding
	Envelope map[string]string // of a message root: raw unfolded values of the fields IMAP's ENVELOPE needs, keys in lower case; the first of each
	Limited  bool              // a limit was reached in this part; it is reported as a leaf
}
