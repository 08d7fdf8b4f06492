package keydisc

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// hkpOf is the server as an HKP server of its own, private, address.
func (w *web) hkpOf() string { return "hkps://" + w.Listener.Addr().String() }

func (w *web) hkpFinder(t *testing.T) *Finder {
	t.Helper()
	return w.finderWith(t, Options{Methods: []Method{HKP}, HKP: []string{w.hkpOf()}})
}

// sending answers every request with that.
func sending(status int, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}
}

func redirecting(target string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, http.StatusFound) }
}

// endless never stops sending.
func endless(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := w.Write(make([]byte, 64<<10)); err != nil {
			return
		}
	}
}

func TestHKPAnswers(t *testing.T) {
	good := exampleCertificate(t)
	foreign := load(t, "alice").Bytes()
	page := []byte("<html><body><h1>No results found</h1></body></html>")
	for name, c := range map[string]struct {
		handler    http.HandlerFunc
		found      int
		conclusive bool
	}{
		"found":                {sending(200, good.Bytes()), 1, true},
		"with a foreign one":   {sending(200, append(append([]byte{}, foreign...), good.Bytes()...)), 1, true},
		"none":                 {sending(404, page), 0, true},
		"for another address":  {sending(200, foreign), 0, false},
		"page":                 {sending(200, page), 0, false},
		"secret key":           {sending(200, mustRead(t, "testdata/secret.asc")), 0, false},
		"empty":                {sending(200, nil), 0, false},
		"huge":                 {sending(200, make([]byte, maxInput+10)), 0, false},
		"endless":              {endless, 0, false},
		"server error":         {sending(500, nil), 0, false},
		"not implemented":      {sending(501, nil), 0, false},
		"no content":           {sending(204, nil), 0, false},
		"redirect to http":     {redirecting("http://openpgpkey.example.com/x"), 0, false},
		"redirect to loopback": {redirecting("https://127.0.0.1:1/x"), 0, false},
		"redirect to private":  {redirecting("https://192.168.0.1/x"), 0, false},
		"slow":                 {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := serve(t, c.handler).hkpFinder(t).Find(t.Context(), "bob@example.com")
			if len(answer.Found) != c.found || answer.Conclusive != c.conclusive || (answer.Err == nil) != c.conclusive {
				t.Errorf("%+v", answer)
			}
			if answer.Err != nil && strings.Contains(answer.Err.Error(), "bob") {
				t.Errorf("the error names the person: %v", answer.Err)
			}
			for _, f := range answer.Found {
				if f.Source != HKP || f.Authenticated {
					t.Errorf("anybody may have published it: %+v", f)
				}
			}
		})
	}
}

func TestHKPRequest(t *testing.T) {
	var got url.URL
	w := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		got = *r.URL
		http.NotFound(rw, r)
	})
	w.hkpFinder(t).Find(t.Context(), " bob+a&b=c@example.com ")
	want := url.Values{"op": {"get"}, "options": {"mr"}, "exact": {"on"}, "search": {"bob+a&b=c@example.com"}}
	if got.Path != "/pks/lookup" || got.Query().Encode() != want.Encode() {
		t.Errorf("%v", got)
	}
}

func TestHKPBadTLS(t *testing.T) {
	w := serve(t, sending(404, nil))
	f, err := New(Options{Methods: []Method{HKP}, HKP: []string{w.hkpOf()}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if answer := f.Find(t.Context(), "bob@example.com"); answer.Conclusive {
		t.Errorf("a 404 without verified TLS counted: %+v", answer)
	}
}

// Without TLS what is found may be used like all that a key server says, but "none" means nothing.
func TestHKPPlain(t *testing.T) {
	good, status := exampleCertificate(t), 200
	w := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { sending(status, good.Bytes())(rw, r) }))
	defer w.Close()
	f, err := New(Options{Methods: []Method{HKP}, HKP: []string{"hkp://" + w.Listener.Addr().String()}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if answer := f.Find(t.Context(), "bob@example.com"); !answer.Conclusive || len(answer.Found) != 1 {
		t.Errorf("%+v", answer)
	}
	status = 404
	if answer := f.Find(t.Context(), "bob@example.com"); answer.Conclusive {
		t.Errorf("a 404 without TLS counted: %+v", answer)
	}
}

// That a server is the configuration's own opens the way to it for nobody else.
func TestOwnServerIsNoTarget(t *testing.T) {
	key := serve(t, sending(404, nil))
	w := serve(t, redirecting("https://"+key.Listener.Addr().String()+"/x"))
	f := w.finderWith(t, Options{Methods: []Method{WKD, HKP}, Resolve: w.bravo(), HKP: []string{key.hkpOf()}})
	answer := f.Find(t.Context(), "bob@example.com")
	for _, path := range key.seen {
		if !strings.HasSuffix(path, "/pks/lookup") {
			t.Errorf("the redirect was followed to %s", path)
		}
	}
	if answer.Conclusive || !strings.Contains(answer.Err.Error(), "not a public address") {
		t.Errorf("%+v", answer)
	}
}

// Nor does it open the way to anything else for the server.
func TestOwnServerRedirects(t *testing.T) {
	good := exampleCertificate(t)
	other := serve(t, sending(200, good.Bytes()))
	key := serve(t, redirecting("https://"+other.Listener.Addr().String()+"/x"))
	if answer := key.hkpFinder(t).Find(t.Context(), "bob@example.com"); answer.Conclusive || len(other.seen) > 0 {
		t.Errorf("%+v", answer)
	}
}

// What is asked without TLS stays on this machine, whatever names mean.
func TestPlainStaysLocal(t *testing.T) {
	for address, local := range map[string]bool{"127.0.0.1:80": true, "[::1]:80": true, "[::ffff:127.0.0.2]:80": true, "10.0.0.1:80": false, "[fe80::1]:80": false, "nonsense": false} {
		if err := loopbackOnly("tcp", address, nil); (err == nil) != local {
			t.Errorf("%s: %v", address, err)
		}
	}
	w := serve(t, nil)
	f := w.finderWith(t, Options{Resolve: map[string]string{"localhost:1": w.Listener.Addr().String()}})
	own := server{scheme: "hkp", host: "localhost", port: "1", plain: true}
	if conn, err := f.web.dial(own.own(t.Context()), "tcp", "localhost:1"); err == nil {
		t.Error("sent elsewhere", conn.Close())
	}
}

func TestHKPSeveralServers(t *testing.T) {
	good := exampleCertificate(t)
	has, none, fails := serve(t, sending(200, good.Bytes())), serve(t, sending(404, nil)), serve(t, sending(500, nil))
	for name, c := range map[string]struct {
		servers    []string
		found      int
		conclusive bool
	}{
		"one has it":             {[]string{none.hkpOf(), has.hkpOf()}, 1, true},
		"both have it":           {[]string{has.hkpOf(), has.hkpOf()}, 1, true},
		"nobody has it":          {[]string{none.hkpOf(), none.hkpOf()}, 0, true},
		"one fails":              {[]string{fails.hkpOf(), none.hkpOf()}, 0, false},
		"one fails, one has it":  {[]string{fails.hkpOf(), has.hkpOf()}, 1, false},
		"the last one fails":     {[]string{none.hkpOf(), fails.hkpOf()}, 0, false},
		"a refused connection":   {[]string{none.hkpOf(), "hkps://127.0.0.1:1"}, 0, false},
		"plain to a closed port": {[]string{none.hkpOf(), "hkp://localhost:1"}, 0, false},
	} {
		// All test servers have the same certificate.
		answer := has.finderWith(t, Options{Methods: []Method{HKP}, HKP: c.servers}).Find(t.Context(), "bob@example.com")
		if len(answer.Found) != c.found || answer.Conclusive != c.conclusive {
			t.Errorf("%s: %+v", name, answer)
		}
	}
}

// What the address's own domain publishes counts as found there, wherever else it was found, and comes first.
func TestAuthenticatedFirst(t *testing.T) {
	good, other := exampleCertificate(t), exampleCertificate(t)
	domain := serve(t, sending(200, good.Bytes()))
	for name, published := range map[string][]byte{"the same": good.Bytes(), "another": other.Bytes()} {
		key := serve(t, sending(200, published))
		f := domain.finderWith(t, Options{Methods: []Method{HKP, WKD}, Resolve: domain.bravo(), HKP: []string{key.hkpOf()}})
		answer := f.Find(t.Context(), "bob@example.com")
		if len(answer.Found) == 0 || !answer.Conclusive {
			t.Fatalf("%s: %+v", name, answer)
		}
		first := answer.Found[0]
		if first.Certificate.Fingerprint() != good.Fingerprint() || first.Source != WKD || !first.Authenticated {
			t.Errorf("%s: %+v", name, answer.Found)
		}
		if name == "another" && (len(answer.Found) != 2 || answer.Found[1].Authenticated) {
			t.Errorf("%+v", answer.Found)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, o := range map[string]Options{
		"hkp without a server":       {Methods: []Method{HKP}},
		"hkp without TLS":            {Methods: []Method{HKP}, HKP: []string{"hkp://keys.example.com"}},
		"hkp by http":                {Methods: []Method{HKP}, HKP: []string{"http://localhost"}},
		"hkp without a scheme":       {Methods: []Method{HKP}, HKP: []string{"keys.example.com"}},
		"hkp with a password":        {Methods: []Method{HKP}, HKP: []string{"hkps://u:secret@keys.example.com"}},
		"hkp with a path":            {Methods: []Method{HKP}, HKP: []string{"hkps://keys.example.com/pks"}},
		"hkp with a query":           {Methods: []Method{HKP}, HKP: []string{"hkps://keys.example.com?secret"}},
		"hkp with a bad port":        {Methods: []Method{HKP}, HKP: []string{"hkps://keys.example.com:65536"}},
		"the second server is wrong": {Methods: []Method{HKP}, HKP: []string{"hkps://keys.example.com", "hkps://"}},
		"ldap without a server":      {Methods: []Method{LDAP}},
		"ldap without TLS":           {Methods: []Method{LDAP}, LDAP: []LDAPServer{{URL: "ldap://ldap.example.com", BaseDN: "dc=x"}}},
		"ldap openly, far away":      {Methods: []Method{LDAP}, LDAP: []LDAPServer{{URL: "ldap+insecure://ldap.example.com", BaseDN: "dc=x"}}},
		"ldap without a base":        {Methods: []Method{LDAP}, LDAP: []LDAPServer{{URL: "ldaps://ldap.example.com"}}},
		"ldap with a bad base":       {Methods: []Method{LDAP}, LDAP: []LDAPServer{{URL: "ldaps://ldap.example.com", BaseDN: "example"}}},
		"ldap without a password":    {Methods: []Method{LDAP}, LDAP: []LDAPServer{{URL: "ldaps://ldap.example.com", BaseDN: "dc=x", BindDN: "cn=a"}}},
		"ldap with a bad domain":     {Methods: []Method{LDAP}, LDAP: []LDAPServer{{URL: "ldaps://ldap.example.com", BaseDN: "dc=x", Domains: []string{"a b"}}}},
		"ldap without its CA file":   {Methods: []Method{LDAP}, LDAP: []LDAPServer{{URL: "ldaps://ldap.example.com", BaseDN: "dc=x", CAFile: "testdata/nothing"}}},
		"file without a path":        {Methods: []Method{File}},
		"file with an empty path":    {Methods: []Method{File}, Files: []string{"x", ""}},
	} {
		_, err := New(o)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, raw := range []string{"hkps://keys.example.com", "https://keys.example.com/", "hkps://[::1]:8443", "hkp://[::1]", "hkp://127.0.0.1:80", "hkp://LOCALHOST"} {
		if _, err := New(Options{Methods: []Method{HKP}, HKP: []string{raw}}); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func FuzzParseServer(f *testing.F) {
	for _, raw := range []string{"hkps://keys.example.com", "hkp://[::1]:80", "ldap+starttls://a:1/", "hkp://127.0.0.1@x", "hkp://127.0.0.1:80#"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		s, err := parseServer(raw, hkpSchemes)
		if err == nil && (s.host == "" || s.port == "" || s.plain && !isLoopback(s.host)) {
			t.Errorf("%q: %+v", raw, s)
		}
	})
}

func TestRefresh(t *testing.T) {
	known, revoked := load(t, "unrevoked"), load(t, "revoked")
	bare := withoutUserIDs(t, revoked)
	var path, search string
	key := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		search = r.URL.Query().Get("search")
		sending(200, bare)(rw, r)
	})
	verifying := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		path = r.URL.Path
		http.NotFound(rw, r)
	})
	resolve := map[string]string{vksHost + ":443": verifying.Listener.Addr().String()}
	f := key.finderWith(t, Options{Methods: []Method{WKD, VKS, HKP}, Resolve: resolve, HKP: []string{"hkps://example.com:" + portOf(t, key)}})
	f.web.resolve["example.com:"+portOf(t, key)] = key.Listener.Addr().String()
	f.web.client.Transport.(*http.Transport).TLSClientConfig.ServerName = "example.com"
	found, err := f.Refresh(t.Context(), known.Fingerprint())
	if err != nil || len(found) != 1 || found[0].Source != HKP || found[0].Authenticated {
		t.Fatalf("%+v %v", found, err)
	}
	if path != "/vks/v1/by-fingerprint/"+string(known.Fingerprint()) || search != "0x"+string(known.Fingerprint()) {
		t.Error(path, search)
	}
	after, err := known.Update(found[0].Certificate)
	var unusable *UnusableError
	if err != nil || !errors.As(after.Check("revoked@alpha.test", now), &unusable) || unusable.Reason != ReasonRevoked {
		t.Error("the revocation was not learnt", err)
	}
}

func portOf(t *testing.T, w *web) string {
	t.Helper()
	u, err := url.Parse(w.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

func TestRefreshAnswers(t *testing.T) {
	known := load(t, "unrevoked")
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		found   int
		ok      bool
	}{
		"nothing new":         {sending(200, known.Bytes()), 1, true},
		"without user IDs":    {sending(200, withoutUserIDs(t, known)), 1, true},
		"with a foreign one":  {sending(200, append(append([]byte{}, known.Bytes()...), load(t, "alice").Bytes()...)), 1, true},
		"none":                {sending(404, nil), 0, true},
		"another certificate": {sending(200, load(t, "alice").Bytes()), 0, false},
		"page":                {sending(200, []byte("<html>")), 0, false},
		"empty":               {sending(200, nil), 0, false},
		"secret key":          {sending(200, mustRead(t, "testdata/secret.asc")), 0, false},
		"server error":        {sending(500, nil), 0, false},
		"huge":                {sending(200, make([]byte, maxInput+10)), 0, false},
		"slow":                {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := serve(t, c.handler)
			f := w.finderWith(t, Options{Methods: []Method{HKP}, HKP: []string{w.hkpOf()}, Timeout: 2 * time.Second})
			found, err := f.Refresh(t.Context(), known.Fingerprint())
			if len(found) != c.found || (err == nil) != c.ok {
				t.Errorf("%+v %v", found, err)
			}
		})
	}
	f := serve(t, nil).finderWith(t, Options{Methods: []Method{WKD}})
	if found, err := f.Refresh(t.Context(), known.Fingerprint()); err != nil || len(found) > 0 {
		t.Error("a method that answers for no fingerprint", found, err)
	}
	for _, fp := range []Fingerprint{"", "0123456789ABCDEF", "../../../../../../../../../../../../../x", Fingerprint(strings.ToLower(string(known.Fingerprint())))} {
		if _, err := f.Refresh(t.Context(), fp); err == nil {
			t.Errorf("%q was asked for", fp)
		}
	}
}
