package keydisc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// maxList bounds a list, in bytes.
const maxList = 8 << 20

// ListSource is where an organisation publishes the certificates that it vouches for.
type ListSource struct {
	// URL is https://…, or the path of a file. The server is one that the configuration names: it may have a private address.
	URL string
	// Authority is the organisation's certificate; nobody else's signature counts.
	Authority *Certificate
	// Domains are the only ones about whose addresses the organisation may speak, as written; their subdomains are not among them.
	Domains []string
}

// Covers says whether the organisation may speak about an address.
func (s ListSource) Covers(address string) bool {
	normal, err := NormalizeAddress(address)
	return err == nil && slices.ContainsFunc(s.Domains, func(domain string) bool {
		want, err := NormalizeAddress("x@" + domain)
		return err == nil && domainOf(want) == domainOf(normal)
	})
}

// List is what an organisation vouches for.
type List struct {
	Signed  time.Time // when, by the organisation's own clock
	Entries []ListEntry
}

// ListEntry is one certificate of one address.
type ListEntry struct {
	Address     string // normalised, in one of the organisation's domains
	Fingerprint Fingerprint
	Certificate *Certificate // with user IDs of the address alone; nil: the list only names it
}

// List fetches a list with its signature and checks both, within Options.Timeout and ctx.
func (f *Finder) List(ctx context.Context, s ListSource) (*List, error) {
	ctx, cancel := context.WithTimeout(ctx, f.options.Timeout)
	defer cancel()
	data, err := f.listFile(ctx, s.URL)
	if err != nil {
		return nil, err
	}
	var signature []byte
	if !signsItself(data) {
		where, err := signatureOf(s.URL, data)
		if err != nil {
			return nil, err
		}
		if signature, err = f.listFile(ctx, where); err != nil {
			return nil, fmt.Errorf("its signature: %w", err)
		}
	}
	return ParseList(data, signature, s, f.options.Now())
}

// listFile reads a file of this machine or of the server in the URL.
func (f *Finder) listFile(ctx context.Context, where string) ([]byte, error) {
	if !isWeb(where) {
		return readListFile(where)
	}
	u, err := url.Parse(where)
	if err != nil {
		return nil, errors.New("the URL cannot be read")
	}
	of, err := parseServer(u.Scheme+"://"+u.Host, map[string]scheme{"https": {port: "443"}})
	if err != nil {
		return nil, err
	}
	data, err := f.web.getUpTo(of.own(ctx), u, maxList)
	if errors.Is(err, errNotFound) {
		return nil, fmt.Errorf("%s has no such file", u.Host)
	}
	return data, err
}

func isWeb(where string) bool { return strings.HasPrefix(where, "https://") }

func readListFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, cause(err))
	}
	if !info.Mode().IsRegular() || info.Size() > maxList {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", path, maxList)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, cause(err))
	}
	return data, nil
}

// signatureOf is where the signature of a list is that does not hold it: beside it, or where a keylist says (draft-mccain-keylist-05,
// "signature_uri"). As nobody has vouched for that yet, it must be on the same server.
func signatureOf(where string, data []byte) (string, error) {
	beside := where + ".asc"
	k, ok := parseKeylist(data)
	if !isWeb(where) || !ok || k.Metadata.SignatureURI == "" {
		return beside, nil
	}
	list, err := url.Parse(where)
	if err != nil {
		return "", errors.New("the URL cannot be read")
	}
	signature, err := list.Parse(k.Metadata.SignatureURI)
	if err != nil || signature.Scheme != "https" || asciiLower(signature.Host) != asciiLower(list.Host) || signature.User != nil {
		return "", fmt.Errorf("its signature_uri is not on the server of the list, %s", list.Host)
	}
	return signature.String(), nil
}

// ParseList reads a list and checks its signature at that time. The list is either certificates, ASCII-armored with nothing
// between them or binary, or a keylist in JSON (draft-mccain-keylist-05); it is clear-signed, signed inline, or has a detached signature (else
// nil), armored or binary. The signature must be good by the authority, whose certificate must be valid. Entries about other addresses
// than the authority may speak about are left out, as are those of a keylist that name no address: whoever holds a certificate can put any
// address on it.
func ParseList(data, signature []byte, s ListSource, at time.Time) (*List, error) {
	if len(data) > maxList || len(signature) > maxInput {
		return nil, fmt.Errorf("the list or its signature is larger than %d bytes", maxList)
	}
	content, signed, err := signedContent(data, signature, s.Authority, at)
	if err != nil {
		return nil, fmt.Errorf("no good signature of %s: %w", s.Authority.Fingerprint(), err)
	}
	l := &List{Signed: signed.UTC()}
	if k, ok := parseKeylist(content); ok {
		l.Entries = k.entries(s)
		return l, nil
	}
	certificates, err := parseBundle(content)
	if err != nil {
		return nil, err
	}
	for _, c := range certificates {
		for _, address := range c.Addresses() {
			if !s.Covers(address) {
				continue
			}
			own, err := c.ForAddress(address)
			if err != nil {
				return nil, err
			}
			l.Entries = append(l.Entries, ListEntry{address, c.Fingerprint(), own})
		}
	}
	return l, nil
}

// armoredBlocks is a text that is nothing but certificates. What the organisation signs otherwise, such as mail that quotes a
// certificate, is no list.
var armoredBlocks = regexp.MustCompile(`\A(\s*-----BEGIN PGP PUBLIC KEY BLOCK-----(?s:.*?)-----END PGP PUBLIC KEY BLOCK-----)+\s*\z`)

func parseBundle(content []byte) ([]*Certificate, error) {
	binary := len(content) > 0 && content[0]&0x80 != 0
	if !binary && !armoredBlocks.Match(content) {
		return nil, errors.New("the list is neither a keylist in JSON nor certificates and nothing else")
	}
	certificates, err := parseCertificates(content)
	if err != nil {
		return nil, err
	}
	return certificates, nil
}

// keylist is the file format of draft-mccain-keylist-05, as far as it matters here.
type keylist struct {
	Metadata struct {
		SignatureURI string `json:"signature_uri"`
	} `json:"metadata"`
	Keys []struct {
		Fingerprint string `json:"fingerprint"`
		Email       string `json:"email"`
	} `json:"keys"`
}

func parseKeylist(data []byte) (k keylist, ok bool) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&k); err != nil || k.Keys == nil {
		return k, false
	}
	_, err := decoder.Token()
	return k, errors.Is(err, io.EOF)
}

func (k keylist) entries(s ListSource) (entries []ListEntry) {
	for _, key := range k.Keys {
		address, err := NormalizeAddress(key.Email)
		fp := Fingerprint(strings.ToUpper(strings.Join(strings.Fields(strings.TrimPrefix(key.Fingerprint, "0x")), "")))
		if err == nil && s.Covers(address) && isFingerprint(fp) {
			entries = append(entries, ListEntry{Address: address, Fingerprint: fp})
		}
	}
	return entries
}
