package bridge

import (
	"slices"
	"testing"
)

func TestNormalized(t *testing.T) {
	for address, want := range map[string]string{
		" Kate@X.Test ":      "kate@x.test",
		"\u212Aate@x.test":   "\u212Aate@x.test", // KELVIN SIGN, whose lower case is k
		"a@B\u00dcCHER.test": "a@xn--bcher-kva.test",
		"a..B@\u00dc.test":   "a..B@xn--tda.test", // no addr-spec, and in use
		"a b@x.test":         "a b@x.test",
		"nobody":             "nobody",
		"":                   "",
	} {
		if got := normalized(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}

// An address that only looks like another is another person's.
func TestLookalikesAreDifferent(t *testing.T) {
	to := []string{"kate@x.test", "\u212Aate@x.test", "KATE@x.test"}
	if got := unique(to); !slices.Equal(got, to[:2]) {
		t.Errorf("recipients: %q", got)
	}
	o := Owner{names: AccountOptions{Address: "kate@x.test", Aliases: []string{"a@b\u00fccher.test"}}.addresses()}
	for address, want := range map[string]bool{"Kate@x.test": true, "\u212Aate@x.test": false, "a@xn--bcher-kva.test": true} {
		if o.Owns(address) != want {
			t.Errorf("owns %q: %v", address, !want)
		}
	}
}
