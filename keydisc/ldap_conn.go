package keydisc

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/go-ldap/ldap/v3"
)

// connect makes a connection, under TLS if the server is not plain. The end of ctx closes it: go-ldap takes no
// context, and would wait for ever.
func (d *directory) connect(ctx context.Context) (*ldap.Conn, error) {
	raw, err := d.dial(d.own(ctx), "tcp", d.address())
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = raw.Close() })
	wire := &boundedConn{Conn: raw}
	conn, err := d.negotiate(ctx, wire)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

func (d *directory) negotiate(ctx context.Context, wire net.Conn) (*ldap.Conn, error) {
	if d.scheme == "ldaps" {
		secure := tls.Client(wire, d.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS: %w", ldapError(ctx, err)) // the end of ctx closes the connection, too, and may be first
		}
		wire = secure
	}
	conn := ldap.NewConn(wire, d.scheme == "ldaps")
	conn.Start()
	// Its reader goes away at an answer that it does not expect before TLS: nobody then sees that wire is closed.
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	if d.scheme == "ldap+starttls" {
		if err := conn.StartTLS(d.tls); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("STARTTLS: %w", ldapError(ctx, err))
		}
	}
	return conn, nil
}

// boundedConn reads at most maxInput bytes, as go-ldap takes all that comes.
type boundedConn struct {
	net.Conn
	read atomic.Int64
}

func (c *boundedConn) Read(b []byte) (int, error) {
	if c.read.Load() >= maxInput {
		return 0, fmt.Errorf("it sent more than %d bytes", maxInput)
	}
	n, err := c.Conn.Read(b)
	c.read.Add(int64(n))
	return n, err
}
