package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/emersion/go-smtp"

	"github.com/sealpost/sealpost/bridge/bridgetest"
)

// The gateway is measured alone, between a load and a sink in this process, with one core: how many messages a second of processor
// time it takes. gatewaypath.go measures it beside Postfix and a filter that starts gpg.

const (
	gatewayUser   = "alice@alpha.test"
	gatewayFriend = "bob@bravo.test" // has a fixed certificate, as all friends have
)

// sizing is how much the gateway does at one size.
type sizing struct {
	Kind     string  `json:"kind"`
	Size     int     `json:"size"` // bytes of a message
	Messages int     `json:"messages"`
	PerCore  float64 `json:"per_core"` // messages in a second of processor time
	Elapsed  float64 `json:"elapsed"`  // seconds
	Warm     int64   `json:"warm"`     // bytes of memory after the first tenth
	End      int64   `json:"end"`      // and at the end
	Peak     int64   `json:"peak"`
}

// gatewayBench is a gateway between a load and a sink.
type gatewayBench struct {
	program program
	daemon  *daemon
	sink    *sink
	out, in string // addresses
}

// sink takes whatever comes and counts it.
type sink struct {
	server   *smtp.Server
	address  string
	messages atomic.Int64
	keep     atomic.Bool
	last     atomic.Pointer[[]byte] // the newest message, while keep
}

func startSink() (*sink, error) {
	s := &sink{}
	s.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &sinkSession{s: s}, nil }))
	s.server.Domain, s.server.MaxLineLength = "sink.test", 1<<20
	s.server.EnableSMTPUTF8, s.server.EnableDSN = true, true
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.address = l.Addr().String()
	go func() { _ = s.server.Serve(l) }()
	return s, nil
}

// wait waits until so many messages more than before have come.
func (s *sink) wait(ctx context.Context, count int64) error {
	for s.messages.Load() < count {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages arrived: %w", s.messages.Load(), count, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

type sinkSession struct{ s *sink }

func (s *sinkSession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *sinkSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s *sinkSession) Reset()                               {}
func (s *sinkSession) Logout() error                        { return nil }
func (s *sinkSession) Data(r io.Reader) error {
	var kept bytes.Buffer
	w := io.Discard
	if s.s.keep.Load() {
		w = &kept
	}
	if _, err := io.Copy(w, r); err != nil {
		return err
	}
	if data := kept.Bytes(); len(data) > 0 {
		s.s.last.Store(&data)
	}
	s.s.messages.Add(1)
	return nil
}

// gatewayConfig is what both measurements have in common.
func gatewayConfig(p program, rest string) error {
	if err := os.MkdirAll(p.path(".config/sealpost"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(p.path("passphrase"), []byte("open sesame"), 0o600); err != nil {
		return err
	}
	text := "[local]\nimap = \"\"\nimaps = \"\"\nsmtp = \"\"\nsmtps = \"\"\ndashboard = \"\"\n[vault]\nunlock = [\"file\"]\npassphrase_file = \"" + p.path("passphrase") +
		"\"\n[keydisc]\nmethods = [\"contacts\"]\n[gateway]\ndomains = [\"alpha.test\"]\n" + rest
	return os.WriteFile(p.path(".config/sealpost/config.toml"), []byte(text), 0o600)
}

// knowFriends imports the fixed certificates.
func knowFriends(ctx context.Context, p program) error {
	for _, address := range bridgetest.Keys()[1:] {
		if err := os.WriteFile(p.path("certificate"), bridgetest.PublicKey(address), 0o600); err != nil {
			return err
		}
		if _, err := p.run(ctx, "contact", "import", p.path("certificate")); err != nil {
			return err
		}
	}
	return nil
}

func startGateway(ctx context.Context, p program) (*gatewayBench, error) {
	s, err := startSink()
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	g := &gatewayBench{program: p, sink: s, out: "127.0.0.1:" + ports[0], in: "127.0.0.1:" + ports[1]}
	err = gatewayConfig(p, fmt.Sprintf("outbound = \"lmtp://%s\"\ninbound = \"lmtp://%s\"\nnext_hop_outbound = %q\nnext_hop_inbound = %q\n", g.out, g.in, s.address, s.address))
	if err == nil {
		err = knowFriends(ctx, p)
	}
	if err == nil {
		g.daemon, err = p.start(ctx)
	}
	return g, err
}

// freePorts are ports below those that clients get.
func freePorts(n int) (ports []string, err error) {
	for port := 20000 + os.Getpid()*7%6000; len(ports) < n && port < 32000; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer l.Close()
		ports = append(ports, fmt.Sprint(port))
	}
	if len(ports) < n {
		return nil, errors.New("no free ports between 20000 and 32000")
	}
	return ports, nil
}

// plainOf is a message of some size from the company's user.
func plainOf(size int) []byte {
	head := "From: " + gatewayUser + "\r\nTo: " + gatewayFriend + "\r\nSubject: benchmark\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n"
	line := strings.Repeat("The quick brown fox jumps over the lazy dog. ", 2)[:76] + "\r\n"
	return []byte(head + strings.Repeat(line, max(1, (size-len(head))/len(line))))
}

// handIn sends a message so many times, over some connections, each as an MTA does: the next when the one before is answered.
func handIn(ctx context.Context, address, from string, to []string, message []byte, count, connections int) error {
	var left atomic.Int64
	left.Store(int64(count))
	errs := make([]error, connections)
	var all sync.WaitGroup
	for i := range connections {
		all.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				errs[i] = err
				return
			}
			c := smtp.NewClientLMTP(conn)
			defer c.Close()
			for left.Add(-1) >= 0 && ctx.Err() == nil && errs[i] == nil {
				errs[i] = one(c, from, to, message)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func one(c *smtp.Client, from string, to []string, message []byte) error {
	if err := c.Mail(from, nil); err != nil {
		return err
	}
	for _, address := range to {
		if err := c.Rcpt(address, nil); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(message); err != nil {
		return err
	}
	_, err = w.CloseWithLMTPResponse()
	return err
}

// sizings are what the gateway is asked to do, and how often.
func (g *gatewayBench) sizings(ctx context.Context, quick bool) (all []sizing, err error) {
	for _, s := range []struct{ size, count int }{{10_000, 3000}, {100_000, 800}, {10_000_000, 16}} {
		if quick {
			s.count = max(4, s.count/20)
		}
		plain := plainOf(s.size)
		for _, kind := range []struct {
			name    string
			to      []string
			inbound bool
		}{{"outbound", []string{gatewayFriend}, false}, {"inbound", []string{gatewayUser}, true}} {
			message, address, from := plain, g.out, gatewayUser
			if kind.inbound {
				if message, err = g.encrypted(ctx, plain); err != nil {
					return all, err
				}
				address, from = g.in, gatewayFriend
			}
			progress("gateway alone: %s, %d bytes, %d messages", kind.name, s.size, s.count)
			one, err := g.measure(ctx, address, from, kind.to, message, s.count)
			if err != nil {
				return all, err
			}
			one.Kind, one.Size = kind.name, s.size
			all = append(all, one)
		}
	}
	return all, nil
}

// encrypted is a message as the company's user gets it: what the gateway has encrypted to him comes back.
func (g *gatewayBench) encrypted(ctx context.Context, plain []byte) ([]byte, error) {
	certificate, err := g.program.run(ctx, "key", "export", "--account", gatewayUser)
	if err != nil {
		return nil, err
	}
	signers, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(bridgetest.SecretKey(gatewayFriend)))
	if err != nil {
		return nil, err
	}
	recipients, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(certificate))
	if err != nil {
		return nil, err
	}
	_, body, _ := bytes.Cut(plain, []byte("\r\n\r\n"))
	m := message{fields: []string{"From: " + gatewayFriend, "To: " + gatewayUser, "Date: Mon, 23 Nov 2026 10:00:00 +0000"}, body: body}
	armored, err := (&encrypter{signers, recipients}).encrypt(m)
	return m.encrypted(armored), err
}

// measure hands in a tenth to warm up and then the rest.
func (g *gatewayBench) measure(ctx context.Context, address, from string, to []string, message []byte, count int) (s sizing, err error) {
	before := g.sink.messages.Load()
	if err := handIn(ctx, address, from, to, message, max(2, count/10), 4); err != nil {
		return s, err
	}
	s.Warm, _, _ = g.daemon.memory()
	used, begin, atStart := g.daemon.cpu(), time.Now(), g.sink.messages.Load()
	if err := handIn(ctx, address, from, to, message, count, 4); err != nil {
		return s, err
	}
	s.Elapsed = time.Since(begin).Seconds()
	s.PerCore = float64(count) / (g.daemon.cpu() - used).Seconds()
	s.Messages = count
	s.End, s.Peak, _ = g.daemon.memory()
	if got := g.sink.messages.Load() - atStart; got != int64(count) {
		err = fmt.Errorf("%d of %d messages arrived (%d before)", got, count, before)
	}
	return s, err
}

// gatewayRun is both measurements.
func gatewayRun(ctx context.Context, o options) (r gatewayReport, err error) {
	r.report = newReport(ctx)
	dir, err := os.MkdirTemp("", "sealpost-bench-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // Postfix' own users must get in
		return r, err
	}
	progress("build the daemon")
	binary, err := build(ctx, dir)
	if err != nil {
		return r, err
	}
	home := filepath.Join(dir, "alone")
	if err := os.Mkdir(home, 0o700); err != nil {
		return r, err
	}
	g, err := startGateway(ctx, program{binary: binary, home: home})
	if err != nil {
		return r, err
	}
	// A first message makes the user's key.
	if err = handIn(ctx, g.out, gatewayUser, []string{gatewayFriend}, plainOf(1000), 1, 1); err == nil {
		r.Sizings, err = g.sizings(ctx, o.quick)
	}
	if err = errors.Join(err, g.daemon.stop()); err != nil {
		return r, fmt.Errorf("%w: %s", err, g.daemon.log.String())
	}
	r.Paths, err = comparePaths(ctx, dir, binary, o.quick)
	r.LoadAfter = load()
	return r, err
}
