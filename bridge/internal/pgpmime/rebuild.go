package pgpmime

import (
	"bytes"
	"errors"
	"strings"

	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
)

// protected says how a payload protects the header.
type protected int

const (
	unprotected protected = iota
	legacy                // protected-headers="v1": what is inside overrides what is outside
	full                  // RFC 9788: what is inside is all there is
)

func protection(p *mimescan.Part) protected {
	switch hp := strings.ToLower(p.Params["hp"]); {
	case hp == "cipher", hp == "clear":
		return full
	case strings.EqualFold(p.Params["protected-headers"], "v1"):
		return legacy
	}
	return unprotected
}

// decrypted is a decrypted payload.
type decrypted struct {
	root       *mimescan.Part
	signed     *mimescan.Part  // the root, if it is multipart/signed
	fields     mimescan.Header // of the root
	protected  mimescan.Header // of the cryptographic payload (RFC 9787 §4.3): inside the signature if there is one
	protection protected
	body       int64
}

func readPayload(payload *spool.Spool) (decrypted, error) {
	h, err := readHead(payload)
	if errors.Is(err, errHeaderTooLong) {
		return decrypted{}, failTooLarge
	}
	if err != nil {
		return decrypted{}, err
	}
	p := decrypted{fields: h.fields, protected: h.fields, body: h.body}
	if p.root, err = mediaType(h.raw); err != nil {
		return p, err
	}
	p.protection = protection(p.root)
	if p.root.MediaType == "multipart/signed" {
		err = p.lookInside(payload)
	}
	return p, err
}

// lookInside finds the protected header of a payload that is signed and then encrypted.
func (p *decrypted) lookInside(payload *spool.Spool) error {
	root, err := mimescan.Scan(payload)
	if err != nil || !isSigned(root) {
		return err
	}
	p.signed = root
	inner := root.Children[0]
	if protection(inner) == unprotected {
		return nil
	}
	p.protection = protection(inner)
	p.protected, err = mimescan.ReadHeader(payload, inner.Header)
	return err
}

// signsNoHeader says whether a multipart/signed inside leaves the header out: whoever encrypted it may have
// written another above it.
func (p decrypted) signsNoHeader() bool {
	return p.signed != nil && protection(p.signed.Children[0]) == unprotected
}

// names are the non-structural fields of the protected header, in lower case.
func (p decrypted) names() map[string]bool {
	names := map[string]bool{}
	for _, f := range p.protected {
		if !structural(f.Name) {
			names[strings.ToLower(f.Name)] = true
		}
	}
	return names
}

// rebuild is the header the client is to see: what the way added outside, then what was protected,
// then the structure of the payload. With RFC 9788 protection, no outer field that
// a mail program shows or acts upon is merged with the protected ones (§4.2).
func rebuild(outer mimescan.Header, p decrypted) mimescan.Header {
	var shown mimescan.Header
	inside := p.names()
	for _, f := range outer {
		hidden := p.protection != unprotected && inside[strings.ToLower(f.Name)] ||
			p.protection == full && userFacing(f.Name)
		if !hidden && !structural(f.Name) {
			shown = appendField(shown, f)
		}
	}
	if p.protection != unprotected {
		for _, f := range p.protected {
			if !structural(f.Name) {
				shown = appendField(shown, f)
			}
		}
	}
	shown = append(shown, field("MIME-Version", "1.0"))
	for _, f := range p.fields {
		if structural(f.Name) && !strings.EqualFold(f.Name, "mime-version") {
			shown = appendField(shown, f)
		}
	}
	return shown
}

// appendField re-serialises a field, so that nothing in it can begin another or end the header.
// Lines that are no fields, and fields only we or the way in may write, are left out.
func appendField(h mimescan.Header, f mimescan.Field) mimescan.Header {
	if f.Name == "" || strings.EqualFold(f.Name, "HP-Outer") || lookalike(f.Raw) {
		return h
	}
	return append(h, field(f.Name, f.Value()))
}

func field(name, value string) mimescan.Field {
	var raw bytes.Buffer
	_ = writeField(&raw, name, value) // a Buffer does not fail
	return mimescan.Field{Name: name, Raw: raw.Bytes()}
}

// fromDiffers says whether the protected and the outer From name different authors
// (RFC 9788 §4.4).
func fromDiffers(outer mimescan.Header, p decrypted) bool {
	if p.protection == unprotected || len(p.protected.Values("From")) == 0 || len(outer.Values("From")) == 0 {
		return false
	}
	return soleFrom(fromFields(outer)) != soleFrom(fromFields(p.protected))
}

func fromFields(h mimescan.Header) mimescan.Header {
	var from mimescan.Header
	for _, f := range h {
		if strings.EqualFold(f.Name, "From") {
			from = append(from, f)
		}
	}
	return from
}

// headerDiffers says whether a field that a mail program shows or acts upon is another outside a
// signature than inside. With RFC 9788 protection, what is not inside was not there; before, only
// some fields were protected.
func headerDiffers(outer, inside mimescan.Header, p protected) bool {
	for name := range shownNames(outer, inside) {
		within := inside.Values(name)
		if (p == full || len(within) > 0) && asRead(within) != asRead(outer.Values(name)) {
			return true
		}
	}
	return false
}

// addsFields says whether fields that a mail program shows are outside only.
func addsFields(outer, inside mimescan.Header) bool {
	for name := range shownNames(outer) {
		if len(inside.Values(name)) == 0 {
			return true
		}
	}
	return false
}

// shownNames are the names, in lower case, of the fields that a mail program shows or acts upon,
// but those that never travel (Bcc) and those that tell of a further way (Resent-).
func shownNames(headers ...mimescan.Header) map[string]bool {
	names := map[string]bool{}
	for _, h := range headers {
		for _, f := range h {
			name := strings.ToLower(f.Name)
			if userFacing(name) && name != "bcc" && !strings.HasPrefix(name, "resent-") {
				names[name] = true
			}
		}
	}
	return names
}

// asRead is what a reader sees of the values of a field: decoded, however they are folded.
func asRead(values []string) string {
	var seen []string
	for _, v := range values {
		seen = append(seen, strings.Join(strings.Fields(mimescan.DecodeWords(v)), " "))
	}
	return strings.Join(seen, "\n")
}
