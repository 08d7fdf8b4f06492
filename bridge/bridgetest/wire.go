package bridgetest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
)

// wire is a client's connection below the protocol library. It hands the library one line at a
// time, so that what is written next answers that line, and lets faults strike in between.
type wire struct {
	net.Conn
	p        *Provider
	protocol string
	in       *bufio.Reader

	// Of the reading side alone.
	pending   []byte // passed on but not read yet
	continued bool   // the next line belongs to the command before
	begun     bool   // the next octets belong to the line before
	swallow   string // the rest of this command is dropped, then this is answered

	// Shared with the writing side.
	mu      sync.Mutex
	literal int64  // octets of a literal still to come (RFC 3501 §4.3)
	offered int64  // size of a synchronizing literal, until the server invites it
	content bool   // after 354 (RFC 5321 §4.1.1.4)
	silent  bool   // the greeting was given already
	after   *Fault // strikes at the answer that begins with answer
	answer  string
}

func newWire(c net.Conn, p *Provider, protocol string) *wire {
	return &wire{Conn: c, p: p, protocol: protocol, in: bufio.NewReaderSize(c, 64<<10)}
}

func (w *wire) Read(b []byte) (int, error) {
	for len(w.pending) == 0 {
		if err := w.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, w.pending)
	w.pending = w.pending[n:]
	return n, nil
}

// fill reads the next line, or a piece of a literal or of a very long line, and passes it on.
func (w *wire) fill() error {
	if done, err := w.fillLiteral(); done || err != nil {
		return err
	}
	line, err := w.in.ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return err
	}
	begins := !w.begun && !w.continued
	w.begun = err != nil
	if w.inContent() {
		w.pending = line
		return nil
	}
	if begins {
		if passed, err := w.command(line); !passed {
			return err
		}
	}
	w.frame(line)
	if w.swallow == "" {
		w.pending = line
		return nil
	}
	return w.endSwallow()
}

func (w *wire) fillLiteral() (bool, error) {
	w.mu.Lock()
	left := w.literal
	w.mu.Unlock()
	if left == 0 {
		return false, nil
	}
	chunk := make([]byte, min(left, 32<<10))
	n, err := w.in.Read(chunk)
	w.mu.Lock()
	w.literal -= int64(n)
	w.mu.Unlock()
	if w.swallow == "" {
		w.pending = chunk[:n]
	}
	return true, err
}

// inContent says whether the client is sending a message: from 354 until the server answers. What ends
// the message is the library's judgement alone.
func (w *wire) inContent() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.content
}

// command lets faults strike at a command's first line; false: it does not reach the server.
func (w *wire) command(line []byte) (bool, error) {
	tag, verb := w.parse(string(line))
	fault, struck := w.p.faults.strike(w.protocol, verb, string(line))
	if !struck && verb == "APPEND" && announced(line) > w.p.o.MaxMessageSize {
		// The library does not drain what it refuses, and takes the message for commands.
		fault, struck = Fault{Reply: "NO [TOOBIG] The message is too large"}, true
	}
	if !struck {
		return true, nil
	}
	if fault.After {
		w.arm(fault, tag)
		return true, nil
	}
	wait(fault.Delay)
	if fault.Drop {
		return false, w.drop()
	}
	if fault.Reply != "" {
		w.swallow = strings.TrimPrefix(tag+" "+fault.Reply, " ")
	}
	return true, nil
}

// parse splits off IMAP's tag and finds the verb, in capitals.
func (w *wire) parse(line string) (tag, verb string) {
	words := strings.Fields(strings.ToUpper(line))
	if len(words) == 0 {
		return "", ""
	}
	if w.protocol == "smtp" {
		return "", words[0]
	}
	tag, _, _ = strings.Cut(strings.TrimSpace(line), " ")
	switch {
	case len(words) > 2 && words[1] == "UID":
		return tag, "UID " + words[2]
	case len(words) > 1:
		return tag, words[1]
	}
	return tag, ""
}

// frame notes whether a literal follows the line.
func (w *wire) frame(line []byte) {
	w.continued = false
	size := announced(line)
	if w.protocol != "imap" || size < 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case bytes.HasSuffix(line, []byte("+}\r\n")):
		w.literal, w.continued = size, true
	case w.swallow == "": // else the answer comes instead of the invitation, and no literal follows
		w.offered, w.continued = size, true
	}
}

// announced is the size of the literal that a line ends with, or -1.
func announced(line []byte) int64 {
	at := bytes.LastIndexByte(line, '{')
	if at < 0 || !bytes.HasSuffix(line, []byte("}\r\n")) {
		return -1
	}
	digits := strings.TrimSuffix(string(line[at+1:len(line)-3]), "+")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// endSwallow answers once the whole command has been read.
func (w *wire) endSwallow() error {
	if w.continued || w.begun {
		return nil
	}
	answer := w.swallow
	w.swallow = ""
	_, err := fmt.Fprintf(w.Conn, "%s\r\n", answer)
	return err
}

func (w *wire) arm(f Fault, tag string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.after, w.answer = &f, tag
	if tag != "" {
		w.answer = tag + " "
	}
}

func (w *wire) drop() error {
	_ = w.Conn.Close()
	return io.EOF
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	silent := w.silent
	w.silent = false
	w.follow(b)
	var fault *Fault
	if w.after != nil && bytes.HasPrefix(b, []byte(w.answer)) {
		fault, w.after = w.after, nil
	}
	w.mu.Unlock()
	if silent {
		return len(b), nil
	}
	if fault == nil {
		return w.Conn.Write(b)
	}
	return w.strikeAnswer(*fault, b)
}

// follow learns from the server's answer what the client will send next; the lock is held.
func (w *wire) follow(b []byte) {
	switch {
	case w.protocol == "smtp":
		w.content = bytes.HasPrefix(b, []byte("354"))
	case bytes.HasPrefix(b, []byte("+ ")) && w.offered > 0:
		w.literal, w.offered = w.offered, 0
	case w.offered > 0 && !bytes.HasPrefix(b, []byte("* ")):
		w.offered, w.continued = 0, false // refused
	}
}

// strikeAnswer replaces the answer of a command that has taken effect.
func (w *wire) strikeAnswer(f Fault, b []byte) (int, error) {
	wait(f.Delay)
	if f.Drop {
		return 0, w.drop()
	}
	if f.Reply == "" {
		return w.Conn.Write(b)
	}
	w.mu.Lock()
	answer := w.answer
	w.mu.Unlock()
	_, err := fmt.Fprintf(w.Conn, "%s%s\r\n", answer, f.Reply)
	return len(b), err
}
