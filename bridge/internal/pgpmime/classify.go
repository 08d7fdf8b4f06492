package pgpmime

import (
	"errors"
	"strings"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// kind is what the structure of a message makes of it.
type kind int

const (
	kindClear     kind = iota // nothing of ours to do
	kindEncrypted             // the root is a cryptographic layer (RFC 9787 §4), or an exception
	kindSigned                // the root is multipart/signed
	kindBroken                // the root claims to be encrypted, but is not well-formed
)

// shape is a classified message.
type shape struct {
	kind       kind
	head       head
	root       *mimescan.Part // of the header alone unless it is a multipart
	ciphertext *mimescan.Part // of kindEncrypted
	reason     string         // names the exception by which it is decrypted, or what is broken
}

// The reasons classify gives.
const (
	reasonListFooter = "list-footer"      // a mailing list wrapped the message and added a footer
	reasonExchange   = "exchange-mangled" // Microsoft Exchange changed the type of the root
	reasonInline     = "inline"           // the OpenPGP message is the whole text
	reasonMalformed  = "malformed"
	reasonTooLarge   = "too-large"
)

// classify looks at the structure alone. Ciphertext anywhere but at the places named here is
// errant: it is not decrypted (RFC 9787 §4.2, EFAIL).
func classify(src mimescan.Source) (shape, error) {
	h, err := readHead(src)
	if errors.Is(err, errHeaderTooLong) {
		return shape{reason: reasonTooLarge, root: &mimescan.Part{}}, nil
	}
	if err != nil {
		return shape{}, err
	}
	s := shape{head: h}
	if s.root, err = mediaType(h.raw); err != nil {
		return shape{}, err
	}
	switch s.root.MediaType {
	case "text/plain":
		s.root.Body = mimescan.Span{Start: h.body, End: src.Size()}
		return s, s.asInline(src)
	case "multipart/encrypted", "multipart/signed", "multipart/mixed":
		if s.root, err = mimescan.Scan(src); err != nil {
			return shape{}, err
		}
		return s, s.asMultipart(src)
	}
	return s, nil
}

func (s *shape) asMultipart(src mimescan.Source) error {
	switch s.root.MediaType {
	case "multipart/signed":
		if isSigned(s.root) {
			s.kind = kindSigned
		}
		return nil
	case "multipart/encrypted":
		part, err := encryptedPart(src, s.root)
		s.kind, s.ciphertext = kindEncrypted, part
		if part == nil {
			s.kind, s.reason = kindBroken, reasonMalformed
		}
		return err
	}
	return s.asMixed(src)
}

// isSigned says whether a part is well-formed multipart/signed (RFC 3156 §5).
func isSigned(p *mimescan.Part) bool {
	return p.MediaType == "multipart/signed" && !p.Limited && len(p.Children) == 2 &&
		strings.EqualFold(p.Params["protocol"], "application/pgp-signature") &&
		p.Children[1].MediaType == "application/pgp-signature"
}

// encryptedPart is the ciphertext of a well-formed multipart/encrypted (RFC 3156 §4): exactly
// two parts of the right types, which every reader finds; otherwise nil.
func encryptedPart(src mimescan.Source, p *mimescan.Part) (*mimescan.Part, error) {
	if p.MediaType != "multipart/encrypted" || p.Limited || len(p.Children) != 2 ||
		!strings.EqualFold(p.Params["protocol"], "application/pgp-encrypted") {
		return nil, nil
	}
	h, err := mimescan.ReadHeader(src, p.Header)
	if err != nil || !unambiguous(h, p) {
		return nil, err
	}
	return controlled(src, p.Children[0], p.Children[1])
}

// controlled is data if control is the part that announces it.
func controlled(src mimescan.Source, control, data *mimescan.Part) (*mimescan.Part, error) {
	if control.MediaType != "application/pgp-encrypted" || data.MediaType != "application/octet-stream" {
		return nil, nil
	}
	text, short, err := shortText(mimescan.DecodeBody(src, control))
	if err != nil || !short || !strings.EqualFold(text, "Version: 1") {
		return nil, err
	}
	return data, nil
}

// asMixed recognises the two documented ways in which mail systems on the way turn a
// multipart/encrypted into a multipart/mixed. Only the ciphertext is ever served, decrypted; what
// stands beside it is never joined to it.
func (s *shape) asMixed(src mimescan.Source) error {
	parts, reason := s.root.Children, ""
	var part *mimescan.Part
	var err error
	switch {
	case s.root.Limited:
	case len(parts) == 2 && parts[1].MediaType == "text/plain" && parts[1].Disposition != "attachment":
		part, err = encryptedPart(src, parts[0])
		reason = reasonListFooter
	case len(parts) == 3 && parts[0].MediaType == "text/plain":
		part, err = s.mangled(src)
		reason = reasonExchange
	}
	if part != nil {
		s.kind, s.ciphertext, s.reason = kindEncrypted, part, reason
	}
	return err
}

func (s *shape) mangled(src mimescan.Source) (*mimescan.Part, error) {
	parts := s.root.Children
	text, short, err := shortText(mimescan.DecodeBody(src, parts[0]))
	if err != nil || !short || text != "" {
		return nil, err
	}
	return controlled(src, parts[1], parts[2])
}

// asInline recognises a text that is one OpenPGP message from its first line to its last.
func (s *shape) asInline(src mimescan.Source) error {
	whole, err := wholeArmor(mimescan.DecodeBody(src, s.root), armoredMessage, inlineArmorHeader)
	if whole {
		s.kind, s.ciphertext, s.reason = kindEncrypted, s.root, reasonInline
	}
	return err
}
