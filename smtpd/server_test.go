package smtpd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/bridgetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const testSize = 4 << 20

// fake is an account whose recipients decide what becomes of a message.
type fake struct {
	mu       sync.Mutex
	messages []string      // "from|to,to|body"
	began    chan struct{} // a Submit to slow@ waits for go on
	goOn     chan struct{}
}

func newFake() *fake { return &fake{began: make(chan struct{}), goOn: make(chan struct{})} }

func (f *fake) MaxMessageSize() int64 { return testSize }

func (f *fake) Submit(ctx context.Context, e bridge.Envelope, message io.Reader) error {
	name, _, _ := strings.Cut(e.To[0], "@")
	if name == "unread" {
		return nil
	}
	body, err := io.ReadAll(message)
	if err != nil {
		return fmt.Errorf("reading the message: %w", err)
	}
	if r, ok := refusals[name]; ok {
		return r
	}
	switch name {
	case "panic":
		panic(string(body))
	case "broken":
		return errors.New("disk on fire: " + string(body))
	case "slow":
		close(f.began)
		select {
		case <-f.goOn:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.messages = append(f.messages, fmt.Sprintf("%s|%s|%s", e.From, strings.Join(e.To, ","), body))
	return nil
}

func (f *fake) take() (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.messages) == 0 {
		return "", false
	}
	first := f.messages[0]
	f.messages = f.messages[1:]
	return first, true
}

var refusals = map[string]*bridge.Refusal{
	"nocert": {Reason: bridge.ReasonNoCertificate, Text: "No certificate", Recipients: []bridge.RecipientRefusal{
		{Address: "nocert@x.test", Reason: bridge.ReasonNoCertificate, Text: "no certificate was found\r\n250 2.0.0 OK"},
		{Address: "jürgen@x.test", Reason: bridge.ReasonCertificate, Text: "revoked " + strings.Repeat("long ", 120)},
	}},
	"lookup":      {Reason: bridge.ReasonLookup, Text: "No answer"},
	"policy":      {Reason: bridge.ReasonPolicy, Text: "Policy"},
	"certificate": {Reason: bridge.ReasonCertificate},
	"sender":      {Reason: bridge.ReasonSender, Text: "Not yours"},
	"malformed":   {Reason: bridge.ReasonMalformed, Text: "Malformed"},
	"toolarge":    {Reason: bridge.ReasonTooLarge, Text: "Too large"},
	"unreachable": {Reason: bridge.ReasonUnreachable, Text: "Unreachable"},
	"local":       {Reason: bridge.ReasonLocal, Text: "Disk full", Err: errors.New("secret cause")},
	"provider":    {Reason: bridge.ReasonProvider, Text: "Over quota", Code: 452, Enhanced: [3]int{4, 2, 2}},
	"odd":         {Reason: bridge.ReasonProvider, Text: "Odd", Code: 550, Enhanced: [3]int{2, 0, 0}},
	"ok":          {Reason: bridge.ReasonProvider, Text: "Says 250", Code: 250},
	"unknown":     {Reason: "never heard of", Text: "Unknown"},
}

// rig is a running server.
type rig struct {
	server          *Server
	fake            *fake
	log             *logBuffer
	plain, implicit string // addresses
	trust           *tls.Config
}

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t *testing.T, insecure bool) *rig {
	t.Helper()
	return startWith(t, func(o *Options, _ *fake) { o.AllowInsecureAuth = insecure })
}

func startWith(t *testing.T, change func(o *Options, f *fake)) *rig {
	t.Helper()
	certificate, err := bridgetest.CA().Issue(time.Time{}, "localhost", "127.0.0.1")
	check(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bridgetest.CA().PEM())
	r := &rig{fake: newFake(), log: &logBuffer{}, trust: &tls.Config{RootCAs: roots, ServerName: "localhost"}}
	o := Options{
		Login: func(_ context.Context, username, password string) (Account, error) {
			switch {
			case username == "locked@alpha.test":
				return nil, errors.New("vault is locked")
			case username != "alice@alpha.test" || password != "pass word":
				return nil, bridge.ErrCredentials
			}
			return r.fake, nil
		},
		TLS: &tls.Config{Certificates: []tls.Certificate{certificate}},
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})), MaxMessageSize: func() int64 { return testSize },
	}
	change(&o, r.fake)
	r.server = New(o)
	var serving sync.WaitGroup
	listen := func(serve func(net.Listener) error) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		serving.Go(func() {
			if err := serve(l); err != nil {
				t.Errorf("serve: %v", err)
			}
		})
		return l.Addr().String()
	}
	r.plain, r.implicit = listen(r.server.Serve), listen(r.server.ServeTLS)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		serving.Wait()
	})
	return r
}

// client is logged in, over implicit TLS.
func (r *rig) client(t *testing.T) *smtp.Client {
	t.Helper()
	c, err := smtp.DialTLS(r.implicit, r.trust)
	check(t, err)
	t.Cleanup(func() { _ = c.Close() })
	check(t, c.Auth(sasl.NewPlainClient("", "alice@alpha.test", "pass word")))
	return c
}

func code(err error) int {
	var e *smtp.SMTPError
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

func TestRefusals(t *testing.T) {
	r := start(t, false)
	c := r.client(t)
	for name, want := range map[string]struct {
		code     int
		enhanced smtp.EnhancedCode
	}{
		"nocert": {550, smtp.EnhancedCode{5, 7, 1}}, "lookup": {451, smtp.EnhancedCode{4, 7, 5}},
		"policy": {550, smtp.EnhancedCode{5, 7, 1}}, "certificate": {550, smtp.EnhancedCode{5, 7, 1}},
		"sender": {553, smtp.EnhancedCode{5, 7, 1}}, "malformed": {554, smtp.EnhancedCode{5, 6, 0}},
		"toolarge": {552, smtp.EnhancedCode{5, 3, 4}}, "unreachable": {451, smtp.EnhancedCode{4, 4, 1}},
		"local": {451, smtp.EnhancedCode{4, 3, 0}}, "provider": {452, smtp.EnhancedCode{4, 2, 2}},
		"odd": {550, smtp.EnhancedCode{5, 0, 0}}, "ok": {451, smtp.EnhancedCode{4, 4, 1}},
		"unknown": {451, smtp.EnhancedCode{4, 3, 0}}, "broken": {451, smtp.EnhancedCode{4, 3, 0}},
		"unread": {451, smtp.EnhancedCode{4, 3, 0}},
	} {
		err := c.SendMail("alice@alpha.test", []string{name + "@x.test"}, strings.NewReader("Subject: x\r\n\r\ncanary\r\n"))
		var e *smtp.SMTPError
		if !errors.As(err, &e) || e.Code != want.code || e.EnhancedCode != want.enhanced {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.Contains(e.Message, "secret") || strings.Contains(e.Message, "canary") {
			t.Errorf("%s: the client sees %q", name, e.Message)
		}
	}
	if _, got := r.fake.take(); got {
		t.Error("something was sent")
	}
	if !strings.Contains(r.log.String(), "secret cause") {
		t.Error("the cause is not in the log")
	}
}

func TestSizeLimitIsExact(t *testing.T) {
	r := start(t, false)
	c := r.client(t)
	if ok, size := c.Extension("SIZE"); !ok || size != fmt.Sprint(testSize) {
		t.Errorf("SIZE %q", size)
	}
	line := strings.Repeat("x", 62) + "\r\n"
	fits := strings.Repeat(line, testSize/len(line))
	check(t, c.SendMail("alice@alpha.test", []string{"bob@x.test"}, strings.NewReader(fits)))
	if got, ok := r.fake.take(); !ok || len(got) != len("alice@alpha.test|bob@x.test|")+testSize {
		t.Errorf("%d octets arrived", len(got))
	}
	if err := c.SendMail("alice@alpha.test", []string{"bob@x.test"}, strings.NewReader("x"+fits)); code(err) != 552 {
		t.Errorf("one octet more: %v", err)
	}
	if err := c.Mail("alice@alpha.test", &smtp.MailOptions{Size: testSize + 1}); code(err) != 552 {
		t.Errorf("announced: %v", err)
	}
	check(t, c.Noop())
	// Whoever goes on and on is cut off.
	if err := c.SendMail("alice@alpha.test", []string{"bob@x.test"}, io.LimitReader(endless{}, 20*testSize)); err == nil {
		t.Error("endless message accepted")
	}
	if _, got := r.fake.take(); got {
		t.Error("a message too large was submitted")
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, "0123456789\r\n"), nil }

func TestPanicCostsOneConnection(t *testing.T) {
	r := start(t, false)
	c := r.client(t)
	err := c.SendMail("alice@alpha.test", []string{"panic@x.test"}, strings.NewReader("canary\r\n"))
	if code(err) != 421 {
		t.Errorf("error %v", err)
	}
	if err := c.Noop(); err == nil {
		t.Error("the connection lives on")
	}
	check(t, r.client(t).Noop())
	if log := r.log.String(); strings.Contains(log, "canary") || !strings.Contains(log, "internal error") {
		t.Errorf("log %s", log)
	}
}

func TestShutdownWaitsForTheTransaction(t *testing.T) {
	r := start(t, false)
	c, idle := r.client(t), r.client(t)
	sent := make(chan error, 1)
	go func() {
		sent <- c.SendMail("alice@alpha.test", []string{"slow@x.test"}, strings.NewReader("slow\r\n"))
	}()
	<-r.fake.began
	ended := make(chan error, 1)
	go func() { ended <- r.server.Shutdown(t.Context()) }()
	for idle.Noop() == nil { // until the idle client is turned away
	}
	close(r.fake.goOn)
	check(t, <-sent)
	check(t, <-ended)
	if got, _ := r.fake.take(); got != "alice@alpha.test|slow@x.test|slow\r\n" {
		t.Errorf("submitted %q", got)
	}
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	r := start(t, false)
	c := r.client(t)
	sent := make(chan error, 1)
	go func() {
		sent <- c.SendMail("alice@alpha.test", []string{"slow@x.test"}, strings.NewReader("slow\r\n"))
	}()
	<-r.fake.began
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.server.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: %v", err)
	}
	if err := <-sent; err == nil {
		t.Error("acknowledged what was not sent")
	}
}

func TestConnectionLimit(t *testing.T) {
	r := start(t, false)
	for range maxConnections {
		c, err := net.Dial("tcp", r.plain)
		check(t, err)
		defer c.Close()
		b := make([]byte, 3)
		_, err = io.ReadFull(c, b)
		check(t, err)
		if string(b) != "220" {
			t.Fatalf("greeting %s", b)
		}
	}
	c, err := net.Dial("tcp", r.plain)
	check(t, err)
	defer c.Close()
	if b, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(b), "421 ") {
		t.Errorf("one too many: %q, %v", b, err)
	}
}

func TestNothingSecretIsLogged(t *testing.T) {
	r := start(t, false)
	c, err := smtp.DialTLS(r.implicit, r.trust)
	check(t, err)
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", "alice@alpha.test", "wrong-canary")); code(err) != 535 {
		t.Errorf("error %v", err)
	}
	if log := r.log.String(); strings.Contains(log, "canary") || !strings.Contains(log, "login failed") {
		t.Errorf("log %s", log)
	}
}
