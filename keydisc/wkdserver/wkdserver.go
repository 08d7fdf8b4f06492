// Package wkdserver is the web server of a Web Key Directory (draft-koch-openpgp-webkey-service-22): it tells anybody who knows an
// address its certificate, and nobody which addresses there are.
package wkdserver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/keydisc"
)

// ErrNone says that there is no certificate for an address.
var ErrNone = errors.New("there is no certificate for that address")

// Options of a Server.
type Options struct {
	Domains func() []string // of the directory, in ASCII
	// Find is the certificate of the address at a domain whose local part has that hash (keydisc.WKDHash), with user IDs of that
	// address alone. ErrNone is a definite answer, anything else "ask again".
	Find func(ctx context.Context, domain, hash string) (address string, certificate []byte, err error)
	// Submission is where certificates may be mailed to (draft §4.1); "": nowhere.
	Submission string
	Log        *slog.Logger
}

// Server answers over HTTP. Safe for concurrent use.
type Server struct {
	o      Options
	limits *limits
}

// New makes a Server.
func New(o Options) *Server { return &Server{o: o, limits: newLimits()} }

// request is what somebody asks for.
type request struct{ domain, hash, file string }

// ServeHTTP implements http.Handler. What it says of an address does not depend on whether the domain has users.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*") // draft §3.1: also for programs in browsers
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	if !s.limits.allow(r.RemoteAddr) {
		w.Header().Set("Retry-After", "60")
		http.Error(w, "too many requests; come again in a minute", http.StatusTooManyRequests)
		return
	}
	asked, ok := s.read(r)
	switch {
	case !ok:
		notFound(w)
	case asked.file == "policy":
		s.text(w, r, s.policy())
	case asked.file == "submission-address" && s.o.Submission != "":
		s.text(w, r, s.o.Submission+"\n")
	case asked.hash != "":
		s.certificate(w, r, asked)
	default:
		notFound(w)
	}
}

const root = "/.well-known/openpgpkey/"

// read takes the request apart: the advanced method has the domain in the path, the direct one in the host (draft §3.1).
func (s *Server) read(r *http.Request) (request, bool) {
	rest, ok := strings.CutPrefix(r.URL.Path, root)
	if !ok {
		return request{}, false
	}
	parts := strings.Split(rest, "/")
	asked := request{domain: host(r)}
	if len(parts) > 1 && parts[0] != "hu" {
		asked.domain, parts = strings.ToLower(parts[0]), parts[1:]
	}
	if !slices.Contains(s.o.Domains(), asked.domain) {
		return request{}, false
	}
	switch {
	case len(parts) == 1:
		asked.file = parts[0]
	case len(parts) == 2 && parts[0] == "hu" && isHash(parts[1]):
		asked.hash = parts[1]
	default:
		return request{}, false
	}
	return asked, true
}

func host(r *http.Request) string {
	name, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		name = r.Host
	}
	return strings.TrimSuffix(strings.ToLower(name), ".")
}

// isHash says whether it is 160 bits in Z-Base-32.
func isHash(s string) bool {
	return len(s) == 32 && strings.Trim(s, "ybndrfg8ejkmcpqxot1uwisza345h769") == ""
}

func (s *Server) certificate(w http.ResponseWriter, r *http.Request, asked request) {
	if local := r.URL.Query().Get("l"); local != "" && keydisc.WKDHash(local) != asked.hash {
		notFound(w)
		return
	}
	address, certificate, err := s.o.Find(r.Context(), asked.domain, asked.hash)
	if errors.Is(err, ErrNone) {
		notFound(w)
		return
	}
	if err != nil {
		s.o.Log.Error("the directory could not look up an address", "domain", asked.domain, "cause", err)
		http.Error(w, "try again later", http.StatusServiceUnavailable)
		return
	}
	s.o.Log.Debug("a certificate was asked for", "address", address)
	w.Header().Set("Content-Type", "application/octet-stream")
	write(w, r, certificate)
}

// policy is the policy file (draft §4.5).
func (s *Server) policy() string {
	text := "# certificates of this domain's users\n"
	if s.o.Submission != "" {
		text += "submission-address: " + s.o.Submission + "\n"
	}
	return text
}

func (s *Server) text(w http.ResponseWriter, r *http.Request, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	write(w, r, []byte(text))
}

func write(w http.ResponseWriter, r *http.Request, data []byte) {
	w.Header().Set("Cache-Control", "max-age=3600")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(data)
	}
}

func notFound(w http.ResponseWriter) { http.Error(w, "there is nothing here", http.StatusNotFound) }
