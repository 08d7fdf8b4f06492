package keydisc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
)

// server is one that the configuration names itself. It may therefore have a private address, unlike those
// that somebody in the network sends us to.
type server struct {
	scheme, host, port string
	plain              bool // without TLS: for loopback addresses alone
}

// scheme is what the scheme of a URL means.
type scheme struct {
	port  string // where the URL names none
	plain bool
}

// parseServer reads scheme://host[:port]. The errors do not repeat it, as somebody may have put a password in.
func parseServer(raw string, schemes map[string]scheme) (server, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return server{}, errors.New("the address of a server has the form scheme://host or scheme://host:port, and nothing else")
	}
	meaning, ok := schemes[u.Scheme]
	if !ok {
		return server{}, fmt.Errorf("the scheme %q is not one for this kind of server", u.Scheme)
	}
	s := server{u.Scheme, asciiLower(u.Hostname()), u.Port(), meaning.plain}
	if s.port == "" {
		s.port = meaning.port
	}
	if _, err := strconv.ParseUint(s.port, 10, 16); err != nil {
		return server{}, fmt.Errorf("%s is not a port", s.port)
	}
	if s.plain && !isLoopback(s.host) {
		return server{}, fmt.Errorf("%s://%s would be asked without TLS, which is for loopback addresses alone", s.scheme, s.host)
	}
	return s, nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

func (s server) address() string { return net.JoinHostPort(s.host, s.port) }

type ownKey struct{}

// own marks what is done for the server: a dial to its host and port may then reach a private address. A
// redirect to another server may not, nor one of another server's to this.
func (s server) own(ctx context.Context) context.Context { return context.WithValue(ctx, ownKey{}, s) }

// isOwn is the server that ctx is marked with, if the address is its; else the zero server.
func isOwn(ctx context.Context, address string) server {
	if s, ok := ctx.Value(ownKey{}).(server); ok && s.address() == asciiLower(address) {
		return s
	}
	return server{}
}

// loopbackOnly sees the address that is dialled: "localhost" is but a name.
func loopbackOnly(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !to.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%s is not a loopback address", to.Addr())
	}
	return nil
}
