package keydisc

import (
	"context"
	"errors"
	"net/url"
	"strings"
)

// vksHost is the server of the method "vks".
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
	data, err := f.web.get(ctx, vksURL(by, what))
	if errors.Is(err, errNotFound) {
		return nil, nil
	}
	return data, err
}

func vksURL(by, what string) *url.URL {
	base := &url.URL{Scheme: "https", Host: vksHost, Path: "/vks/v1/" + by + "/"}
	return base.JoinPath(url.PathEscape(what))
}
