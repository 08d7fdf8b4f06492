package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// sender hands messages to a server, over several connections at once.
type sender struct {
	address     string // host:port
	lmtp        bool   // RFC 2033
	from        string
	to          []string
	connections int
}

// send hands in messages 0 to count-1; body makes one, with CRLF and without lines that begin with a dot.
func (s sender) send(ctx context.Context, count int, body func(i int) []byte) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(s.connections, count) {
		group.Go(func() error {
			c, err := s.dial(ctx)
			if err != nil {
				return err
			}
			defer c.conn.Close()
			for i := next.Add(1) - 1; i < int64(count); i = next.Add(1) - 1 {
				if err := c.message(body(int(i))); err != nil {
					return fmt.Errorf("message %d to %s: %w", i, s.address, err)
				}
			}
			return c.command("QUIT\r\n", "221", 1)
		})
	}
	return group.Wait()
}

// sending is one connection.
type sending struct {
	sender
	conn net.Conn
	in   *bufio.Reader
}

func (s sender) dial(ctx context.Context) (*sending, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	c := &sending{s, conn, bufio.NewReader(conn)}
	hello := "EHLO"
	if s.lmtp {
		hello = "LHLO"
	}
	if err := c.command("", "220", 1); err != nil {
		return nil, err
	}
	return c, c.command(hello+" bench.test\r\n", "250", 1)
}

// message runs one transaction, its envelope in one go (RFC 2920).
func (c *sending) message(body []byte) error {
	envelope := "MAIL FROM:<" + c.from + ">\r\n"
	for _, to := range c.to {
		envelope += "RCPT TO:<" + to + ">\r\n"
	}
	if err := c.command(envelope, "250", 1+len(c.to)); err != nil {
		return err
	}
	if err := c.command("DATA\r\n", "354", 1); err != nil {
		return err
	}
	if _, err := c.conn.Write(body); err != nil {
		return err
	}
	replies := 1
	if c.lmtp {
		replies = len(c.to)
	}
	return c.command(".\r\n", "250", replies)
}

// command writes text, and reads as many replies, which must have that code.
func (c *sending) command(text, code string, replies int) error {
	if _, err := c.conn.Write([]byte(text)); err != nil {
		return err
	}
	for replies > 0 {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, code) {
			return fmt.Errorf("the answer is %q", line)
		}
		if len(line) > 3 && line[3] != '-' {
			replies--
		}
	}
	return nil
}
