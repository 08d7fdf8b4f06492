package mimescan

import (
	"cmp"
	"errors"
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
var zoneName = regexp.MustCompile(`(?s)^([^:]*:[^A-Za-z]*)([A-Za-z].*?)\s*$`)

var errZone = errors.New("what stands for the zone of a date is neither a number nor a name")

// ParseDate reads the value of a Date field (RFC 5322 §3.3 and §4.3). What a zone's name means does not depend on where the machine is, as it
// does with mail.ParseDate, whose errors these are otherwise.
func ParseDate(value string) (time.Time, error) {
	value = withoutComments(value)
	if m := zoneName.FindStringSubmatch(value); m != nil {
		name := strings.ToUpper(m[2])
		if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			return time.Time{}, errZone
		}
		value = m[1] + " " + cmp.Or(obsoleteZones[name], "-0000")
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
