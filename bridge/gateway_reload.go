package bridge

import (
	"context"
	"errors"
	"net/netip"
	"slices"
)

// errDirections: listeners are opened once.
var errDirections = errors.New("gateway: a direction that the gateway serves cannot be added or taken away while it runs; restart it")

// SetGateway puts other options in force for messages handed in from now on. Connections of MTAs stay; those to the next hops are
// made anew. On an error nothing changes.
func (b *Bridge) SetGateway(ctx context.Context, o GatewayOptions) error {
	before := b.gateway.Load()
	if before == nil || (before.out == nil) != (o.Outbound == nil) || (before.inside == nil) != (o.Inbound == nil) {
		return errDirections
	}
	g, err := b.newGateway(ctx, o, before.users)
	if err != nil {
		return err
	}
	b.gateway.Store(g)
	before.close()
	return nil
}

// Trusts says whether mail is taken from that address.
func (l Lane) Trusts(ip netip.Addr) bool {
	return slices.ContainsFunc(l.gateway().options.Trusted, func(p netip.Prefix) bool { return p.Contains(ip.Unmap()) })
}
