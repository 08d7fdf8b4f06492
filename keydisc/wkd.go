package keydisc

import (
	"context"
	"crypto/sha1" // the draft names it; nothing rests on its strength
	"encoding/base32"
	"errors"
	"net/url"
	"strings"

	"golang.org/x/net/idna"
)

// WKDHash is the hashed user ID of a local part (draft-koch-openpgp-webkey-service-22 §3.1): its ASCII letters in
// lower case, SHA-1, Z-Base-32.
func WKDHash(local string) string {
	sum := sha1.Sum([]byte(asciiLower(local)))
	return zBase32.EncodeToString(sum[:])
}

// zBase32 is RFC 6189 §5.1.6.
var zBase32 = base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding)

// WKDLocation is where an address's certificate is looked for, in one of the two layouts.
type WKDLocation struct {
	Host string
	Path string
}

// WKDLocations are the places of an address (draft §3.1), for servers and clients: the advanced method's and
// the direct method's.
func WKDLocations(address string) (advanced, direct WKDLocation, err error) {
	if _, err := NormalizeAddress(address); err != nil {
		return advanced, direct, err
	}
	address = strings.TrimSpace(address)
	at := strings.LastIndexByte(address, '@')
	domain, err := idna.Lookup.ToASCII(asciiLower(address[at+1:]))
	if err != nil {
		return advanced, direct, err
	}
	hash := WKDHash(address[:at])
	advanced = WKDLocation{"openpgpkey." + domain, "/.well-known/openpgpkey/" + domain + "/hu/" + hash}
	direct = WKDLocation{domain, "/.well-known/openpgpkey/hu/" + hash}
	return advanced, direct, nil
}

func newWKD(f *Finder) (method, error) {
	return method{name: WKD, authenticated: true, find: fetched(f.wkd)}, nil
}

// fetched turns a fetch, whose nil, nil is a definite "there is none", into a method's find.
func fetched(fetch func(context.Context, string) ([]byte, error)) func(context.Context, string) ([]*Certificate, error) {
	return func(ctx context.Context, address string) ([]*Certificate, error) {
		data, err := fetch(ctx, address)
		if err != nil || data == nil {
			return nil, err
		}
		return certificatesFor(data, address)
	}
}

// wkd asks the address's domain: the advanced method, and only if its host does not exist the direct one (draft
// §3.1). nil, nil is a definite "there is none".
func (f *Finder) wkd(ctx context.Context, address string) ([]byte, error) {
	advanced, direct, err := WKDLocations(address)
	if err != nil {
		return nil, err
	}
	local := strings.TrimSpace(address[:strings.LastIndexByte(address, '@')])
	data, err := f.web.get(ctx, advanced.url(local))
	if noSuchHost(err, advanced.Host) {
		data, err = f.web.get(ctx, direct.url(local))
		if noSuchHost(err, direct.Host) {
			return nil, nil
		}
	}
	if errors.Is(err, errNotFound) {
		return nil, nil
	}
	return data, err
}

// url carries the local part unchanged, escaped (draft §3.1).
func (l WKDLocation) url(local string) *url.URL {
	return &url.URL{Scheme: "https", Host: l.Host, Path: l.Path, RawQuery: "l=" + url.QueryEscape(local)}
}
