package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
)

func acquire(t *testing.T, p *Provider, mailbox string) *Conn {
	t.Helper()
	return must(p.Acquire(t.Context(), mailbox))(t)
}

func TestAcquireWaitsForALease(t *testing.T) {
	at, _ := memoryIMAP(t, "insecure", nil)
	p := newProvider(t, Options{IMAP: at, MaxConnections: 2})
	a, b := acquire(t, p, "INBOX"), acquire(t, p, "INBOX")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Acquire(ctx, "INBOX"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	waiting := make(chan *Conn, 1)
	go func() { c, _ := p.Acquire(t.Context(), "INBOX"); waiting <- c }()
	p.Release(a)
	p.Release(a) // harmless
	c := <-waiting
	if c == nil || c.Client != a.Client {
		t.Fatal("the released connection was not used again")
	}
	p.Release(a) // not his any more
	if len(p.pool.slots) != 2 {
		t.Error("a second Release ended the next holder's lease")
	}
	p.Release(c)
	p.Release(b)
	if len(p.pool.open) != 2 || len(p.pool.slots) != 0 {
		t.Errorf("%d connections, %d slots taken", len(p.pool.open), len(p.pool.slots))
	}
}

func TestReleasePrefersTheSameMailbox(t *testing.T) {
	at, user := memoryIMAP(t, "insecure", nil)
	if err := user.Create("Sent", nil); err != nil {
		t.Fatal(err)
	}
	p := newProvider(t, Options{IMAP: at})
	inbox, sent := acquire(t, p, "INBOX"), acquire(t, p, "Sent")
	p.Release(sent)
	p.Release(inbox)
	again := acquire(t, p, "INBOX")
	if again.Client != inbox.Client {
		t.Error("another connection than the one on the mailbox")
	}
	p.Release(again)
}

func TestDeadConnectionsAreReplaced(t *testing.T) {
	at, _ := memoryIMAP(t, "insecure", nil)
	p := newProvider(t, Options{IMAP: at})
	c := acquire(t, p, "INBOX")
	p.Release(c)
	_ = c.wire.Conn.Close()
	next := acquire(t, p, "INBOX")
	if next.Client == c.Client {
		t.Error("a dead connection was handed out")
	}
	_ = next.wire.Conn.Close()
	if err := next.Noop().Wait(); err == nil {
		t.Error("NOOP on a closed connection")
	}
	p.Release(next)
	if len(p.pool.idle) != 0 {
		t.Error("a dead connection was kept")
	}
}

// A command that nobody waited for would give the next holder its answers.
func TestUnfinishedCommandEndsTheConnection(t *testing.T) {
	at, user := memoryIMAP(t, "insecure", nil)
	if _, err := user.Append("INBOX", strings.NewReader("Subject: x\r\n\r\nbody"), &imap.AppendOptions{}); err != nil {
		t.Fatal(err)
	}
	p := newProvider(t, Options{IMAP: at})
	c := acquire(t, p, "INBOX")
	idle := must(c.Idle())(t)
	p.Release(c)
	if len(p.pool.idle) != 0 {
		t.Error("an idling connection was kept")
	}
	_ = idle.Close()
	_ = idle.Wait()
}

func TestLeaseEndsWithItsContext(t *testing.T) {
	at, _ := memoryIMAP(t, "insecure", nil)
	p := newProvider(t, Options{IMAP: at})
	ctx, cancel := context.WithCancel(t.Context())
	c := must(p.Acquire(ctx, "INBOX"))(t)
	cancel()
	<-c.Closed()
	if err := c.Noop().Wait(); err == nil {
		t.Error("the connection still works")
	}
	p.Release(c)
}

func TestCloseEndsEverything(t *testing.T) {
	at, _ := memoryIMAP(t, "insecure", nil)
	p := newProvider(t, Options{IMAP: at, MaxConnections: 1})
	c := acquire(t, p, "INBOX")
	waiting := make(chan error, 1)
	go func() { _, err := p.Acquire(t.Context(), "INBOX"); waiting <- err }()
	_ = p.Close()
	if err := <-waiting; !errors.Is(err, ErrClosed) {
		t.Errorf("waiting: %v", err)
	}
	<-c.Closed()
	p.Release(c)
	if _, err := p.Acquire(t.Context(), "INBOX"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestWatchReportsNewMail(t *testing.T) {
	at, user := memoryIMAP(t, "insecure", nil)
	p := newProvider(t, Options{IMAP: at})
	ctx, cancel := context.WithCancel(t.Context())
	ready, changed, done := make(chan struct{}), make(chan struct{}, 10), make(chan error, 1)
	go func() {
		done <- p.Watch(ctx, "INBOX", func() { close(ready) }, func() { changed <- struct{}{} })
	}()
	<-ready
	// go-imap's server misses what happens right after it has accepted IDLE: so again
	// until one is seen.
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for seen := false; !seen; {
		if _, err := user.Append("INBOX", strings.NewReader("Subject: x\r\n\r\n"), &imap.AppendOptions{}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-changed:
			seen = true
		case <-again.C:
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch ended with %v", err)
	}
	if len(p.pool.slots) != 0 || len(p.pool.watches) != 0 {
		t.Error("the watch's place was not given back")
	}
}

func TestWatchLeavesOneLease(t *testing.T) {
	at, _ := memoryIMAP(t, "insecure", nil)
	p := newProvider(t, Options{IMAP: at, MaxConnections: 3})
	ctx, cancel := context.WithCancel(t.Context())
	var idling atomic.Int32
	ready, done := make(chan struct{}, 4), make(chan error, 4)
	for range 4 {
		go func() {
			done <- p.Watch(ctx, "INBOX", func() { idling.Add(1); ready <- struct{}{} }, func() {})
		}()
	}
	<-ready
	<-ready
	p.Release(acquire(t, p, "INBOX"))
	if n := idling.Load(); n != 2 {
		t.Errorf("%d watches", n)
	}
	cancel()
	for range 4 {
		<-done
	}
	if err := newProvider(t, Options{IMAP: at, MaxConnections: 1}).Watch(t.Context(), "INBOX", func() {}, func() {}); err == nil {
		t.Error("a watch took the only connection")
	}
}

func TestResetEndsWhatNobodyUses(t *testing.T) {
	at, _ := memoryIMAP(t, "insecure", nil)
	p := newProvider(t, Options{IMAP: at})
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- p.Watch(t.Context(), "INBOX", func() { close(ready) }, func() {}) }()
	<-ready
	used, kept := acquire(t, p, "INBOX"), acquire(t, p, "INBOX")
	p.Release(kept)
	p.Reset()
	if err := <-done; err == nil {
		t.Error("the watch ended without an error")
	}
	if err := used.Noop().Wait(); err != nil {
		t.Errorf("a lease was broken: %v", err)
	}
	next := acquire(t, p, "INBOX")
	if next.Client == kept.Client {
		t.Error("the kept connection was handed out")
	}
	p.Release(next)
	p.Release(used)
}

// scripted is a server that has logged the client in and answers each command as told.
func scripted(t *testing.T, answer func(w io.Writer, tag, command string) bool) Endpoint {
	t.Helper()
	port := listen(t, func(l net.Listener) {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serveScript(conn, answer)
			}()
		}
	}, func() {})
	return Endpoint{"imap", "insecure", "127.0.0.1", port}
}

func serveScript(conn net.Conn, answer func(w io.Writer, tag, command string) bool) {
	fmt.Fprintf(conn, "* OK [CAPABILITY IMAP4rev1] hello\r\n")
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		tag, command, _ := strings.Cut(lines.Text(), " ")
		if strings.HasPrefix(command, "LOGIN") {
			fmt.Fprintf(conn, "%s OK [CAPABILITY IMAP4rev1 UNSELECT] in\r\n", tag)
		} else if !answer(conn, tag, command) {
			return
		}
	}
}

// A server that takes a command and stays silent; one that is slow but moves.
func TestProgressDeadline(t *testing.T) {
	const timeout = time.Second
	at := scripted(t, func(w io.Writer, tag, command string) bool {
		if strings.HasPrefix(command, "UID FETCH") {
			fmt.Fprintf(w, "* 1 FETCH (UID 1 BODY[] {8}\r\n")
			for range 4 { // longer than the time-out, all together
				time.Sleep(timeout * 2 / 5)
				fmt.Fprint(w, "xx")
			}
			fmt.Fprint(w, ")\r\n")
		}
		if !strings.HasPrefix(command, "SEARCH") {
			fmt.Fprintf(w, "%s OK done\r\n", tag)
		}
		return true
	})
	p := newProvider(t, Options{IMAP: at, Timeout: timeout, Username: "a", Password: passwordIs("b")})
	c := acquire(t, p, "INBOX")
	defer p.Release(c)
	messages, err := c.Fetch(imap.UIDSetNum(1), &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
	if err != nil || len(messages) != 1 || string(messages[0].BodySection[0].Bytes) != "xxxxxxxx" {
		t.Fatalf("a slow transfer: %v", err)
	}
	if _, err := c.Search(&imap.SearchCriteria{}, nil).Wait(); err == nil {
		t.Error("an answer that never came")
	}
	var e *Error
	if err := p.commandError(t.Context(), "search", c, io.ErrUnexpectedEOF); !errors.As(err, &e) || e.Kind != KindUnreachable || !strings.Contains(err.Error(), "in time") {
		t.Errorf("got %v", err)
	}
}

// Everything the filter is for, through a whole client.
func TestStrangeResponsesDoNotEndTheConnection(t *testing.T) {
	at := scripted(t, func(w io.Writer, tag, command string) bool {
		fmt.Fprint(w, "* VANISHED 3\r\n* LSUB () \"/\" x\r\n* X-FOO (bar)\r\n+ keep alive\r\n* OK [ALERT unclosed\r\n")
		if strings.HasPrefix(command, "UID FETCH") {
			fmt.Fprint(w, "* 1 FETCH (X-A (b) FLAGS (a] \\Seen) INTERNALDATE \"never\" BODY[] {3}\r\nabc UID 5)\r\n")
		}
		fmt.Fprintf(w, "%s OK [UIDVALIDITY x] done\r\n", tag)
		return true
	})
	p := newProvider(t, Options{IMAP: at, Username: "a", Password: passwordIs("b")})
	c := acquire(t, p, "INBOX")
	defer p.Release(c)
	messages, err := c.Fetch(imap.UIDSetNum(5), &imap.FetchOptions{UID: true, Flags: true, BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	m := messages[0]
	if m.UID != 5 || len(m.Flags) != 1 || string(m.BodySection[0].Bytes) != "abc" {
		t.Errorf("got %+v", m)
	}
	if err := c.Noop().Wait(); err != nil {
		t.Error(err)
	}
}

// The literal that ends with the connection is no message.
func TestCutOffMessageIsAnError(t *testing.T) {
	at := scripted(t, func(w io.Writer, tag, command string) bool {
		if strings.HasPrefix(command, "UID FETCH") {
			fmt.Fprint(w, "* 1 FETCH (UID 5 BODY[] {300}\r\nabc")
			return false
		}
		fmt.Fprintf(w, "%s OK done\r\n", tag)
		return true
	})
	p := newProvider(t, Options{IMAP: at, Username: "a", Password: passwordIs("b")})
	c := acquire(t, p, "INBOX")
	defer p.Release(c)
	cmd := c.Fetch(imap.UIDSetNum(5), &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{{Peek: true}}})
	if message := cmd.Next(); message != nil {
		t.Error("a cut-off message was handed out")
	}
	if err := cmd.Close(); err == nil {
		t.Error("no error for a cut-off message")
	}
}
