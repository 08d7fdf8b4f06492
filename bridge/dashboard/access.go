package dashboard

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// access lets browsers in. The key in the vault never leaves it: a login code, good once and for minutes, is exchanged
// for a cookie that is authenticated with the key. So sessions survive a restart, and end when the key is renewed.
//
// Browsers send cookies to every port of a host. A session has a path of its own that nobody can guess, so that its
// cookie is not sent to other programs' pages on this machine.
type access struct {
	now   func() time.Time
	wrong *rate.Limiter // of wrong codes

	mu    sync.Mutex
	key   []byte
	codes map[[sha256.Size]byte]time.Time // the digests of those that are good, and until when
}

const (
	sessionPath = "/s/{session}/"
	cookieName  = "sealpost"
	sessionLife = 12 * time.Hour
	maxCodes    = 64

	wrongBurst = 5
)

func newAccess(key []byte, now func() time.Time) *access {
	return &access{now: now, key: key, wrong: rate.NewLimiter(rate.Every(time.Second), wrongBurst), codes: map[[sha256.Size]byte]time.Time{}}
}

// random is 128 bits, as text that needs no escaping.
func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// newCode makes a code; too many at once push out the one that ends first.
func (a *access) newCode(validFor time.Duration) string {
	code := random()
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.codes) >= maxCodes {
		first := sha256.Sum256(nil)
		for digest, until := range a.codes {
			if end, ok := a.codes[first]; !ok || until.Before(end) {
				first = digest
			}
		}
		delete(a.codes, first)
	}
	a.codes[sha256.Sum256([]byte(code))] = a.now().Add(validFor)
	return code
}

// outcome of a login.
type outcome int

const (
	refused outcome = iota
	tooMany
	letIn
)

// login uses a code up. After a burst of wrong ones none is looked at for a while. Codes are found by their digests,
// so that the time it takes tells nothing.
func (a *access) login(code string) (*session, outcome) {
	now := a.now()
	if a.wrong.TokensAt(now) < 1 {
		return nil, tooMany
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	digest := sha256.Sum256([]byte(code))
	until, ok := a.codes[digest]
	delete(a.codes, digest)
	if !ok || now.After(until) {
		a.wrong.AllowN(now, 1)
		return nil, refused
	}
	return &session{id: random(), until: now.Add(sessionLife).Truncate(time.Second)}, letIn
}

// session is one browser that was let in.
type session struct {
	id    string
	until time.Time
}

// base is the session's path.
func (s *session) base() string { return "/s/" + s.id + "/" }

// authenticate is the part of a session that only we can make, for one use: "cookie" or "form".
func (a *access) authenticate(s *session, use string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	mac := hmac.New(sha256.New, a.key)
	fmt.Fprintf(mac, "%s\x00%s\x00%d", use, s.id, s.until.Unix())
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// cookie is what the browser keeps; no script can read it, and no other site's request brings it.
func (a *access) cookie(s *session) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: strconv.FormatInt(s.until.Unix(), 10) + "." + a.authenticate(s, "cookie"), Path: s.base(),
		Expires: s.until, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
}

// sessionOf is the session that a request belongs to, nil if to none.
func (a *access) sessionOf(r *http.Request) *session {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	end, mac, _ := strings.Cut(cookie.Value, ".")
	seconds, err := strconv.ParseInt(end, 10, 64)
	if err != nil {
		return nil
	}
	s := &session{id: r.PathValue("session"), until: time.Unix(seconds, 0)}
	if !hmac.Equal([]byte(mac), []byte(a.authenticate(s, "cookie"))) || !a.now().Before(s.until) {
		return nil
	}
	return s
}

// ownForm says whether a form came from a page of the session.
func (a *access) ownForm(s *session, r *http.Request) bool {
	return hmac.Equal([]byte(r.PostFormValue("token")), []byte(a.authenticate(s, "form")))
}

// renew ends all sessions.
func (a *access) renew(key []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.key = key
	clear(a.codes)
}
