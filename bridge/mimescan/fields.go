package mimescan

import (
	"strings"
)

// envelopeFields are what IMAP's ENVELOPE is made of (RFC 9051 §7.5.2).
var envelopeFields = map[string]bool{
	"date": true, "subject": true, "from": true, "sender": true, "reply-to": true,
	"to": true, "cc": true, "bcc": true, "in-reply-to": true, "message-id": true,
}

// fill sets what the header says about the part, the first field of each name counting. It
// returns about how many bytes it keeps.
func (p *Part) fill(header []byte, inDigest bool) (kept int) {
	seen := map[string]bool{}
	for f := range fields(header) {
		name := strings.ToLower(f.Name)
		if seen[name] || !strings.HasPrefix(name, "content-") && !envelopeFields[name] {
			continue
		}
		seen[name] = true
		kept += len(f.Raw)
		if p.Envelope != nil && envelopeFields[name] {
			p.Envelope[name] = toUTF8(f.Value())
		}
		p.set(name, f.Value())
	}
	p.setDefaults(inDigest)
	return kept
}

// set takes one Content- field.
func (p *Part) set(name, value string) {
	switch name {
	case "content-type":
		if p.MediaType, p.Params = parseParams(value); !validType(p.MediaType) {
			p.MediaType, p.Params = "", nil
		}
	case "content-transfer-encoding":
		p.Encoding, _ = parseParams(value)
	case "content-id":
		p.ID = toUTF8(value)
	case "content-description":
		p.Description = toUTF8(value)
	case "content-disposition":
		p.Disposition, p.DispositionParams = parseParams(value)
	case "content-language":
		p.Language = languages(value)
	case "content-location":
		p.Location = toUTF8(value)
	case "content-md5":
		p.MD5 = toUTF8(value)
	}
}

// setDefaults fills in what the header left out (RFC 2045 §5.2 and §6.1, RFC 2046 §5.1.5).
func (p *Part) setDefaults(inDigest bool) {
	if p.MediaType == "" {
		p.MediaType = "text/plain"
		if inDigest {
			p.MediaType = "message/rfc822"
		}
	}
	if p.Encoding == "" {
		p.Encoding = "7bit"
	}
}

// forget drops all that was kept of the header.
func (p *Part) forget() {
	envelope := p.Envelope
	*p = Part{Header: p.Header, Body: p.Body, Lines: p.Lines}
	if envelope != nil {
		p.Envelope = map[string]string{}
	}
	p.MediaType, p.Encoding = "application/octet-stream", "binary"
}

// validType says whether a media type is a type and a subtype, both tokens (RFC 2045 §5.1).
func validType(s string) bool {
	major, minor, ok := strings.Cut(s, "/")
	return ok && isToken(major) && isToken(minor)
}

func isToken(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func isTokenByte(c byte) bool {
	return c > ' ' && c < 0x7f && !strings.ContainsRune(`()<>@,;:\"/[]?=`, rune(c))
}

// languages are the tags of a Content-Language field (RFC 3282 §2).
func languages(value string) []string {
	var tags []string
	for tag := range strings.SplitSeq(toUTF8(value), ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			tags = append(tags, tag)
		}
	}
	return tags
}
