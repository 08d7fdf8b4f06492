package keydisc

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// VKSStatus is what a verifying key server says of an address of a certificate (keys.openpgp.org/about/api).
type VKSStatus string

// The states of an address there. The server tells others of the address only once it is published.
const (
	VKSUnpublished VKSStatus = "unpublished" // nobody has asked for it
	VKSPending     VKSStatus = "pending"     // a mail with a link was sent to it, which must be opened
	VKSPublished   VKSStatus = "published"
	VKSRevoked     VKSStatus = "revoked" // the certificate is published as revoked
)

// ServerError is a server's refusal of what was sent to it.
type ServerError struct {
	Host       string
	Status     int           // of HTTP
	Text       string        // the server's own words, one line; may be ""
	RetryAfter time.Duration // how long it wants to be left alone; 0: it did not say
}

func (e *ServerError) Error() string {
	text := fmt.Sprintf("%s answered %d %s", e.Host, e.Status, http.StatusText(e.Status))
	if e.Text != "" {
		text += ": " + e.Text
	}
	return text
}

// Temporary says whether trying again later may help.
func (e *ServerError) Temporary() bool {
	return e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout || e.Status >= 500
}

// Upload gives a certificate to the verifying key server. With verify the server is asked to send a mail with a link
// to the address unless it is published already; without it no mail is caused. It returns how the address stands
// then. A refusal is a *ServerError. It takes Options.Timeout at most.
func (f *Finder) Upload(ctx context.Context, c *Certificate, address string, verify bool) (VKSStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, f.options.Timeout)
	defer cancel()
	// Base64 is the one of the two forms the server takes that needs no armor.
	answer, err := f.vksPost(ctx, "upload", map[string]any{"keytext": base64.StdEncoding.EncodeToString(c.Bytes())})
	if err != nil {
		return "", err
	}
	status, err := answer.of(c, address)
	if err != nil || !verify || status == VKSPublished || status == VKSRevoked {
		return status, err
	}
	plain, err := NormalizeAddress(address) // as the server has it
	if err != nil {
		return "", err
	}
	answer, err = f.vksPost(ctx, "request-verify", map[string]any{"token": answer.Token, "addresses": []string{plain}})
	if err != nil {
		return status, err
	}
	return answer.of(c, address)
}

// Verified says whether the verifying key server gives the certificate to those who ask for the address. It takes
// Options.Timeout at most.
func (f *Finder) Verified(ctx context.Context, fp Fingerprint, address string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, f.options.Timeout)
	defer cancel()
	data, err := f.vks(ctx, "by-email", strings.TrimSpace(address))
	if err != nil || data == nil {
		return false, err
	}
	found, err := certificatesFor(data, address)
	for _, c := range found {
		if c.fingerprint == fp {
			return true, nil
		}
	}
	return false, err
}

// VKSHost names the verifying key server, for people.
func (f *Finder) VKSHost() string { return f.vksHome.host }

// vksAnswer is that to upload and request-verify.
type vksAnswer struct {
	Fingerprint Fingerprint          `json:"key_fpr"`
	Status      map[string]VKSStatus `json:"status"`
	Token       string               `json:"token"`
	host        string
}

func (f *Finder) vksPost(ctx context.Context, operation string, body map[string]any) (*vksAnswer, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	u := f.vksURL(operation)
	request, err := http.NewRequestWithContext(f.vksContext(ctx), http.MethodPost, u.String(), bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	data, response, err := f.web.do(request, maxInput)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, serverError(u.Host, response, data)
	}
	return readVKSAnswer(u.Host, data)
}

func readVKSAnswer(host string, data []byte) (*vksAnswer, error) {
	answer := &vksAnswer{host: host}
	if err := json.Unmarshal(data, answer); err != nil {
		return nil, fmt.Errorf("%s answered in a way that cannot be read", host)
	}
	return answer, nil
}

// of is the status of the address, if the answer is about the certificate.
func (a *vksAnswer) of(c *Certificate, address string) (VKSStatus, error) {
	if !strings.EqualFold(string(a.Fingerprint), string(c.fingerprint)) {
		return "", fmt.Errorf("%s answered about another certificate than %s", a.host, c.fingerprint)
	}
	want, err := NormalizeAddress(address)
	if err != nil {
		return "", err
	}
	for each, status := range a.Status {
		if plain, err := NormalizeAddress(each); err != nil || plain != want {
			continue
		}
		switch status {
		case VKSUnpublished, VKSPending, VKSPublished, VKSRevoked:
			return status, nil
		}
	}
	return "", fmt.Errorf("%s did not say how %s stands there", a.host, address)
}

func serverError(host string, response *http.Response, data []byte) *ServerError {
	e := &ServerError{Host: host, Status: response.StatusCode}
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(data, &said) == nil {
		e.Text = oneLine(said.Error)
	}
	if seconds, err := time.ParseDuration(response.Header.Get("Retry-After") + "s"); err == nil && seconds > 0 {
		e.RetryAfter = min(seconds, 24*time.Hour)
	}
	return e
}

// maxText bounds what is repeated of a server's words.
const maxText = 200

// oneLine is text for people: printable ASCII, spaces for the rest.
func oneLine(text string) string {
	plain := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, text[:min(len(text), maxText)])
	return strings.Join(strings.Fields(plain), " ")
}

// OneUserID is the certificate with one user ID of the address alone, the newest; bare leaves only those that are
// the address without a name to choose from. The error is an *UnusableError if there is none.
func (c *Certificate) OneUserID(address string, bare bool) (*Certificate, error) {
	own, err := c.ForAddress(address)
	if err != nil {
		return nil, err
	}
	e, err := own.Entity()
	if err != nil {
		return nil, err
	}
	best, newest := "", time.Time{}
	for _, name := range sortedNames(e) {
		sig, err := e.Identities[name].Verify(time.Time{}, lenient())
		if err != nil || bare && !isBare(name) {
			continue
		}
		if best == "" || sig.CreationTime.After(newest) {
			best, newest = name, sig.CreationTime
		}
	}
	if best == "" {
		return nil, &UnusableError{c.fingerprint, ReasonAddress, "no user ID of it is the address alone, without a name"}
	}
	for name := range e.Identities {
		if name != best {
			delete(e.Identities, name)
		}
	}
	return fromEntity(e)
}

// isBare says whether a user ID is an address alone, perhaps in angle brackets.
func isBare(userID string) bool {
	spec := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(userID), "<"), ">")
	plain, err := NormalizeAddress(spec)
	return err == nil && plain == addressOf(userID) && !strings.ContainsAny(spec, "<> ")
}

// Has says whether the certificate already has everything that another one with the same fingerprint has, but for
// user IDs.
func (c *Certificate) Has(other *Certificate) bool {
	updated, err := c.Update(other)
	return err == nil && bytes.Equal(updated.Bytes(), c.Bytes())
}

// Armored is the certificate in ASCII armor, with LF line ends.
func (c *Certificate) Armored() ([]byte, error) {
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(c.data)
	err = errors.Join(err, w.Close())
	b.WriteByte('\n')
	return b.Bytes(), err
}
