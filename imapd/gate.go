package imapd

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The gate stands between the client's connection and go-imap's server, and answers these
// limits of the library:
//
//   - An oversized non-synchronizing literal is not drained, and what is in it runs as commands.
//   - A literal of more than 4096 bytes in a command other than APPEND desynchronises it, as does a
//     command longer than 50 KiB or one that fails before its literal.
//   - ID, SORT, THREAD and QUOTA are unknown to it, capabilities outside of its list are dropped;
//     FETCH and SEARCH are not exact (see verbs.go).
//   - It has no limits on connections, logins or idle time; its deadlines are absolute.
//   - SELECT claims READ-WRITE whatever the mailbox is.
//
// So the gate reads whole commands, turns their literals into quoted strings, answers what it can
// itself, and gives the library one line at a time; only the message of an APPEND goes through as a
// literal, which the gate has accepted. The gate does STARTTLS too: it is then the only one that
// knows about the client's bytes, and nothing sent before the handshake can be read after it
// (RFC 9051 §11.2, command injection). What the gate says itself it says while the library waits for
// the next command, so that answers never mix.
const (
	maxCommand       = 48 << 10 // bytes of a command with its literals; the library's own limit is 50 KiB
	maxLiteral       = 4096     // bytes of a literal that is not a message
	maxDrain         = 1 << 30  // bytes of a refused message that are read to stay in step
	maxLoginAttempts = 5
	maxBadCommands   = 20

	preLoginTimeout = time.Minute      // from connecting to a successful login
	idleTimeout     = 30 * time.Minute // between commands (RFC 9051 §5.4)
	progressTimeout = time.Minute      // without a byte inside a command or an answer
)

// errHandled says that the gate has ended the connection and told the client why.
var errHandled = errors.New("connection ended")

type gate struct {
	server   *Server
	deadline time.Time // for the login

	// Used by the library's goroutine of this connection, in Read.
	in       *bufio.Reader
	ready    []byte // for the library
	message  int64  // bytes of an APPEND's message that follow ready
	idling   bool
	attempts int
	bad      int

	session       atomic.Pointer[session]
	waiting       atomic.Bool // for a command: the moment to end the connection
	authenticated atomic.Bool
	limit         atomic.Int64 // of a message, after login
	objectIDs     atomic.Bool  // the provider has identifiers (RFC 8474)

	mu       sync.Mutex // for what follows: IDLE writes while Read waits
	secure   bool
	greeted  bool
	tag      string // of the command that the library is answering
	name     string // in upper case, "UID FETCH" being one
	readOnly bool   // the mailbox selected is, whatever the client asked for
	newID    string // of the mailbox that has been created

	connMu sync.Mutex // never held while bytes move, so that a stuck client can be cut off
	net    net.Conn   // the TLS connection once there is one
}

// gateListener accepts connections behind gates.
type gateListener struct {
	net.Listener
	server      *Server
	implicitTLS bool
}

func (l *gateListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g := &gate{server: l.server, net: conn, in: bufio.NewReaderSize(conn, 4<<10), deadline: time.Now().Add(preLoginTimeout)}
		if l.server.add(g) {
			if l.implicitTLS {
				g.startTLS()
			}
			return g, nil
		}
		l.server.log.Warn("imap: connection refused", "cause", "too many connections, or shutting down", "limit", maxConnections)
		if !l.implicitTLS {
			_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = conn.Write([]byte("* BYE Too many connections; close one and try again\r\n"))
		}
		_ = conn.Close()
	}
}

// startTLS makes the connection a TLS one; the handshake happens with the first byte, within
// the deadline of the login.
func (g *gate) startTLS() {
	secured := tls.Server(g.conn(), g.server.options.TLS)
	_ = secured.SetDeadline(g.deadline)
	g.mu.Lock()
	g.secure = true
	g.mu.Unlock()
	g.connMu.Lock()
	g.net = secured
	g.connMu.Unlock()
	g.in = bufio.NewReaderSize(secured, 4<<10)
}

func (g *gate) conn() net.Conn {
	g.connMu.Lock()
	defer g.connMu.Unlock()
	return g.net
}

// wake makes a Read that waits for a command look whether the server is closing.
func (g *gate) wake() {
	if g.waiting.Load() {
		_ = g.conn().SetReadDeadline(time.Unix(1, 0))
	}
}

// loggedIn lifts the limits that hold before login. Messages may have up to limit bytes; objectIDs says
// whether the provider has identifiers.
func (g *gate) loggedIn(limit int64, objectIDs bool) {
	g.limit.Store(limit)
	g.objectIDs.Store(objectIDs)
	g.authenticated.Store(true)
}

// selected says whether the mailbox that is being selected can be written to.
func (g *gate) selected(readOnly bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.readOnly = readOnly
}

// command is the name of the command that is being answered.
func (g *gate) command() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.name
}

// Read gives the library the next bytes of commands that it may see. It always ends in io.EOF: the
// library does not stop reading at other errors.
func (g *gate) Read(p []byte) (int, error) {
	for {
		switch {
		case len(g.ready) > 0:
			n := copy(p, g.ready)
			g.ready = g.ready[n:]
			return n, nil
		case g.message > 0:
			n, err := g.readMessage(p)
			if err == nil {
				return n, nil
			}
		default:
			if err := g.next(); err == nil {
				continue
			} else if !errors.Is(err, errHandled) {
				g.explain(err)
			}
		}
		_ = g.Close()
		return 0, io.EOF
	}
}

// readMessage reads from the literal of an APPEND, and what must follow it.
func (g *gate) readMessage(p []byte) (int, error) {
	g.expectProgress()
	n, err := g.in.Read(p[:min(int64(len(p)), g.message)])
	if g.message -= int64(n); err != nil || g.message > 0 {
		return n, err
	}
	rest, err := g.readLine(maxLiteral)
	if err != nil {
		return n, err
	}
	if text := strings.TrimSpace(rest); text != "" && text != ")" {
		return n, g.bye("APPEND takes one message")
	}
	g.ready = append(g.ready, strings.TrimSpace(rest)+"\r\n"...)
	return n, nil
}

// explain ends the connection with the reason why reading failed.
func (g *gate) explain(err error) {
	var timeout net.Error
	switch {
	case g.server.isClosing():
		_ = g.bye("Sealpost is shutting down")
	case errors.As(err, &timeout) && timeout.Timeout() && g.authenticated.Load():
		_ = g.bye("Autologout; idle for too long")
	case errors.As(err, &timeout) && timeout.Timeout():
		_ = g.bye("Autologout; no login in time")
	case !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed):
		g.server.log.Debug("imap: connection lost", "cause", err)
	}
}

// bye says why the connection ends and ends it.
func (g *gate) bye(text string) error {
	_ = g.say("* BYE " + text)
	_ = g.Close()
	return errHandled
}

// say writes lines of the gate's own.
func (g *gate) say(lines ...string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.write([]byte(strings.Join(lines, "\r\n") + "\r\n"))
}

func (g *gate) write(p []byte) error {
	conn := g.conn()
	_ = conn.SetWriteDeadline(time.Now().Add(progressTimeout))
	_, err := conn.Write(p)
	return err
}

// Write passes the library's answers on. The library flushes at the end of each response: a
// status line is one Write.
func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := p
	switch {
	case !g.greeted:
		g.greeted = true
		out = fmt.Appendf(nil, "* OK [CAPABILITY %s] Sealpost ready\r\n", g.capabilities())
	case (g.name == "LOGIN" || g.name == "AUTHENTICATE") && bytes.HasPrefix(p, []byte(g.tag+" OK [CAPABILITY ")):
		out = fmt.Appendf(nil, "%s OK [CAPABILITY %s] Logged in\r\n", g.tag, g.capabilities())
	case g.readOnly && g.name == "SELECT" && bytes.HasPrefix(p, []byte(g.tag+" OK [READ-WRITE] ")):
		out = bytes.Replace(p, []byte("READ-WRITE"), []byte("READ-ONLY"), 1)
	case g.newID != "" && g.name == "CREATE" && bytes.HasPrefix(p, []byte(g.tag+" OK ")):
		out = g.createdAnswer()
	case string(p) == g.tag+" NO [SERVERBUG] Internal server error\r\n":
		// So the library answers arguments that it cannot parse; the session's errors are never bare.
		out = []byte(g.tag + " BAD Malformed arguments\r\n")
	}
	if err := g.write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// capabilities of this moment; g.mu is held.
func (g *gate) capabilities() string {
	caps := "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ENABLE ID"
	switch {
	case g.authenticated.Load():
		if g.objectIDs.Load() {
			caps += " OBJECTID"
		}
		return caps + " IDLE NAMESPACE UNSELECT UIDPLUS ESEARCH SEARCHRES LIST-EXTENDED LIST-STATUS CHILDREN MOVE STATUS=SIZE BINARY SPECIAL-USE CREATE-SPECIAL-USE" +
			" SORT SORT=DISPLAY THREAD=ORDEREDSUBJECT THREAD=REFERENCES PREVIEW WITHIN UTF8=ACCEPT QUOTA" +
			fmt.Sprintf(" APPENDLIMIT=%d", g.limit.Load())
	case g.mayLogin():
		caps += " AUTH=PLAIN"
	default:
		caps += " LOGINDISABLED"
	}
	if !g.secure && g.server.options.TLS != nil {
		caps += " STARTTLS"
	}
	return caps
}

// mayLogin says whether a password may be sent; g.mu is held.
func (g *gate) mayLogin() bool { return g.secure || g.server.options.AllowInsecureAuth }

// Close ends the connection.
func (g *gate) Close() error {
	g.server.remove(g)
	return g.conn().Close()
}

func (g *gate) LocalAddr() net.Addr  { return g.conn().LocalAddr() }
func (g *gate) RemoteAddr() net.Addr { return g.conn().RemoteAddr() }

// The library's deadlines are absolute, however much has been read or written: the gate sets its own.
func (g *gate) SetDeadline(time.Time) error      { return nil }
func (g *gate) SetReadDeadline(time.Time) error  { return nil }
func (g *gate) SetWriteDeadline(time.Time) error { return nil }

// expectCommand gives the client time to send the next command.
func (g *gate) expectCommand() {
	g.waiting.Store(true)
	g.setReadDeadline(time.Now().Add(idleTimeout))
	if g.server.isClosing() {
		g.wake()
	}
}

// expectProgress gives the client time for the next bytes of what it has begun to send.
func (g *gate) expectProgress() {
	g.waiting.Store(false)
	g.setReadDeadline(time.Now().Add(progressTimeout))
}

// setReadDeadline sets a deadline, never one after that of the login.
func (g *gate) setReadDeadline(t time.Time) {
	if !g.authenticated.Load() && t.After(g.deadline) {
		t = g.deadline
	}
	_ = g.conn().SetReadDeadline(t)
}
