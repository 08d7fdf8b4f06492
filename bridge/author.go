package bridge

import (
	"regexp"
	"strings"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// authorsIn are the addresses that From fields name. Not certain: the fields cannot be read, or there are none; then the addresses are whatever
// looks like one, for those who would rather take too many for authors than miss one.
func authorsIn(fields []string) (authors []string, certain bool) {
	for _, value := range fields {
		list, err := mimescan.StrictAddresses(value)
		if err != nil {
			return addressLike(fields), false
		}
		for _, a := range list {
			authors = append(authors, normalized(a.Address))
		}
	}
	return authors, len(authors) > 0
}

// likeAddress is loose: a local part may be quoted, and there may be space around the @.
var likeAddress = regexp.MustCompile(`([^\s<>()\[\],;:"\\@]+)"?\s*@\s*([\pL\pN._-]+)`)

// addressLike is what looks like an address, in encoded words, too.
func addressLike(fields []string) (found []string) {
	for _, value := range fields {
		for _, match := range likeAddress.FindAllStringSubmatch(value+"\n"+mimescan.DecodeWords(value), -1) {
			found = append(found, normalized(match[1]+"@"+strings.Trim(match[2], ".")))
		}
	}
	return unique(found)
}
