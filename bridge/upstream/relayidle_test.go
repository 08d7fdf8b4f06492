package upstream

import (
	"bufio"
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// hop is a next hop that says what a test wants; each connection gets the answers of its number.
type hop struct {
	listener net.Listener
	mu       sync.Mutex
	accepted int      // connections
	bodies   []string // that were answered with 250
	begun    int      // bodies that have begun
}

// answers to commands in place of the usual ones, by "connection verb count"; "" closes the connection.
type script map[[3]any]string

func startHop(t *testing.T, says script) *hop {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hop{listener: l}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.mu.Lock()
			h.accepted++
			number := h.accepted
			h.mu.Unlock()
			serving.Go(func() { h.serve(c, number, says) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return h
}

func (h *hop) serve(c net.Conn, number int, says script) {
	defer c.Close()
	in, seen := bufio.NewReader(c), map[string]int{}
	say := func(text string) { _, _ = c.Write([]byte(text + "\r\n")) }
	say("220 hop")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb := strings.ToUpper(line[:4])
		seen[verb]++
		answer, special := says[[3]any{number, verb, seen[verb]}]
		switch {
		case special && answer == "":
			return
		case special:
			say(answer)
		case verb == "EHLO":
			say("250-hop\r\n250 8BITMIME")
		case verb == "DATA":
			say("354 go on")
			if !h.body(in, says, number, seen) {
				return
			}
			say("250 taken")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

// body reads a message; false: the connection breaks in place of the reply.
func (h *hop) body(in *bufio.Reader, says script, number int, seen map[string]int) bool {
	h.mu.Lock()
	h.begun++
	h.mu.Unlock()
	var b strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
		b.WriteString(line)
	}
	if _, broken := says[[3]any{number, "BODY", seen["DATA"]}]; broken {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bodies = append(h.bodies, b.String())
	return true
}

func (h *hop) relay(t *testing.T) *Relay {
	t.Helper()
	to, err := ParseNextHop(h.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r := NewRelay(RelayOptions{To: to, Timeout: 5 * time.Second})
	t.Cleanup(r.Close)
	return r
}

// submitOne hands over one message as a caller does, whose context ends with it.
func submitOne(t *testing.T, r *Relay, body string) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	results, err := r.Submit(ctx, []Transaction{to(body, "bob@bravo.test")})
	if err != nil {
		return err
	}
	return results[0]
}

func TestRelayKeepsConnections(t *testing.T) {
	mail := func(connection, count int) [3]any { return [3]any{connection, "MAIL", count} }
	for name, c := range map[string]struct {
		says        script
		connections int
		bodies      []string
		begun       int
		fails       int // this message; 0: none
	}{
		"one for all":                            {nil, 1, []string{"one\r\n", "two\r\n", "three\r\n"}, 3, 0},
		"closed before MAIL is answered":         {script{mail(1, 2): ""}, 2, []string{"one\r\n", "two\r\n", "three\r\n"}, 3, 0},
		"the server is ending":                   {script{mail(1, 2): "421 too idle"}, 2, []string{"one\r\n", "two\r\n", "three\r\n"}, 3, 0},
		"closed twice":                           {script{mail(1, 2): "", mail(2, 1): ""}, 3, []string{"one\r\n", "three\r\n"}, 2, 2},
		"a refusal is one":                       {script{mail(1, 2): "550 not you"}, 2, []string{"one\r\n", "three\r\n"}, 2, 2},
		"a refusal for now is one":               {script{mail(1, 2): "451 later"}, 2, []string{"one\r\n", "three\r\n"}, 2, 2},
		"closed before RCPT is answered":         {script{{1, "RCPT", 2}: ""}, 2, []string{"one\r\n", "three\r\n"}, 2, 2},
		"closed in place of the reply to a body": {script{{1, "BODY", 2}: ""}, 2, []string{"one\r\n", "three\r\n"}, 3, 2},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHop(t, c.says)
			r := h.relay(t)
			for i, body := range []string{"one\r\n", "two\r\n", "three\r\n"} {
				if err := submitOne(t, r, body); (err != nil) != (i+1 == c.fails) {
					t.Errorf("message %d: %v", i+1, err)
				}
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.accepted != c.connections || strings.Join(h.bodies, "") != strings.Join(c.bodies, "") || h.begun != c.begun {
				t.Errorf("%d connections, %d bodies begun, taken: %q", h.accepted, h.begun, h.bodies)
			}
		})
	}
}

// All transactions of a message are at 354 before the first body goes, on connections that were kept, too: a refusal on one sends
// nothing on the other.
func TestRelayKeptConnectionsAllOrNothing(t *testing.T) {
	h := startHop(t, script{{2, "DATA", 2}: "554 no", {1, "DATA", 2}: "554 no"})
	r := h.relay(t)
	both := []Transaction{to("a\r\n", "bob@bravo.test"), to("b\r\n", "carol@bravo.test")}
	if results, err := r.Submit(t.Context(), both); err != nil || results[0] != nil || results[1] != nil {
		t.Fatal(results, err)
	}
	if _, err := r.Submit(t.Context(), both); err == nil {
		t.Error("it was sent although a server refused DATA")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.accepted != 2 || h.begun != 2 || len(h.bodies) != 2 {
		t.Errorf("%d connections, %d bodies begun, taken: %q", h.accepted, h.begun, h.bodies)
	}
}

func TestRelayCloseKeepsNothing(t *testing.T) {
	h := startHop(t, nil)
	r := h.relay(t)
	if err := submitOne(t, r, "one\r\n"); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := submitOne(t, r, "two\r\n"); err != nil {
		t.Fatal(err)
	}
	if len(r.idle.all) != 0 {
		t.Error("a connection is kept after Close")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.accepted != 2 {
		t.Errorf("%d connections", h.accepted)
	}
}
