package mimescan

import (
	"cmp"
	"io"
	"mime"
	"net/mail"
	"regexp"
	"strings"
)

// Address is one of an address list, as IMAP's ENVELOPE has them (RFC 9051 §7.5.2): of a group
// the name comes first, in Mailbox without a Host, and an empty Address ends it.
type Address struct {
	Name    string // encoded words and all
	Route   string // "@a,@b" (RFC 5322 §4.4)
	Mailbox string // the local part, unquoted
	Host    string
}

// ParseAddresses reads an address list (RFC 5322 §3.4), unfolded. It makes the best of malformed
// ones: net/mail fails as a whole at the first unusual address.
func ParseAddresses(s string) []Address {
	p := &addressReader{s: s}
	var list []Address
	for p.s != "" {
		switch text := p.until(",:;<"); {
		case strings.HasPrefix(p.s, ":"):
			p.skip()
			p.inGroup = true
			list = append(list, Address{Mailbox: cmp.Or(text.plain(), "group")})
		case strings.HasPrefix(p.s, "<"):
			p.skip()
			spec := p.until(">")
			p.skip()
			p.until(",;")
			list = append(list, address(text.plain(), spec))
		default:
			if spec := text; spec.plain() != "" {
				list = append(list, address(spec.comment, spec))
			}
		}
		list = p.separator(list)
	}
	if p.inGroup {
		list = append(list, Address{})
	}
	return list
}

// anyCharset reads names in whatever charset: only the addresses beside them count.
var anyCharset = mail.AddressParser{WordDecoder: &mime.WordDecoder{
	CharsetReader: func(_ string, name io.Reader) (io.Reader, error) { return name, nil },
}}

// StrictAddresses is mail.ParseAddressList, which fails at names in charsets that it does not know.
func StrictAddresses(s string) ([]*mail.Address, error) { return anyCharset.ParseList(s) }

// likeAddress is loose: a local part may be quoted, and there may be space around the @.
var likeAddress = regexp.MustCompile(`([^\s<>()\[\],;:"\\@]+)"?\s*@\s*([\pL\pN._-]+)`)

// LikelyAddresses are what looks like an address in fields, in encoded words, too, for those who would rather have too many than miss one.
func LikelyAddresses(values ...string) (found []string) {
	for _, value := range values {
		for _, match := range likeAddress.FindAllStringSubmatch(value+"\n"+DecodeWords(value), -1) {
			local, domain := match[1], strings.Trim(match[2], ".")
			found = append(found, local+"@"+domain)
			if bare := strings.TrimLeft(local, "'"); bare != local { // some programs quote so
				found = append(found, bare+"@"+domain)
			}
		}
	}
	return found
}

type addressReader struct {
	s       string
	inGroup bool
}

func (p *addressReader) skip() {
	if p.s != "" {
		p.s = p.s[1:]
	}
}

// separator takes what is between two addresses; ";" ends a group.
func (p *addressReader) separator(list []Address) []Address {
	if strings.HasPrefix(p.s, ";") && p.inGroup {
		p.inGroup = false
		list = append(list, Address{})
	}
	if strings.HasPrefix(p.s, ",") || strings.HasPrefix(p.s, ";") {
		p.skip()
	}
	return list
}

// text is a piece of an address: with quotes taken off, and what was in comments.
type text struct {
	value   string
	at      int // index in value of the "@" that is not quoted, -1 if there is none
	comment string
}

func (t text) plain() string { return strings.TrimSpace(t.value) }

// until takes text up to one of the bytes in stop, which is left.
func (p *addressReader) until(stop string) text {
	t := text{at: -1}
	var value strings.Builder
	for p.s != "" && strings.IndexByte(stop, p.s[0]) < 0 {
		c := p.s[0]
		switch c {
		case '"':
			value.WriteString(p.delimited('"', '"'))
			continue
		case '(':
			t.comment = strings.TrimSpace(p.delimited('(', ')'))
			continue
		case '@':
			t.at = value.Len()
		}
		value.WriteByte(c)
		p.s = p.s[1:]
	}
	t.value = value.String()
	return t
}

// delimited takes a quoted string or a comment, and its delimiters off.
func (p *addressReader) delimited(open, end byte) string {
	var out strings.Builder
	depth := 0
	for i := 0; i < len(p.s); i++ {
		c := p.s[i]
		switch {
		case c == '\\' && i+1 < len(p.s):
			i++
			out.WriteByte(p.s[i])
			continue
		case c == end && depth > 0:
			depth--
		case c == open:
			depth++
			if depth == 1 {
				continue
			}
		}
		if depth == 0 {
			p.s = p.s[i+1:]
			return out.String()
		}
		out.WriteByte(c)
	}
	p.s = ""
	return out.String()
}

// What is missing of an address is named as Dovecot does: nothing would mean a group.
const (
	MissingMailbox = "MISSING_MAILBOX"
	MissingDomain  = "MISSING_DOMAIN"
)

// address splits an addr-spec and the obsolete route before it.
func address(name string, spec text) Address {
	mailbox, host, route := spec.value, "", ""
	if spec.at >= 0 {
		mailbox, host = spec.value[:spec.at], spec.value[spec.at+1:]
	}
	if end := strings.LastIndexByte(mailbox, ':'); strings.HasPrefix(mailbox, "@") && end >= 0 {
		route, mailbox = strings.TrimSpace(mailbox[:end]), mailbox[end+1:]
	}
	mailbox, host = strings.TrimSpace(mailbox), strings.TrimSpace(host)
	return Address{Name: name, Route: route, Mailbox: cmp.Or(mailbox, MissingMailbox), Host: cmp.Or(host, MissingDomain)}
}
