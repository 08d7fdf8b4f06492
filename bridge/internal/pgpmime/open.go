package pgpmime

import (
	"errors"
	"fmt"
	"io"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/keydisc"
)

// Encryption says how a message reached us.
type Encryption string

const (
	EncryptionNone    Encryption = "none"
	EncryptionOpenPGP Encryption = "openpgp"
	EncryptionSealed  Encryption = "sealed" // in clear: only we have encrypted it
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
	// served as they are. Both are served through WithStatus. The caller closes it.
	Message    *spool.Spool
	Encryption Encryption
	Signature  Signature
	Signer     keydisc.Fingerprint // of the certificate that verified, or ""
	Sealed     bool                // it rests sealed by us, whoever else has encrypted it
	PQ         bool                // every PKESK was post-quantum (only meaningful if encrypted)
	Reason     string              // token for the status field: "" or e.g. no-key, integrity, sed, malformed, too-large, outer-only, from-differs, header-differs
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

// opener is one call of Open.
type opener struct {
	faults
	keys  Keys
	certs Certificates
	now   time.Time
	dir   string
	// unsealed says that what is being opened comes out of a seal: there is never another in it.
	unsealed bool
}

// Open classifies a stored message by its structure and opens it if the cryptographic
// layer is its root (RFC 9787 §4), or it is one of the labelled exceptions. Bad or
// undecryptable mail is a Result, not an error; errors wrap ErrIO.
func Open(message mimescan.Source, k Keys, certs Certificates, now time.Time, dir string) (*Result, error) {
	o := &opener{keys: k, certs: certs, now: now, dir: dir}
	r, err := o.open(watched{message, &o.faults})
	if o.err != nil {
		err = o.err
	}
	if err != nil {
		if r != nil && r.Message != nil {
			_ = r.Message.Close()
		}
		return nil, fmt.Errorf("%w: %w", ErrIO, err)
	}
	return r, nil
}

func (o *opener) open(src mimescan.Source) (*Result, error) {
	s, err := classify(src)
	if err != nil {
		return nil, err
	}
	switch s.kind {
	case kindEncrypted:
		return o.encrypted(src, s)
	case kindBroken:
		return &Result{Encryption: EncryptionFailed, Signature: SignatureNone, Reason: s.reason}, nil
	}
	return o.clear(src, s), nil
}

// clear is the verdict on a message that is not encrypted: it is served as it is.
func (o *opener) clear(src mimescan.Source, s shape) *Result {
	r := &Result{Encryption: EncryptionNone, Signature: SignatureNone, Reason: s.reason}
	r.Autocrypt = autocrypt(s.head.fields, s.root.MediaType)
	if s.kind != kindSigned {
		return r
	}
	v := o.verifyDetached(src, s.root, senderOf(s.head.fields))
	inside, err := mimescan.ReadHeader(src, s.root.Children[0].Header)
	o.note(err)
	v = v.besides(s.head.fields, inside, protection(s.root.Children[0]))
	r.Signature, r.Signer, r.Reason = v.signature, v.signer, v.reason
	return r
}

// besides is the verdict v once the header that the client shows has been compared with the one
// inside the signature (RFC 9788 §4): a good signature does not speak for what stands outside only.
func (v verdict) besides(outer, inside mimescan.Header, p protected) verdict {
	switch {
	case p == unprotected:
		return v.outerOnly()
	case len(inside.Values("From")) > 0 && soleFrom(inside) != soleFrom(outer):
		return v.distrust("from-differs")
	case headerDiffers(outer, inside, p):
		return v.distrust("header-differs")
	case addsFields(outer, inside):
		return v.outerOnly()
	}
	return v
}

// outerOnly says that a good signature leaves the header, or some of it, to whoever carried it.
func (v verdict) outerOnly() verdict {
	if v.signature == SignatureGood {
		v.reason = firstOf(v.reason, "outer-only")
	}
	return v
}

// distrust is the verdict where the From inside and outside differ (RFC 9788 §4.4), or another
// field that the client shows: at most a mismatch.
func (v verdict) distrust(reason string) verdict {
	if v.signature == SignatureGood {
		v.signature = SignatureMismatch
	}
	v.reason = reason
	return v
}

// encrypted opens the ciphertext of s.
func (o *opener) encrypted(src mimescan.Source, s shape) (*Result, error) {
	packets, pq, err := o.decrypt(mimescan.DecodeBody(src, s.ciphertext))
	if err != nil {
		return o.failure(err)
	}
	defer packets.Close()
	payload, signed, err := o.literal(packets)
	if err != nil {
		return o.failure(err)
	}
	if !o.unsealed && o.sealed(s.head.fields, payload) {
		return o.openSealed(payload, pq)
	}
	defer payload.Close()
	if s.reason == reasonInline {
		return o.inline(s, packets, payload, signed, pq)
	}
	return o.payload(s, packets, payload, signed, pq)
}

// failure makes a verdict of a failure; other errors stay errors.
func (o *opener) failure(err error) (*Result, error) {
	var f failure
	if !errors.As(err, &f) || o.err != nil {
		return nil, err
	}
	return &Result{Encryption: EncryptionFailed, Signature: SignatureNone, Reason: string(f)}, nil
}

// openSealed is the verdict on a message we have sealed ourselves: that on the original, which is
// opened in its turn if its sender had encrypted it. Our seal is no way to have other people's
// ciphertext decrypted: the same bytes would have been opened without it. It closes payload unless it
// is what is served.
func (o *opener) openSealed(payload *spool.Spool, pq bool) (*Result, error) {
	o.unsealed = true
	r, err := o.open(watched{payload, &o.faults})
	if err != nil {
		_ = payload.Close()
		return r, err
	}
	r.Sealed = true
	if r.Encryption == EncryptionNone {
		r.Encryption, r.PQ = EncryptionSealed, pq
	}
	if r.Message == nil {
		r.Message = payload
		return r, nil
	}
	return r, payload.Close()
}

// payload rebuilds an opened message and gives the verdict on it.
func (o *opener) payload(s shape, packets, payload *spool.Spool, signed, pq bool) (*Result, error) {
	p, err := readPayload(payload)
	if err != nil {
		return o.failure(err)
	}
	shown := rebuild(s.head.fields, p)
	from := senderOf(shown)
	v := verdict{signature: SignatureNone}
	switch {
	case signed:
		v = o.verifyInside(packets, from)
	case p.signed != nil:
		v = o.verifyDetached(payload, p.signed, from)
	}
	r := &Result{Encryption: EncryptionOpenPGP, PQ: pq}
	v.reason = firstOf(v.reason, s.reason)
	if fromDiffers(s.head.fields, p) {
		v = v.distrust("from-differs")
	} else if p.protection == unprotected || !signed && p.signsNoHeader() {
		v.reason = firstOf(v.reason, "outer-only")
	}
	r.Signature, r.Signer, r.Reason = v.signature, v.signer, v.reason
	r.Autocrypt = firstOf(autocrypt(p.protected, ""), autocrypt(shown, p.root.MediaType))
	r.Gossip = gossip(p.fields, shown)
	r.Message, err = o.assemble(shown, payload, p.body)
	return r, err
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// assemble spools a header and the rest of payload behind it.
func (o *opener) assemble(h mimescan.Header, payload *spool.Spool, body int64) (*spool.Spool, error) {
	out := spool.New(o.dir)
	for _, f := range h {
		if _, err := out.Write(f.Raw); err != nil {
			_ = out.Close()
			return nil, err
		}
	}
	_, err := io.WriteString(out, "\r\n")
	if err == nil {
		_, err = io.Copy(out, io.NewSectionReader(payload, body, payload.Size()-body))
	}
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	return out, nil
}
