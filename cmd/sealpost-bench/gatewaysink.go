package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// sink is where all mail ends: an SMTP server that looks at every message and throws it away.
type sink struct {
	listener net.Listener

	mu      sync.Mutex
	arrived int       // of the run
	last    time.Time // when
	sample  []byte    // the newest message
	judge   func(message []byte) error
	wrong   error // the first
}

func startSink() (*sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{listener: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s, nil
}

func (s *sink) address() string { return s.listener.Addr().String() }

// expect begins a run, whose messages judge looks at.
func (s *sink) expect(judge func(message []byte) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrived, s.wrong, s.sample, s.judge = 0, nil, nil, judge
}

// wait returns when count messages have arrived: when the last one did, and what was wrong with one.
func (s *sink) wait(ctx context.Context, count int) (time.Time, error) {
	for {
		s.mu.Lock()
		arrived, last, wrong := s.arrived, s.last, s.wrong
		s.mu.Unlock()
		if arrived > count {
			wrong = errors.Join(wrong, fmt.Errorf("%d messages were sent, %d have arrived", count, arrived))
		}
		if wrong != nil || arrived == count {
			return last, wrong
		}
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("%d of %d messages have arrived: %w", arrived, count, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// newest is the message that came last.
func (s *sink) newest() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sample
}

func (s *sink) take(message []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrived++
	s.last, s.sample = time.Now(), message
	if s.judge != nil && s.wrong == nil {
		s.wrong = s.judge(message)
	}
}

// serve speaks as much SMTP as an MTA needs (RFC 5321).
func (s *sink) serve(c net.Conn) {
	defer c.Close()
	in, out := bufio.NewReaderSize(c, 64<<10), bufio.NewWriter(c)
	fmt.Fprint(out, "220 sink ESMTP\r\n")
	for {
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch verb := strings.ToUpper(line[:min(4, len(line))]); verb {
		case "EHLO":
			fmt.Fprint(out, "250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 DSN\r\n")
		case "DATA":
			fmt.Fprint(out, "354 go on\r\n")
			if out.Flush() != nil {
				return
			}
			message, err := readMessage(in)
			if err != nil {
				return
			}
			s.take(message)
			fmt.Fprint(out, "250 thanks\r\n")
		case "QUIT":
			fmt.Fprint(out, "221 bye\r\n")
			_ = out.Flush()
			return
		default:
			fmt.Fprint(out, "250 ok\r\n")
		}
	}
}

// readMessage reads up to the line with a dot alone; dots that were doubled stay so.
func readMessage(in *bufio.Reader) ([]byte, error) {
	var b bytes.Buffer
	start := true
	for {
		line, err := in.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, io.ErrUnexpectedEOF
		}
		if start && string(line) == ".\r\n" {
			return b.Bytes(), nil
		}
		b.Write(line)
		start = err == nil
	}
}
