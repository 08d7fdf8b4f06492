package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// keepAlive finds dead peers of idling connections.
const keepAlive = 30 * time.Second

// maxHandshakeLine bounds a line of the server before the connection is handed over.
const maxHandshakeLine = 64 << 10

// wire is a connection on which we speak ourselves, line by line, until it is secure (SMTP) or
// logged in (IMAP). Every line is bounded in size and time.
type wire struct {
	at      Endpoint
	conn    net.Conn
	reader  *bufio.Reader
	timeout time.Duration
	release func() bool // detaches the connection from the context of the dial
}

// dial connects, with TLS at once where the endpoint says so. Until detach, the end of ctx
// closes the connection.
func dial(ctx context.Context, at Endpoint, config *tls.Config, timeout time.Duration) (*wire, error) {
	if at.Security == "insecure" && !at.loopback() {
		return nil, &Error{Kind: KindTLS, Host: at.Address(), Op: "connect",
			Err: errors.New("no connection without TLS to another computer"), Remedy: "Use TLS or STARTTLS"}
	}
	dialer := net.Dialer{Timeout: timeout, KeepAlive: keepAlive}
	conn, err := dialer.DialContext(ctx, "tcp", at.Address())
	if err != nil {
		return nil, failure(ctx, "connect", at, err)
	}
	w := &wire{at: at, timeout: timeout}
	w.use(ctx, conn)
	if at.Security == "tls" {
		if err := w.secure(ctx, config); err != nil {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

// use makes conn the connection that the end of ctx closes. What was read before is gone.
func (w *wire) use(ctx context.Context, conn net.Conn) {
	if w.release != nil {
		w.release()
	}
	w.conn = conn
	w.reader = bufio.NewReader(conn)
	w.release = context.AfterFunc(ctx, func() { _ = conn.Close() })
}

// secure puts TLS 1.2 or newer on the connection and verifies the host's certificate.
func (w *wire) secure(ctx context.Context, config *tls.Config) error {
	if w.reader.Buffered() > 0 {
		// NO STARTTLS (2021): what came before the handshake would be taken for
		// a secured answer.
		return &Error{Kind: KindTLS, Host: w.at.Address(), Op: "connect",
			Err:    errors.New("the server, or somebody in between, sent data ahead of the TLS handshake"),
			Remedy: "Do not use this network; use implicit TLS if the provider offers it"}
	}
	return w.shake(ctx, tlsFor(config, w.at.Host))
}

// secureUnverified is secure with whatever certificate the host has: for where the connection could as well go without TLS.
func (w *wire) secureUnverified(ctx context.Context) error {
	if w.reader.Buffered() > 0 {
		return &limitError{"the server sent data ahead of the TLS handshake"}
	}
	return w.shake(ctx, &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true})
}

func (w *wire) shake(ctx context.Context, config *tls.Config) error {
	conn := tls.Client(w.conn, config)
	limited, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	if err := conn.HandshakeContext(limited); err != nil {
		return failure(ctx, "connect", w.at, err)
	}
	w.use(ctx, conn)
	return nil
}

func tlsFor(config *tls.Config, host string) *tls.Config {
	c := &tls.Config{}
	if config != nil {
		c = config.Clone()
	}
	c.ServerName, c.InsecureSkipVerify = host, false
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	return c
}

// line reads one line, without its end.
func (w *wire) line() (string, error) {
	_ = w.conn.SetReadDeadline(time.Now().Add(w.timeout))
	var line []byte
	for {
		part, err := w.reader.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxHandshakeLine {
			return "", &limitError{"the server sent an endless line"}
		}
		if err == nil {
			return trimEOL(line), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
	}
}

func trimEOL(line []byte) string {
	n := len(line) - 1
	if n > 0 && line[n-1] == '\r' {
		n--
	}
	return string(line[:n])
}

func (w *wire) write(s string) error {
	_ = w.conn.SetWriteDeadline(time.Now().Add(w.timeout))
	_, err := w.conn.Write([]byte(s))
	return err
}

// detach ends the connection's dependence on the dial's context.
func (w *wire) detach() {
	w.release()
	_ = w.conn.SetDeadline(time.Time{})
}

func (w *wire) close() {
	w.release()
	_ = w.conn.Close()
}
