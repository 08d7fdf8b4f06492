package dashboard

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
)

// guard keeps web pages out that the user's browser has open beside the dashboard.
type guard struct {
	address string   // as bound
	hosts   []string // what a browser may call it
}

func newGuard(address string) (guard, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().IsLoopback() {
		return guard{}, fmt.Errorf("dashboard: %s is not an address of this machine alone; use 127.0.0.1", address)
	}
	_, port, _ := net.SplitHostPort(address)
	g := guard{address: address, hosts: []string{address, net.JoinHostPort("localhost", port)}}
	if port == "80" { // which browsers leave out
		g.hosts = append(g.hosts, at.Addr().String(), "localhost")
	}
	return g, nil
}

// protect answers only requests for one of our names: a name of somebody else's that was made to point here (DNS
// rebinding) has its own pages' scripts in the same origin.
func (g guard) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		if !slices.Contains(g.hosts, r.Host) {
			http.Error(w, "This is not the address of the dashboard. sealpost status shows it.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
}

// mayShow says whether a request for a page comes from us or from the user's own hand, as far as the browser says:
// another port of this machine is another program's.
func mayShow(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return site == "" || site == "none" || site == "same-origin"
}

// mayChange says whether a form was sent by one of our pages. Every browser says so in one of two ways: with our
// Referrer-Policy Origin is "null" (Fetch §3.2), and then Sec-Fetch-Site alone counts.
func (g guard) mayChange(r *http.Request) bool {
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	ours := origin == "http://"+r.Host
	if site == "" {
		return ours
	}
	return site == "same-origin" && (ours || origin == "" || origin == "null")
}
