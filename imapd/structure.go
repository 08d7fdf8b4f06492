package imapd

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// body writes BODYSTRUCTURE of a part, or without the extension data BODY (RFC 9051 §7.5.2).
func (o *output) body(p *mimescan.Part, extended bool) {
	o.raw("(")
	if major, minor, _ := strings.Cut(p.MediaType, "/"); major == "multipart" && canBeMultipart(p) {
		o.multipart(p, minor, extended)
	} else {
		o.single(p, major, minor, extended)
	}
	o.raw(")")
}

// canBeMultipart: where the scanner has reached its limits a multipart is opaque.
func canBeMultipart(p *mimescan.Part) bool { return len(p.Children) > 0 || !p.Limited }

// emptyPart stands for the parts of a multipart that has none: the grammar wants one.
const emptyPart = `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0)`

func (o *output) multipart(p *mimescan.Part, minor string, extended bool) {
	for _, child := range p.Children {
		o.body(child, extended)
	}
	if len(p.Children) == 0 {
		o.raw(emptyPart)
	}
	o.raw(" ")
	o.text(minor)
	if extended {
		o.raw(" ")
		o.params(p.Params)
		o.extension(p)
	}
}

func (o *output) single(p *mimescan.Part, major, minor string, extended bool) {
	params := p.Params
	switch {
	case p.Message != nil:
	case major == "text" && params["charset"] == "" && params["charset*"] == "":
		params = maps.Clone(params)
		if params == nil {
			params = map[string]string{}
		}
		params["charset"] = "us-ascii" // RFC 2045 §5.2
	case major == "multipart", p.MediaType == "message/rfc822", p.MediaType == "message/global":
		// Too deep, or encoded against the rules: the grammar has no way to say so.
		major, minor, params = "application", "octet-stream", nil
	}
	o.text(major)
	o.raw(" ")
	o.text(minor)
	o.raw(" ")
	o.params(params)
	o.raw(" ")
	o.nstring(printable(p.ID))
	o.raw(" ")
	o.nstring(printable(p.Description))
	o.raw(" ")
	o.text(encodingOf(p))
	o.raw(" ")
	o.num(p.Body.Len())
	switch {
	case p.Message != nil:
		o.raw(" ")
		o.envelope(p.Message)
		o.raw(" ")
		o.body(p.Message, extended)
		o.raw(" ")
		o.num(p.Lines)
	case major == "text":
		o.raw(" ")
		o.num(p.Lines)
	}
	if extended {
		o.raw(" ")
		o.nstring(printable(p.MD5))
		o.extension(p)
	}
}

func encodingOf(p *mimescan.Part) string {
	if p.Encoding == "" || !utf8.ValidString(p.Encoding) {
		return "7bit"
	}
	return p.Encoding
}

// extension writes what ends the extension data of every part.
func (o *output) extension(p *mimescan.Part) {
	o.raw(" ")
	if p.Disposition == "" {
		o.raw("NIL")
	} else {
		o.raw("(")
		o.text(printable(p.Disposition))
		o.raw(" ")
		o.params(p.DispositionParams)
		o.raw(")")
	}
	o.raw(" ")
	o.languages(p.Language)
	o.raw(" ")
	o.nstring(printable(p.Location))
}

func (o *output) languages(tags []string) {
	switch len(tags) {
	case 0:
		o.raw("NIL")
	case 1:
		o.text(printable(tags[0]))
	default:
		o.raw("(")
		for i, tag := range tags {
			if i > 0 {
				o.raw(" ")
			}
			o.text(printable(tag))
		}
		o.raw(")")
	}
}

// params writes parameters, which are decoded, in 7 bits as RFC 2231 §4 has them in the header.
func (o *output) params(decoded map[string]string) {
	if len(decoded) == 0 {
		o.raw("NIL")
		return
	}
	o.raw("(")
	for i, name := range slices.Sorted(maps.Keys(decoded)) {
		if i > 0 {
			o.raw(" ")
		}
		value := printable(decoded[name])
		if !isASCII(value) {
			name, value = strings.TrimSuffix(name, "*")+"*", "utf-8''"+percentEncoded(value)
		}
		o.text(name)
		o.raw(" ")
		o.text(value)
	}
	o.raw(")")
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

// envelope writes ENVELOPE of a message (RFC 9051 §7.5.2). Nothing is decoded or set right: the
// fields are as they stand in the header.
func (o *output) envelope(p *mimescan.Part) {
	field := func(name string) string { return printable(p.Envelope[name]) }
	o.raw("(")
	o.nstring(field("date"))
	o.raw(" ")
	if _, there := p.Envelope["subject"]; there {
		o.text(field("subject"))
	} else {
		o.raw("NIL")
	}
	from := mimescan.ParseAddresses(field("from"))
	for _, name := range []string{"from", "sender", "reply-to", "to", "cc", "bcc"} {
		list := mimescan.ParseAddresses(field(name))
		if len(list) == 0 && (name == "sender" || name == "reply-to") {
			list = from // RFC 9051 §7.5.2
		}
		o.raw(" ")
		o.addresses(list)
	}
	o.raw(" ")
	o.nstring(field("in-reply-to"))
	o.raw(" ")
	o.nstring(field("message-id"))
	o.raw(")")
}

func (o *output) addresses(list []mimescan.Address) {
	if len(list) == 0 {
		o.raw("NIL")
		return
	}
	o.raw("(")
	for _, a := range list {
		o.raw("(")
		o.nstring(a.Name)
		o.raw(" ")
		o.nstring(a.Route)
		o.raw(" ")
		o.nstring(a.Mailbox)
		o.raw(" ")
		o.nstring(a.Host)
		o.raw(")")
	}
	o.raw(")")
}
