package dashboard

import (
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// Every request of testdata/attacks.txt is answered as it says, and changes what it says.
func TestAttacks(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/attacks.txt")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	for _, file := range archive.Files {
		t.Run(file.Name, func(t *testing.T) {
			w.t = t
			_, err := w.bridge.BlockContact(t.Context(), bob, false)
			w.check(nil, err)
			w.clock.Advance(time.Minute) // the wrong codes of other cases do not count
			w.letIn()
			want, request, _ := strings.Cut(string(file.Data), "\n")
			end, _, _ := strings.Cut(w.cookie.Value, ".")
			answer := w.do(raw(t, os.Expand(request, func(name string) string {
				return map[string]string{
					"HOST": host, "SESSION": w.session, "COOKIE": w.cookie.Value, "TOKEN": w.token(), "CODE": w.code(),
					"END": end, "LONG": strings.Repeat("1", 20_000),
				}[name]
			})))
			text, err := io.ReadAll(answer.Body)
			w.check(nil, err)
			status, changed, _ := strings.Cut(want, " ")
			if strconv.Itoa(answer.StatusCode) != status {
				t.Errorf("%s, not %s\n%s", answer.Status, status, text)
			}
			if c, _, err := w.bridge.Contacts().Get(t.Context(), bob); err != nil || c.Blocked != (changed == "changed") {
				t.Errorf("blocked: %v %v", c.Blocked, err)
			}
			if answer.StatusCode >= 400 && (strings.Contains(string(text), bob) || len(answer.Cookies()) > 0) {
				t.Errorf("it tells something:\n%s", text)
			}
			checkHeaders(t, answer.Header)
		})
	}
}

// checkHeaders wants the headers that keep other pages out on every answer.
func checkHeaders(t *testing.T, h http.Header) {
	t.Helper()
	for name, want := range map[string]string{
		"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
		"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		if !strings.Contains(h.Get(name), want) {
			t.Errorf("%s: %q", name, h.Get(name))
		}
	}
	if !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Error("it can be framed")
	}
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("%s is set: other origins can read", name)
		}
	}
}

func TestCodeIsGoodOnce(t *testing.T) {
	w := newWorld(t)
	code := w.code()
	first := w.login(code)
	if first.StatusCode != http.StatusSeeOther {
		t.Fatal(first.Status)
	}
	c := first.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != first.Header.Get("Location") || strings.Contains(c.Path, code) {
		t.Errorf("the cookie is open to others: %v", c)
	}
	if again := w.login(code); again.StatusCode != http.StatusForbidden || len(again.Cookies()) > 0 {
		t.Errorf("a used code: %s", again.Status)
	}
	old := w.code()
	w.clock.Advance(time.Minute + time.Second)
	if late := w.login(old); late.StatusCode != http.StatusForbidden {
		t.Errorf("an old code: %s", late.Status)
	}
}

// The first codes are pushed out, so that they cannot fill the memory; the newest works.
func TestCodesAreLimited(t *testing.T) {
	w := newWorld(t)
	first := w.code()
	w.clock.Advance(time.Second)
	for range maxCodes {
		w.code()
	}
	if answer := w.login(first); answer.StatusCode != http.StatusForbidden {
		t.Errorf("the first: %s", answer.Status)
	}
	w.letIn()
}

func TestWrongCodesAreSlowedDown(t *testing.T) {
	w := newWorld(t)
	good := w.code()
	for range wrongBurst {
		if answer := w.login("wrong"); answer.StatusCode != http.StatusForbidden {
			t.Fatal(answer.Status)
		}
	}
	for range 3 {
		answer := w.login("wrong")
		if answer.StatusCode != http.StatusTooManyRequests || answer.Header.Get("Retry-After") == "" {
			t.Fatalf("one too many: %s", answer.Status)
		}
	}
	if answer := w.login(good); answer.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a guess that happens to be right: %s", answer.Status)
	}
	w.clock.Advance(time.Second)
	if answer := w.login(good); answer.StatusCode != http.StatusSeeOther {
		t.Errorf("a second later: %s", answer.Status)
	}
}

func TestSessionsEnd(t *testing.T) {
	w := newWorld(t)
	w.letIn()
	restarted, err := New(t.Context(), Options{Bridge: w.bridge, Address: host, Log: w.log, Now: w.clock.Now})
	w.check(nil, err)
	w.Dashboard = restarted
	w.get("keys") // a restart does not end it
	old := *w
	w.letIn()
	if status, _ := w.status("logout"); status != http.StatusSeeOther {
		t.Fatal(status)
	}
	for _, browser := range []*world{w, &old} {
		if browser.lookedIn() {
			t.Error("signing out left a session")
		}
	}
	w.letIn()
	w.clock.Advance(sessionLife)
	if w.lookedIn() {
		t.Error("a session does not end")
	}
}

// Only an address of this machine alone can be listened at.
func TestLoopbackOnly(t *testing.T) {
	w := newWorld(t)
	for _, address := range []string{"0.0.0.0:1180", "[::]:1180", "192.0.2.1:1180", "", "localhost:1180", ":1180"} {
		if _, err := New(t.Context(), Options{Bridge: w.bridge, Address: address, Log: w.log}); err == nil {
			t.Errorf("%q is taken", address)
		}
	}
	for address, host := range map[string]string{"127.0.0.1:80": "127.0.0.1", "[::1]:1180": "[::1]:1180", "127.0.0.5:80": "localhost"} {
		g, err := newGuard(address)
		if err != nil {
			t.Fatal(err)
		}
		answered := false
		r := raw(t, "GET / HTTP/1.1\nHost: "+host)
		g.protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answered = true })).ServeHTTP(discard{}, r)
		if !answered {
			t.Errorf("%s is not known as %s", address, host)
		}
	}
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

// Whatever a cookie and a path say, they are no session unless we made it.
func FuzzCookie(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	a := newAccess([]byte("key"), func() time.Time { return now })
	made := &session{id: "AAAAAAAAAAAAAAAAAAAAAA", until: now.Add(time.Hour)}
	good := a.cookie(made).Value
	f.Add(made.id, good)
	f.Add("B", good)
	f.Add(made.id, "1800003601"+good[10:])
	f.Add(made.id, "-1.")
	f.Add("", "..")
	f.Fuzz(func(t *testing.T, id, value string) {
		r := &http.Request{Header: http.Header{"Cookie": {cookieName + "=" + value}}}
		r.SetPathValue("session", id)
		if got := a.sessionOf(r); got != nil && (id != made.id || got.until != made.until) {
			t.Errorf("%q with %q is let in until %v", id, value, got.until)
		}
	})
}
