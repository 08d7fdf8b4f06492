package upstream

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Endpoint is one server of the provider, from a configuration URL such as
// imaps://mail.example.org:993, smtp+starttls://… or, on loopback only, imap+insecure://….
type Endpoint struct {
	Protocol string // "imap" or "smtp"
	Security string // "tls", "starttls", "insecure"
	Host     string
	Port     int
}

// Address is host:port; of a socket of this machine, which has no port, its path.
func (e Endpoint) Address() string {
	if e.Port == 0 {
		return e.Host
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(e.Port))
}

// String is the configuration URL.
func (e Endpoint) String() string {
	scheme := e.Protocol + "+" + e.Security
	if e.Security == "tls" {
		scheme = e.Protocol + "s"
	}
	return scheme + "://" + e.Address()
}

// schemes of configuration URLs, and the port each has by default (RFC 8314 §7).
var schemes = map[string]Endpoint{
	"imaps":         {Protocol: "imap", Security: "tls", Port: 993},
	"imap+starttls": {Protocol: "imap", Security: "starttls", Port: 143},
	"imap+insecure": {Protocol: "imap", Security: "insecure", Port: 143},
	"smtps":         {Protocol: "smtp", Security: "tls", Port: 465},
	"smtp+starttls": {Protocol: "smtp", Security: "starttls", Port: 587},
	"smtp+insecure": {Protocol: "smtp", Security: "insecure", Port: 587},
}

// ParseEndpoint reads a configuration URL. insecure is refused unless the host is a
// loopback address or localhost.
func ParseEndpoint(raw string) (Endpoint, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return Endpoint{}, fmt.Errorf("%q is no URL; write it like imaps://mail.example.org:993", raw)
	}
	e, ok := schemes[strings.ToLower(u.Scheme)]
	if !ok {
		return Endpoint{}, fmt.Errorf("%q: unknown scheme; use imaps, imap+starttls, smtps or smtp+starttls (imap+insecure, smtp+insecure on loopback only)", raw)
	}
	if u.User != nil {
		return Endpoint{}, fmt.Errorf("the URL for %s holds a user name or password; they do not belong there", u.Host)
	}
	if (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return Endpoint{}, fmt.Errorf("%q: nothing may follow host and port", raw)
	}
	if e.Host = strings.ToLower(u.Hostname()); e.Host == "" {
		return Endpoint{}, fmt.Errorf("%q has no host", raw)
	}
	if p := u.Port(); p != "" {
		if e.Port, err = strconv.Atoi(p); err != nil || e.Port < 1 || e.Port > 65535 {
			return Endpoint{}, fmt.Errorf("%q: the port must be 1 to 65535", raw)
		}
	}
	if e.Security == "insecure" && !e.loopback() {
		return Endpoint{}, fmt.Errorf("%q: a connection without TLS is only allowed to this computer; use %ss or %s+starttls", raw, e.Protocol, e.Protocol)
	}
	return e, nil
}

func (e Endpoint) loopback() bool {
	ip := net.ParseIP(e.Host)
	return e.Host == "localhost" || (ip != nil && ip.IsLoopback())
}
