package dashboard

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/bridge/outbox"
	"github.com/sealpost/sealpost/keydisc"
)

// status sends a form and does not follow.
func (w *world) status(path string) (int, string) {
	form := url.Values{"token": {w.token()}}
	r := httptest.NewRequest(http.MethodPost, "http://"+host+"/s/"+w.session+"/"+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "http://"+host)
	r.AddCookie(w.cookie)
	answer := w.do(r)
	return answer.StatusCode, answer.Header.Get("Location")
}

// lookedIn says whether the browser's session still counts.
func (w *world) lookedIn() bool {
	r := httptest.NewRequest(http.MethodGet, "http://"+host+"/s/"+w.session+"/", nil)
	r.AddCookie(w.cookie)
	return w.do(r).StatusCode == http.StatusOK
}

var everyPage = []string{"", "contacts", "contact?address=" + bob, "decisions", "outbox", "keys", "audit"}

// queue puts a message into the outbox.
func (w *world) queue(m outbox.Message) {
	w.t.Helper()
	m.Account, m.From, m.Queued, m.NextTry = alice, alice, w.clock.Now(), w.clock.Now()
	w.check(nil, w.bridge.Outbox().Add(w.t.Context(), outbox.Item{Message: m, Body: strings.NewReader("From: " + alice + "\r\n\r\ntop secret\r\n")}))
}

// What others choose (addresses, server's answers, identifiers) is text on every page, never markup.
func TestHostileTextIsEscaped(t *testing.T) {
	w := newWorld(t)
	w.letIn()
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>'{{.}}`
	w.check(nil, w.bridge.Audit().Append(t.Context(), audit.Entry{
		Account: alice, Event: evil, Recipient: bob + evil, Decision: evil, Rule: evil, Reason: evil, Detail: evil, Fingerprint: evil, Mailbox: evil, MessageID: evil,
	}, audit.Entry{Account: alice, Event: "submit", Recipient: evil + "@evil.test", Decision: "clear"}))
	w.queue(outbox.Message{MessageID: evil, To: []string{evil + "@evil.test"}, LastError: evil})
	for _, path := range append(everyPage, "decisions?address="+url.QueryEscape(evil), "contacts?done="+url.QueryEscape(evil)) {
		checkMarkup(t, path, w.get(path))
	}
	stack, err := w.bridge.Stack(t.Context(), 30)
	w.check(nil, err)
	var file bytes.Buffer
	w.check(nil, WriteReport(&file, stack))
	checkMarkup(t, "the report", file.String())
	if !strings.Contains(file.String(), "evil.test") || !strings.Contains(w.get("decisions"), "&lt;script&gt;") {
		t.Error("the hostile text is not there at all")
	}
}

// checkMarkup parses a page as browsers do and wants only what the templates write.
func checkMarkup(t *testing.T, name, text string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		seen++
		if n.Data == "script" || n.Data == "img" || n.Data == "iframe" || n.Data == "object" {
			t.Errorf("%s: <%s>", name, n.Data)
		}
		for _, a := range n.Attr {
			outside := (a.Key == "href" || a.Key == "src" || a.Key == "action") && !strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "#")
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || outside {
				t.Errorf("%s: <%s %s=%q>", name, n.Data, a.Key, a.Val)
			}
		}
	}
	if seen < 20 {
		t.Errorf("%s: only %d elements", name, seen)
	}
}

// Every field of a form has a label, every page a title, a language and one main heading.
func TestPagesAreAccessible(t *testing.T) {
	w := newWorld(t)
	w.letIn()
	w.queue(outbox.Message{MessageID: "<1@alpha.test>", To: []string{bob}, LastError: "451 later"})
	for _, path := range everyPage {
		root, err := html.Parse(strings.NewReader(w.get(path)))
		w.check(nil, err)
		labelled, headings := map[string]bool{}, 0
		var fields []string
		for n := range root.Descendants() {
			if n.Type != html.ElementNode {
				continue
			}
			attributes := map[string]string{}
			for _, a := range n.Attr {
				attributes[a.Key] = a.Val
			}
			switch {
			case n.Data == "label":
				labelled[attributes["for"]] = true
			case n.Data == "h1":
				headings++
			case n.Data == "html" && attributes["lang"] != "en":
				t.Errorf("%s has no language", path)
			case n.Data == "textarea", n.Data == "input" && attributes["type"] != "hidden":
				fields = append(fields, attributes["id"])
			case n.Data == "svg" && attributes["aria-label"] == "" && attributes["aria-hidden"] == "":
				t.Errorf("%s: a picture without text", path)
			}
		}
		for _, id := range fields {
			if !labelled[id] {
				t.Errorf("%s: field %q has no label", path, id)
			}
		}
		if headings != 1 {
			t.Errorf("%s has %d main headings", path, headings)
		}
	}
}

// No page shows mail or a secret.
func TestPagesShowNoSecrets(t *testing.T) {
	w := newWorld(t)
	w.letIn()
	w.queue(outbox.Message{MessageID: "<1@alpha.test>", To: []string{bob}})
	password, err := w.bridge.Accounts()[0].LocalPassword(t.Context())
	w.check(nil, err)
	key, err := w.bridge.DashboardKey(t.Context())
	w.check(nil, err)
	for _, path := range everyPage {
		for _, secret := range []string{"top secret", password, string(key), w.cookie.Value, "PRIVATE KEY"} {
			if strings.Contains(w.get(path), secret) {
				t.Errorf("%s shows %q", path, secret)
			}
		}
	}
}

func (w *world) trust() contacts.Trust {
	c, _, err := w.bridge.Contacts().Get(w.t.Context(), bob)
	w.check(nil, err)
	return c.Trust
}

func TestVerify(t *testing.T) {
	w := newWorld(t)
	w.letIn()
	numbers, err := w.bridge.Accounts()[0].SafetyNumbers(t.Context(), bob)
	w.check(nil, err)
	page := w.get("contact?address=" + bob)
	if !strings.Contains(page, numbers[0].Number.String()) || !regexp.MustCompile(`<path d="(M\d+ \d+h1v1h-1z){200,}"`).MatchString(page) {
		t.Error("number or code is missing")
	}
	if status, text := w.post("contact", "address", bob, "do", "verify", "number", strings.Repeat("1", 60)); status != http.StatusConflict || !strings.Contains(text, "nothing was recorded") || w.trust() != contacts.Pinned {
		t.Errorf("another number: %d %s\n%s", status, w.trust(), text)
	}
	if status, _ := w.post("contact", "address", bob, "do", "same", "fingerprint", strings.Repeat("A", 40)); status != http.StatusConflict || w.trust() != contacts.Pinned {
		t.Errorf("another fingerprint: %d %s", status, w.trust())
	}
	if status, text := w.post("contact", "address", bob, "do", "verify", "number", numbers[0].Number.QR()); status != http.StatusSeeOther || !strings.Contains(text, "The certificate is verified.") || w.trust() != contacts.Verified {
		t.Errorf("the number: %d %s\n%s", status, w.trust(), text)
	}
	if !strings.Contains(w.get("decisions?address=bob"), "verified") {
		t.Error("it is not in the log")
	}
}

// anotherKey is a certificate of bob that is not the one he is known by.
func anotherKey(t *testing.T) *keydisc.Certificate {
	t.Helper()
	a := openBridge(t, bob, nil).Accounts()[0]
	if _, err := a.GenerateKey(t.Context(), bridge.ProfileCompatible, false); err != nil {
		t.Fatal(err)
	}
	c, err := a.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPendingChange(t *testing.T) {
	other := anotherKey(t)
	for _, c := range []struct {
		do    string
		taken bool
	}{{"accept", true}, {"keep", false}} {
		w := newWorld(t)
		w.clock.Advance(time.Since(w.clock.Now()) + time.Hour) // after the other key was made
		w.letIn()
		w.check(nil, w.bridge.ForgetContact(t.Context(), bob))
		known, err := keydisc.ParseCertificates(bridgetest.PublicKey(bob))
		w.check(nil, err)
		for i, certificate := range []*keydisc.Certificate{known[0], other} {
			w.check(nil, w.bridge.Contacts().Learn(t.Context(), bob, certificate, contacts.SourceAutocrypt, w.clock.Now().Add(time.Duration(i)*time.Minute)))
		}
		if page := w.get("contact?address=" + bob); !strings.Contains(page, "Another certificate was seen") || strings.Count(page, `class="number"`) != 2 {
			t.Fatalf("the change is not shown:\n%s", page)
		}
		if !strings.Contains(w.get(""), "nothing is sent until you decide") {
			t.Error("the overview does not say so")
		}
		if status, _ := w.post("contact", "address", bob, "do", c.do); status != http.StatusSeeOther {
			t.Errorf("%s: %d", c.do, status)
		}
		got, _, err := w.bridge.Contacts().Get(t.Context(), bob)
		w.check(nil, err)
		if taken := got.Certificate.Fingerprint() == other.Fingerprint(); taken != c.taken || got.Pending != "" || got.Trust != contacts.Pinned {
			t.Errorf("%s: taken %v, pending %q, %s", c.do, taken, got.Pending, got.Trust)
		}
		if status, _ := w.post("contact", "address", bob, "do", c.do); status != http.StatusConflict {
			t.Errorf("%s again: %d", c.do, status)
		}
	}
}

func TestOutboxPage(t *testing.T) {
	w := newWorld(t)
	w.letIn()
	w.queue(outbox.Message{MessageID: "<1@alpha.test>", To: []string{bob}, LastError: "451 later"})
	if !strings.Contains(w.get("outbox"), "451 later") || !strings.Contains(w.get(""), "1 waiting") {
		t.Error("it is not shown")
	}
	waiting, err := w.bridge.Outbox().List(t.Context())
	w.check(nil, err)
	id := strconv.FormatInt(waiting[0].ID, 10)
	if status, text := w.post("outbox", "id", id, "do", "retry"); status != http.StatusSeeOther || !strings.Contains(text, "being tried") {
		t.Errorf("retry: %d", status)
	}
	if status, text := w.post("outbox", "id", id, "do", "cancel"); status != http.StatusSeeOther || !strings.Contains(text, "Nothing waits.") {
		t.Errorf("cancel: %d\n%s", status, text)
	}
	if !strings.Contains(w.get("decisions?address=bob"), "cancelled") {
		t.Error("it is not in the log")
	}
}

func TestDecisionsArePaged(t *testing.T) {
	w := newWorld(t)
	w.letIn()
	for range pageLength + 10 {
		w.check(nil, w.bridge.Audit().Append(t.Context(), audit.Entry{Account: alice, Event: "submit", Recipient: "Carol@charlie.test", Decision: "encrypt"},
			audit.Entry{Account: alice, Event: "submit", Recipient: "dave@delta.test", Decision: "clear"}))
	}
	seen := 0
	for path := "decisions?address=CAROL"; path != ""; {
		page := w.get(path)
		seen += strings.Count(page, "Carol@charlie.test")
		if strings.Contains(page, "dave@") || strings.Count(page, "<tr>") > pageLength+1 {
			t.Fatalf("%s:\n%s", path, page)
		}
		next := regexp.MustCompile(`rel="next" href="/s/[^/]+/([^"]+)"`).FindStringSubmatch(page)
		path = ""
		if next != nil {
			path = html.UnescapeString(next[1])
		}
	}
	if seen != pageLength+10 {
		t.Errorf("%d entries on all pages", seen)
	}
}

// The server's limits are in force, not only the handler's.
func TestServe(t *testing.T) {
	w := newWorld(t)
	l := httptest.NewUnstartedServer(nil).Listener
	done := make(chan error, 1)
	go func() { done <- w.Serve(l) }()
	r, err := http.NewRequest(http.MethodGet, "http://"+l.Addr().String()+"/", nil)
	w.check(nil, err)
	r.Host = host
	r.Header.Set("X-Long", strings.Repeat("x", 64<<10))
	answer, err := http.DefaultTransport.RoundTrip(r)
	w.check(nil, err)
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Error(answer.Status)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	w.check(nil, w.Shutdown(t.Context()))
	w.check(nil, <-done)
}
