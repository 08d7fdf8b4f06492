package imapd

import (
	"math"
	"mime"
	"net/mail"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// bodyStructure is BODYSTRUCTURE of a part (RFC 9051 §7.5.2).
func bodyStructure(p *mimescan.Part) imap.BodyStructure {
	major, minor, _ := strings.Cut(p.MediaType, "/")
	if len(p.Children) == 0 {
		return singlePart(p, major, minor)
	}
	multi := &imap.BodyStructureMultiPart{
		Subtype: minor,
		Extended: &imap.BodyStructureMultiPartExt{
			Params: params(p.Params), Disposition: disposition(p), Language: printables(p.Language), Location: printable(p.Location),
		},
	}
	for _, child := range p.Children {
		multi.Children = append(multi.Children, bodyStructure(child))
	}
	return multi
}

func singlePart(p *mimescan.Part, major, minor string) imap.BodyStructure {
	single := &imap.BodyStructureSinglePart{
		Type: major, Subtype: minor, Params: params(p.Params), ID: printable(p.ID),
		Description: mime.QEncoding.Encode("utf-8", printable(p.Description)), Encoding: p.Encoding,
		Size: uint32(min(p.Body.Len(), math.MaxUint32)),
		Extended: &imap.BodyStructureSinglePartExt{
			Disposition: disposition(p), Language: printables(p.Language), Location: printable(p.Location),
		},
	}
	if p.Encoding == "" || !utf8.ValidString(p.Encoding) {
		single.Encoding = "7bit"
	}
	switch {
	case p.Message != nil:
		single.MessageRFC822 = &imap.BodyStructureMessageRFC822{
			Envelope: envelope(p.Message), BodyStructure: bodyStructure(p.Message), NumLines: p.Lines,
		}
	case major == "text":
		single.Text = &imap.BodyStructureText{NumLines: p.Lines}
	case major == "multipart", p.MediaType == "message/rfc822", p.MediaType == "message/global":
		// Without parts, or too deep, or encoded against the rules: the grammar has no way to say
		// so, and the library panics at a multipart without parts.
		single.Type, single.Subtype, single.Params = "application", "octet-stream", nil
	}
	return single
}

func disposition(p *mimescan.Part) *imap.BodyStructureDisposition {
	if p.Disposition == "" {
		return nil
	}
	return &imap.BodyStructureDisposition{Value: printable(p.Disposition), Params: params(p.DispositionParams)}
}

// params makes parameters 7-bit, as RFC 2231 §4 has them in the header.
func params(decoded map[string]string) map[string]string {
	out := make(map[string]string, len(decoded))
	for name, value := range decoded {
		if value = printable(value); isASCII(value) {
			out[name] = value
		} else {
			out[strings.TrimSuffix(name, "*")+"*"] = "utf-8''" + percentEncoded(value)
		}
	}
	return out
}

func percentEncoded(s string) string {
	const hex = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(s) {
		c := s[i]
		plain := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("-._~", c) >= 0
		if plain {
			out.WriteByte(c)
		} else {
			out.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return out.String()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// printable drops what no IMAP string may hold (RFC 9051 §4.3) or needs a literal for.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == 0 || r == '\r' || r == '\n' {
			return -1
		}
		return r
	}, s)
}

func printables(all []string) []string {
	var out []string
	for _, s := range all {
		out = append(out, printable(s))
	}
	return out
}

// envelope is ENVELOPE of a message (RFC 9051 §7.5.2). Encoded words stay as they are. The library
// cannot write a date that it has not parsed, nor tell an empty subject from none.
func envelope(p *mimescan.Part) *imap.Envelope {
	field := func(name string) string { return printable(p.Envelope[name]) }
	e := &imap.Envelope{
		Subject: field("subject"), From: addresses(field("from")), Sender: addresses(field("sender")), ReplyTo: addresses(field("reply-to")),
		To: addresses(field("to")), Cc: addresses(field("cc")), Bcc: addresses(field("bcc")),
		InReplyTo: messageIDs(field("in-reply-to")),
	}
	if date, err := mail.ParseDate(field("date")); err == nil {
		e.Date = date
	}
	if ids := messageIDs(field("message-id")); len(ids) > 0 {
		e.MessageID = ids[0]
	}
	return e
}

// messageIDs is what stands in angle brackets, or all of it if nothing does.
func messageIDs(s string) []string {
	var ids []string
	for rest := s; ; {
		_, after, found := strings.Cut(rest, "<")
		if !found {
			break
		}
		id, next, closed := strings.Cut(after, ">")
		if !closed {
			break
		}
		ids, rest = append(ids, id), next
	}
	if len(ids) == 0 && strings.TrimSpace(s) != "" {
		return []string{strings.Trim(s, "<> \t")}
	}
	return ids
}
