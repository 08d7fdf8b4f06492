package imapd

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// client is go-imap's own, logged in.
func (r *rig) client(o *imapclient.Options) *imapclient.Client {
	r.t.Helper()
	conn, err := tls.Dial("tcp", r.secure, r.tls)
	if err != nil {
		r.t.Fatal(err)
	}
	c := imapclient.New(conn, o)
	if err := c.Login("alice", `pass "word\`).Wait(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestClient goes through a client's day, with a library that parses every response.
func TestClient(t *testing.T) {
	r := newRig(t, true)
	inbox := r.account.boxes["INBOX"]
	fill(t, inbox)
	c := r.client(nil)
	selected, err := c.Select("INBOX", nil).Wait()
	if err != nil || selected.NumMessages != 4 || selected.UIDValidity != 7 {
		t.Fatalf("%+v, %v", selected, err)
	}
	whole := &imap.FetchItemBodySection{Peek: true}
	messages, err := c.Fetch(imap.SeqSet{{Start: 1}}, &imap.FetchOptions{
		Envelope: true, Flags: true, UID: true, RFC822Size: true, InternalDate: true,
		BodyStructure: &imap.FetchItemBodyStructure{Extended: true}, BodySection: []*imap.FetchItemBodySection{whole},
	}).Collect()
	if err != nil || len(messages) != 4 {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	for _, m := range messages {
		body := m.FindBodySection(whole)
		if string(body) != string(inbox.messages[m.UID]) || m.RFC822Size != int64(len(body)) {
			t.Errorf("message %d differs from what is stored", m.UID)
		}
	}
	if messages[0].Envelope.Subject != "café folded" || messages[0].Envelope.To[0].Name != "Bé" {
		t.Errorf("envelope %+v", messages[0].Envelope)
	}
	checkParts(t, c, inbox, messages[1])
}

// checkParts fetches each part that BODYSTRUCTURE names and compares its size.
func checkParts(t *testing.T, c *imapclient.Client, inbox *fakeMailbox, m *imapclient.FetchMessageBuffer) {
	parts := 0
	m.BodyStructure.Walk(func(path []int, part imap.BodyStructure) bool {
		single, ok := part.(*imap.BodyStructureSinglePart)
		if !ok {
			return true
		}
		parts++
		section := &imap.FetchItemBodySection{Part: slices.Clone(path), Peek: true}
		got, err := c.Fetch(imap.UIDSetNum(m.UID), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
		if err != nil || len(got) != 1 {
			t.Fatalf("part %v: %v", path, err)
		}
		body := got[0].FindBodySection(section)
		if uint32(len(body)) != single.Size || !strings.Contains(string(inbox.messages[m.UID]), string(body)) {
			t.Errorf("part %v: %d bytes, announced %d", path, len(body), single.Size)
		}
		return true
	})
	if parts != 5 {
		t.Errorf("%d parts", parts)
	}
}

// TestSessionsAgree lets several sessions change a mailbox at once. Each keeps its own list from
// the responses alone, as a client does, and in the end has what the server has.
func TestSessionsAgree(t *testing.T) {
	r := newRig(t, true)
	inbox := r.account.boxes["INBOX"]
	for range 30 {
		inbox.put("Subject: x\r\n\r\nx\r\n")
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() { r.churn(uint64(i)) })
	}
	wg.Wait()
}

// churn is a raw client that stores, expunges, appends and fetches at random.
func (r *rig) churn(seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	conn, err := net.Dial("tcp", r.plain)
	if err != nil {
		r.t.Error(err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	m := &model{in: bufio.NewReader(conn), out: conn}
	m.command(`LOGIN alice "pass \"word\\"`)
	m.command("SELECT INBOX")
	m.command("FETCH 1:* UID")
	for range 60 {
		switch n := random.IntN(max(len(m.uids), 1)) + 1; random.IntN(6) {
		case 0:
			m.command(fmt.Sprintf("STORE %d +FLAGS (\\Deleted)", n))
		case 1:
			m.command("EXPUNGE")
		case 2:
			m.command("APPEND INBOX {12+}\r\nSubject: y\r\n")
		case 3:
			m.command(fmt.Sprintf("FETCH %d:* (UID)", n))
		case 4:
			m.command("NOOP")
		case 5:
			m.command(fmt.Sprintf("UID STORE %d FLAGS (\\Seen)", m.uidAt(n)))
		}
	}
	m.command("FETCH 1:* UID")
	if m.err != nil {
		r.t.Errorf("session %d: %v", seed, m.err)
	}
}

// model is the mailbox as a client understands it from the responses.
type model struct {
	in   *bufio.Reader
	out  io.Writer
	uids []int // 0: not known yet
	n    int
	err  error
}

func (m *model) uidAt(seq int) int {
	if seq > len(m.uids) || m.uids[seq-1] == 0 {
		return 1
	}
	return m.uids[seq-1]
}

func (m *model) command(text string) {
	m.n++
	tag := fmt.Sprintf("a%d", m.n)
	if _, err := fmt.Fprintf(m.out, "%s %s\r\n", tag, text); err != nil && m.err == nil {
		m.err = err
	}
	for m.err == nil {
		line, err := m.in.ReadString('\n')
		if err != nil {
			m.err = fmt.Errorf("%s: %w", text, err)
			return
		}
		if strings.HasPrefix(line, tag+" ") {
			if !strings.HasPrefix(line, tag+" OK") {
				m.err = fmt.Errorf("%s: %s", text, line)
			}
			return
		}
		m.untagged(strings.TrimSpace(line), text)
	}
}

func (m *model) untagged(line, command string) {
	var n, uid int
	var kind string
	if _, err := fmt.Sscanf(line, "* %d %s", &n, &kind); err != nil {
		return
	}
	switch {
	case kind == "EXISTS" && n < len(m.uids):
		m.err = fmt.Errorf("EXISTS went from %d to %d", len(m.uids), n)
	case kind == "EXISTS":
		m.uids = append(m.uids, make([]int, n-len(m.uids))...)
	case (kind == "EXPUNGE" || kind == "FETCH") && (n < 1 || n > len(m.uids)):
		m.err = fmt.Errorf("%s with %d messages, after %s", line, len(m.uids), command)
	case kind == "EXPUNGE" && (strings.HasPrefix(command, "FETCH") || strings.HasPrefix(command, "STORE")):
		m.err = fmt.Errorf("%s during %s", line, command)
	case kind == "EXPUNGE":
		m.uids = slices.Delete(m.uids, n-1, n)
	case kind == "FETCH":
		if i := strings.Index(line, "UID "); i >= 0 {
			_, _ = fmt.Sscanf(line[i:], "UID %d", &uid)
			if m.uids[n-1] != 0 && m.uids[n-1] != uid {
				m.err = fmt.Errorf("message %d had UID %d and now %d", n, m.uids[n-1], uid)
			}
			m.uids[n-1] = uid
		}
	}
}

// TestInjectionBeforeTLS: what is sent with STARTTLS in the clear is never obeyed.
func TestInjectionBeforeTLS(t *testing.T) {
	r := newRig(t, false)
	conn, err := net.Dial("tcp", r.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, "a STARTTLS\r\nb LOGIN mallory x\r\n"); err != nil {
		t.Fatal(err)
	}
	all, _ := io.ReadAll(conn)
	if text := string(all); !strings.HasSuffix(text, "* BYE Data after STARTTLS\r\n") || strings.Contains(text, "a OK") || strings.Contains(text, "b ") {
		t.Errorf("%q", text)
	}
}

func TestFailedHandshakeEndsTheConnection(t *testing.T) {
	r := newRig(t, false)
	conn, err := net.Dial("tcp", r.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(conn)
	_, _ = in.ReadString('\n')
	_, _ = io.WriteString(conn, "a STARTTLS\r\n")
	_, _ = in.ReadString('\n')
	_, _ = io.WriteString(conn, "b CAPABILITY\r\n")
	if rest, _ := io.ReadAll(in); strings.Contains(string(rest), "CAPABILITY") {
		t.Errorf("served in the clear: %q", rest)
	}
}

func TestTooManyConnections(t *testing.T) {
	r := newRig(t, true)
	for i := range maxConnections + 1 {
		conn, err := net.Dial("tcp", r.plain)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		line, _ := bufio.NewReader(conn).ReadString('\n')
		if refused := strings.HasPrefix(line, "* BYE"); refused != (i == maxConnections) {
			t.Fatalf("connection %d: %q", i+1, line)
		}
	}
}

func TestShutdownSaysBye(t *testing.T) {
	r := newRig(t, true)
	var conns []*bufio.Reader
	for _, commands := range []string{"", `a LOGIN alice "pass \"word\\"` + "\r\nb SELECT INBOX\r\nc IDLE\r\n"} {
		conn, err := net.Dial("tcp", r.plain)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(conn, commands)
		in := bufio.NewReader(conn)
		for line := ""; !strings.HasPrefix(line, "* OK [CAPABILITY") && commands == "" || commands != "" && !strings.HasPrefix(line, "+ "); {
			if line, err = in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		conns = append(conns, in)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := r.server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	for i, in := range conns {
		if rest, _ := io.ReadAll(in); string(rest) != "* BYE Sealpost is shutting down\r\n" {
			t.Errorf("client %d: %q", i, rest)
		}
	}
}

// TestShutdownCutsOffStuckClients: one that does not read what it asked for holds nothing up.
func TestShutdownCutsOffStuckClients(t *testing.T) {
	r := newRig(t, true)
	r.account.boxes["INBOX"].put("Subject: x\r\n\r\n" + strings.Repeat("x", 32<<20))
	conn, err := net.Dial("tcp", r.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(conn, `a LOGIN alice "pass \"word\\"`+"\r\nb SELECT INBOX\r\nc FETCH 1 BODY[]\r\n")
	for in, line := bufio.NewReader(conn), ""; !strings.HasPrefix(line, "* 1 FETCH"); {
		if line, err = in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.server.Shutdown(ctx) }()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a client that had not been served was not mentioned")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Shutdown hangs")
	}
}

// TestEndlessCommand: a command that never ends is cut off at the limit.
func TestEndlessCommand(t *testing.T) {
	r := newRig(t, true)
	conn, err := net.Dial("tcp", r.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	go func() { _, _ = io.WriteString(conn, "a NOOP "+strings.Repeat("x", 2*maxCommand)) }()
	all, _ := io.ReadAll(conn)
	if !strings.Contains(string(all), "* BYE Line too long") {
		t.Errorf("%q", all)
	}
}

// FuzzGate feeds bytes to a gate: the library must only ever see lines, and literals that the
// gate has announced itself.
func FuzzGate(f *testing.F) {
	f.Add("a LOGIN {5}\r\nalice {3+}\r\nabc\r\n", true)
	f.Add("a APPEND x {3+}\r\nabc\r\nb NOOP\r\n", true)
	f.Add("a SEARCH SMALLER 5 {3+}\r\nabc\r\nb IDLE\r\nDONE\r\n", true)
	f.Add("a AUTHENTICATE PLAIN\r\nAGEAYg==\r\n", false)
	f.Fuzz(func(t *testing.T, input string, authenticated bool) {
		s := newServer(Options{AllowInsecureAuth: true}, nil)
		g := &gate{server: s, net: &script{Reader: strings.NewReader(input)}, deadline: time.Now().Add(time.Hour)}
		g.in = bufio.NewReader(g.net)
		if authenticated {
			g.loggedIn(100, false)
		}
		seen, err := io.ReadAll(g)
		if err != nil {
			t.Fatal(err)
		}
		for len(seen) > 0 {
			line, rest, ok := strings.Cut(string(seen), "\r\n")
			if !ok || strings.ContainsAny(line, "\r\n\x00") || len(line) > maxCommand {
				return // a message cut off, which ends the connection
			}
			seen = []byte(rest)
			if _, size, _, literal := cutLiteral(line); literal {
				if !strings.Contains(strings.ToUpper(line), "APPEND") || size > 100 {
					t.Fatalf("a literal in %q", line)
				}
				seen = seen[min(int64(len(seen)), size):]
			}
		}
	})
}

// script is a connection that says what it is told to.
type script struct {
	net.Conn
	io.Reader
}

func (s *script) Read(p []byte) (int, error)       { return s.Reader.Read(p) }
func (s *script) Write(p []byte) (int, error)      { return len(p), nil }
func (s *script) Close() error                     { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
