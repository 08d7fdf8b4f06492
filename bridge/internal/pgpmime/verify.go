package pgpmime

import (
	"bytes"
	"errors"
	"io"
	"slices"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/keydisc"
)

// verdict on the signatures of a message.
type verdict struct {
	signature Signature
	signer    keydisc.Fingerprint
	reason    string
}

// sender is whom the header that will be shown names as the author.
type sender struct {
	address string   // "" if there is any doubt
	all     []string // every address that the From fields name
}

func senderOf(shown mimescan.Header) sender {
	return sender{soleFrom(shown), addrSpecs(shown, "From")}
}

// maxCertificates is how many certificates one signature is checked against, maxSenders how many
// From addresses are asked about.
const (
	maxCertificates = 20
	maxSenders      = 5
)

// certRing are the certificates that a signature may be by, lent until it is given back.
type certRing struct {
	list  openpgp.EntityList
	certs map[*openpgp.Entity]*keydisc.Certificate
	lent  []func()
}

func (r *certRing) giveBack() {
	for _, giveBack := range r.lent {
		giveBack()
	}
}

func (o *opener) ring(from sender) certRing {
	r := certRing{certs: map[*openpgp.Entity]*keydisc.Certificate{}}
	for _, address := range from.all[:min(len(from.all), maxSenders)] {
		for _, c := range o.certs(address) {
			if len(r.list) == maxCertificates {
				return r
			}
			if e, giveBack, err := c.Borrow(); err == nil {
				r.list, r.lent = append(r.list, e), append(r.lent, giveBack)
				r.certs[e] = c
			}
		}
	}
	return r
}

// verifyInside checks the signatures inside decrypted packets, which literal has found well-formed.
func (o *opener) verifyInside(packets *spool.Spool, from sender) (v verdict) {
	defer guardVerdict(&v)
	r, err := signedPackets(packets)
	if err != nil {
		return verdict{signature: SignatureBad}
	}
	ring := o.ring(from)
	defer ring.giveBack()
	md, err := openpgp.ReadMessage(r, ring.list, nil, verifyConfig(o.now))
	if err != nil {
		return verdict{signature: SignatureBad}
	}
	return o.finish(md, ring, from)
}

// verifyDetached checks a multipart/signed (RFC 3156 §5): the first part with its header, over
// the bytes as they are, but for line ends. It is bad if programs may show anything else.
func (o *opener) verifyDetached(src mimescan.Source, signed *mimescan.Part, from sender) (v verdict) {
	defer guardVerdict(&v)
	all, err := signsAll(src, signed)
	if o.note(err); err != nil || !all {
		return verdict{signature: SignatureBad, reason: reasonMalformed}
	}
	text, signature := signed.Children[0], signed.Children[1]
	sigs, err := readSignatures(mimescan.DecodeBody(src, signature))
	if err != nil {
		return verdict{signature: SignatureBad}
	}
	span := mimescan.Span{Start: text.Header.Start, End: text.Body.End}
	body := canonical(io.NewSectionReader(src, span.Start, span.Len()))
	ring := o.ring(from)
	defer ring.giveBack()
	md, err := openpgp.VerifyDetachedSignatureReader(ring.list, body, bytes.NewReader(sigs), verifyConfig(o.now))
	if errors.Is(err, pgperrors.ErrUnknownIssuer) {
		return verdict{signature: SignatureUnknownKey} // of a version nobody knows yet
	}
	if err != nil {
		return verdict{signature: SignatureBad}
	}
	return o.finish(md, ring, from)
}

// maxSignatureSize is how large the signature part may be, in bytes.
const maxSignatureSize = 64 << 10

// readSignatures is the binary form of the signature part: at most maxSignatures packets, because
// each of them is a hash over the whole text.
func readSignatures(r io.Reader) ([]byte, error) {
	block, err := armor.Decode(io.LimitReader(r, maxSignatureSize))
	if err != nil || block.Type != openpgp.SignatureType {
		return nil, failMalformed
	}
	sigs, err := io.ReadAll(block.Body)
	if err != nil {
		return nil, failMalformed
	}
	in := packet.NewReader(bytes.NewReader(sigs))
	for n := 0; ; n++ {
		p, err := in.Next()
		if err == io.EOF {
			return sigs, nil
		}
		if _, ok := p.(*packet.Signature); !ok || err != nil || n == maxSignatures {
			return nil, failMalformed
		}
	}
}

func guardVerdict(v *verdict) {
	if recover() != nil {
		*v = verdict{signature: SignatureBad, reason: reasonMalformed}
	}
}

// finish reads the message to its end and takes the best verdict of its signatures.
func (o *opener) finish(md *openpgp.MessageDetails, ring certRing, from sender) verdict {
	if _, err := io.Copy(io.Discard, md.UnverifiedBody); err != nil {
		return verdict{signature: SignatureBad}
	}
	best := verdict{signature: SignatureBad}
	for i, c := range md.SignatureCandidates {
		if v := o.judge(c, ring, from); i == 0 || rank[v.signature] > rank[best.signature] {
			best = v
		}
	}
	return best
}

var rank = map[Signature]int{
	SignatureGood: 5, SignatureMismatch: 4, SignatureExpired: 3, SignatureBad: 2, SignatureUnknownKey: 1,
}

// judge one signature. It is good only if its certificate has the From address, and if it names
// intended recipients (RFC 9580 §5.2.3.36), we are one of them.
func (o *opener) judge(c *openpgp.SignatureCandidate, ring certRing, from sender) verdict {
	if c.SignedByEntity == nil {
		return verdict{signature: SignatureUnknownKey}
	}
	if c.SignatureError != nil || c.SignedBy == nil || c.CorrespondingSig == nil {
		return o.failed(c)
	}
	cert := ring.certs[c.SignedByEntity]
	v := verdict{signature: SignatureGood, signer: cert.Fingerprint()}
	if from.address == "" || !slices.Contains(cert.Addresses(), from.address) {
		v.signature, v.reason = SignatureMismatch, "signer-differs"
	} else if !o.intended(c.CorrespondingSig) {
		v.signature, v.reason = SignatureMismatch, "not-intended"
	}
	return v
}

func (o *opener) failed(c *openpgp.SignatureCandidate) verdict {
	expired := errors.Is(c.SignatureError, pgperrors.ErrSignatureExpired) || errors.Is(c.SignatureError, pgperrors.ErrKeyExpired)
	sig := c.CorrespondingSig
	if expired && sig != nil && !sig.CreationTime.After(o.now.Add(clockSkew)) {
		return verdict{signature: SignatureExpired}
	}
	if verifyConfig(o.now).RejectMessageHashAlgorithm(c.HashAlgorithm) {
		return verdict{signature: SignatureBad, reason: "weak"}
	}
	if errors.Is(c.SignatureError, pgperrors.ErrKeyRevoked) {
		return verdict{signature: SignatureBad, reason: "revoked"}
	}
	return verdict{signature: SignatureBad}
}

// intended says whether the signature was made for us, or for nobody in particular.
func (o *opener) intended(sig *packet.Signature) bool {
	for _, r := range sig.IntendedRecipients {
		for _, e := range o.keys.Decrypters {
			if bytes.Equal(r.Fingerprint, e.PrimaryKey.Fingerprint) {
				return true
			}
		}
	}
	return len(sig.IntendedRecipients) == 0
}
