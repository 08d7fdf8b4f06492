package keydisc

import (
	"cmp"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The draft's own example, and GnuPG's answers (gpg-wks-client --print-wkd-hash).
func TestWKDHash(t *testing.T) {
	for local, want := range map[string]string{
		"Joe.Doe": "iy9q119eutrkn8s1mk4r39qejnbu3n5q",
		"joe.doe": "iy9q119eutrkn8s1mk4r39qejnbu3n5q",
	} {
		if got := WKDHash(local); got != want {
			t.Errorf("%s: %s", local, got)
		}
	}
}

func TestWKDLocations(t *testing.T) {
	advanced, direct, err := WKDLocations("Joe.Doe+tag@Example.ORG")
	if err != nil || advanced.Host != "openpgpkey.example.org" || direct.Host != "example.org" {
		t.Fatal(advanced, direct, err)
	}
	if want := "/.well-known/openpgpkey/example.org/hu/" + WKDHash("joe.doe+tag"); advanced.Path != want {
		t.Error(advanced.Path)
	}
	if got := advanced.url("Joe.Doe+tag").RawQuery; got != "l=Joe.Doe%2Btag" {
		t.Error(got)
	}
	if _, direct, _ := WKDLocations("x@bücher.example"); direct.Host != "xn--bcher-kva.example" {
		t.Error(direct)
	}
	if _, _, err := WKDLocations("nobody"); err == nil {
		t.Error("not an address")
	}
}

// web is an HTTPS server whose answers a test writes; it serves any host name under
// example.com, which httptest's certificate covers.
type web struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string
}

func serve(t *testing.T, h http.HandlerFunc) *web {
	w := &web{}
	w.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.seen = append(w.seen, r.Host+r.URL.Path)
		w.mu.Unlock()
		h(rw, r)
	}))
	w.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	w.StartTLS()
	t.Cleanup(w.Close)
	return w
}

func (w *web) finder(t *testing.T, resolve map[string]string, methods ...Method) *Finder {
	t.Helper()
	return w.finderWith(t, Options{Methods: methods, Resolve: resolve})
}

// finderWith trusts the server's certificate.
func (w *web) finderWith(t *testing.T, o Options) *Finder {
	t.Helper()
	o.Timeout, o.CAFile, o.Log = cmp.Or(o.Timeout, 2*time.Second), w.caFile(t), slog.New(slog.DiscardHandler)
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (w *web) caFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// bravo resolves the advanced host of an address at example.com to the server.
func (w *web) bravo() map[string]string {
	return map[string]string{"openpgpkey.example.com:443": w.Listener.Addr().String()}
}

func exampleCertificate(t *testing.T) *Certificate {
	t.Helper()
	return generatedFor(t, "bob@example.com")
}

func TestFindAnswers(t *testing.T) {
	good := exampleCertificate(t)
	foreign, secret := load(t, "alice").Bytes(), mustRead(t, "testdata/secret.asc")
	redirectTo := func(target string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, http.StatusFound) }
	}
	send := func(status int, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write(body)
		}
	}
	for name, c := range map[string]struct {
		handler    http.HandlerFunc
		found      int
		conclusive bool
	}{
		"found":                 {send(200, good.Bytes()), 1, true},
		"with a foreign one":    {send(200, append(append([]byte{}, foreign...), good.Bytes()...)), 1, true},
		"none":                  {send(404, nil), 0, true},
		"gone":                  {send(410, nil), 0, true},
		"for another address":   {send(200, foreign), 0, false},
		"secret key":            {send(200, secret), 0, false},
		"garbage":               {send(200, []byte("<html>")), 0, false},
		"empty":                 {send(200, nil), 0, false},
		"huge":                  {send(200, make([]byte, maxInput+10)), 0, false},
		"server error":          {send(500, nil), 0, false},
		"forbidden":             {send(403, nil), 0, false},
		"redirect to loopback":  {redirectTo("https://127.0.0.1/x"), 0, false},
		"redirect to localhost": {redirectTo("https://localhost/x"), 0, false},
		"redirect to private":   {redirectTo("https://192.168.0.1/x"), 0, false},
		"redirect to metadata":  {redirectTo("https://169.254.169.254/x"), 0, false},
		"redirect to http":      {redirectTo("http://openpgpkey.example.com/x"), 0, false},
		"redirect to no host":   {redirectTo("https://nowhere.invalid/x"), 0, false},
		"redirect loop":         {redirectTo("https://openpgpkey.example.com/x"), 0, false},
		"slow":                  {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 0, false},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(good.Bytes()[:100])
		}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := serve(t, c.handler)
			answer := w.finder(t, w.bravo(), WKD).Find(t.Context(), "bob@example.com")
			if len(answer.Found) != c.found || answer.Conclusive != c.conclusive || (answer.Err == nil) != c.conclusive {
				t.Errorf("%+v", answer)
			}
			if answer.Err != nil && strings.Contains(answer.Err.Error(), "l=bob") {
				t.Errorf("the error names the person: %v", answer.Err)
			}
		})
	}
}

func TestFindRedirectFollowed(t *testing.T) {
	good := exampleCertificate(t)
	w := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/elsewhere" {
			http.Redirect(rw, r, "/elsewhere", http.StatusFound)
			return
		}
		_, _ = rw.Write(good.Bytes())
	})
	if answer := w.finder(t, w.bravo(), WKD).Find(t.Context(), "bob@example.com"); len(answer.Found) != 1 {
		t.Errorf("%+v", answer)
	}
}

// The direct method is for domains without the advanced host, and for no other case.
func TestFindDirect(t *testing.T) {
	good := exampleCertificate(t)
	w := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Host != "example.com" {
			http.NotFound(rw, r)
			return
		}
		_, _ = rw.Write(good.Bytes())
	})
	both := w.bravo()
	both["example.com:443"] = w.Listener.Addr().String()
	answer := w.finder(t, both, WKD).Find(t.Context(), "bob@example.com")
	if len(answer.Found) != 0 || !answer.Conclusive || len(w.seen) != 1 {
		t.Errorf("asked the direct place after a 404: %+v %v", answer, w.seen)
	}
}

func TestFindRefusedConnection(t *testing.T) {
	w := serve(t, nil)
	resolve := map[string]string{"openpgpkey.example.com:443": "127.0.0.1:1"}
	if answer := w.finder(t, resolve, WKD).Find(t.Context(), "bob@example.com"); answer.Conclusive || len(answer.Found) > 0 {
		t.Errorf("%+v", answer)
	}
}

func TestFindBadTLS(t *testing.T) {
	w := serve(t, func(rw http.ResponseWriter, r *http.Request) { http.NotFound(rw, r) })
	f, err := New(Options{Methods: []Method{WKD}, Resolve: w.bravo(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if answer := f.Find(t.Context(), "bob@example.com"); answer.Conclusive {
		t.Errorf("a 404 without verified TLS counted: %+v", answer)
	}
}

func TestFindVKSAndMerge(t *testing.T) {
	good := exampleCertificate(t)
	var path string
	w := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		path = r.URL.EscapedPath()
		_, _ = rw.Write(good.Bytes())
	})
	resolve := w.bravo()
	resolve[vksHost+":443"] = w.Listener.Addr().String()
	f := w.finder(t, resolve, VKS)
	f.web.client.Transport.(*http.Transport).TLSClientConfig.ServerName = "example.com"
	answer := f.Find(t.Context(), "bob@example.com")
	if len(answer.Found) != 1 || answer.Found[0].Source != VKS || path != "/vks/v1/by-email/"+url.PathEscape("bob@example.com") {
		t.Errorf("%+v %s", answer, path)
	}
	answer.add(Found{good, WKD, true})
	if len(answer.Found) != 1 {
		t.Error("the same certificate twice")
	}
}

func TestFindWithoutMethods(t *testing.T) {
	f, err := New(Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if answer := f.Find(t.Context(), "bob@example.com"); !answer.Conclusive || len(answer.Found) > 0 {
		t.Errorf("%+v", answer)
	}
	if answer := f.Find(t.Context(), "nobody"); answer.Conclusive {
		t.Error("not an address, and yet an answer")
	}
	if _, err := New(Options{Methods: []Method{"pigeon"}}); err == nil {
		t.Error("unknown method accepted")
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseAutocrypt(t *testing.T) {
	alice := load(t, "alice")
	keydata := base64.StdEncoding.EncodeToString(alice.Bytes())
	folded := keydata[:60] + "\r\n " + keydata[60:]
	for name, c := range map[string]struct {
		value string
		ok    bool
	}{
		"plain":                {"addr=Alice@alpha.test; keydata=" + keydata, true},
		"mutual and folded":    {"addr=alice@alpha.test; prefer-encrypt=mutual; keydata=\r\n " + folded, true},
		"non-critical":         {"addr=alice@alpha.test; _x=1; keydata=" + keydata, true},
		"semicolon at the end": {"addr=alice@alpha.test; keydata=" + keydata + ";", true},
		"critical":             {"addr=alice@alpha.test; x=1; keydata=" + keydata, false},
		"keydata not last":     {"addr=alice@alpha.test; keydata=" + keydata + "; prefer-encrypt=mutual", false},
		"addr twice":           {"addr=alice@alpha.test; addr=b@c.test; keydata=" + keydata, false},
		"no addr":              {"keydata=" + keydata, false},
		"no keydata":           {"addr=alice@alpha.test", false},
		"broken Base64":        {"addr=alice@alpha.test; keydata=*" + keydata, false},
		"two certificates":     {"addr=alice@alpha.test; keydata=" + base64.StdEncoding.EncodeToString(append(append([]byte{}, alice.Bytes()...), alice.Bytes()...)), false},
		"too long":             {"addr=alice@alpha.test; _x=" + strings.Repeat("x", maxAutocrypt) + "; keydata=" + keydata, false},
	} {
		a, err := ParseAutocrypt(c.value)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && (a.Address != "alice@alpha.test" || a.Certificate.Fingerprint() != alice.Fingerprint() || a.Mutual != strings.Contains(c.value, "mutual")) {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func FuzzParseAutocrypt(f *testing.F) {
	f.Add("addr=alice@alpha.test; prefer-encrypt=mutual; keydata=" + base64.StdEncoding.EncodeToString(load(f, "alice").Bytes()))
	f.Fuzz(func(t *testing.T, value string) {
		if a, err := ParseAutocrypt(value); err == nil && (a.Certificate == nil || a.Address == "") {
			t.Error(fmt.Sprint("incomplete", a))
		}
	})
}
