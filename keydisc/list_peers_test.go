//go:build peers

package keydisc

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// What GnuPG signs in each of its ways is a list; after the key was revoked it is none.
func TestListsByGnuPG(t *testing.T) {
	g := newGnuPG(t)
	fp := g.generate(t, "keys@bravo.test")
	folder := t.TempDir()
	bundle := write(t, filepath.Join(folder, "bundle"), armored(t, "bob", "bob2"))
	keylist := write(t, filepath.Join(folder, "keylist.json"), []byte(`{"keys":[{"email":"bob@bravo.test","fingerprint":"`+string(load(t, "bob").Fingerprint())+`"}]}`))
	sign := func(name, list string, how ...string) (made string) {
		made = filepath.Join(folder, name)
		g.run(t, append(append(how, "--output", made), list)...)
		return made
	}
	sign("bundle.asc", bundle, "--armor", "--detach-sign")
	sign("keylist.json.asc", keylist, "--detach-sign") // binary, whatever its name
	lists := []string{
		bundle, keylist, sign("clear", bundle, "--clear-sign"), sign("clear.json", keylist, "--clear-sign"),
		sign("inline", bundle, "--armor", "--sign"), sign("inline.gpg", bundle, "--sign"), sign("stored", bundle, "--compress-algo", "none", "--sign"),
	}
	f, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	source := ListSource{Authority: parseOne(t, g.run(t, "--export", fp)), Domains: []string{"bravo.test"}}
	for _, list := range lists {
		source.URL = list
		l, err := f.List(t.Context(), source)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(list), err)
			continue
		}
		if age := time.Since(l.Signed); age < -time.Minute || age > time.Hour || !slices.ContainsFunc(l.Entries, func(e ListEntry) bool { return e.Fingerprint == load(t, "bob").Fingerprint() }) {
			t.Errorf("%s: %v", filepath.Base(list), l)
		}
	}
	g.revoke(t, fp)
	source.Authority = parseOne(t, g.run(t, "--export", fp))
	for _, list := range lists {
		source.URL = list
		if _, err := f.List(t.Context(), source); err == nil || !strings.Contains(err.Error(), "not valid now") {
			t.Errorf("%s after the revocation: %v", filepath.Base(list), err)
		}
	}
}
