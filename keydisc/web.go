package keydisc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// maxRedirects is how many a lookup follows.
const maxRedirects = 3

// webClient fetches certificates over HTTPS from hosts that nobody here chose: no redirect
// may leave HTTPS or reach a private address, nothing is sent but the request.
type webClient struct {
	client   *http.Client
	resolve  map[string]string
	resolver *net.Resolver
}

// errNotFound is a server's authenticated "there is none".
var errNotFound = errors.New("there is none")

func newWebClient(caFile string, resolve map[string]string) (*webClient, error) {
	roots, err := rootsWith(caFile)
	if err != nil {
		return nil, err
	}
	w := &webClient{resolve: map[string]string{}, resolver: strictResolver()}
	for from, to := range resolve {
		w.resolve[asciiLower(from)] = to
	}
	w.client = &http.Client{
		Transport: &http.Transport{
			DialContext: w.dial, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 10 * time.Second,
			MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true, DisableCompression: true,
		},
		CheckRedirect: checkRedirect,
	}
	return w, nil
}

// rootsWith is the system's authorities and those in the file; nil means the system's alone.
func rootsWith(caFile string) (*x509.CertPool, error) {
	if caFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("keydisc ca_file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("keydisc ca_file %s: no certificate in PEM form in it", caFile)
	}
	return pool, nil
}

func checkRedirect(r *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return errors.New("too many redirects")
	case r.URL.Scheme != "https":
		return errors.New("redirected away from HTTPS")
	case via[0].Method != http.MethodGet:
		return errors.New("redirected what is meant for this server alone")
	}
	r.Header.Del("Referer") // it would name the address looked for
	r.URL.User = nil        // no credentials, not even those that the server suggests
	return nil
}

// strictResolver tells "there is no such host" from everything else: Go's own resolver otherwise takes the
// last of two answers, so that a time-out for IPv4 followed by an empty one for IPv6 would count as "none".
func strictResolver() *net.Resolver { return &net.Resolver{PreferGo: true, StrictErrors: true} }

// dial connects to the address the configuration gives for the host, to a server that the configuration names (see
// server.own), or to a public one. The dot at the end of the name keeps the search list of resolv.conf out of it.
func (w *webClient) dial(ctx context.Context, network, address string) (net.Conn, error) {
	own := isOwn(ctx, address)
	if own.plain {
		return (&net.Dialer{Control: loopbackOnly}).DialContext(ctx, network, address)
	}
	if to, ok := w.resolve[asciiLower(address)]; ok {
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}
	if own.host != "" {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err != nil && !strings.HasSuffix(host, ".") {
		host += "."
	}
	return (&net.Dialer{Control: publicOnly, Resolver: w.resolver}).DialContext(ctx, network, net.JoinHostPort(host, port))
}

// publicOnly refuses addresses that a server in the network must not send us to. It sees the
// address that is dialled, after resolution: a name cannot change its mind in between.
func publicOnly(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := to.Addr().Unmap()
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || slices.ContainsFunc(specialRanges, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return fmt.Errorf("%s is not a public address", ip)
	}
	return nil
}

// specialRanges are what net/netip does not already know as private (RFC 6598, 2544, 6052, 4291 §2.5.5, 3056).
var specialRanges = []netip.Prefix{
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("240.0.0.0/4"),
}

// get fetches a URL: at most maxInput bytes. errNotFound for 404 and 410.
func (w *webClient) get(ctx context.Context, u *url.URL) ([]byte, error) {
	return w.getUpTo(ctx, u, maxInput)
}

// getUpTo is get for at most that many bytes.
func (w *webClient) getUpTo(ctx context.Context, u *url.URL, limit int) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	data, response, err := w.do(request, limit)
	if err != nil {
		return nil, err
	}
	switch response.StatusCode {
	case http.StatusOK:
		return data, nil
	case http.StatusNotFound, http.StatusGone:
		return nil, errNotFound
	}
	return nil, fmt.Errorf("%s answered %s", u.Host, response.Status)
}

// do is one exchange; data is the body, whatever the status. Errors do not name the URL.
func (w *webClient) do(request *http.Request, limit int) (data []byte, response *http.Response, err error) {
	u := request.URL
	request.Header.Set("User-Agent", "") // says nothing about us
	response, err = w.client.Do(request)
	if err != nil {
		return nil, nil, hostError(u, err)
	}
	defer response.Body.Close()
	data, err = io.ReadAll(io.LimitReader(response.Body, int64(limit)+1))
	if err != nil {
		return nil, nil, hostError(u, err)
	}
	if len(data) > limit {
		return nil, nil, fmt.Errorf("%s sent more than %d bytes", u.Host, limit)
	}
	return data, response, nil
}

// hostError names the host but not the URL, which names the person looked for.
func hostError(u *url.URL, err error) error {
	var inner *url.Error
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return fmt.Errorf("%s: %w", u.Host, err)
}

// noSuchHost says whether the DNS knows no address for this very name, which is an answer; a DNS
// that does not answer is none, nor is a redirect to a name that does not exist.
func noSuchHost(err error, name string) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound && strings.TrimSuffix(dns.Name, ".") == name
}
