package pgpmime

import (
	"bufio"
	"bytes"
	stdmime "mime"
	"regexp"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// A cryptographic layer counts only if every mail program finds the same parts in it. Otherwise
// text that nobody signed stands where one program sees the preamble and another the first part.

// unambiguous says whether the multipart p with that header has one type, one boundary and no
// transfer encoding (RFC 2045 §6.4), written so that every reader understands the same.
func unambiguous(h mimescan.Header, p *mimescan.Part) bool {
	value, ok := onlyField(h, "Content-Type")
	names := boundaryName.FindAllString(value, 2)
	if !ok || !plainType.MatchString(value) || len(names) != 1 || strings.HasSuffix(names[0], "*") {
		return false
	}
	media, params, err := stdmime.ParseMediaType(value)
	if err != nil || media != p.MediaType || params["protocol"] != p.Params["protocol"] {
		return false
	}
	boundary := params["boundary"]
	return boundary == p.Params["boundary"] && plainBoundary.MatchString(boundary) &&
		!strings.Contains(boundary, "=?") && identityEncoded(h)
}

var (
	// plainType is printable, without the escapes that readers undo differently.
	plainType = regexp.MustCompile(`^[\t -\[\]-~]+$`)
	// boundaryName finds the parameter, plain or in one of the forms of RFC 2231.
	boundaryName = regexp.MustCompile(`(?i)boundary[\t ]*[*=]`)
	// plainBoundary is RFC 2046 §5.1.1 without spaces, which folding may have brought in.
	plainBoundary = regexp.MustCompile(`^[0-9A-Za-z'()+_,./:=?-]{1,70}$`)
)

// onlyField is the value of the one field of that name; not ok if there are none or several, or
// white space before the colon, at which some readers stop.
func onlyField(h mimescan.Header, name string) (value string, ok bool) {
	for _, f := range h {
		if !strings.EqualFold(f.Name, name) {
			continue
		}
		if ok || f.Raw[len(f.Name)] != ':' {
			return "", false
		}
		value, ok = f.Value(), true
	}
	return value, ok
}

func identityEncoded(h mimescan.Header) bool {
	values := h.Values("Content-Transfer-Encoding")
	return len(values) == 0 ||
		len(values) == 1 && slices.Contains([]string{"7bit", "8bit", "binary"}, strings.ToLower(values[0]))
}

// bareCR says whether a field holds a CR that ends no line: some readers see another field behind it.
func bareCR(h mimescan.Header) bool {
	return slices.ContainsFunc(h, func(f mimescan.Field) bool {
		return bytes.Count(f.Raw, []byte("\r")) != bytes.Count(f.Raw, []byte("\r\n"))
	})
}

// blankLine says whether a field is continued by a line of white space alone, which ends the header
// for some readers.
func blankLine(h mimescan.Header) bool {
	return slices.ContainsFunc(h, func(f mimescan.Field) bool {
		lines := bytes.Split(bytes.TrimSuffix(f.Raw, []byte("\n")), []byte("\n"))
		return slices.ContainsFunc(lines, func(line []byte) bool { return len(bytes.TrimSpace(line)) == 0 })
	})
}

// signsAll says whether nothing but the signed part of a multipart/signed can be shown as its
// content: not what stands around the parts, nor in the header or the body of the signature.
func signsAll(src mimescan.Source, signed *mimescan.Part) (bool, error) {
	h, err := mimescan.ReadHeader(src, signed.Header)
	if err != nil || !unambiguous(h, signed) || bareCR(h) || blankLine(h) {
		return false, err
	}
	signature := signed.Children[1]
	h, err = mimescan.ReadHeader(src, signature.Header)
	if _, one := onlyField(h, "Content-Type"); err != nil || !one || bareCR(h) || blankLine(h) || hasJunk(h) {
		return false, err
	}
	if alone, err := nothingBeside(src, signed); err != nil || !alone {
		return false, err
	}
	if n, err := delimiters(src, signed); err != nil || n != 3 {
		return false, err
	}
	return wholeArmor(mimescan.DecodeBody(src, signature), armoredSignature, anyArmorHeader)
}

// hasJunk says whether a header has lines that are no fields: text to some readers.
func hasJunk(h mimescan.Header) bool {
	return slices.ContainsFunc(h, func(f mimescan.Field) bool { return f.Name == "" })
}

// delimiters counts the lines that begin with the boundary of p: many readers compare no more of
// them (RFC 2046 §5.1.1), and would end the signed part at any. For some a bare CR ends a line.
func delimiters(src mimescan.Source, p *mimescan.Part) (n int, err error) {
	boundary := []byte("--" + p.Params["boundary"])
	body := &crlfReader{in: bufio.NewReader(within(src, p.Body.Start, p.Body.End)), bareCR: true}
	err = eachLine(body, func(line []byte) bool {
		if bytes.HasPrefix(line, boundary) {
			n++
		}
		return true
	})
	return n, err
}
