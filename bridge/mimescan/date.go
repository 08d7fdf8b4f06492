package mimescan

import (
	"net/mail"
	"regexp"
	"strings"
	"time"
)

// obsoleteZones are the zones that have names (RFC 5322 §4.3). All other names say nothing: -0000.
var obsoleteZones = map[string]string{
	"UT": "+0000", "GMT": "+0000", "Z": "+0000", "UTC": "+0000",
	"EST": "-0500", "EDT": "-0400", "CST": "-0600", "CDT": "-0500", "MST": "-0700", "MDT": "-0600", "PST": "-0800", "PDT": "-0700",
}

// zoneName is what stands behind the time and is no number.
var zoneName = regexp.MustCompile(`(:\d+)\s*([A-Za-z][^:]*)$`)

// ParseDate reads the value of a Date field (RFC 5322 §3.3 and §4.3). What a zone's name means does not depend on where the machine is, as it
// does with mail.ParseDate, whose errors these are.
func ParseDate(value string) (time.Time, error) {
	value = withoutComments(value)
	if m := zoneName.FindStringSubmatchIndex(value); m != nil {
		offset, known := obsoleteZones[strings.ToUpper(strings.TrimSpace(value[m[4]:m[5]]))]
		if !known {
			offset = "-0000"
		}
		value = value[:m[3]] + " " + offset
	}
	return mail.ParseDate(value)
}

// withoutComments is for fields without quoted strings (RFC 5322 §3.2.2).
func withoutComments(value string) string {
	var out strings.Builder
	depth := 0
	for _, c := range value {
		switch {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth == 0:
			out.WriteRune(c)
		}
	}
	return out.String()
}
