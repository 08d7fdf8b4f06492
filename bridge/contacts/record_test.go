package contacts

import (
	"testing"
	"time"

	"github.com/sealpost/sealpost/keydisc"
)

// Where anybody may publish, a pin may come from; it is neither confirmed nor contested there.
func TestUnauthenticatedFinds(t *testing.T) {
	found := func(name string, m keydisc.Method) keydisc.Found {
		c, err := certificate(t, name).ForAddress(bob)
		if err != nil {
			t.Fatal(err)
		}
		return keydisc.Found{Certificate: c, Source: m, Authenticated: m != keydisc.HKP}
	}
	hkp, wkd := keydisc.HKP, keydisc.WKD
	for name, c := range map[string]struct {
		pin     Source
		used    bool
		found   []keydisc.Found
		want    string // the pin and its source
		pending bool
	}{
		"starts a pin":           {"", false, []keydisc.Found{found("bob", hkp)}, "bob hkp", false},
		"contests no WKD pin":    {"wkd", false, []keydisc.Found{found("bob2", hkp)}, "bob wkd", false},
		"nor an Autocrypt pin":   {SourceAutocrypt, false, []keydisc.Found{found("bob2", hkp)}, "bob autocrypt", false},
		"nor one of its own":     {"hkp", true, []keydisc.Found{found("bob2", hkp)}, "bob hkp", false},
		"confirms none":          {SourceAutocrypt, false, []keydisc.Found{found("bob", hkp)}, "bob autocrypt", false},
		"gives way before use":   {"hkp", false, []keydisc.Found{found("bob2", wkd), found("bob", hkp)}, "bob2 wkd", false},
		"is contested after use": {"hkp", true, []keydisc.Found{found("bob2", wkd), found("bob", hkp)}, "bob hkp", true},
		"is confirmed elsewhere": {"hkp", true, []keydisc.Found{found("bob", wkd), found("bob2", hkp)}, "bob wkd", false},
	} {
		w := &world{t: t}
		r := record{address: bob}
		if c.pin != "" {
			r.pin(found("bob", hkp).Certificate, c.pin, start)
		}
		if c.used {
			r.lastUsed = start
		}
		if err := r.answered(keydisc.Answer{Found: c.found, Conclusive: true}, start.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if got := w.nameOf(r.pinned.Fingerprint()) + " " + string(r.source); got != c.want || (r.pending != nil) != c.pending {
			t.Errorf("%s: %s, pending %v", name, got, r.pending != nil)
		}
	}
}
