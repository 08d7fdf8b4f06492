// Package pgpmime turns messages into PGP/MIME (RFC 3156) with protected headers
// (RFC 9788) and back, streaming: nothing is held in memory whole, and no decrypted
// byte is released before integrity is verified.
package pgpmime

import (
	"errors"
	"io"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/keydisc"
)

// HeaderMode is an RFC 9788 §3.2 header confidentiality policy.
type HeaderMode string

const (
	Baseline HeaderMode = "baseline" // hcp_baseline: Subject → [...], Comments and Keywords dropped
	Shy      HeaderMode = "shy"      // hcp_shy: also To, Cc, display names, Date in UTC
)

// EncryptOptions of one ciphertext.
type EncryptOptions struct {
	Recipients []*keydisc.Certificate // everyone who can open it, the sender's own among them
	Signer     *openpgp.Entity        // nil: unsigned; otherwise sign inside, encrypt outside
	Headers    HeaderMode
	Gossip     []Gossip // Autocrypt-Gossip fields inside the protected part; never for Bcc
	Autocrypt  string   // raw value of the outer Autocrypt field; "" for none
	Time       time.Time
}

// Gossip is another recipient's certificate told to all recipients.
type Gossip struct {
	Address     string
	Certificate *keydisc.Certificate
}

// Encrypt reads a normalised message (see Normalise) and writes it as
// multipart/encrypted: the visible header first, then the two parts. The caller has
// already removed Bcc and the fields that identify the client.
// SEIPDv2 where every recipient advertises it, else SEIPDv1; no compression; armor
// without CRC24; intended recipients in the signature. Never tag 9.
func Encrypt(w io.Writer, message mimescan.Source, o EncryptOptions) error { panic("stub") }

// Normalise copies a message with every line ending as CRLF (bare CR and bare LF too),
// dropping the named header fields (any case) of the message's own header and adding
// the given ones on top. Body bytes are otherwise unchanged.
func Normalise(w io.Writer, r io.Reader, drop []string, add []Field) error { panic("stub") }

// Field is one header field, value unfolded, without line ending.
type Field struct{ Name, Value string }

// AutocryptValue is the value of an Autocrypt header field (Autocrypt 1.1 §2.1) for the
// address: a minimal certificate, keydata last, folded by the writer; prefer-encrypt=mutual.
func AutocryptValue(address string, c *keydisc.Certificate) (string, error) { panic("stub") }

// Encryption says how a message reached us.
type Encryption string

const (
	EncryptionNone    Encryption = "none"
	EncryptionOpenPGP Encryption = "openpgp"
	EncryptionSealed  Encryption = "sealed"
	EncryptionFailed  Encryption = "failed"
)

// Signature is the verdict on the signature over the whole message.
type Signature string

const (
	SignatureNone       Signature = "none"
	SignatureGood       Signature = "good"
	SignatureBad        Signature = "bad"
	SignatureUnknownKey Signature = "unknown-key"
	SignatureMismatch   Signature = "mismatch" // good, but by a key that is not the From address's, or not meant for us
	SignatureExpired    Signature = "expired"
)

// Keys is what Open needs of the account: fresh copies for one call.
type Keys struct {
	Decrypters openpgp.EntityList
	SealKeys   [][]byte
	Own        []string // the account's addresses
}

// Result of opening one stored message.
type Result struct {
	// Message is what the client is to see, without the status field: the header
	// rebuilt from the protected one, then the payload; nil if the stored bytes are to be
	// served as they are. The caller closes it.
	Message    *spool.Spool
	Encryption Encryption
	Signature  Signature
	Signer     keydisc.Fingerprint // of the certificate that verified, or ""
	PQ         bool                // every PKESK was post-quantum (only meaningful if encrypted)
	Reason     string              // token for the status field: "" or e.g. no-key, integrity, sed, malformed, too-large, outer-only, from-differs
	// Autocrypt is the raw value of the one valid Autocrypt field, inner before outer;
	// Gossip those inside. For bridge/contacts.
	Autocrypt string
	Gossip    []string
}

// Certificates finds the certificates with which a signature of the From address may be
// verified.
type Certificates func(from string) []*keydisc.Certificate

// ErrIO wraps failures that say nothing about the message (disk full, cancelled): the
// caller tries again later and must not record a verdict.
var ErrIO = errors.New("could not process the message now")

// Open classifies a stored message by its structure and opens it if the cryptographic
// layer is its root (RFC 9787 §4), or it is one of the labelled exceptions. Bad or
// undecryptable mail is a Result, not an error; errors wrap ErrIO.
func Open(message mimescan.Source, k Keys, certs Certificates, now time.Time, dir string) (*Result, error) {
	panic("stub")
}

// Seal writes message encrypted to one's own certificate, as PGP/MIME whose plaintext is
// the message byte for byte. The outer header keeps only what a mail program needs to
// list and thread it: From, To, Cc, Date, Message-ID, In-Reply-To, References; Subject becomes
// [...]. X-Sealpost-Seal carries the keyed identifier.
func Seal(w io.Writer, message mimescan.Source, own *keydisc.Certificate, sealKey []byte, at time.Time) error {
	panic("stub")
}

// Unseal returns the original bytes of a sealed message, ErrNotSealed if it is none of ours.
func Unseal(message mimescan.Source, k Keys, dir string) (*spool.Spool, error) { panic("stub") }

// ErrNotSealed says that a message does not carry a seal of one of our keys.
var ErrNotSealed = errors.New("message is not sealed by one of our keys")

// Readable says whether someone without keys can read the subject or the body of a stored
// message: the question `sealpost prove` asks. It needs no keys.
func Readable(message mimescan.Source) (bool, error) { panic("stub") }
