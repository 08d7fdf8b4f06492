package bridge

import "github.com/sealpost/sealpost/bridge/mimescan"

// authorsIn are the addresses that From fields name. Not certain: the fields cannot be read, or there are none; then the addresses are whatever
// looks like one, for those who would rather take too many for authors than miss one.
func authorsIn(fields []string) (authors []string, certain bool) {
	for _, value := range fields {
		list, err := mimescan.StrictAddresses(value)
		if err != nil {
			return likely(fields), false
		}
		for _, a := range list {
			authors = append(authors, normalized(a.Address))
		}
	}
	return authors, len(authors) > 0
}

// likely are all addresses that fields may name, normalised.
func likely(fields []string) (found []string) {
	for _, address := range mimescan.LikelyAddresses(fields...) {
		found = append(found, normalized(address))
	}
	return unique(found)
}
