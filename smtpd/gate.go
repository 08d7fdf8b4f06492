package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// gate is a client's connection below the library. It hands the library one line at a time, so that
// what is written next answers that line, and does what the library cannot: STARTTLS that forgets
// everything and never falls back to plain text, AUTH only where allowed, no BDAT, bounded lines,
// deadlines by progress, and the announced SIZE.
type gate struct {
	net.Conn
	e      *entrance
	in     *bufio.Reader
	secure bool

	// Of the library's goroutine alone.
	pending  []byte       // passed on but not read yet
	received int64        // octets of the message being received
	lines    contentLines // of that message
	failures int          // wrong passwords so far

	ehlo      bool            // the reply to EHLO is being written
	challenge bool            // the next line answers a challenge of AUTH (RFC 4954 §4)
	limit     int64           // of the message
	silent    bool            // the greeting was given before STARTTLS
	offers    map[string]bool // at a relay: of the extensions passed on, which to offer

	// Shared with Shutdown.
	mu      sync.Mutex
	content bool // between 354 and the end of the reply to the message
	last    bool // close after the next reply
	shaking bool // a TLS handshake goes on: not a word in plain text
	handed  bool // another gate has the connection now
	replies int  // to the message, that are still to come; see expectReplies
}

func newGate(e *entrance, c net.Conn, secure bool) *gate {
	return &gate{Conn: c, e: e, in: bufio.NewReaderSize(c, maxCommandLine), secure: secure}
}

// SetDeadline and its like are the library's: one for all of DATA, which a large message on a slow
// line outlasts. The gate sets its own, for each read and write.
func (g *gate) SetDeadline(time.Time) error      { return nil }
func (g *gate) SetReadDeadline(time.Time) error  { return nil }
func (g *gate) SetWriteDeadline(time.Time) error { return nil }

func (g *gate) Read(b []byte) (int, error) {
	for len(g.pending) == 0 {
		if err := g.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, g.pending)
	g.pending = g.pending[n:]
	return n, nil
}

// fill reads the next line and passes it on if the library shall see it.
func (g *gate) fill() error {
	if err := g.Conn.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
		return err
	}
	line, err := g.in.ReadSlice('\n')
	long := errors.Is(err, bufio.ErrBufferFull)
	if err != nil && !long {
		return err
	}
	g.mu.Lock()
	content := g.content
	g.mu.Unlock()
	switch {
	case content:
		return g.body(line)
	case long:
		return g.end("500 5.5.2 Line too long")
	case g.challenge:
		g.pending = line
		return nil
	}
	return g.command(line)
}

// body ends a connection that goes on sending far beyond the limit; a little too much is drained and
// refused. Dots may double the size (RFC 5321 §4.5.2).
func (g *gate) body(line []byte) error {
	g.received += int64(len(line))
	if g.received > 2*g.limit+1<<20 {
		return g.end("552 5.3.4 Message too large")
	}
	g.pending = g.lines.next(line)
	return nil
}

func (g *gate) command(line []byte) error {
	g.received, g.lines = 0, contentLines{}
	if bytes.ContainsFunc(bytes.TrimRight(line, "\r\n"), isControl) {
		return g.reply("500 5.5.2 Control characters in a command")
	}
	verb := strings.ToUpper(string(line[:min(len(line), 8)]))
	switch {
	case strings.HasPrefix(verb, "STARTTLS"):
		return g.startTLS()
	case strings.HasPrefix(verb, "BDAT"):
		// Not offered (RFC 3030), and what follows would be taken for commands.
		return g.end("502 5.5.1 BDAT is not offered here")
	case strings.HasPrefix(verb, "AUTH") && !g.mayAuth():
		return g.reply("530 5.7.0 Must issue a STARTTLS command first")
	}
	g.ehlo = strings.HasPrefix(verb, "EHLO") || strings.HasPrefix(verb, "LHLO")
	if g.e.s.o.Relay != nil {
		line = internationalRecipient(line)
	}
	g.pending = line
	return nil
}

func isControl(r rune) bool { return (r < ' ' && r != '\t') || r == 0x7f }

func (g *gate) mayAuth() bool { return g.secure || g.e.s.o.AllowInsecureAuth }

// mayStartTLS says whether STARTTLS is to be offered.
func (g *gate) mayStartTLS() bool { return !g.secure && g.e.s.o.TLS != nil }

// startTLS gives the connection to a new gate with a new session, so that nothing said in plain text
// survives (RFC 3207 §4.2). What was sent behind the command in plain text, or a handshake that fails,
// ends the connection.
func (g *gate) startTLS() error {
	if !g.mayStartTLS() {
		return g.reply("502 5.5.1 STARTTLS is not available")
	}
	if g.in.Buffered() > 0 {
		return g.end("554 5.7.0 Commands behind STARTTLS")
	}
	if err := g.reply("220 2.0.0 Ready to start TLS"); err != nil {
		return err
	}
	g.shake(true)
	return io.EOF
}

// shake does the TLS handshake and gives the connection to a new gate. If it fails, the
// connection is closed: not a word in plain text follows.
func (g *gate) shake(greeted bool) {
	g.mu.Lock()
	g.shaking = true
	g.mu.Unlock()
	ctx, cancel := context.WithTimeout(g.e.s.ctx, handshakeTime)
	defer cancel()
	secured := tls.Server(g.Conn, g.e.s.o.TLS)
	if secured.HandshakeContext(ctx) != nil {
		_ = g.Close()
		return
	}
	next := newGate(g.e, secured, true)
	next.silent, next.failures = greeted, g.failures
	g.mu.Lock()
	g.handed = true
	g.mu.Unlock()
	g.e.s.leave(g)
	if !g.e.s.enter(next) {
		_ = secured.Close()
		return
	}
	g.e.hand(next)
}

// Close ends the connection, unless another gate has it.
func (g *gate) Close() error {
	g.e.s.leave(g)
	g.mu.Lock()
	handed := g.handed
	g.mu.Unlock()
	if handed {
		return nil
	}
	return g.Conn.Close()
}

// Write sends a reply of the library, which writes each line at once.
func (g *gate) Write(b []byte) (int, error) {
	if g.silent {
		g.silent = false
		return len(b), nil
	}
	line := b
	if g.ehlo {
		line = g.extension(b)
		g.ehlo = bytes.HasPrefix(b, []byte("250-"))
	}
	if len(line) == 0 {
		return len(b), nil
	}
	if err := g.send(line, writeTimeout); err != nil {
		return 0, err
	}
	g.challenge = bytes.HasPrefix(b, []byte("334"))
	if len(line) > 3 && line[3] != '-' { // the reply is complete
		g.replied(bytes.HasPrefix(b, []byte("354")))
	}
	return len(b), nil
}

// replied notes what follows a complete reply.
func (g *gate) replied(content bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.replies--; g.replies > 0 && !content {
		return
	}
	g.content = content
	if g.last && !content {
		_ = g.Conn.Close()
	}
}

// expectReplies says that so many replies will follow to the message (RFC 2033 §4.2).
func (g *gate) expectReplies(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.replies = n
}

// extension is the line of EHLO's reply as it shall read (RFC 5321 §4.1.1.1); none: it is left out.
func (g *gate) extension(line []byte) []byte {
	switch word := strings.TrimSpace(string(line[min(len(line), 4):])); {
	case word == "CHUNKING" && g.mayStartTLS():
		return []byte("250-STARTTLS\r\n")
	case word == "CHUNKING":
		return nil
	case strings.HasPrefix(word, "AUTH ") && !g.mayAuth():
		return nil
	case g.offers != nil && slices.Contains(passedOn, word) && !g.offers[word]:
		return nil
	case word == "SIZE" && g.e.s.o.MaxMessageSize != nil:
		if size := g.e.s.o.MaxMessageSize(); size > 0 {
			return fmt.Appendf(nil, "%sSIZE %d\r\n", line[:4], size)
		}
	}
	return line
}

func (g *gate) send(b []byte, timeout time.Duration) error {
	if err := g.Conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	_, err := g.Conn.Write(b)
	return err
}

// reply answers in the library's place.
func (g *gate) reply(text string) error { return g.send([]byte(text+"\r\n"), writeTimeout) }

// end answers and closes.
func (g *gate) end(text string) error {
	err := g.reply(text)
	_ = g.Close()
	if err != nil {
		return err
	}
	return io.EOF
}

// endAfterReply closes once the reply being prepared is written.
func (g *gate) endAfterReply() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = true
}

// retire closes now, or after the transaction that is going on (RFC 5321 §3.8).
func (g *gate) retire() {
	g.mu.Lock()
	g.last = true
	busy, shaking := g.content, g.shaking
	g.mu.Unlock()
	if busy {
		return
	}
	if !shaking {
		_ = g.send([]byte("421 4.3.2 Sealpost is shutting down\r\n"), farewellTime)
	}
	_ = g.Close()
}
