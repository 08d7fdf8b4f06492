package upstream

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

func submitter(t *testing.T, backend *sink, change func(*smtp.Server)) *Provider {
	t.Helper()
	return newProvider(t, Options{SMTP: smtpServer(t, "insecure", nil, backend, change)})
}

func to(body string, recipients ...string) Transaction {
	return Transaction{From: testUser, To: recipients, Body: text(body)}
}

func TestSubmitDeliversByteForByte(t *testing.T) {
	s := &sink{}
	p := submitter(t, s, nil)
	body := "Subject: x\r\n\r\n.\r\n..dots\r\n" + strings.Repeat("x", 3000) + "\r\n" + strings.Repeat("line\r\n", 20_000)
	results, err := p.Submit(t.Context(), []Transaction{to(body, "b@x.test", "c@x.test"), to(body, "bcc@x.test")})
	if err != nil || errors.Join(results...) != nil || len(results) != 2 {
		t.Fatal(results, err)
	}
	got := s.messages()
	if len(got) != 2 || got[0].body != body || got[1].body != body || len(got[0].to)+len(got[1].to) != 3 {
		t.Errorf("%d messages arrived", len(got))
	}
}

// A refused recipient of one transaction keeps all of them from being sent.
func TestSubmitRefusedRecipient(t *testing.T) {
	s := &sink{refuse: func(to string) error {
		if strings.HasPrefix(to, "no") {
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "unknown user"}
		}
		return nil
	}}
	p := submitter(t, s, nil)
	_, err := p.Submit(t.Context(), []Transaction{to("x\r\n", "b@x.test", "no1@x.test"), to("x\r\n", "c@x.test"), to("x\r\n", "no2@x.test")})
	var refused *RecipientError
	if !errors.As(err, &refused) || len(refused.Replies) != 2 {
		t.Fatalf("got %v", err)
	}
	if r := refused.Replies["no1@x.test"]; r.Code != 550 || r.Reply != "5.1.1 unknown user" || r.Kind != KindRejected {
		t.Errorf("reply %+v", r)
	}
	if n := len(s.messages()); n != 0 {
		t.Errorf("%d messages were sent", n)
	}
}

// barrier watches a server's connections: a body must not come before all of them have
// sent 354.
type barrier struct {
	net.Listener
	ready atomic.Int32
	early atomic.Bool
	wants int32
}

type barrierConn struct {
	net.Conn
	barrier *barrier
	data    atomic.Bool
}

func (b *barrier) Accept() (net.Conn, error) {
	conn, err := b.Listener.Accept()
	return &barrierConn{Conn: conn, barrier: b}, err
}

func (c *barrierConn) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("354 ")) {
		c.data.Store(true)
		c.barrier.ready.Add(1)
	}
	return c.Conn.Write(p)
}

func (c *barrierConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.data.Load() && c.barrier.ready.Load() < c.barrier.wants {
		c.barrier.early.Store(true)
	}
	return n, err
}

func TestSubmitNoBodyBeforeAllAreReady(t *testing.T) {
	b, backend := &barrier{wants: 8}, &sink{}
	server := smtp.NewServer(backend)
	server.AllowInsecureAuth = true
	port := listen(t, func(l net.Listener) { b.Listener = l; _ = server.Serve(b) }, func() { _ = server.Close() })
	p := newProvider(t, Options{SMTP: Endpoint{"smtp", "insecure", "127.0.0.1", port}})
	var all []Transaction
	for range b.wants {
		all = append(all, to(strings.Repeat("x\r\n", 100), "b@x.test"))
	}
	results, err := p.Submit(t.Context(), all)
	if err = errors.Join(append(results, err)...); err != nil {
		t.Fatal(err)
	}
	if b.early.Load() || b.ready.Load() != b.wants || len(backend.messages()) != int(b.wants) {
		t.Errorf("early %v, %d ready, %d messages", b.early.Load(), b.ready.Load(), len(backend.messages()))
	}
}

func TestSubmitOneBodyRejected(t *testing.T) {
	s := &sink{finish: func(to []string) error {
		if to[0] == "b@x.test" {
			return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "later"}
		}
		return nil
	}}
	p := submitter(t, s, nil)
	results, err := p.Submit(t.Context(), []Transaction{to("x\r\n", "b@x.test"), to("x\r\n", "c@x.test")})
	if err != nil {
		t.Fatal(err)
	}
	var e *Error
	if !errors.As(results[0], &e) || e.Kind != KindTemporary || e.Code != 451 || results[1] != nil {
		t.Errorf("results %v", results)
	}
	if got := s.messages(); len(got) != 1 || got[0].to[0] != "c@x.test" {
		t.Errorf("arrived: %v", got)
	}
}

// What must never reach the wire is refused before anything is sent.
func TestSubmitRefusals(t *testing.T) {
	ok := "x\r\n"
	for _, c := range []struct {
		name string
		t    Transaction
		want string
	}{
		{"injected parameter", to(ok, `"a> NOTIFY=NEVER"@x.test`), "cannot be sent safely"},
		{"angle", to(ok, "a>b@x.test"), "cannot be sent safely"},
		{"line break", to(ok, "a@x.test\r\nDATA"), "cannot be sent safely"},
		{"space", to(ok, "a b@x.test"), "cannot be sent safely"},
		{"no domain", to(ok, "a@"), "no local part or no domain"},
		{"no recipient", to(ok), "no recipients"},
		{"not ASCII", to(ok, "ä@x.test"), "not ASCII"},
		{"too long", to(ok, strings.Repeat("a", 400)+"@x.test"), "too long"},
		{"bad sender", Transaction{From: "a b@x.test", To: []string{"a@x.test"}, Body: text(ok)}, "cannot be sent safely"},
		{"bare CR", to("a\rb\r\n", "a@x.test"), "does not end in CRLF"},
		{"bare LF", to("a\nb\r\n", "a@x.test"), "does not end in CRLF"},
		{"smuggled end", to("a\r\n.\n", "a@x.test"), "does not end in CRLF"},
		{"CR at the end", to("a\r\n\r", "a@x.test"), "does not end in CRLF"},
		{"too large", to(strings.Repeat("0123456789\r\n", 100_000), "a@x.test"), "the provider takes 1048576"},
		{"international address not offered", Transaction{From: testUser, To: []string{"ä@x.test"}, Body: text(ok), UTF8: true}, "SMTPUTF8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &sink{}
			_, err := submitter(t, s, nil).Submit(t.Context(), []Transaction{to(ok, "good@x.test"), c.t})
			var e *Error
			if !errors.As(err, &e) || e.Kind != KindRejected || e.Code < 500 || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
			if len(s.messages()) != 0 {
				t.Error("something was sent")
			}
		})
	}
}

func TestSubmitEightBit(t *testing.T) {
	s := &sink{}
	results, err := submitter(t, s, nil).Submit(t.Context(), []Transaction{to("grün\r\n", "a@x.test")})
	if err = errors.Join(append(results, err)...); err != nil || s.messages()[0].body != "grün\r\n" {
		t.Errorf("with 8BITMIME: %v", err)
	}
	f, err := inspect(text("grün\r\n"))
	if err != nil || !f.eightBit {
		t.Errorf("%+v, %v", f, err)
	}
}

// A refused login is not repeated until its time has come, unless the password changes or
// the user asks.
func TestNoHammering(t *testing.T) {
	at := smtpServer(t, "insecure", nil, &sink{}, nil)
	imapAt, _ := memoryIMAP(t, "insecure", nil)
	password := "wrong"
	p := newProvider(t, Options{IMAP: imapAt, SMTP: at, Password: func(ctx ctxT) (string, error) { return password, nil }})
	_, first := p.Acquire(t.Context(), "INBOX")
	_, second := p.Acquire(t.Context(), "INBOX")
	if first == nil || first != second {
		t.Errorf("two errors where one login should have been: %v, %v", first, second)
	}
	if state, _ := p.State(); state != AuthFailed {
		t.Errorf("state %s", state)
	}
	var e *Error
	if err := p.Check(t.Context()); !errors.As(err, &e) || e.Kind != KindAuth || err == first {
		t.Errorf("Check: %v", err)
	}
	password = testPassword
	c, err := p.Acquire(t.Context(), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	p.Release(c)
	if state, err := p.State(); state != Online || err != nil {
		t.Errorf("state %s, %v", state, err)
	}
}

func TestWrongPasswordIsTriedOnce(t *testing.T) {
	s := &sink{}
	p := newProvider(t, Options{SMTP: smtpServer(t, "insecure", nil, s, nil), Password: passwordIs("wrong")})
	for range 2 {
		_, err := p.Submit(t.Context(), []Transaction{to("x\r\n", "a@x.test"), to("x\r\n", "b@x.test"), to("x\r\n", "c@x.test")})
		var e *Error
		if !errors.As(err, &e) || e.Kind != KindAuth {
			t.Errorf("got %v", err)
		}
	}
	if n := s.logins.Load(); n != 1 {
		t.Errorf("%d logins", n)
	}
}

func TestGateOpensAgain(t *testing.T) {
	var g gate
	refused := &Error{Kind: KindAuth}
	now := time.Now()
	for _, wait := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute} {
		g.result("p", refused, now)
		if g.closed("p", now.Add(wait-1)) == nil || g.closed("p", now.Add(wait)) != nil || g.closed("q", now) != nil {
			t.Errorf("wrong wait, not %s", wait)
		}
		now = now.Add(wait)
	}
	g.result("p", &Error{Kind: KindUnreachable}, now)
	g.result("p", nil, now)
	if g.closed("p", now) != nil {
		t.Error("closed after a success")
	}
}
