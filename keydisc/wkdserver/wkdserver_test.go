package wkdserver

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/keydisc"
)

func server() *Server {
	return New(Options{
		Domains: func() []string { return []string{"alpha.test", "xn--bcher-kva.test"} }, Submission: "key-submission@alpha.test", Log: slog.New(slog.DiscardHandler),
		Find: func(_ context.Context, domain, hash string) (string, []byte, error) {
			switch {
			case domain == "alpha.test" && hash == keydisc.WKDHash("alice"):
				return "alice@alpha.test", []byte("certificate of alice"), nil
			case hash == keydisc.WKDHash("broken"):
				return "", nil, errors.New("the database is away")
			}
			return "", nil, ErrNone
		},
	})
}

// TestRequests plays testdata/requests.txt: METHOD URL STATUS BODY, where {NAME} is the hash of a local part.
func TestRequests(t *testing.T) {
	f, err := os.Open("testdata/requests.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cases := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.SplitN(lines.Text(), " ", 4)
		if len(fields) < 4 || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		cases++
		url := fields[1]
		for _, local := range []string{"alice", "bob", "broken"} {
			url = strings.ReplaceAll(url, "{"+local+"}", keydisc.WKDHash(local))
		}
		r := httptest.NewRecorder()
		server().ServeHTTP(r, httptest.NewRequest(fields[0], url, nil))
		if status := http.StatusText(r.Code); status != strings.ReplaceAll(fields[2], "-", " ") || strings.ReplaceAll(r.Body.String(), "\n", `\n`) != strings.TrimSuffix(fields[3], "-") {
			t.Errorf("%s: %s %q", lines.Text(), status, r.Body)
		}
		if r.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: no program in a browser may read it", lines.Text())
		}
	}
	if cases < 15 {
		t.Fatalf("only %d cases", cases)
	}
}

// TestUnknownLooksLikeUnhosted: nothing tells users from strangers but the certificate itself.
func TestUnknownLooksLikeUnhosted(t *testing.T) {
	answer := func(url string) string {
		r := httptest.NewRecorder()
		server().ServeHTTP(r, httptest.NewRequest("GET", url, nil))
		return r.Result().Status + r.Body.String() + strings.Join(r.Header().Values("Content-Type"), ",")
	}
	unknown := answer("http://openpgpkey.alpha.test" + root + "alpha.test/hu/" + keydisc.WKDHash("bob"))
	if other := answer("http://openpgpkey.bravo.test" + root + "bravo.test/hu/" + keydisc.WKDHash("bob")); other != unknown {
		t.Errorf("%q and %q", unknown, other)
	}
}

func TestOneNetworkCannotTryAll(t *testing.T) {
	s := server()
	ask := func(remote string) int {
		r, w := httptest.NewRequest("GET", "http://alpha.test"+root+"policy", nil), httptest.NewRecorder()
		r.RemoteAddr = remote
		s.ServeHTTP(w, r)
		return w.Code
	}
	limited := 0
	for range 3 * burst {
		if ask("192.0.2.7:1000") == http.StatusTooManyRequests {
			limited++
		}
	}
	if limited == 0 || ask("192.0.2.99:1") != http.StatusTooManyRequests || ask("198.51.100.1:1") != http.StatusOK || ask("[2001:db8::1]:1") != http.StatusOK {
		t.Errorf("%d of the requests were limited", limited)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add("GET", "/.well-known/openpgpkey/alpha.test/hu/kei1q4tipxxu1yj79k9kfukdhfy631xe?l=alice", "alpha.test")
	f.Add("HEAD", "/.well-known/openpgpkey/hu/../policy", "[::1]:80")
	f.Fuzz(func(t *testing.T, method, target, host string) {
		r := httptest.NewRequest("GET", "http://alpha.test/", nil)
		u, err := r.URL.Parse(target)
		if err != nil {
			return
		}
		r.Method, r.URL, r.Host = method, u, host
		w := httptest.NewRecorder()
		server().ServeHTTP(w, r)
		if strings.Contains(w.Body.String(), "certificate of alice") && !strings.HasSuffix(u.Path, keydisc.WKDHash("alice")) {
			t.Errorf("%s %s at %s", method, target, host)
		}
	})
}
