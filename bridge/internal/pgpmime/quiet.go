package pgpmime

import (
	stdmime "mime"
	"regexp"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// quietParts says whether the MIME fields of a multipart/encrypted and the headers of its two parts
// hold nothing but what mail programs write there by themselves.
func quietParts(src mimescan.Source, root *mimescan.Part) (bool, error) {
	h, err := mimescan.ReadHeader(src, root.Header)
	if err != nil {
		return false, err
	}
	h = slices.DeleteFunc(h, func(f mimescan.Field) bool { return !structural(f.Name) })
	for _, part := range root.Children {
		fields, err := mimescan.ReadHeader(src, part.Header)
		if err != nil {
			return false, err
		}
		h = append(h, fields...)
	}
	return !slices.ContainsFunc(h, func(f mimescan.Field) bool { return !quiet(f) }), nil
}

// quietValues are the forms of the fields that have no parameters.
var quietValues = map[string]*regexp.Regexp{
	"mime-version":              regexp.MustCompile(`^1\.0( \([ -~]{1,60}\))?$`), // Apple Mail adds its version
	"content-transfer-encoding": regexp.MustCompile(`(?i)^(7bit|8bit|binary)$`),
	"content-language":          regexp.MustCompile(`^[A-Za-z0-9, -]{1,30}$`),
	"content-length":            regexp.MustCompile(`^[0-9]{1,12}$`),
	"content-class":             regexp.MustCompile(`^urn:content-classes:[a-z]{1,20}$`),
	"content-description": regexp.MustCompile(`(?i)^(PGP/MIME versions? identification|OpenPGP encrypted message|` +
		`OpenPGP versioning|This is an encrypted message part|encrypted message|version code)$`),
}

// quiet says whether a MIME field tells nothing of the content.
func quiet(f mimescan.Field) bool {
	switch name := strings.ToLower(f.Name); name {
	case "content-type", "content-disposition":
		return quietParams(f.Value())
	default:
		form := quietValues[name]
		return form != nil && form.MatchString(f.Value())
	}
}

var (
	quietMedia = regexp.MustCompile(`^(multipart/encrypted|application/pgp-encrypted|application/octet-stream|inline|attachment)$`)
	quietName  = regexp.MustCompile(`(?i)^((openpgp[- ])?encrypted([-_ ]message)?|msg|message|pgpmime|version)\.(asc|pgp|gpg|txt)$`)
	quietParam = map[string]*regexp.Regexp{
		"name": quietName, "filename": quietName,
		"boundary": plainBoundary,
		"protocol": regexp.MustCompile(`(?i)^application/pgp-encrypted$`),
		"charset":  regexp.MustCompile(`^[A-Za-z0-9_-]{1,20}$`),
	}
)

func quietParams(value string) bool {
	media, params, err := stdmime.ParseMediaType(value)
	if err != nil || !quietMedia.MatchString(media) || strings.Contains(value, "*") { // RFC 2231 names a language, too
		return false
	}
	for name, v := range params {
		if form := quietParam[name]; form == nil || !form.MatchString(v) {
			return false
		}
	}
	return true
}
