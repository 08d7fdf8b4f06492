package bridgetest

import (
	"crypto/sha1" // RFC draft-koch §3.1 names it; a file name, not a security claim
	"crypto/tls"
	"encoding/base32"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// WKD is an HTTPS Web Key Directory (draft-koch-openpgp-webkey-service-22).
type WKD struct {
	listener net.Listener
	server   *http.Server
	serving  sync.WaitGroup

	mu       sync.Mutex
	pages    map[string][]byte   // "host path" → certificate
	layouts  map[string][]string // domain → layouts it has
	requests []string
	status   int                         // answered instead, if not 0
	leaves   map[string]*tls.Certificate // by host
}

// StartWKD serves certificates (binary) for addresses in the advanced and direct layout.
func StartWKD() (*WKD, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listener of the Web Key Directory: %w", err)
	}
	w := &WKD{listener: l, pages: map[string][]byte{}, layouts: map[string][]string{}, leaves: map[string]*tls.Certificate{}}
	w.server = &http.Server{
		Handler: w, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: w.certificate},
	}
	w.serving.Go(func() { _ = w.server.ServeTLS(l, "", "") })
	return w, nil
}

// Close ends all connections.
func (w *WKD) Close() error {
	err := w.server.Close()
	w.serving.Wait()
	return err
}

// Addr is the listener's, host:port.
func (w *WKD) Addr() string { return w.listener.Addr().String() }

// certificate issues one for whatever host is asked for.
func (w *WKD) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	host := hello.ServerName
	if host == "" {
		host = "127.0.0.1"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if leaf := w.leaves[host]; leaf != nil {
		return leaf, nil
	}
	leaf, err := CA().Issue(time.Time{}, host)
	if err == nil {
		w.leaves[host] = &leaf
	}
	return &leaf, err
}

// Publish makes cert the answer for an address in the layouts ("advanced", "direct"; none: both).
// A domain with the direct layout alone has no host openpgpkey.DOMAIN.
func (w *WKD) Publish(address string, cert []byte, layouts ...string) {
	if len(layouts) == 0 {
		layouts = []string{"advanced", "direct"}
	}
	local, domain, _ := strings.Cut(address, "@")
	domain = strings.ToLower(domain)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, layout := range layouts {
		host, folder := domain, "/.well-known/openpgpkey/"
		if layout == "advanced" {
			host, folder = "openpgpkey."+domain, folder+domain+"/"
		}
		w.pages[host+" "+folder+"hu/"+wkdHash(local)] = slices.Clone(cert)
		w.pages[host+" "+folder+"policy"] = nil
		if !slices.Contains(w.layouts[domain], layout) {
			w.layouts[domain] = append(w.layouts[domain], layout)
		}
	}
}

// Serve makes data the answer for a file beside the folder "hu" of a domain ("policy", "submission-address"), in both
// layouts.
func (w *WKD) Serve(domain, name string, data []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pages[domain+" /.well-known/openpgpkey/"+name] = slices.Clone(data)
	w.pages["openpgpkey."+domain+" /.well-known/openpgpkey/"+domain+"/"+name] = slices.Clone(data)
}

// Withdraw makes an address unknown again.
func (w *WKD) Withdraw(address string) {
	local, domain, _ := strings.Cut(strings.ToLower(address), "@")
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pages, domain+" /.well-known/openpgpkey/hu/"+wkdHash(local))
	delete(w.pages, "openpgpkey."+domain+" /.well-known/openpgpkey/"+domain+"/hu/"+wkdHash(local))
}

// Fail answers every request with that HTTP status; 0 ends it.
func (w *WKD) Fail(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = status
}

// wkdHash is the file name of a local part (draft-koch §3.1): ASCII lower case, SHA-1, z-base-32
// (RFC 6189 §5.1.6).
func wkdHash(local string) string {
	lower := strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, local)
	digest := sha1.Sum([]byte(lower))
	return zbase32.EncodeToString(digest[:])
}

var zbase32 = base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding)

// Resolve is the [keydisc.resolve] table for the domains served (and those in extra, which answer 404).
func (w *WKD) Resolve(extra ...string) map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	table := map[string]string{}
	for domain, layouts := range w.layouts {
		for _, layout := range layouts {
			table[wkdHost(layout, domain)+":443"] = w.Addr()
		}
	}
	for _, domain := range extra {
		table[wkdHost("advanced", domain)+":443"] = w.Addr()
		table[wkdHost("direct", domain)+":443"] = w.Addr()
	}
	return table
}

func wkdHost(layout, domain string) string {
	if layout == "advanced" {
		return "openpgpkey." + domain
	}
	return domain
}

// CAFile writes the CA into dir and returns its path.
func (w *WKD) CAFile(dir string) (string, error) {
	path := filepath.Join(dir, "wkd-ca.pem")
	return path, os.WriteFile(path, CA().PEM(), 0o644)
}

// Requests logs "METHOD host path" per request.
func (w *WKD) Requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.requests)
}

// ServeHTTP answers as draft-koch §4.5 wants it.
func (w *WKD) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	host = strings.ToLower(host)
	w.mu.Lock()
	w.requests = append(w.requests, fmt.Sprintf("%s %s %s", r.Method, host, r.URL.Path))
	page, found := w.pages[host+" "+r.URL.Path]
	status := w.status
	w.mu.Unlock()
	switch {
	case status != 0:
		http.Error(out, http.StatusText(status), status)
	case !found:
		http.NotFound(out, r)
	default:
		out.Header().Set("Content-Type", "application/octet-stream")
		out.Header().Set("Access-Control-Allow-Origin", "*")
		_, _ = out.Write(page)
	}
}
