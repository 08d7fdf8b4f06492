package smtpd

import (
	"bytes"
	"errors"
	"net"
	"sync"
)

// gate is the client's connection below go-smtp and below TLS. It answers two limits of the library:
// after a failed STARTTLS handshake it would go on in clear, and it cannot be told to close
// a connection once a reply is out.
type gate struct {
	net.Conn
	done chan struct{} // closed with the connection

	mu        sync.Mutex
	tlsOnly   bool
	closeNext bool
	closeOnce sync.Once
}

func newGate(c net.Conn) *gate { return &gate{Conn: c, done: make(chan struct{})} }

var errPlaintext = errors.New("plaintext after STARTTLS")

// readyForTLS is go-smtp's answer to STARTTLS. From here on the connection speaks TLS or nothing.
var readyForTLS = []byte("220 2.0.0 Ready to start TLS")

// Write passes on what may be said at this point.
func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	tlsOnly, closeNext := g.tlsOnly, g.closeNext
	if bytes.HasPrefix(p, readyForTLS) {
		g.tlsOnly = true
	}
	g.mu.Unlock()
	if tlsOnly && len(p) > 0 && !isTLSRecord(p[0]) {
		_ = g.Close()
		return 0, errPlaintext
	}
	n, err := g.Conn.Write(p)
	if closeNext {
		_ = g.Close()
	}
	return n, err
}

// isTLSRecord says whether b begins a TLS record (RFC 8446 §5.1).
func isTLSRecord(b byte) bool { return 20 <= b && b <= 24 }

// closeAfterWrite ends the connection with the next reply.
func (g *gate) closeAfterWrite() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closeNext = true
}

// Close closes the connection once.
func (g *gate) Close() error {
	g.closeOnce.Do(func() { close(g.done) })
	return g.Conn.Close()
}

// oneConn is a listener with one connection: the second Accept waits for its end.
type oneConn struct {
	conn net.Conn
	done <-chan struct{}
	mu   sync.Mutex
}

func (o *oneConn) Accept() (net.Conn, error) {
	o.mu.Lock()
	c := o.conn
	o.conn = nil
	o.mu.Unlock()
	if c != nil {
		return c, nil
	}
	<-o.done
	return nil, net.ErrClosed
}

func (o *oneConn) Close() error   { return nil }
func (o *oneConn) Addr() net.Addr { return &net.TCPAddr{} }
