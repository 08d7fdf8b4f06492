package wkdserver

import (
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"golang.org/x/time/rate"
)

const (
	perSecond = 10     // requests of one network, in the long run
	burst     = 100    // at once
	networks  = 10_000 // remembered
)

// limits bound how fast one network may try addresses. Safe for concurrent use.
type limits struct {
	known *expirable.LRU[netip.Prefix, *rate.Limiter]
}

func newLimits() *limits {
	return &limits{expirable.NewLRU[netip.Prefix, *rate.Limiter](networks, nil, 10*time.Minute)}
}

// allow says whether a client may ask now. A proxy on this machine speaks for many and limits them itself.
func (l *limits) allow(remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.IsLoopback() {
		return err == nil
	}
	bits := 24
	if ip = ip.Unmap(); ip.Is6() {
		bits = 56
	}
	network, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return false
	}
	limiter, ok := l.known.Get(network)
	if !ok {
		limiter = rate.NewLimiter(perSecond, burst)
		l.known.Add(network, limiter)
	}
	return limiter.Allow()
}
