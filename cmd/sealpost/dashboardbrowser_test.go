//go:build peers

package main_test

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/sealpost/sealpost/bridge/bridgetest/peers"
)

// browse opens the dashboard in the engine of Firefox, which Thunderbird has, too: what that sends along with forms and
// cookies is what the guards of the dashboard rely on. The contact has a certificate.
func (u *user) browse(t *testing.T, b *peers.Thunderbird, contact string) {
	t.Helper()
	status, _, _ := u.run("status")
	link := regexp.MustCompile(`http://127\.0\.0\.1:\d+/login\?code=\S+`).FindString(status)
	other := newOtherProgram(t)
	script, err := os.ReadFile("testdata/dashboard.js")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Heading, Cookies, Number, Verified, Foreign, Out, After string
		Styled                                                  bool
	}
	if err := json.Unmarshal([]byte(b.Do("js", string(script), link, other.URL+"/", contact)), &got); err != nil {
		t.Fatal(err)
	}
	if got.Heading != "Overview" || !got.Styled || got.Cookies != "" {
		t.Errorf("the link leads to %+v", got)
	}
	if !strings.Contains(u.must("contact", "verify", contact, "--json"), "SEALPOST1:"+got.Number) || got.Verified != "The certificate is verified." ||
		!strings.Contains(u.must("contact", "show", contact), "verified") {
		t.Errorf("verifying: %+v", got)
	}
	if !strings.Contains(got.Foreign, "did not come from the dashboard") || strings.Contains(u.must("contact", "show", contact), "blocked") {
		t.Errorf("a form of another program: %q", got.Foreign)
	}
	if got.Out != "Sign in" || got.After != "Sign in" {
		t.Errorf("signing out: %+v", got)
	}
	if cookies := other.seen(); len(cookies) > 0 {
		t.Errorf("another program was sent %q", cookies)
	}
}

// otherProgram is a web server on another port, which browsers take for the same site.
type otherProgram struct {
	*httptest.Server
	mu      sync.Mutex
	visits  int
	cookies []string
}

func newOtherProgram(t *testing.T) *otherProgram {
	o := &otherProgram{}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.visits++
		o.cookies = append(o.cookies, r.Header["Cookie"]...)
		o.mu.Unlock()
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<form method="post" action="%s"><input name="address" value="bob@bravo.test"><button name="do" value="block">Win</button></form>`,
			html.EscapeString(r.URL.RawQuery))
	}))
	t.Cleanup(func() {
		o.Close()
		if o.visits == 0 {
			t.Error("nobody came")
		}
	})
	return o
}

func (o *otherProgram) seen() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.cookies
}
