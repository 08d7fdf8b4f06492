package keydisc

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// hkpSchemes are those of draft-gallagher-openpgp-hkp and what its users write for them.
var hkpSchemes = map[string]scheme{"hkps": {port: "443"}, "https": {port: "443"}, "hkp": {port: "11371", plain: true}}

func newHKP(f *Finder) (method, error) {
	if len(f.options.HKP) == 0 {
		return method{}, errors.New("it needs a key server")
	}
	var servers []server
	for i, raw := range f.options.HKP {
		s, err := parseServer(raw, hkpSchemes)
		if err != nil {
			return method{}, fmt.Errorf("key server %d: %w", i+1, err)
		}
		servers = append(servers, s)
	}
	find := func(ctx context.Context, address string) ([]*Certificate, error) {
		return together(servers, func(s server) ([]*Certificate, error) { return f.hkp(ctx, s, address) })
	}
	refresh := func(ctx context.Context, fp Fingerprint) ([]*Certificate, error) {
		return together(servers, func(s server) ([]*Certificate, error) { return f.hkpUpdates(ctx, s, fp) })
	}
	return method{name: HKP, find: find, refresh: refresh}, nil
}

// hkp asks one server for an address. Many servers find more than that exact address, whatever they are told.
func (f *Finder) hkp(ctx context.Context, s server, address string) ([]*Certificate, error) {
	data, err := f.hkpGet(ctx, s, strings.TrimSpace(address))
	if err != nil || data == nil {
		return nil, err
	}
	certificates, err := certificatesFor(data, address)
	return certificates, s.blame(err)
}

// hkpUpdates asks one server for a certificate.
func (f *Finder) hkpUpdates(ctx context.Context, s server, fp Fingerprint) ([]*Certificate, error) {
	data, err := f.hkpGet(ctx, s, "0x"+string(fp))
	if err != nil || data == nil {
		return nil, err
	}
	updates, err := updatesOf(data, fp)
	return updates, s.blame(err)
}

// hkpGet is the operation "get" (draft-shaw-openpgp-hkp-00 §3.1.2.1). nil, nil is a definite "there is none".
func (f *Finder) hkpGet(ctx context.Context, s server, search string) ([]byte, error) {
	query := url.Values{"op": {"get"}, "options": {"mr"}, "exact": {"on"}, "search": {search}}
	u := &url.URL{Scheme: "https", Host: s.address(), Path: "/pks/lookup", RawQuery: query.Encode()}
	if s.plain {
		u.Scheme = "http"
	}
	data, err := f.web.get(s.own(ctx), u)
	switch {
	case errors.Is(err, errNotFound) && s.plain:
		return nil, s.blame(errors.New("it has none, but says so without TLS: whatever listens there may be another program"))
	case errors.Is(err, errNotFound):
		return nil, nil
	}
	return data, err
}

// blame names the server that an error came from.
func (s server) blame(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", s.address(), err)
}
