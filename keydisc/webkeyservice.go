package keydisc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// WebKeyService is how the domain of an address takes certificates into its Web Key Directory
// (draft-koch-openpgp-webkey-service-22 §4).
type WebKeyService struct {
	Address     string       // submission address: where requests go, and confirmation requests come from
	Certificate *Certificate // its, from its own domain's Web Key Directory
	BareUserIDs bool         // policy "mailbox-only": user IDs must be the address alone
	Unasked     bool         // policy "auth-submit": published without asking back
}

// ErrNoWebKeyService says that the domain takes no certificates by mail.
var ErrNoWebKeyService = errors.New("it offers no Web Key Service")

// WebKeyService looks up how the address's domain takes certificates. The certificate of the submission address
// comes from its domain's Web Key Directory alone, whatever methods the Finder has. ErrNoWebKeyService is a definite
// answer; other errors are none. It takes Options.Timeout at most.
func (f *Finder) WebKeyService(ctx context.Context, address string) (*WebKeyService, error) {
	ctx, cancel := context.WithTimeout(ctx, f.options.Timeout)
	defer cancel()
	policy, err := f.wksFile(ctx, address, "policy")
	if err != nil {
		return nil, err
	}
	rules := readPolicy(policy)
	file, err := f.wksFile(ctx, address, "submission-address")
	if err != nil {
		return nil, err
	}
	s := &WebKeyService{BareUserIDs: rules.has("mailbox-only"), Unasked: rules.has("auth-submit")}
	if s.Address, err = submissionAddress(file, rules); err != nil {
		return nil, err
	}
	found, err := f.fromDirectory(ctx, s.Address)
	if err != nil {
		return nil, fmt.Errorf("certificate of the submission address %s: %w", s.Address, err)
	}
	for _, c := range found {
		if err = c.Check(s.Address, f.options.Now()); err == nil {
			s.Certificate = c
			return s, nil
		}
	}
	if err == nil {
		err = errors.New("its Web Key Directory has none")
	}
	return nil, fmt.Errorf("certificate of the submission address %s: %w", s.Address, err)
}

// InDirectory is the address's certificate with that fingerprint in its Web Key Directory; nil if there is none. It takes
// Options.Timeout at most.
func (f *Finder) InDirectory(ctx context.Context, fp Fingerprint, address string) (*Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, f.options.Timeout)
	defer cancel()
	found, err := f.fromDirectory(ctx, address)
	for _, c := range found {
		if c.fingerprint == fp {
			return c, nil
		}
	}
	return nil, err
}

func (f *Finder) fromDirectory(ctx context.Context, address string) ([]*Certificate, error) {
	return fetched(f.wkd)(ctx, address)
}

// wksFile fetches a file beside the folder "hu" of the address's domain: by the advanced method, and only if its
// host does not exist by the direct one (draft §4.1). nil, nil is a definite "there is none".
func (f *Finder) wksFile(ctx context.Context, address, name string) ([]byte, error) {
	advanced, direct, err := WKDLocations(address)
	if err != nil {
		return nil, err
	}
	data, err := f.web.get(ctx, advanced.beside(name))
	if noSuchHost(err, advanced.Host) {
		data, err = f.web.get(ctx, direct.beside(name))
		if noSuchHost(err, direct.Host) {
			return nil, nil
		}
	}
	if errors.Is(err, errNotFound) {
		return nil, nil
	}
	return data, err
}

func (l WKDLocation) beside(name string) *url.URL {
	return &url.URL{Scheme: "https", Host: l.Host, Path: path.Join(path.Dir(path.Dir(l.Path)), name)}
}

// wksPolicy are the keywords of a policy file and their values (draft §4.5). What is not known is ignored.
type wksPolicy map[string]string

func (p wksPolicy) has(keyword string) bool { _, ok := p[keyword]; return ok }

func readPolicy(data []byte) wksPolicy {
	p := wksPolicy{}
	for line := range strings.Lines(string(data)) {
		keyword, value, _ := strings.Cut(line, ":")
		keyword = asciiLower(strings.TrimSpace(keyword))
		if keyword != "" && !strings.HasPrefix(keyword, "#") {
			p[keyword] = strings.TrimSpace(value)
		}
	}
	return p
}

// submissionAddress is the one line of the file, or the value in the policy; if both are there they must agree
// (draft §4.5).
func submissionAddress(file []byte, policy wksPolicy) (string, error) {
	inFile, inPolicy := strings.TrimSpace(string(file)), policy["submission-address"]
	if inFile == "" && inPolicy == "" {
		return "", ErrNoWebKeyService
	}
	var address string
	for _, text := range []string{inFile, inPolicy} {
		if text == "" {
			continue
		}
		plain, err := NormalizeAddress(text)
		if err != nil || !isASCII(text) || addressOf(text) != plain {
			return "", errors.New("the submission address it names is not a mail address")
		}
		if address != "" && address != plain {
			return "", errors.New("it names two submission addresses that differ")
		}
		address = plain
	}
	return address, nil
}

// ConfirmationRequest is what a Web Key Service asks before it publishes a certificate (draft §4.3).
type ConfirmationRequest struct {
	Sender      string      // where the response goes, normalised
	Address     string      // that the certificate is for, normalised
	Fingerprint Fingerprint // of the certificate
	Nonce       string      // proves that the request was read
}

// nonceForm is what a nonce may look like: nothing that carries a text.
var nonceForm = regexp.MustCompile(`^[A-Za-z0-9+/=._-]{16,128}$`)

// maxRequest bounds a request, in bytes.
const maxRequest = 16 << 10

// ParseConfirmationRequest reads the lines of a request, strictly: whoever makes us answer something else may
// learn what was encrypted to us.
func ParseConfirmationRequest(data []byte) (ConfirmationRequest, error) {
	fields, err := wksFields(data)
	if err != nil {
		return ConfirmationRequest{}, err
	}
	if fields["type"] != "confirmation-request" {
		return ConfirmationRequest{}, errors.New("it is not a confirmation request")
	}
	r := ConfirmationRequest{Fingerprint: Fingerprint(strings.ToUpper(fields["fingerprint"])), Nonce: fields["nonce"]}
	if !nonceForm.MatchString(r.Nonce) {
		return ConfirmationRequest{}, errors.New("its nonce is none")
	}
	if r.Sender, err = NormalizeAddress(fields["sender"]); err == nil {
		r.Address, err = NormalizeAddress(fields["address"])
	}
	if err != nil {
		return ConfirmationRequest{}, errors.New("it lacks an address")
	}
	return r, nil
}

// wksFields are "name: value" lines, each name once.
func wksFields(data []byte) (map[string]string, error) {
	if len(data) > maxRequest {
		return nil, errors.New("it is too long")
	}
	fields := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name = asciiLower(strings.TrimSpace(name))
		if _, twice := fields[name]; !ok || twice {
			return nil, errors.New("it is not made of names and values")
		}
		fields[name] = strings.TrimSpace(value)
	}
	return fields, nil
}

// Response is the text that confirms the request (draft §4.4), with CRLF line ends.
func (r ConfirmationRequest) Response() string {
	return "type: confirmation-response\r\nsender: " + r.Sender + "\r\naddress: " + r.Address + "\r\nnonce: " + r.Nonce + "\r\n"
}

// ConfirmationResponse is what a user answers (draft §4.4).
type ConfirmationResponse struct {
	Address string // that the certificate is for, normalised
	Nonce   string
}

// ParseConfirmationResponse reads the lines of a response, strictly.
func ParseConfirmationResponse(data []byte) (ConfirmationResponse, error) {
	fields, err := wksFields(data)
	if err != nil {
		return ConfirmationResponse{}, err
	}
	if fields["type"] != "confirmation-response" {
		return ConfirmationResponse{}, errors.New("it is not a confirmation response")
	}
	r := ConfirmationResponse{Nonce: fields["nonce"]}
	if !nonceForm.MatchString(r.Nonce) {
		return ConfirmationResponse{}, errors.New("its nonce is none")
	}
	if r.Address, err = NormalizeAddress(fields["address"]); err != nil {
		return ConfirmationResponse{}, errors.New("it lacks an address")
	}
	return r, nil
}
