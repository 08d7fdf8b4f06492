package upstream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// imapConn is the connection go-imap's client gets. Reads come from the filter; deadlines
// are ours: go-imap sets absolute ones (30 s for a response, 5 min for a literal), which cut slow
// but living transfers off, and none at all while it waits for an answer. Here a connection
// fails when an answer is due and nothing has moved for the time-out.
type imapConn struct {
	net.Conn
	source  io.Reader // what the client reads: filtered
	timeout time.Duration
	asked   atomic.Uint32 // inquiries so far
	inquiry *inquiries
	mailbox *mailboxID

	mu       sync.Mutex
	err      error
	progress time.Time
	sent     commandLog
}

// newIMAPConn takes a logged-in connection over.
func newIMAPConn(l *imapLogin, limits limits, hint func()) *imapConn {
	c := &imapConn{Conn: l.conn, timeout: l.timeout, progress: time.Now()}
	raw := &progressReader{conn: c, reader: l.reader}
	f := newFilter(raw, l.greetingForClient(), limits, c.answered, hint)
	c.source, c.inquiry, c.mailbox = f, &f.inquiry, &f.mailbox
	return c
}

// greetingForClient makes go-imap start in the authenticated state, without asking for the
// capabilities again.
func (l *imapLogin) greetingForClient() string {
	var s strings.Builder
	s.WriteString("* PREAUTH [CAPABILITY IMAP4rev1")
	for c := range l.caps {
		if c != "IMAP4REV1" && c != "IMAP4REV2" && !strings.ContainsAny(c, "\"()[]{}\\%*") {
			s.WriteString(" " + c)
		}
	}
	s.WriteString("] ready\r\n")
	return s.String()
}

// Read is for the client's reading goroutine.
func (c *imapConn) Read(p []byte) (int, error) {
	n, err := c.source.Read(p)
	if err != nil {
		c.fail(err)
	}
	return n, err
}

func (c *imapConn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}

// broken is why the connection cannot be used any more, or nil.
func (c *imapConn) broken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// busy says whether the server still owes an answer.
func (c *imapConn) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent.due() || c.sent.idling
}

// Write sends in pieces, each of which must go out within the time-out.
func (c *imapConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.sent.write(p)
	c.progress = time.Now()
	c.mu.Unlock()
	n, err := writePieces(c.Conn, p, c.timeout)
	if err != nil {
		c.fail(err)
	}
	c.mu.Lock()
	c.progress = time.Now()
	c.mu.Unlock()
	return n, err
}

const writePiece = 64 << 10

func writePieces(conn net.Conn, p []byte, timeout time.Duration) (int, error) {
	done := 0
	for done < len(p) {
		_ = conn.SetWriteDeadline(time.Now().Add(timeout))
		n, err := conn.Write(p[done:min(len(p), done+writePiece)])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// answered is told of every response that ends a command ("" for a continuation request)
// and says whether it was expected.
func (c *imapConn) answered(tag string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent.answered(tag)
}

// The client's own deadlines are ignored, see imapConn.
func (c *imapConn) SetDeadline(time.Time) error      { return nil }
func (c *imapConn) SetReadDeadline(time.Time) error  { return nil }
func (c *imapConn) SetWriteDeadline(time.Time) error { return nil }

// progressReader reads from the network for as long as there is progress, or nothing is due.
type progressReader struct {
	conn   *imapConn
	reader io.Reader
}

func (r *progressReader) Read(p []byte) (int, error) {
	r.conn.touch() // a slow consumer is not the server's fault
	for {
		_ = r.conn.Conn.SetReadDeadline(time.Now().Add(r.conn.timeout))
		n, err := r.reader.Read(p)
		if n > 0 {
			r.conn.touch()
			return n, nil
		}
		if err == nil || (errors.Is(err, os.ErrDeadlineExceeded) && !r.conn.overdue()) {
			continue
		}
		return 0, err
	}
}

func (c *imapConn) touch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.progress = time.Now()
}

func (c *imapConn) overdue() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent.due() && time.Since(c.progress) >= c.timeout
}

// commandLog follows the commands the client writes: which are unanswered, and whether
// an IDLE is running.
type commandLog struct {
	open        map[string]bool // tags of unanswered commands
	idle        string          // tag of an IDLE that is open
	idling      bool            // the server has accepted it
	line        []byte          // the beginning of the command line being written
	literalLeft int64
	continued   bool // the line goes on after a literal
	waiting     bool // for a continuation request
}

// due says whether an answer is outstanding. A running IDLE waits as long as it likes.
func (l *commandLog) due() bool {
	n := len(l.open)
	if l.idling && l.open[l.idle] {
		n--
	}
	return n > 0
}

func (l *commandLog) write(p []byte) {
	for len(p) > 0 {
		if l.literalLeft > 0 {
			n := min(l.literalLeft, int64(len(p)))
			l.literalLeft -= n
			p = p[n:]
			continue
		}
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			l.line = append(l.line, p...)
			return
		}
		l.line = append(l.line, p[:end+1]...)
		p = p[end+1:]
		l.command()
		l.line = l.line[:0]
	}
}

// command takes note of a complete line.
func (l *commandLog) command() {
	line := trimEOL(l.line)
	if !l.continued {
		l.begin(line)
	}
	size, ok := literalAtEnd(line)
	l.literalLeft, l.continued = size, ok
	if ok && !strings.HasSuffix(line, "+}") {
		l.waiting = true
	}
}

func (l *commandLog) begin(line string) {
	tag, rest, ok := strings.Cut(line, " ")
	if line == "DONE" {
		l.idling = false
		return
	}
	if !ok {
		return
	}
	if l.open == nil {
		l.open = map[string]bool{}
	}
	l.open[tag] = true
	if rest == "IDLE" {
		l.idle, l.waiting = tag, true
	}
}

func (l *commandLog) answered(tag string) (expected bool) {
	if tag == "" {
		expected = l.waiting
		l.waiting, l.idling = false, l.idle != ""
		return expected
	}
	expected = l.open[tag]
	delete(l.open, tag)
	l.waiting = false
	if tag == l.idle {
		l.idle, l.idling = "", false
	}
	return expected
}
