package bridgetest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// door is a listener that prepares each connection (faults, STARTTLS) before the protocol
// library gets it.
type door struct {
	net.Listener
	p        *Provider
	protocol string
	ready    chan net.Conn
	closed   chan struct{}
	working  sync.WaitGroup

	mu    sync.Mutex
	conns map[*tracked]struct{}
	shut  bool
}

func openDoor(p *Provider, protocol string) (*door, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &door{
		Listener: l, p: p, protocol: protocol, ready: make(chan net.Conn), closed: make(chan struct{}), conns: map[*tracked]struct{}{},
	}
	d.working.Go(d.listen)
	return d, nil
}

func (d *door) listen() {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return
		}
		t := &tracked{Conn: c, door: d}
		if d.enter(t) {
			d.working.Go(func() { d.prepare(t) })
		}
	}
}

// Accept returns connections that are ready for the protocol.
func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.ready:
		return c, nil
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

// Close ends listening and every connection. It may be called more than once.
func (d *door) Close() error {
	d.mu.Lock()
	first := !d.shut
	d.shut = true
	d.mu.Unlock()
	if !first {
		return nil
	}
	close(d.closed)
	err := d.Listener.Close()
	d.disconnect()
	d.working.Wait()
	return err
}

func (d *door) enter(t *tracked) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		_ = t.Conn.Close()
		return false
	}
	d.conns[t] = struct{}{}
	return true
}

func (d *door) open() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.conns)
}

func (d *door) disconnect() {
	d.mu.Lock()
	var list []*tracked
	for t := range d.conns {
		list = append(list, t)
	}
	d.mu.Unlock()
	for _, t := range list {
		_ = t.Close()
	}
}

// tracked leaves its door's list when it is closed.
type tracked struct {
	net.Conn
	door *door
}

func (t *tracked) Close() error {
	t.door.mu.Lock()
	delete(t.door.conns, t)
	t.door.mu.Unlock()
	return t.Conn.Close()
}

const prefaceTimeout = 30 * time.Second

// prepare goes as far as the protocol's first line in the configured security.
func (d *door) prepare(t *tracked) {
	_ = t.SetDeadline(time.Now().Add(prefaceTimeout))
	w, err := d.secure(t)
	if err == nil {
		err = d.connectFault(w)
	}
	if err != nil {
		_ = t.Close()
		return
	}
	_ = t.SetDeadline(time.Time{})
	select {
	case d.ready <- w:
	case <-d.closed:
		_ = t.Close()
	}
}

func (d *door) secure(t *tracked) (*wire, error) {
	silent := false
	c := net.Conn(t)
	switch d.p.o.Security {
	case "starttls":
		if err := d.preface(t); err != nil {
			return nil, err
		}
		silent = true
		c = tls.Server(t, d.p.o.TLS)
	case "tls":
		c = tls.Server(t, d.p.o.TLS)
	}
	if secured, ok := c.(*tls.Conn); ok {
		if err := secured.Handshake(); err != nil {
			return nil, err
		}
	}
	w := newWire(c, d.p, d.protocol)
	w.silent = silent
	return w, nil
}

// connectFault answers or ends a connection before the greeting.
func (d *door) connectFault(w *wire) error {
	fault, struck := d.p.faults.strike(d.protocol, "CONNECT", "")
	if !struck {
		return nil
	}
	wait(fault.Delay)
	if fault.Reply != "" {
		prefix := ""
		if d.protocol == "imap" && !strings.HasPrefix(fault.Reply, "*") {
			prefix = "* "
		}
		_, _ = fmt.Fprintf(w.Conn, "%s%s\r\n", prefix, fault.Reply)
	}
	if fault.Drop || fault.Reply != "" {
		return w.drop()
	}
	return nil
}

// preface speaks the little that is allowed before STARTTLS (RFC 3207 §4, RFC 3501 §6.2.1), so that the
// wire always sees what TLS carries. What comes in plain text behind STARTTLS ends the connection.
func (d *door) preface(t *tracked) error {
	in := bufio.NewReaderSize(t, 4096)
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\r\n", args...) }
	say(map[string]string{"imap": "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready", "smtp": "220 provider.test ESMTP"}[d.protocol])
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		tag, verb := (&wire{protocol: d.protocol}).parse(line)
		if fault, struck := d.p.faults.strike(d.protocol, verb, line); struck {
			wait(fault.Delay)
			if fault.Drop {
				return net.ErrClosed
			}
			say("%s", strings.TrimPrefix(tag+" "+fault.Reply, " "))
			continue
		}
		answer, upgrade := plainAnswer(d.protocol, tag, verb)
		say("%s", answer)
		if upgrade && in.Buffered() > 0 {
			return fmt.Errorf("plain text behind STARTTLS")
		}
		if upgrade || verb == "LOGOUT" || verb == "QUIT" {
			return ended(upgrade)
		}
	}
}

func ended(upgrade bool) error {
	if upgrade {
		return nil
	}
	return net.ErrClosed
}

func plainAnswer(protocol, tag, verb string) (answer string, upgrade bool) {
	switch protocol + " " + verb {
	case "imap CAPABILITY":
		return "* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\n" + tag + " OK done", false
	case "imap NOOP":
		return tag + " OK done", false
	case "imap LOGOUT":
		return "* BYE bye\r\n" + tag + " OK done", false
	case "imap STARTTLS":
		return tag + " OK begin TLS now", true
	case "smtp EHLO":
		return "250-provider.test\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250 STARTTLS", false
	case "smtp NOOP", "smtp RSET", "smtp HELO":
		return "250 2.0.0 fine", false
	case "smtp QUIT":
		return "221 2.0.0 bye", false
	case "smtp STARTTLS":
		return "220 2.0.0 begin TLS now", true
	}
	if protocol == "smtp" {
		return "530 5.7.0 Must issue a STARTTLS command first", false
	}
	return tag + " NO [PRIVACYREQUIRED] STARTTLS first", false
}
