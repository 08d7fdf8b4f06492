package main

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/config"
	"github.com/sealpost/sealpost/bridge/upstream"
	"github.com/sealpost/sealpost/smtpd"
)

// gatewayOptions turns [gateway] into the bridge's options; nil if there is none.
func gatewayOptions(g config.Gateway) (*bridge.GatewayOptions, error) {
	if !g.Enabled() {
		return nil, nil
	}
	o := &bridge.GatewayOptions{Domains: g.Domains, CAFile: g.CAFile, Headers: bridge.HeaderMode(g.Headers), Pass: g.Pass, Submission: g.WKDSubmission}
	var err error
	if o.Company, err = companyOf(g); err != nil {
		return nil, err
	}
	if o.Trusted, err = g.Networks(); err != nil {
		return nil, err
	}
	if o.Outbound, err = nextHop(g.NextHopOutbound); err != nil {
		return nil, err
	}
	o.Inbound, err = nextHop(g.NextHopInbound)
	return o, err
}

// reloadGateway puts a changed [gateway] in force, but for its listeners.
func reloadGateway(ctx context.Context, b *bridge.Bridge, g config.Gateway) error {
	if _, ok := b.Gateway(); !ok && !g.Enabled() {
		return nil
	}
	o, err := gatewayOptions(g)
	if err != nil {
		return err
	}
	if o == nil {
		o = &bridge.GatewayOptions{} // which says why not
	}
	return b.SetGateway(ctx, *o)
}

func nextHop(raw string) (*upstream.NextHop, error) {
	if raw == "" {
		return nil, nil
	}
	hop, err := upstream.ParseNextHop(raw)
	return &hop, err
}

// relayServer makes the server for a listener of the gateway.
func (d *services) relayServer(name string, tlsConfig *tls.Config) func(net.Listener) func(net.Listener) error {
	return func(net.Listener) func(net.Listener) error {
		g, _ := d.service.bridge.Gateway() // there is one if it is configured to listen
		outbound, inbound := g.Lanes()
		lane, listen := outbound, d.service.config.Gateway.Outbound
		if name == "gateway-inbound" {
			lane, listen = inbound, d.service.config.Gateway.Inbound
		}
		_, lmtp := config.Listener(listen)
		s := smtpd.New(smtpd.Options{
			Relay: lane, LMTP: lmtp, MaxMessageSize: lane.MaxMessageSize, TLS: tlsConfig, Log: d.log,
		})
		d.shutdown = append(d.shutdown, s.Shutdown)
		return s.Serve
	}
}

// relayAddress is where to listen.
func relayAddress(listen string) string {
	address, _ := config.Listener(listen)
	return address
}
