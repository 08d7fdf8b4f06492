package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	commandTime = 5 * time.Minute // for one command
	maxAnswer   = 1 << 30         // bytes of one command's answer
)

// imapClient knows as little of IMAP as measuring needs, so that what it costs is small and the same for
// every server: it reads lines and literals up to the tagged one.
type imapClient struct {
	conn net.Conn
	r    *bufio.Reader
	line []byte
	tag  int
}

// answer is what a command brought.
type answer struct {
	bytes   int64
	fetched int    // FETCH responses
	numbers int    // in SEARCH, SORT and THREAD responses
	exists  int    // of the last EXISTS; -1 without one
	caps    string // of CAPABILITY, in capitals
}

// dialIMAP connects, without TLS, and logs in.
func dialIMAP(address, username, password string) (*imapClient, error) {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return nil, err
	}
	c := &imapClient{conn: conn, r: bufio.NewReaderSize(conn, 256<<10)}
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err = c.readLine(); err == nil {
		_, err = c.do("LOGIN " + quoted(username) + " " + quoted(password))
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("login at %s: %w", address, err)
	}
	return c, nil
}

func quoted(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// close says goodbye.
func (c *imapClient) close() {
	_, _ = c.do("LOGOUT")
	_ = c.conn.Close()
}

// do sends a command and reads its whole answer; anything but OK is an error.
func (c *imapClient) do(command string) (answer, error) {
	c.tag++
	tag := "b" + strconv.Itoa(c.tag)
	_ = c.conn.SetDeadline(time.Now().Add(commandTime))
	a := answer{exists: -1}
	if _, err := io.WriteString(c.conn, tag+" "+command+"\r\n"); err != nil {
		return a, err
	}
	for a.bytes < maxAnswer {
		line, err := c.readLine()
		if err != nil {
			return a, fmt.Errorf("%.40s: %w", command, err)
		}
		a.bytes += int64(len(line))
		if rest, ok := bytes.CutPrefix(line, []byte(tag+" ")); ok {
			return a, taggedError(command, rest)
		}
		a.note(line)
		if err := c.skipLiterals(&a, line); err != nil {
			return a, err
		}
	}
	return a, errors.New("the answer is too long")
}

// taggedError never shows the arguments of a login.
func taggedError(command string, rest []byte) error {
	if bytes.HasPrefix(rest, []byte("OK")) {
		return nil
	}
	verb, _, _ := strings.Cut(command, " ")
	return fmt.Errorf("%s: %s", verb, bytes.TrimSpace(rest))
}

// skipLiterals reads on while the response continues after a literal.
func (c *imapClient) skipLiterals(a *answer, line []byte) error {
	for {
		size, ok := literal(line)
		if !ok {
			return nil
		}
		if a.bytes += size; a.bytes > maxAnswer {
			return errors.New("the answer is too long")
		}
		if _, err := io.CopyN(io.Discard, c.r, size); err != nil {
			return err
		}
		var err error
		if line, err = c.readLine(); err != nil {
			return err
		}
		a.bytes += int64(len(line))
	}
}

// literal is the size announced at the end of a line.
func literal(line []byte) (int64, bool) {
	line = bytes.TrimRight(line, "\r\n")
	open := bytes.LastIndexByte(line, '{')
	if open < 0 || line[len(line)-1] != '}' {
		return 0, false
	}
	size, err := strconv.ParseInt(string(line[open+1:len(line)-1]), 10, 64)
	return size, err == nil && size >= 0
}

// readLine returns a line that is valid until the next call.
func (c *imapClient) readLine() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if err == nil {
		return line, nil
	}
	c.line = append(c.line[:0], line...)
	for errors.Is(err, bufio.ErrBufferFull) && len(c.line) < maxAnswer {
		line, err = c.r.ReadSlice('\n')
		c.line = append(c.line, line...)
	}
	return c.line, err
}

// note keeps what tells a right answer from a wrong one.
func (a *answer) note(line []byte) {
	kind, rest, _ := bytes.Cut(bytes.TrimPrefix(line, []byte("* ")), []byte(" "))
	switch string(kind) {
	case "SEARCH", "SORT", "THREAD":
		a.numbers += countNumbers(rest)
		return
	case "CAPABILITY":
		a.caps = " " + strings.ToUpper(string(bytes.TrimSpace(rest))) + " "
		return
	}
	switch {
	case bytes.HasPrefix(rest, []byte("FETCH ")):
		a.fetched++
	case bytes.HasPrefix(rest, []byte("EXISTS")):
		if n, err := strconv.Atoi(string(kind)); err == nil {
			a.exists = n
		}
	}
}

func countNumbers(text []byte) int {
	n, inside := 0, false
	for _, c := range text {
		digit := c >= '0' && c <= '9'
		if digit && !inside {
			n++
		}
		inside = digit
	}
	return n
}
