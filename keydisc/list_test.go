package keydisc

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// organisation is one with a key, whose list is being made.
type organisation struct {
	key    *openpgp.Entity
	source ListSource
}

func newOrganisation(t *testing.T) organisation {
	t.Helper()
	e := entity(t, "keys@bravo.test")
	return organisation{e, ListSource{URL: "https://list.example.com/staff.asc", Authority: parseOne(t, public(t, e)), Domains: []string{"Bravo.test"}}}
}

// armored are certificates as a text.
func armored(t testing.TB, names ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, name := range names {
		w, err := armor.Encode(&out, openpgp.PublicKeyType, map[string]string{"Comment": "the-staff"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(load(t, name).Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		out.WriteString("\n")
	}
	return out.Bytes()
}

func (o organisation) detached(t *testing.T, text []byte, config *packet.Config) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := openpgp.DetachSign(&out, []*openpgp.Entity{o.key}, bytes.NewReader(text), config); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func (o organisation) clear(t *testing.T, text []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := clearsign.Encode(&out, o.key.PrivateKey, at(now))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func (o organisation) inline(t *testing.T, text []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := openpgp.Sign(&out, []*openpgp.Entity{o.key}, nil, at(now))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// said is a list in words: ADDRESS FINGERPRINT, with a star where there is a certificate.
func said(l *List) []string {
	var words []string
	for _, e := range l.Entries {
		word := e.Address + " " + string(e.Fingerprint)
		if e.Certificate != nil {
			word += "*"
			if !slices.Equal(e.Certificate.Addresses(), []string{e.Address}) {
				word += fmt.Sprint(e.Certificate.Addresses())
			}
		}
		words = append(words, word)
	}
	slices.Sort(words)
	return words
}

func TestParseList(t *testing.T) {
	o := newOrganisation(t)
	bob, bob2 := load(t, "bob").Fingerprint(), load(t, "bob2").Fingerprint()
	both := []string{"bob@bravo.test " + string(bob) + "*", "bob@bravo.test " + string(bob2) + "*"}
	slices.Sort(both)
	bundle := armored(t, "bob", "bob2", "alice")
	binary := slices.Concat(load(t, "bob").Bytes(), load(t, "bob2").Bytes())
	keylist := []byte(`{"metadata": {"signature_uri": "staff.sig", "comment": "x"}, "keys": [
		{"fingerprint": "` + strings.ToLower(string(bob)) + `", "name": "Bob", "email": "Bob@bravo.test"},
		{"fingerprint": "` + string(bob2) + `", "name": "no address"},
		{"fingerprint": "` + string(bob2) + `", "email": "alice@alpha.test"}, {"fingerprint": "12", "email": "x@bravo.test"}]}`)
	for name, c := range map[string]struct {
		data, signature []byte
		want            []string
	}{
		"beside it":         {bundle, o.detached(t, bundle, at(now)), both},
		"beside it, binary": {binary, o.detached(t, binary, at(now)), both},
		"clear-signed":      {o.clear(t, bundle), nil, both},
		"inline":            {o.inline(t, bundle), nil, both},
		"inline, binary":    {o.inline(t, binary), nil, both},
		"keylist":           {keylist, o.detached(t, keylist, at(now)), []string{"bob@bravo.test " + string(bob)}},
		"keylist, clear":    {o.clear(t, keylist), nil, []string{"bob@bravo.test " + string(bob)}},
		"nobody":            {[]byte(`{"keys":[]}`), o.detached(t, []byte(`{"keys":[]}`), at(now)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := ParseList(c.data, c.signature, o.source, now)
			if err != nil {
				t.Fatal(err)
			}
			if got := said(l); !slices.Equal(got, c.want) || !l.Signed.Equal(now) {
				t.Errorf("%s %v", l.Signed, got)
			}
		})
	}
}

func TestParseListRefuses(t *testing.T) {
	o, other := newOrganisation(t), newOrganisation(t)
	bundle := armored(t, "bob")
	good := o.detached(t, bundle, at(now))
	short := at(now.Add(-2 * time.Hour))
	short.SigLifetimeSecs = 3600
	expired, revoked := o.source, o.source
	expired.Authority = generatedWith(t, "keys@bravo.test", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: 3600})
	gone := *o.key
	if err := gone.Revoke(packet.KeySuperseded, "", at(now)); err != nil {
		t.Fatal(err)
	}
	revoked.Authority = parseOne(t, public(t, &gone))
	mail := append([]byte("Content-Type: text/plain\r\n\r\nIs this yours?\r\n"), bundle...)
	for name, c := range map[string]struct {
		source          ListSource
		data, signature []byte
		why             string
	}{
		"not signed":             {o.source, bundle, nil, "not an OpenPGP signature"},
		"not a signature":        {o.source, bundle, bundle, "not an OpenPGP signature"},
		"by somebody else":       {o.source, bundle, other.detached(t, bundle, at(now)), "no good signature"},
		"altered":                {o.source, append(slices.Clone(bundle), '\n'), good, "no good signature"},
		"signature has expired":  {o.source, bundle, o.detached(t, bundle, short), "no good signature"},
		"from the future":        {o.source, bundle, o.detached(t, bundle, at(now.Add(2*time.Hour))), "future"},
		"authority has expired":  {expired, bundle, good, "not valid now"},
		"authority is revoked":   {revoked, bundle, good, "not valid now"},
		"signed mail is no list": {o.source, mail, o.detached(t, mail, at(now)), "nothing else"},
		"text before":            {o.source, append([]byte("x\n"), o.clear(t, bundle)...), nil, "not an OpenPGP signature"},
		"text behind":            {o.source, append(o.clear(t, bundle), bundle...), nil, "one clear-signed text"},
		"another's clear text":   {o.source, other.clear(t, bundle), nil, "no good signature"},
		"another's message":      {o.source, other.inline(t, bundle), nil, "no good signature"},
		"not signed at all":      {o.source, []byte{0xcb, 0x01, 'b'}, nil, "no good signature"},
		"secret key":             {o.source, mustRead(t, "testdata/secret.asc"), o.detached(t, mustRead(t, "testdata/secret.asc"), at(now)), "nothing else"},
		"two JSON values":        {o.source, []byte(`{"keys":[]}{"keys":[]}`), o.detached(t, []byte(`{"keys":[]}{"keys":[]}`), at(now)), "nothing else"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := ParseList(c.data, c.signature, c.source, now)
			if err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%v %v", l, err)
			}
		})
	}
}

// The server is the configured one, at whatever address; the signature is beside the list, or on the same server.
func TestListIsFetched(t *testing.T) {
	o := newOrganisation(t)
	pages := map[string][]byte{}
	w := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		page, ok := pages[r.URL.Path]
		if !ok {
			http.NotFound(rw, r)
			return
		}
		_, _ = rw.Write(page)
	})
	f := w.finderWith(t, Options{Now: func() time.Time { return now }, Resolve: map[string]string{"list.example.com:443": w.Listener.Addr().String()}})
	expect := func(why string) {
		t.Helper()
		l, err := f.List(t.Context(), o.source)
		if why == "" && (err != nil || len(l.Entries) != 1) || why != "" && (err == nil || !strings.Contains(err.Error(), why)) {
			t.Errorf("%v %v, not %q", l, err, why)
		}
	}
	expect("no such file")
	bundle := armored(t, "bob")
	pages["/staff.asc"] = bundle
	expect("its signature: list.example.com has no such file")
	pages["/staff.asc.asc"] = o.detached(t, bundle, at(now))
	expect("")
	pages["/staff.asc"], pages["/staff.asc.asc"] = o.clear(t, bundle), nil
	expect("")
	keylist := func(uri string) []byte {
		return []byte(`{"metadata": {"signature_uri": "` + uri + `"}, "keys": [{"email": "bob@bravo.test", "fingerprint": "` + string(load(t, "bob").Fingerprint()) + `"}]}`)
	}
	for uri, why := range map[string]string{
		"":                                   "",
		"signature":                          "",
		"https://LIST.example.com/signature": "",
		"http://list.example.com/signature":  "not on the server",
		"https://evil.test/signature":        "not on the server",
	} {
		pages["/staff.asc"] = keylist(uri)
		pages["/signature"] = o.detached(t, keylist(uri), at(now))
		pages["/staff.asc.asc"] = pages["/signature"]
		expect(why)
	}
}

func TestListFromAFile(t *testing.T) {
	o := newOrganisation(t)
	f, err := New(Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	o.source.URL = filepath.Join(t.TempDir(), "staff")
	if _, err := f.List(t.Context(), o.source); err == nil || strings.Count(err.Error(), o.source.URL) != 1 {
		t.Error(err)
	}
	bundle := armored(t, "bob")
	write(t, o.source.URL, bundle)
	write(t, o.source.URL+".asc", o.detached(t, bundle, at(now)))
	if l, err := f.List(t.Context(), o.source); err != nil || len(l.Entries) != 1 {
		t.Error(l, err)
	}
	if err := os.Remove(o.source.URL + ".asc"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.List(t.Context(), o.source); err == nil {
		t.Error("without signature")
	}
}

func FuzzParseList(f *testing.F) {
	authority, bundle := load(f, "alice"), armored(f, "bob")
	f.Add(bundle, load(f, "alice").Bytes())
	f.Add([]byte(clearSigned+"\nHash: SHA512\n\n{}\n-----BEGIN PGP SIGNATURE-----\n\nwsBz\n-----END PGP SIGNATURE-----\n"), []byte(nil))
	f.Add([]byte(`{"keys":[{"fingerprint":"","email":"bob@bravo.test"}]}`), []byte{0xc2, 1, 4})
	f.Add([]byte{0x90, 0x0d, 3}, []byte(nil))
	s := ListSource{Authority: authority, Domains: []string{"bravo.test"}}
	f.Fuzz(func(t *testing.T, data, signature []byte) {
		if l, err := ParseList(data, signature, s, now); err == nil {
			t.Errorf("nobody has signed %v", l)
		}
		if k, ok := parseKeylist(data); ok {
			for _, e := range k.entries(s) {
				if !isFingerprint(e.Fingerprint) || !s.Covers(e.Address) {
					t.Errorf("%+v", e)
				}
			}
		}
		_, _ = signatureOf("https://example.org/x", data)
	})
}
