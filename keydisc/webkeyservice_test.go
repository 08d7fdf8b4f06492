package keydisc

import (
	"errors"
	"net/http"
	"path"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/net/dns/dnsmessage"
)

func TestWebKeyService(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/webkeyservice.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]map[string]string{}
	for _, file := range archive.Files {
		dir, name := path.Split(file.Name)
		if cases[dir] == nil {
			cases[dir] = map[string]string{}
		}
		cases[dir][name] = string(file.Data)
	}
	submission := generatedFor(t, "key-submission@example.com")
	hash := "/hu/" + WKDHash("key-submission")
	for name, files := range cases {
		t.Run(strings.Trim(name, "/"), func(t *testing.T) {
			w := serve(t, func(rw http.ResponseWriter, r *http.Request) {
				text, there := files[path.Base(r.URL.Path)]
				switch {
				case strings.HasSuffix(r.URL.Path, "/.well-known/openpgpkey/example.com"+hash):
					_, _ = rw.Write(submission.Bytes())
				case there:
					_, _ = rw.Write([]byte(text))
				default:
					http.NotFound(rw, r)
				}
			})
			s, err := w.finderWith(t, Options{Resolve: w.bravo()}).WebKeyService(t.Context(), "bob@example.com")
			if got := described(s, err); !strings.HasPrefix(got, strings.TrimSpace(files["want"])) {
				t.Error(got)
			}
			if strings.Contains(files["want"], "offers no") != errors.Is(err, ErrNoWebKeyService) {
				t.Error(err)
			}
			if err == nil && s.Certificate.Fingerprint() != submission.Fingerprint() {
				t.Error(s.Certificate.Fingerprint())
			}
		})
	}
}

func described(s *WebKeyService, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	text := s.Address
	if s.BareUserIDs {
		text += " bare"
	}
	if s.Unasked {
		text += " unasked"
	}
	return text
}

// Only a 404 says that there is no service; what does not answer may have one.
func TestWebKeyServiceIsOpen(t *testing.T) {
	w := serve(t, func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusBadGateway) })
	if _, err := w.finderWith(t, Options{Resolve: w.bravo()}).WebKeyService(t.Context(), "bob@example.com"); err == nil || errors.Is(err, ErrNoWebKeyService) {
		t.Error(err)
	}
}

// The direct method is for domains without the advanced host; a DNS that does not answer leaves the question open.
func TestWebKeyServiceByDNS(t *testing.T) {
	submission := generatedFor(t, "key-submission@example.com")
	for name, c := range map[string]struct {
		zone       zone
		directHost bool
		want       string
	}{
		"direct":  {zone{}, true, "key-submission@example.com"},
		"neither": {zone{}, false, "error: it offers no Web Key Service"},
		"failure": {zone{"openpgpkey.example.com. TypeA": dnsmessage.RCodeServerFailure, "openpgpkey.example.com. TypeAAAA": 0}, true, "error: openpgpkey.example.com: "},
	} {
		t.Run(name, func(t *testing.T) {
			w := serve(t, func(rw http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/.well-known/openpgpkey/submission-address":
					_, _ = rw.Write([]byte("key-submission@example.com\r\n"))
				case "/.well-known/openpgpkey/hu/" + WKDHash("key-submission"):
					_, _ = rw.Write(submission.Bytes())
				default:
					http.NotFound(rw, r)
				}
			})
			resolve := map[string]string{}
			if c.directHost {
				resolve["example.com:443"] = w.Listener.Addr().String()
			}
			f := w.finder(t, resolve)
			f.web.resolver = c.zone.resolver(t)
			if got := described(f.WebKeyService(t.Context(), "bob@example.com")); !strings.HasPrefix(got, c.want) {
				t.Error(got)
			}
		})
	}
}

const confirmation = "type: confirmation-request\nsender: key-submission@example.com\naddress: Bob@example.com\n" +
	"fingerprint: 0123456789abcdef0123456789abcdef01234567\nnonce: abcdefghijklmnop1234567890\n"

func TestParseConfirmationRequest(t *testing.T) {
	r, err := ParseConfirmationRequest([]byte(strings.ReplaceAll(confirmation, "\n", "\r\n") + "future: x\r\n"))
	want := ConfirmationRequest{"key-submission@example.com", "bob@example.com", "0123456789ABCDEF0123456789ABCDEF01234567", "abcdefghijklmnop1234567890"}
	if err != nil || r != want {
		t.Fatal(r, err)
	}
	if got := r.Response(); got != "type: confirmation-response\r\nsender: key-submission@example.com\r\naddress: bob@example.com\r\nnonce: abcdefghijklmnop1234567890\r\n" {
		t.Error(got)
	}
	for name, edit := range map[string][2]string{
		"a response":        {"confirmation-request", "confirmation-response"},
		"no type":           {"type: confirmation-request\n", ""},
		"no sender":         {"sender: key-submission@example.com\n", ""},
		"two senders":       {"nonce:", "sender: eve@example.com\nnonce:"},
		"sender with more":  {"sender: key-submission@example.com", "sender: key-submission@example.com, eve@example.com"},
		"address with name": {"address: Bob@example.com", "address: Bob <bob@example.com>"},
		"short nonce":       {"abcdefghijklmnop1234567890", "abcdefghijklmno"},
		"long nonce":        {"abcdefghijklmnop", strings.Repeat("a", 129)},
		"nonce with text":   {"abcdefghijklmnop1234567890", "the secret of the harbour"},
		"no nonce":          {"nonce: abcdefghijklmnop1234567890\n", ""},
		"no field":          {"nonce:", "Dear Bob,\nnonce:"},
		"huge":              {"nonce:", strings.Repeat("x: ", maxRequest) + "\nnonce:"},
	} {
		text := strings.Replace(confirmation, edit[0], edit[1], 1)
		if r, err := ParseConfirmationRequest([]byte(text)); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func FuzzParseConfirmationRequest(f *testing.F) {
	f.Add([]byte(confirmation))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseConfirmationRequest(data)
		if err == nil && (!nonceForm.MatchString(r.Nonce) || strings.Count(r.Response(), "\r\n") != 4) {
			t.Errorf("%q", r)
		}
	})
}

func FuzzSubmissionAddress(f *testing.F) {
	f.Add([]byte("key-submission@example.com\n"), []byte("mailbox-only\nsubmission-address: key-submission@example.com\n"))
	f.Fuzz(func(t *testing.T, file, policy []byte) {
		address, err := submissionAddress(file, readPolicy(policy))
		if plain, bad := NormalizeAddress(address); err == nil && (bad != nil || plain != address || strings.ContainsAny(address, " \r\n<>,")) {
			t.Errorf("%q", address)
		}
	})
}

func FuzzVKSAnswer(f *testing.F) {
	alice := load(f, "alice")
	f.Add([]byte(`{"key_fpr":"` + string(alice.Fingerprint()) + `","status":{"alice@alpha.test":"published"},"token":"x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := readVKSAnswer("keys.example.org", data)
		if err != nil {
			return
		}
		if status, err := a.of(alice, "alice@alpha.test"); (err == nil) != (status != "") {
			t.Error(status, err)
		}
	})
}
