package upstream

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testUser     = "alice@alpha.test"
	testPassword = "pa\"ss wörd"
)

// testCA signs server certificates.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t testing.TB) *testCA {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))(t)
	return &testCA{must(x509.ParseCertificate(der))(t), key}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// roots trusts this CA alone.
func (ca *testCA) roots() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return &tls.Config{RootCAs: pool}
}

// server is the configuration of a server for name, valid for the given time from now.
func (ca *testCA) server(t testing.TB, name string, validity time.Duration) *tls.Config {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(validity),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der := must(x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key))(t)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// listen serves on a loopback port until the test ends.
func listen(t testing.TB, serve func(net.Listener), stop func()) (port int) {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	done := make(chan struct{})
	go func() { defer close(done); serve(l) }()
	t.Cleanup(func() { stop(); l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).Port
}

// memoryIMAP is go-imap's own server with one user and an INBOX.
func memoryIMAP(t testing.TB, security string, config *tls.Config) (Endpoint, *imapmemserver.User) {
	t.Helper()
	backend := imapmemserver.New()
	user := imapmemserver.NewUser(testUser, testPassword)
	if err := user.Create("INBOX", nil); err != nil {
		t.Fatal(err)
	}
	backend.AddUser(user)
	o := &imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return backend.NewSession(), nil, nil
		},
		Caps: imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapIMAP4rev2: {}}, InsecureAuth: true, Logger: log.New(io.Discard, "", 0),
	}
	if security == "starttls" {
		o.TLSConfig, o.InsecureAuth = config, false
	}
	s := imapserver.New(o)
	port := listen(t, func(l net.Listener) {
		if security == "tls" {
			l = tls.NewListener(l, config)
		}
		_ = s.Serve(l)
	}, func() { _ = s.Close() })
	return Endpoint{"imap", security, "127.0.0.1", port}, user
}

// sink is an SMTP backend that keeps what it accepts.
type sink struct {
	mu       sync.Mutex
	accepted []received
	logins   atomic.Int32
	refuse   func(to string) error
	finish   func(to []string) error
}

type received struct {
	from string
	to   []string
	body string
}

func (s *sink) NewSession(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: s}, nil }

func (s *sink) messages() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.accepted...)
}

type sinkSession struct {
	sink *sink
	in   bool
	mail received
}

func (s *sinkSession) AuthMechanisms() []string { return []string{sasl.Plain} }
func (s *sinkSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, username, password string) error {
		s.sink.logins.Add(1)
		if username != testUser || password != testPassword {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "authentication failed"}
		}
		s.in = true
		return nil
	}), nil
}

func (s *sinkSession) Mail(from string, _ *smtp.MailOptions) error {
	if !s.in {
		return errors.New("not logged in")
	}
	s.mail = received{from: from}
	return nil
}

func (s *sinkSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if s.sink.refuse != nil {
		if err := s.sink.refuse(to); err != nil {
			return err
		}
	}
	s.mail.to = append(s.mail.to, to)
	return nil
}

func (s *sinkSession) Data(r io.Reader) error {
	body, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.sink.finish != nil {
		if err := s.sink.finish(s.mail.to); err != nil {
			return err
		}
	}
	s.mail.body = string(body)
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	s.sink.accepted = append(s.sink.accepted, s.mail)
	return nil
}

func (s *sinkSession) Reset()        {}
func (s *sinkSession) Logout() error { return nil }

func smtpServer(t testing.TB, security string, config *tls.Config, backend smtp.Backend, change func(*smtp.Server)) Endpoint {
	t.Helper()
	s := smtp.NewServer(backend)
	s.ErrorLog = log.New(io.Discard, "", 0)
	s.Domain, s.AllowInsecureAuth, s.MaxMessageBytes = "provider.test", security != "starttls", 1<<20
	s.MaxLineLength = 1 << 20
	if security == "starttls" {
		s.TLSConfig = config
	}
	if change != nil {
		change(s)
	}
	port := listen(t, func(l net.Listener) {
		if security == "tls" {
			l = tls.NewListener(l, config)
		}
		_ = s.Serve(l)
	}, func() { _ = s.Close() })
	return Endpoint{"smtp", security, "127.0.0.1", port}
}

// text is a Source.
type text string

func (s text) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader([]byte(s)).ReadAt(p, off)
}
func (s text) Size() int64 { return int64(len(s)) }

func newProvider(t testing.TB, o Options) *Provider {
	t.Helper()
	if o.Username == "" {
		o.Username = testUser
	}
	if o.Password == nil {
		o.Password = passwordIs(testPassword)
	}
	p := New(o)
	t.Cleanup(func() { _ = p.Close() })
	return p
}
