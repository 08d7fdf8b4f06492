package mimescan

import (
	"cmp"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-message/charset"
)

// parseParams reads "value; name=value; …" (RFC 2045 §5.1) with RFC 2231 continuations and
// character sets. It makes the best of what is malformed. The value is in lower case, names
// too; of two parameters of one name the first counts. Standard libraries' parsers fail
// as a whole at the first unusual byte, and mail with such bytes is common.
func parseParams(s string) (string, map[string]string) {
	p := &paramReader{s: s}
	value := strings.ToLower(toUTF8(strings.TrimSpace(p.until(";"))))
	var params map[string]string
	pieces := map[string][]piece{}
	for p.s != "" {
		name, text, ok := p.next()
		if !ok {
			continue
		}
		if params == nil {
			params = map[string]string{}
		}
		if base, x, extended := continuation(name, text); extended {
			pieces[base] = append(pieces[base], x)
		} else if _, twice := params[name]; !twice {
			params[name] = toUTF8(text)
		}
	}
	for base, all := range pieces {
		params[base] = joined(all) // RFC 2231 §3 and RFC 6266 §4.3: the extended form wins
	}
	return value, params
}

// paramReader takes a header value apart.
type paramReader struct{ s string }

// until takes what stands before any of the bytes in stop, without comments (RFC 5322 §3.2.2),
// and leaves the stop byte itself.
func (p *paramReader) until(stop string) string {
	var out strings.Builder
	for p.s != "" && !strings.Contains(stop, p.s[:1]) {
		if p.s[0] == '(' {
			p.skipComment()
			continue
		}
		out.WriteByte(p.s[0])
		p.s = p.s[1:]
	}
	return out.String()
}

func (p *paramReader) skipComment() {
	depth := 0
	for i := 0; i < len(p.s); i++ {
		switch p.s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				p.s = p.s[i+1:]
				return
			}
		}
	}
	p.s = ""
}

// next takes the next parameter; not ok if there is none up to the next semicolon.
func (p *paramReader) next() (name, value string, ok bool) {
	p.s = strings.TrimLeft(p.s, "; \t")
	name = strings.ToLower(strings.TrimSpace(p.until("=;")))
	if p.s == "" || p.s[0] == ';' {
		return "", "", false
	}
	p.s = strings.TrimLeft(p.s[1:], " \t")
	if strings.HasPrefix(p.s, `"`) {
		value = p.quoted()
		p.until(";")
	} else {
		value = strings.TrimSpace(p.until(";"))
	}
	return name, value, isToken(name)
}

// quoted takes a quoted string (RFC 5322 §3.2.4), to the end if it is never closed.
func (p *paramReader) quoted() string {
	var out strings.Builder
	for i := 1; i < len(p.s); i++ {
		switch p.s[i] {
		case '"':
			p.s = p.s[i+1:]
			return out.String()
		case '\\':
			if i++; i == len(p.s) {
				continue
			}
		}
		out.WriteByte(p.s[i])
	}
	p.s = ""
	return out.String()
}

// piece is one of the parameters that make up an extended one.
type piece struct {
	index   int
	encoded bool
	text    string
}

// continuation takes name*1*, name*1 or name* apart (RFC 2231 §3 and §4).
func continuation(name, text string) (base string, x piece, ok bool) {
	base, rest, ok := strings.Cut(name, "*")
	if !ok || base == "" {
		return name, x, false
	}
	x.text = text
	if rest == "" { // name*
		x.encoded = true
		return base, x, true
	}
	rest, x.encoded = strings.CutSuffix(rest, "*")
	index, err := strconv.ParseUint(rest, 10, 16)
	x.index = int(index)
	return base, x, err == nil
}

// joined is the value that the pieces make up, in UTF-8.
func joined(pieces []piece) string {
	slices.SortStableFunc(pieces, func(a, b piece) int { return cmp.Compare(a.index, b.index) })
	var out strings.Builder
	label := ""
	for i, x := range pieces {
		if i > 0 && x.index == pieces[i-1].index {
			continue
		}
		if x.encoded && i == 0 { // charset'language'text
			if parts := strings.SplitN(x.text, "'", 3); len(parts) == 3 {
				label, x.text = parts[0], parts[2]
			}
		}
		if x.encoded {
			x.text = percentDecoded(x.text)
		}
		out.WriteString(x.text)
	}
	return fromCharset(label, out.String())
}

func percentDecoded(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				out.WriteByte(byte(v))
				i += 2
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// fromCharset decodes a short string; one of an unknown charset is taken for UTF-8.
func fromCharset(label, s string) string {
	r, err := charset.Reader(label, strings.NewReader(s))
	if err != nil {
		return toUTF8(s)
	}
	decoded, err := io.ReadAll(r)
	if err != nil {
		return toUTF8(s)
	}
	return toUTF8(string(decoded))
}
