package keydisc

import (
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/bridge/bridgetest"
)

func keyServer(t *testing.T) (*bridgetest.VKS, *Finder) {
	t.Helper()
	server, err := bridgetest.StartVKS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	ca, err := server.CAFile(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f, err := New(Options{VKS: server.URL(), CAFile: ca, Timeout: 5 * time.Second, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return server, f
}

// A certificate reaches those who ask for its address once the link in the mail was opened, and not before.
func TestUpload(t *testing.T) {
	server, f := keyServer(t)
	c := load(t, "alice")
	if status, err := f.Upload(t.Context(), c, "alice@alpha.test", false); err != nil || status != VKSUnpublished || len(server.Mails()) > 0 {
		t.Fatal(status, err, server.Mails())
	}
	if status, err := f.Upload(t.Context(), c, "Alice@alpha.test", true); err != nil || status != VKSPending {
		t.Fatal(status, err)
	}
	if there, err := f.Verified(t.Context(), c.Fingerprint(), "alice@alpha.test"); there || err != nil {
		t.Fatal(there, err)
	}
	server.Open("alice@alpha.test")
	if there, err := f.Verified(t.Context(), c.Fingerprint(), "alice@alpha.test"); !there || err != nil {
		t.Fatal(there, err)
	}
	if status, err := f.Upload(t.Context(), c, "alice@alpha.test", true); err != nil || status != VKSPublished || len(server.Mails()) != 1 {
		t.Error(status, err, server.Mails())
	}
	if there, err := f.Verified(t.Context(), load(t, "bob").Fingerprint(), "alice@alpha.test"); there || err != nil {
		t.Error(there, err)
	}
}

func TestUploadRefused(t *testing.T) {
	for name, c := range map[string]struct {
		failure   bridgetest.VKSFailure
		temporary bool
		want      string
	}{
		"rate limit":  {bridgetest.VKSFailure{Status: 429, Error: "slow down", RetryAfter: "90"}, true, "429 Too Many Requests: slow down"},
		"maintenance": {bridgetest.VKSFailure{Status: 503, Error: "We are currently undergoing\nmaintenance!\x1b[2J"}, true, "503 Service Unavailable: We are currently undergoing maintenance! [2J"},
		"malformed":   {bridgetest.VKSFailure{Status: 400, Error: strings.Repeat("x", 10000)}, false, strings.Repeat("x", maxText)},
		"redirected":  {bridgetest.VKSFailure{Status: 307}, false, "307"},
	} {
		t.Run(name, func(t *testing.T) {
			server, f := keyServer(t)
			server.Fail(&c.failure)
			_, err := f.Upload(t.Context(), load(t, "alice"), "alice@alpha.test", true)
			var refused *ServerError
			if !errors.As(err, &refused) || refused.Temporary() != c.temporary || !strings.HasSuffix(strings.TrimSpace(err.Error()), c.want) && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v", err)
			}
			if c.failure.RetryAfter != "" && refused.RetryAfter != 90*time.Second {
				t.Error(refused.RetryAfter)
			}
			if len(err.Error()) > 2*maxText || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("%q", err)
			}
		})
	}
}

// The token of an upload may be too old when the verification is asked for; the next upload brings another.
func TestUploadTokenExpired(t *testing.T) {
	server, f := keyServer(t)
	server.ExpireTokens(true)
	if _, err := f.Upload(t.Context(), load(t, "alice"), "alice@alpha.test", true); err == nil || len(server.Mails()) > 0 {
		t.Fatal(err, server.Mails())
	}
	server.ExpireTokens(false)
	if status, err := f.Upload(t.Context(), load(t, "alice"), "alice@alpha.test", true); err != nil || status != VKSPending {
		t.Error(status, err)
	}
}

// What answers about something else has not taken the certificate.
func TestUploadAnswers(t *testing.T) {
	c := load(t, "alice")
	for _, answer := range []string{
		"", "[]", "{}", `{"key_fpr":"` + string(c.Fingerprint()) + `","status":{},"token":"x"}`,
		`{"key_fpr":"` + string(c.Fingerprint()) + `","status":{"alice@alpha.test":"great"},"token":"x"}`,
		`{"key_fpr":"` + string(c.Fingerprint()) + `","status":{"bob@bravo.test":"published"},"token":"x"}`,
		`{"key_fpr":"` + strings.Repeat("A", 40) + `","status":{"alice@alpha.test":"published"},"token":"x"}`,
	} {
		w := serve(t, func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte(answer)) })
		f := w.finderWith(t, Options{VKS: w.URL})
		if status, err := f.Upload(t.Context(), c, "alice@alpha.test", true); err == nil || status != "" {
			t.Errorf("%s: %s", answer, status)
		}
	}
}

// What is sent to the server goes nowhere else.
func TestUploadIsNotRedirected(t *testing.T) {
	w := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "https://example.com/elsewhere", http.StatusTemporaryRedirect)
	})
	f := w.finderWith(t, Options{VKS: w.URL, Resolve: map[string]string{"example.com:443": w.Listener.Addr().String()}})
	if _, err := f.Upload(t.Context(), load(t, "alice"), "alice@alpha.test", true); err == nil || len(w.seen) != 1 {
		t.Error(err, w.seen)
	}
}

func TestOneUserID(t *testing.T) {
	bob := load(t, "bob")
	one, err := bob.OneUserID("bob@bravo.test", false)
	if err != nil || !slices.Equal(one.Addresses(), []string{"bob@bravo.test"}) {
		t.Fatal(one, err)
	}
	e, err := one.Entity()
	if err != nil || len(e.Identities) != 1 {
		t.Error(e, err)
	}
	if _, err := bob.OneUserID("alice@alpha.test", false); err == nil {
		t.Error("a user ID it does not have")
	}
	if _, err := generatedFor(t, "bob@example.com").OneUserID("bob@example.com", true); err != nil {
		t.Error(err)
	}
	for id, want := range map[string]bool{
		"bob@bravo.test": true, "<bob@bravo.test>": true, "Bob@Bravo.test": true, "Bob <bob@bravo.test>": false, "Bob": false, "": false, "<<bob@bravo.test>>": false,
	} {
		if isBare(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
}

func TestHas(t *testing.T) {
	bob, longer := load(t, "bob"), load(t, "extended")
	one, err := bob.ForAddress("bob@bravo.test")
	if err != nil {
		t.Fatal(err)
	}
	if !one.Has(bob) || !bob.Has(one) || !bob.Has(bob) {
		t.Error("user IDs count")
	}
	if bob.Has(longer) || bob.Has(load(t, "alice")) {
		t.Error("has what it has not")
	}
	revoked, before := load(t, "revoked"), load(t, "unrevoked")
	if before.Has(revoked) || !revoked.Has(before) {
		t.Error("the revocation does not count")
	}
}
