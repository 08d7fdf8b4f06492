package keydisc

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// vksHost is the server of the method "vks" where Options.VKS names no other.
const vksHost = "keys.openpgp.org"

func newVKS(f *Finder) (method, error) {
	byAddress := func(ctx context.Context, address string) ([]byte, error) {
		return f.vks(ctx, "by-email", strings.TrimSpace(address))
	}
	return method{name: VKS, authenticated: true, find: fetched(byAddress), refresh: f.vksUpdates}, nil
}

// vksUpdates asks by fingerprint. The answer has only the user IDs whose owner agreed to it, which may be none.
func (f *Finder) vksUpdates(ctx context.Context, fp Fingerprint) ([]*Certificate, error) {
	data, err := f.vks(ctx, "by-fingerprint", string(fp))
	if err != nil || data == nil {
		return nil, err
	}
	return updatesOf(data, fp)
}

// vks asks the verifying key server (keys.openpgp.org/about/api). nil, nil is a definite "there is none".
func (f *Finder) vks(ctx context.Context, by, what string) ([]byte, error) {
	data, err := f.web.get(f.vksContext(ctx), f.vksURL(by, what))
	if errors.Is(err, errNotFound) {
		return nil, nil
	}
	return data, err
}

// vksServer reads Options.VKS.
func vksServer(raw string) (server, error) {
	if raw == "" {
		return server{scheme: "https", host: vksHost, port: "443"}, nil
	}
	s, err := parseServer(raw, map[string]scheme{"https": {port: "443"}})
	if err != nil {
		return s, fmt.Errorf("verifying key server: %w", err)
	}
	return s, nil
}

// vksContext lets a server that the configuration names itself have a private address.
func (f *Finder) vksContext(ctx context.Context) context.Context {
	if f.vksHome.host == vksHost {
		return ctx
	}
	return f.vksHome.own(ctx)
}

func (f *Finder) vksURL(path ...string) *url.URL {
	host := f.vksHome.address()
	if f.vksHome.port == "443" {
		host = strings.TrimSuffix(host, ":443")
	}
	u := &url.URL{Scheme: "https", Host: host, Path: "/vks/v1/"}
	for _, element := range path {
		u = u.JoinPath(url.PathEscape(element))
	}
	return u
}
