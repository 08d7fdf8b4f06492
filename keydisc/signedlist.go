package keydisc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

const (
	clearSigned   = "-----BEGIN PGP SIGNED MESSAGE-----"
	armoredSigned = "-----BEGIN PGP MESSAGE-----"

	// clockSkew is how far in the future a signature may have been made: all is judged that much later.
	clockSkew = time.Hour
	// maxListSignatures is how many a list may have.
	maxListSignatures = 10
)

// signsItself says whether the signature is in the data.
func signsItself(data []byte) bool {
	text := bytes.TrimSpace(data)
	return bytes.HasPrefix(text, []byte(clearSigned)) || bytes.HasPrefix(text, []byte(armoredSigned)) || isSignedMessage(data)
}

// isSignedMessage says whether the data begins as a binary signed message does (RFC 9580 §10.3), maybe compressed.
func isSignedMessage(data []byte) bool {
	if len(data) == 0 || data[0]&0x80 == 0 {
		return false
	}
	tag := data[0] & 0x3f // RFC 9580 §4.2
	if data[0]&0x40 == 0 {
		tag >>= 2
	}
	return tag == 2 || tag == 4 || tag == 8
}

// signedContent is what the signature covers, and when it was made.
func signedContent(data, signature []byte, authority *Certificate, at time.Time) (content []byte, signed time.Time, err error) {
	v, err := newListVerifier(authority, at)
	if err != nil {
		return nil, time.Time{}, err
	}
	text := bytes.TrimSpace(data)
	switch {
	case bytes.HasPrefix(text, []byte(clearSigned)):
		return v.clear(text)
	case bytes.HasPrefix(text, []byte(armoredSigned)):
		block, err := armor.Decode(bytes.NewReader(text))
		if err != nil {
			return nil, time.Time{}, err
		}
		return v.inline(block.Body)
	case isSignedMessage(data):
		return v.inline(bytes.NewReader(data))
	}
	signed, err = v.detached(data, signature)
	return data, signed, err
}

// listVerifier checks signatures of one certificate, which is valid at that time.
type listVerifier struct {
	authority *openpgp.Entity
	config    *packet.Config
}

func newListVerifier(authority *Certificate, at time.Time) (*listVerifier, error) {
	e, err := authority.Entity()
	if err != nil {
		return nil, err
	}
	config := verifying()
	config.Time = func() time.Time { return at.Add(clockSkew) }
	limit := int64(maxList)
	config.MaxDecompressedMessageSize = &limit
	if _, err := e.VerifyPrimaryKey(config.Now(), config); err != nil {
		return nil, fmt.Errorf("its certificate is not valid now: %w", err)
	}
	return &listVerifier{e, config}, nil
}

// clear reads a clear-signed text (RFC 9580 §7): nothing may stand before or behind it.
func (v *listVerifier) clear(text []byte) ([]byte, time.Time, error) {
	block, rest := clearsign.Decode(text)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, time.Time{}, errors.New("it is not one clear-signed text")
	}
	signature, err := io.ReadAll(io.LimitReader(block.ArmoredSignature.Body, maxInput))
	if err != nil {
		return nil, time.Time{}, err
	}
	signed, err := v.detached(block.Bytes, signature)
	return block.Bytes, signed, err
}

func (v *listVerifier) detached(data, signature []byte) (time.Time, error) {
	if len(signature) > 0 && signature[0]&0x80 == 0 {
		block, err := armor.Decode(bytes.NewReader(signature))
		if err != nil || block.Type != openpgp.SignatureType {
			return time.Time{}, errors.New("its signature is not an OpenPGP signature")
		}
		if signature, err = io.ReadAll(io.LimitReader(block.Body, maxInput)); err != nil {
			return time.Time{}, err
		}
	}
	if err := fewSignatures(signature); err != nil {
		return time.Time{}, err
	}
	md, err := openpgp.VerifyDetachedSignatureReader(openpgp.EntityList{v.authority}, bytes.NewReader(data), bytes.NewReader(signature), v.config)
	if err != nil {
		return time.Time{}, err
	}
	if _, err := io.Copy(io.Discard, md.UnverifiedBody); err != nil {
		return time.Time{}, err
	}
	return v.judge(md)
}

// fewSignatures refuses what would be hashed more often than anybody needs.
func fewSignatures(signature []byte) error {
	in := packet.NewReader(bytes.NewReader(signature))
	for n := 0; ; n++ {
		p, err := in.Next()
		if errors.Is(err, io.EOF) && n > 0 {
			return nil
		}
		if _, ok := p.(*packet.Signature); !ok || err != nil || n == maxListSignatures {
			return errors.New("its signature is not an OpenPGP signature")
		}
	}
}

func (v *listVerifier) inline(message io.Reader) ([]byte, time.Time, error) {
	md, err := openpgp.ReadMessage(message, openpgp.EntityList{v.authority}, nil, v.config)
	if err != nil {
		return nil, time.Time{}, err
	}
	if md.IsEncrypted || !md.IsSigned || len(md.SignatureCandidates) > maxListSignatures {
		return nil, time.Time{}, errors.New("it is not a signed message")
	}
	content, err := io.ReadAll(io.LimitReader(md.UnverifiedBody, maxList+1))
	if err != nil {
		return nil, time.Time{}, err
	}
	if len(content) > maxList {
		return nil, time.Time{}, fmt.Errorf("it is larger than %d bytes", maxList)
	}
	signed, err := v.judge(md)
	return content, signed, err
}

// judge is when the good signature was made, once everything has been read. The key that made it must still be valid.
func (v *listVerifier) judge(md *openpgp.MessageDetails) (time.Time, error) {
	for _, c := range md.SignatureCandidates {
		if s := c.CorrespondingSig; s != nil && s.CreationTime.After(v.config.Now()) {
			return time.Time{}, fmt.Errorf("the signature claims to be made on %s, which is in the future", s.CreationTime.UTC().Format(time.DateOnly))
		}
	}
	if md.SignatureError != nil {
		return time.Time{}, md.SignatureError
	}
	s := md.Signature
	switch {
	case s == nil || !md.IsVerified || md.SignedBy == nil || md.SignedBy.Entity != v.authority:
		return time.Time{}, errors.New("it is not signed")
	case s.SigType != packet.SigTypeBinary && s.SigType != packet.SigTypeText:
		return time.Time{}, errors.New("the signature is not one of a document")
	}
	for _, sub := range v.authority.Subkeys {
		if sub.PublicKey != md.SignedBy.PublicKey {
			continue
		}
		if _, err := sub.Verify(v.config.Now(), v.config); err != nil {
			return time.Time{}, fmt.Errorf("the subkey that signed it is not valid now: %w", err)
		}
	}
	return s.CreationTime, nil
}
