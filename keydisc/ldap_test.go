package keydisc

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
)

func TestLDAPFilter(t *testing.T) {
	if got := ldapFilter("bob@bravo.test"); !strings.Contains(got, "(pgpUserID=*<bob@bravo.test>*)") || !strings.Contains(got, "(mail=bob@bravo.test)") {
		t.Error(got)
	}
	whole, err := ldap.CompileFilter(ldapFilter("x"))
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"*)(uid=*@x.test", "*@x.test", `\2a@x.test`, "a\x00b@x.test", "()@x.test", `\`, "*", "ü@x.test"} {
		p, err := ldap.CompileFilter(ldapFilter(address))
		if err != nil {
			t.Errorf("%q: %v", address, err)
			continue
		}
		if len(p.Children) != len(whole.Children) || len(p.Children[0].Children) != len(whole.Children[0].Children) {
			t.Errorf("%q changes the form of the filter: %s", address, ldapFilter(address))
		}
		if s := ldapFilter(address); strings.Contains(s, "(uid=") || strings.Contains(s, "mail=*") {
			t.Errorf("%q is not escaped: %s", address, s)
		}
	}
}

func FuzzLDAPFilter(f *testing.F) {
	f.Add("*)(uid=*@x.test")
	f.Fuzz(func(t *testing.T, address string) {
		p, err := ldap.CompileFilter(ldapFilter(address))
		if err != nil || len(p.Children) != 2 || len(p.Children[1].Children) != 2 {
			t.Errorf("%q: %v", address, err)
		}
	})
}

func TestLDAPEntry(t *testing.T) {
	alice, revoked := load(t, "alice"), load(t, "revoked")
	type values = map[string][]string
	armored := string(mustRead(t, "testdata/alice.asc"))
	for name, c := range map[string]struct {
		entry   values
		address string
		found   int
		ok      bool
	}{
		"armored":                 {values{"pgpKey": {armored}}, "alice@alpha.test", 1, true},
		"binary":                  {values{"userPGPKey;binary": {string(alice.Bytes())}}, "alice@alpha.test", 1, true},
		"another case":            {values{"OPENPGPKEY": {armored}}, "alice@alpha.test", 1, true},
		"several values":          {values{"pgpKey": {string(revoked.Bytes()), armored}}, "alice@alpha.test", 1, false},
		"two attributes":          {values{"pgpKey": {armored}, "pgpKeyV2": {armored}}, "alice@alpha.test", 2, true},
		"revoked, and it says so": {values{"pgpKey": {string(revoked.Bytes())}, "pgpRevoked": {"1"}}, "revoked@alpha.test", 1, true},
		"only the flag says so":   {values{"pgpKey": {armored}, "pgpRevoked": {"1"}}, "alice@alpha.test", 0, false},
		"disabled":                {values{"pgpKey": {armored}, "PGPDISABLED": {"1"}}, "alice@alpha.test", 0, false},
		"flags that are not set":  {values{"pgpKey": {armored}, "pgpRevoked": {"0"}, "pgpDisabled": {"0"}}, "alice@alpha.test", 1, true},
		"for another address":     {values{"pgpKey": {string(load(t, "bob").Bytes())}}, "alice@alpha.test", 0, false},
		"secret key":              {values{"pgpKey": {string(mustRead(t, "testdata/secret.asc"))}}, "alice@alpha.test", 0, false},
		"garbage":                 {values{"pgpKey": {"hello"}}, "alice@alpha.test", 0, false},
		"empty":                   {values{"pgpKey": {""}}, "alice@alpha.test", 0, false},
		"no value":                {values{"pgpKey": nil}, "alice@alpha.test", 0, false},
		"nothing to be read":      {values{"mail": {"alice@alpha.test"}}, "alice@alpha.test", 0, false},
	} {
		certificates, err := entryCertificates(ldap.NewEntry("cn=x", c.entry), c.address, now)
		if len(certificates) != c.found || (err == nil) != c.ok {
			t.Errorf("%s: %d %v", name, len(certificates), err)
		}
	}
}

func FuzzLDAPEntry(f *testing.F) {
	f.Add(load(f, "alice").Bytes(), "0")
	f.Add(mustRead(f, "testdata/alice.asc"), "1")
	f.Fuzz(func(t *testing.T, value []byte, flag string) {
		entry := ldap.NewEntry("cn=x", map[string][]string{"pgpKey": {string(value)}, "pgpDisabled": {flag}})
		certificates, err := entryCertificates(entry, "alice@alpha.test", now)
		if (err == nil) != (len(certificates) == 1) {
			t.Error(len(certificates), err)
		}
	})
}

// ber is one element of a BER encoding with its contents.
func ber(tag byte, contents ...[]byte) []byte {
	all := slices.Concat(contents...)
	return slices.Concat([]byte{tag, 0x83, byte(len(all) >> 16), byte(len(all) >> 8), byte(len(all))}, all)
}

// message is an LDAPMessage (RFC 4511 §4.1.1).
func message(id byte, op []byte) []byte { return ber(0x30, ber(0x02, []byte{id}), op) }

// done is an LDAPResult with that operation's tag.
func done(tag, code byte) []byte {
	return ber(tag, ber(0x0a, []byte{code}), ber(0x04), ber(0x04, []byte("content of somebody's own")))
}

const (
	bindDone     = 0x61
	searchDone   = 0x65
	extendedDone = 0x78
)

func entryOf(value []byte) []byte {
	return ber(0x64, ber(0x04, []byte("cn=x")), ber(0x30, ber(0x30, ber(0x04, []byte("pgpKey")), ber(0x31, ber(0x04, value)))))
}

// listener is a TCP server on loopback whose connections a test handles, and which counts them.
type listener struct {
	net.Listener
	connections atomic.Int32
}

func listen(t *testing.T, config *tls.Config, handle func(net.Conn)) *listener {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{Listener: tcp}
	if config != nil {
		l.Listener = tls.NewListener(tcp, config)
	}
	finished := make(chan struct{})
	t.Cleanup(func() {
		_ = l.Close()
		<-finished
	})
	go func() {
		defer close(finished)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			l.connections.Add(1)
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
	return l
}

// answering answers the first request with the messages.
func answering(messages ...[]byte) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 8<<10))
		_, _ = conn.Write(slices.Concat(messages...))
		_, _ = io.Copy(io.Discard, conn) // until the client has gone
	}
}

// silentPeer takes everything and says nothing.
func silentPeer(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// testTLS is a certificate for 127.0.0.1 and example.com, and the file of its authority.
func testTLS(t *testing.T) (*tls.Config, string) {
	t.Helper()
	w := serve(t, nil)
	return &tls.Config{Certificates: w.TLS.Certificates}, w.caFile(t)
}

func ldapFinder(t *testing.T, s LDAPServer) *Finder {
	t.Helper()
	return ldapFinderFor(t, s, 5*time.Second)
}

// brief is for peers that never answer.
const brief = 200 * time.Millisecond

func ldapFinderFor(t *testing.T, s LDAPServer, timeout time.Duration) *Finder {
	t.Helper()
	if s.BaseDN == "" {
		s.BaseDN = "dc=example,dc=com"
	}
	f, err := New(Options{Methods: []Method{LDAP}, LDAP: []LDAPServer{s}, Timeout: timeout, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLDAPAnswers(t *testing.T) {
	config, ca := testTLS(t)
	good := exampleCertificate(t)
	none := message(1, done(searchDone, 0))
	entry := message(1, entryOf(good.Bytes()))
	reference := message(1, ber(0x73, ber(0x04, []byte("ldap://127.0.0.1:1/dc=elsewhere"))))
	for name, c := range map[string]struct {
		handle     func(net.Conn)
		found      int
		conclusive bool
		timeout    time.Duration // 0: it ends by itself
	}{
		"found":                  {answering(entry, none), 1, true, 0},
		"none":                   {answering(none), 0, true, 0},
		"for another address":    {answering(message(1, entryOf(load(t, "alice").Bytes())), none), 0, false, 0},
		"secret key":             {answering(message(1, entryOf(mustRead(t, "testdata/secret.asc"))), none), 0, false, 0},
		"no such object":         {answering(message(1, done(searchDone, 32))), 0, false, 0},
		"referral":               {answering(message(1, done(searchDone, 10))), 0, false, 0},
		"reference":              {answering(reference, none), 0, false, 0},
		"entry and reference":    {answering(entry, reference, none), 0, false, 0},
		"size limit":             {answering(entry, message(1, done(searchDone, 4))), 0, false, 0},
		"busy":                   {answering(message(1, done(searchDone, 51))), 0, false, 0},
		"no access":              {answering(message(1, done(searchDone, 50))), 0, false, 0},
		"too many entries":       {answering(slices.Concat(slices.Repeat([][]byte{entry}, maxEntries+1)...), none), 0, false, 0},
		"huge":                   {answering(message(1, entryOf(make([]byte, maxInput))), none), 0, false, 0},
		"another request's":      {answering(message(9, done(searchDone, 0))), 0, false, brief},
		"no end":                 {answering(entry), 0, false, brief},
		"closed at once":         {func(net.Conn) {}, 0, false, 0},
		"closed after the entry": {func(c net.Conn) { _, _ = c.Read(make([]byte, 8<<10)); _, _ = c.Write(entry) }, 0, false, 0},
		"silent":                 {silentPeer, 0, false, brief},
		"garbage":                {answering([]byte("HTTP/1.1 200 OK\r\n\r\n<html>")), 0, false, brief},
		"zeros":                  {answering(make([]byte, 1000)), 0, false, brief},
		"deep":                   {answering(slices.Repeat([]byte{0x30, 0x80}, 100_000)), 0, false, 0},
		"endless": {func(c net.Conn) {
			for {
				if _, err := c.Write(entry); err != nil {
					return
				}
			}
		}, 0, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listen(t, config, c.handle)
			s := LDAPServer{URL: "ldaps://" + l.Addr().String(), CAFile: ca}
			answer := ldapFinderFor(t, s, cmp.Or(c.timeout, 5*time.Second)).Find(t.Context(), "bob@example.com")
			if len(answer.Found) != c.found || answer.Conclusive != c.conclusive || (answer.Err == nil) != c.conclusive {
				t.Errorf("%+v", answer)
			}
			if answer.Err != nil && (strings.Contains(answer.Err.Error(), "somebody") || !strings.Contains(answer.Err.Error(), l.Addr().String())) {
				t.Errorf("%v", answer.Err)
			}
			for _, f := range answer.Found {
				if f.Source != LDAP || !f.Authenticated {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// Whatever happens before TLS is up, no question is asked and nothing is an answer.
func TestLDAPWithoutTLS(t *testing.T) {
	config, ca := testTLS(t)
	proceed := message(1, done(extendedDone, 0))
	thenTLS := func(c net.Conn) {
		_, _ = c.Read(make([]byte, 8<<10))
		_, _ = c.Write(proceed)
		answering(message(2, done(searchDone, 0)))(tls.Server(c, config))
	}
	for name, c := range map[string]struct {
		scheme, ca string
		config     *tls.Config
		handle     func(net.Conn)
		conclusive bool
		timeout    time.Duration // 0: it ends by itself
	}{
		"STARTTLS":                            {"ldap+starttls", ca, nil, thenTLS, true, 0},
		"STARTTLS, wrong certificate":         {"ldap+starttls", "", nil, thenTLS, false, 0},
		"STARTTLS refused":                    {"ldap+starttls", ca, nil, answering(message(1, done(extendedDone, 2))), false, 0},
		"STARTTLS, silent":                    {"ldap+starttls", ca, nil, silentPeer, false, brief},
		"STARTTLS, silent in the handshake":   {"ldap+starttls", ca, nil, answering(proceed), false, brief},
		"STARTTLS, garbage in the handshake":  {"ldap+starttls", ca, nil, answering(proceed, []byte("hello, world, this is not TLS")), false, brief},
		"STARTTLS, an answer before its time": {"ldap+starttls", ca, nil, answering(proceed, message(2, done(searchDone, 0))), false, brief},
		"STARTTLS, another request's answer":  {"ldap+starttls", ca, nil, answering(message(9, done(extendedDone, 0))), false, brief},
		"STARTTLS, closed":                    {"ldap+starttls", ca, nil, func(net.Conn) {}, false, 0},
		"STARTTLS, garbage":                   {"ldap+starttls", ca, nil, answering([]byte("220 mail.example.com ESMTP\r\n")), false, brief},
		"ldaps, wrong certificate":            {"ldaps", "", config, answering(message(1, done(searchDone, 0))), false, 0},
		"ldaps, silent in the handshake":      {"ldaps", ca, nil, silentPeer, false, brief},
		"ldaps, plain server":                 {"ldaps", ca, nil, answering(message(1, done(searchDone, 0))), false, 0},
		"insecure":                            {"ldap+insecure", "", nil, answering(message(1, done(searchDone, 0))), false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listen(t, c.config, c.handle)
			s := LDAPServer{URL: c.scheme + "://" + l.Addr().String(), CAFile: c.ca}
			if answer := ldapFinderFor(t, s, cmp.Or(c.timeout, 5*time.Second)).Find(t.Context(), "bob@example.com"); answer.Conclusive != c.conclusive || len(answer.Found) > 0 {
				t.Errorf("%+v", answer)
			}
		})
	}
}

func TestBoundedConn(t *testing.T) {
	client, peer := net.Pipe()
	defer client.Close()
	go func() {
		for {
			if _, err := peer.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}()
	n, err := io.Copy(io.Discard, &boundedConn{Conn: client})
	if err == nil || n > maxInput+64<<10 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestLDAPInsecureIsNotAuthenticated(t *testing.T) {
	l := listen(t, nil, answering(message(1, entryOf(exampleCertificate(t).Bytes())), message(1, done(searchDone, 0))))
	answer := ldapFinder(t, LDAPServer{URL: "ldap+insecure://" + l.Addr().String()}).Find(t.Context(), "bob@example.com")
	if len(answer.Found) != 1 || answer.Found[0].Authenticated || !answer.Conclusive {
		t.Errorf("%+v", answer)
	}
}

func TestLDAPDomains(t *testing.T) {
	config, ca := testTLS(t)
	l := listen(t, config, answering(message(1, done(searchDone, 0))))
	f := ldapFinder(t, LDAPServer{URL: "ldaps://" + l.Addr().String(), CAFile: ca, Domains: []string{"Example.com", "bücher.example"}})
	for _, address := range []string{"bob@example.org", "bob@sub.example.com", "bob@notexample.com"} {
		if answer := f.Find(t.Context(), address); !answer.Conclusive || l.connections.Load() != 0 {
			t.Errorf("%s: %+v", address, answer)
		}
	}
	for i, address := range []string{"bob@EXAMPLE.com", "bob@xn--bcher-kva.example", "bob@Bücher.example"} {
		if answer := f.Find(t.Context(), address); !answer.Conclusive || l.connections.Load() != int32(i+1) {
			t.Errorf("%s: not asked: %+v", address, answer)
		}
	}
}

func TestLDAPLogin(t *testing.T) {
	config, ca := testTLS(t)
	good := exampleCertificate(t)
	for name, c := range map[string]struct {
		password func(context.Context) (string, error)
		code     byte
		found    int
	}{
		"good":        {func(context.Context) (string, error) { return "opensesame", nil }, 0, 1},
		"refused":     {func(context.Context) (string, error) { return "opensesame", nil }, 49, 0},
		"empty":       {func(context.Context) (string, error) { return "", nil }, 0, 0},
		"unavailable": {func(context.Context) (string, error) { return "", errors.New("the vault is locked") }, 0, 0},
	} {
		l := listen(t, config, func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 8<<10))
			_, _ = conn.Write(message(1, done(bindDone, c.code)))
			answering(message(2, entryOf(good.Bytes())), message(2, done(searchDone, 0)))(conn)
		})
		s := LDAPServer{URL: "ldaps://" + l.Addr().String(), CAFile: ca, BindDN: "cn=reader,dc=example,dc=com", Password: c.password}
		answer := ldapFinder(t, s).Find(t.Context(), "bob@example.com")
		if len(answer.Found) != c.found || answer.Conclusive != (c.found == 1) {
			t.Errorf("%s: %+v", name, answer)
		}
		if answer.Err != nil && strings.Contains(answer.Err.Error(), "opensesame") {
			t.Errorf("%s: the password is in the error", name)
		}
	}
}

// The end of the context ends whatever is under way, without a time-out of its own.
func TestLDAPCancelled(t *testing.T) {
	config, ca := testTLS(t)
	for name, c := range map[string]struct {
		scheme string
		config *tls.Config
	}{"handshake": {"ldaps", nil}, "search": {"ldaps", config}, "STARTTLS": {"ldap+starttls", nil}} {
		ctx, cancel := context.WithCancel(t.Context())
		l := listen(t, c.config, func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 8<<10))
			cancel()
			silentPeer(conn)
		})
		f := ldapFinder(t, LDAPServer{URL: c.scheme + "://" + l.Addr().String(), CAFile: ca})
		f.options.Timeout = time.Hour
		if answer := f.Find(ctx, "bob@example.com"); answer.Conclusive || !errors.Is(answer.Err, context.Canceled) {
			t.Errorf("%s: %+v", name, answer)
		}
		cancel()
	}
}

func TestLDAPRefusedConnection(t *testing.T) {
	for _, url := range []string{"ldaps://127.0.0.1:1", "ldap+starttls://localhost:1", "ldap+insecure://localhost:1"} {
		if answer := ldapFinder(t, LDAPServer{URL: url}).Find(t.Context(), "bob@example.com"); answer.Conclusive {
			t.Errorf("%s: %+v", url, answer)
		}
	}
}

// A directory is no target for others' redirects either.
func TestLDAPServerIsNoTarget(t *testing.T) {
	l := listen(t, nil, silentPeer)
	w := serve(t, redirecting("https://"+l.Addr().String()+"/x"))
	f := w.finderWith(t, Options{
		Methods: []Method{WKD, LDAP}, Resolve: w.bravo(),
		LDAP: []LDAPServer{{URL: "ldaps://" + l.Addr().String(), BaseDN: "dc=x", Domains: []string{"example.org"}}},
	})
	if answer := f.Find(t.Context(), "bob@example.com"); answer.Conclusive || l.connections.Load() != 0 {
		t.Errorf("%+v", answer)
	}
}

// Whatever a directory sends, the end of the connection and of the context ends the search, and nothing but a whole
// answer over TLS is "none".
func FuzzLDAPAnswer(f *testing.F) {
	good := load(f, "alice").Bytes()
	f.Add(slices.Concat(message(1, entryOf(good)), message(1, done(searchDone, 0))), false)
	f.Add(message(1, done(searchDone, 32)), false)
	f.Add([]byte{0x30, 0x80, 0x30, 0x80}, false)
	f.Add(message(1, done(extendedDone, 0)), true)
	f.Add(message(9, done(extendedDone, 0)), true)
	f.Fuzz(func(t *testing.T, answer []byte, startTLS bool) {
		d := &directory{LDAPServer: LDAPServer{BaseDN: "dc=x"}, server: server{"ldap+insecure", "localhost", "389", true}}
		if startTLS {
			d.server = server{"ldap+starttls", "localhost", "389", false}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		d.tls, d.now = tlsFor("localhost", nil), func() time.Time { return now }
		d.dial = func(context.Context, string, string) (net.Conn, error) {
			client, peer := net.Pipe()
			go func() {
				_, _ = peer.Read(make([]byte, 8<<10))
				_, _ = peer.Write(answer)
				_ = peer.Close()
				if startTLS {
					cancel()
				}
			}()
			return client, nil
		}
		if certificates, err := d.find(ctx, "alice@alpha.test"); err == nil && (startTLS || len(certificates) == 0) {
			t.Error("a definite answer by a server that may be any program")
		}
	})
}
