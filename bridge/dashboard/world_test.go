package dashboard

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/upstream"
	"github.com/sealpost/sealpost/keydisc"
)

const (
	alice = "alice@alpha.test"
	bob   = "bob@bravo.test"
	host  = "127.0.0.1:1180"
)

// world is a dashboard of alice, who knows bob, and a browser.
type world struct {
	*Dashboard
	t       *testing.T
	clock   *bridgetest.Clock
	cookie  *http.Cookie
	session string
}

// newWorld has nothing left of what other tests did but the log: opening a vault takes a second, so all share one.
func newWorld(t *testing.T) *world {
	t.Helper()
	b := aliceBridge(t)
	w := &world{t: t, clock: aliceClock}
	waiting, err := b.Outbox().List(t.Context())
	w.check(nil, err)
	for _, m := range waiting {
		w.check(nil, b.CancelQueued(t.Context(), m.ID))
	}
	_ = b.ForgetContact(t.Context(), bob) // not there in the first test
	certificates, err := keydisc.ParseCertificates(bridgetest.PublicKey(bob))
	w.check(nil, err)
	w.check(b.ImportContacts(t.Context(), certificates))
	w.Dashboard, err = New(t.Context(), Options{Bridge: b, Address: host, Log: slog.New(slog.DiscardHandler), Now: w.clock.Now})
	w.check(nil, err)
	return w
}

// check fails the test at an error.
func (w *world) check(_ any, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

var (
	aliceClock = bridgetest.NewClock()
	opened     = map[string]*bridge.Bridge{} // closed by TestMain
)

func aliceBridge(t *testing.T) *bridge.Bridge {
	t.Helper()
	b := openBridge(t, alice, aliceClock.Now)
	if a := b.Accounts()[0]; len(a.Keys()) == 0 {
		if _, err := a.ImportKey(t.Context(), bridgetest.SecretKey(alice), nil); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, b := range opened {
		if err := b.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	_ = os.RemoveAll(stateDir)
	os.Exit(code)
}

// stateDir outlives the test that opens a bridge.
var stateDir = func() string {
	dir, err := os.MkdirTemp("", "sealpost-dashboard-")
	if err != nil {
		panic(err)
	}
	return dir
}()

// openBridge opens a bridge that is never run, once.
func openBridge(t *testing.T, address string, now func() time.Time) *bridge.Bridge {
	t.Helper()
	if b := opened[address]; b != nil {
		return b
	}
	dir := filepath.Join(stateDir, address)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	passphrase := filepath.Join(dir, "passphrase")
	if err := os.WriteFile(passphrase, []byte("open sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := bridge.Open(context.Background(), bridge.Options{
		StateDir: filepath.Join(dir, "state"), Log: slog.New(slog.DiscardHandler), Now: now, UseAutocrypt: true,
		Unlock: bridge.UnlockOptions{Methods: []string{"file"}, PassphraseFile: passphrase, Create: true},
		Accounts: []bridge.AccountOptions{{
			Address: address, Username: address, Seal: bridge.Seal{All: true},
			IMAP: upstream.Endpoint{Protocol: "imap", Security: "insecure", Host: "127.0.0.1", Port: 1},
			SMTP: upstream.Endpoint{Protocol: "smtp", Security: "insecure", Host: "127.0.0.1", Port: 1},
		}},
		Policy: bridge.Policy{Default: bridge.Prefer},
	})
	if err != nil {
		t.Fatal(err)
	}
	opened[address] = b
	return b
}

// code is that of a fresh login link.
func (w *world) code() string {
	link, err := url.Parse(w.LoginURL(time.Minute))
	w.check(nil, err)
	return link.Query().Get("code")
}

// do answers a request.
func (w *world) do(r *http.Request) *http.Response {
	recorder := httptest.NewRecorder()
	w.Handler().ServeHTTP(recorder, r)
	return recorder.Result()
}

func (w *world) login(code string) *http.Response {
	r := httptest.NewRequest(http.MethodGet, "http://"+host+"/login?code="+url.QueryEscape(code), nil)
	return w.do(r)
}

// letIn makes the browser's session.
func (w *world) letIn() {
	w.t.Helper()
	answer := w.login(w.code())
	if answer.StatusCode != http.StatusSeeOther || len(answer.Cookies()) != 1 {
		w.t.Fatalf("not let in: %s %v", answer.Status, answer.Header)
	}
	w.cookie = answer.Cookies()[0]
	w.session = strings.TrimSuffix(strings.TrimPrefix(answer.Header.Get("Location"), "/s/"), "/")
}

// get is a page of the session, which must be there.
func (w *world) get(path string) string {
	w.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://"+host+"/s/"+w.session+"/"+path, nil)
	r.AddCookie(w.cookie)
	answer := w.do(r)
	text, err := io.ReadAll(answer.Body)
	w.check(nil, err)
	if answer.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %s\n%s", path, answer.Status, text)
	}
	return string(text)
}

func (w *world) token() string {
	_, rest, _ := strings.Cut(w.get(""), `name="token" value="`)
	token, _, _ := strings.Cut(rest, `"`)
	return token
}

// post sends a form as a browser does; the text is that of the page that comes then.
func (w *world) post(path string, fields ...string) (status int, text string) {
	w.t.Helper()
	form := url.Values{"token": {w.token()}}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, "http://"+host+"/s/"+w.session+"/"+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.AddCookie(w.cookie)
	answer := w.do(r)
	body, err := io.ReadAll(answer.Body)
	w.check(nil, err)
	if answer.StatusCode == http.StatusSeeOther {
		return answer.StatusCode, w.get(strings.TrimPrefix(answer.Header.Get("Location"), "/s/"+w.session+"/"))
	}
	return answer.StatusCode, string(body)
}

// raw reads a request as it travels.
func raw(t *testing.T, text string) *http.Request {
	t.Helper()
	head, body, _ := strings.Cut(text, "\n\n")
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	r.Body = io.NopCloser(strings.NewReader(strings.TrimSpace(body)))
	return r
}
