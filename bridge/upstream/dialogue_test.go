package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

type dialogue struct {
	name, protocol, security, kind, text string
	steps                                []string
}

func dialogues(t *testing.T) []dialogue {
	t.Helper()
	file := string(must(os.ReadFile("testdata/dialogues.txt"))(t))
	var all []dialogue
	for line := range strings.Lines(file) {
		line = strings.TrimSuffix(line, "\n")
		if head, ok := strings.CutPrefix(line, "== "); ok {
			f := strings.Split(head, " | ")
			protocol, security, _ := strings.Cut(f[1], " ")
			all = append(all, dialogue{name: f[0], protocol: protocol, security: security, kind: f[2], text: f[3]})
		} else if line != "" && line[0] != '#' {
			all[len(all)-1].steps = append(all[len(all)-1].steps, line)
		}
	}
	return all
}

// perform plays the server's part, then reads until the client hangs up.
func perform(conn net.Conn, steps []string, config *tls.Config) error {
	reader := bufio.NewReader(conn)
	held := ""
	for _, step := range steps {
		if len(step) > 3 {
			unescaped := escaped.ReplaceAllStringFunc(step[3:], func(s string) string {
				b, _ := strconv.ParseUint(s[2:], 16, 8)
				return string([]byte{byte(b)})
			})
			step = step[:3] + unescaped
		}
		switch {
		case step == "TLS":
			secured := tls.Server(conn, config)
			conn, reader = secured, bufio.NewReader(secured)
		case step == "CLOSE":
			return nil
		case strings.HasPrefix(step, "S+ "): // sent together with the next line
			held = step[3:] + "\r\n"
		case strings.HasPrefix(step, "S: "):
			if _, err := io.WriteString(conn, held+step[3:]+"\r\n"); err != nil {
				return err
			}
			held = ""
		default:
			line, err := reader.ReadString('\n')
			if got := "C: " + strings.TrimRight(line, "\r\n"); got != step {
				return errors.New("the client sent " + got + ", expected " + step + ": " + errorText(err))
			}
		}
	}
	_, _ = io.Copy(io.Discard, reader)
	return nil
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestDialogues(t *testing.T) {
	ca := newCA(t)
	config := ca.server(t, "127.0.0.1", time.Hour)
	for _, d := range dialogues(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
			defer listener.Close()
			done := make(chan error, 1)
			go func() {
				conn, err := listener.Accept()
				if err == nil {
					defer conn.Close()
					err = perform(conn, d.steps, config)
				}
				done <- err
			}()
			err := d.login(t.Context(), listener.Addr().(*net.TCPAddr).Port, ca.roots())
			if problem := <-done; problem != nil {
				t.Error(problem)
			}
			d.judge(t, err)
		})
	}
}

func (d dialogue) login(ctx context.Context, port int, roots *tls.Config) error {
	at := Endpoint{d.protocol, d.security, "127.0.0.1", port}
	timeout := 5 * time.Second
	if strings.Contains(d.text, "in time") {
		timeout = 50 * time.Millisecond
	}
	p := New(Options{IMAP: at, SMTP: at, TLS: roots, Username: "alice", Password: passwordIs("secret"), Timeout: timeout})
	defer p.Close()
	if d.protocol == "imap" {
		l, err := dialIMAP(ctx, at, roots, timeout, credentials{"alice", "secret"})
		if err == nil {
			l.close()
		}
		return err
	}
	s, err := p.connectSMTP(ctx, false)
	if err == nil {
		s.close()
	}
	return err
}

func (d dialogue) judge(t *testing.T, err error) {
	t.Helper()
	if d.kind == "-" {
		if err != nil {
			t.Errorf("failed: %v", err)
		}
		return
	}
	var e *Error
	if !errors.As(err, &e) || string(e.Kind) != d.kind || !strings.Contains(e.Error(), d.text) {
		t.Errorf("got %v (%+v), want kind %s and %q", err, e, d.kind, d.text)
	}
	if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "AGFsaWNl")) {
		t.Errorf("the error holds the password: %v", err)
	}
}

func TestCertificates(t *testing.T) {
	ca := newCA(t)
	for _, c := range []struct {
		name, host string
		validity   time.Duration
		roots      *tls.Config
		want       string
	}{
		{"expired", "127.0.0.1", -24 * time.Hour, ca.roots(), "its certificate expired on "},
		{"wrong name", "mail.other.test", time.Hour, ca.roots(), "its certificate is for mail.other.test, not for 127.0.0.1"},
		{"unknown authority", "127.0.0.1", time.Hour, newCA(t).roots(), "set ca_file"},
	} {
		for _, security := range []string{"tls", "starttls"} {
			t.Run(c.name+" "+security, func(t *testing.T) {
				config := ca.server(t, c.host, c.validity)
				imapAt, _ := memoryIMAP(t, security, config)
				p := newProvider(t, Options{IMAP: imapAt, SMTP: smtpServer(t, security, config, &sink{}, nil), TLS: c.roots})
				_, viaIMAP := p.connectIMAP(t.Context(), false)
				_, viaSMTP := p.connectSMTP(t.Context(), false)
				for _, err := range []error{viaIMAP, viaSMTP} {
					var e *Error
					if !errors.As(err, &e) || e.Kind != KindTLS || !strings.Contains(e.Error(), c.want) {
						t.Errorf("got %v", err)
					}
				}
			})
		}
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	ca := newCA(t)
	config := ca.server(t, "127.0.0.1", time.Hour)
	config.MaxVersion = tls.VersionTLS11
	config.MinVersion = tls.VersionTLS10
	at, _ := memoryIMAP(t, "tls", config)
	p := newProvider(t, Options{IMAP: at, TLS: &tls.Config{RootCAs: ca.roots().RootCAs, MinVersion: tls.VersionTLS10, InsecureSkipVerify: true}})
	_, err := p.Acquire(t.Context(), "INBOX")
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindTLS || !strings.Contains(e.Error(), "TLS 1.2") {
		t.Errorf("got %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	p := newProvider(t, Options{IMAP: Endpoint{"imap", "insecure", "127.0.0.1", port}})
	_, err := p.Acquire(t.Context(), "INBOX")
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindUnreachable || !strings.Contains(e.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
	if state, last := p.State(); state != Offline || last == nil {
		t.Errorf("state %s, %v", state, last)
	}
}

func TestParseEndpoint(t *testing.T) {
	for url, want := range map[string]string{
		"imaps://mail.x.test":                 "imaps://mail.x.test:993",
		"IMAPS://Mail.X.test:1993/":           "imaps://mail.x.test:1993",
		"smtp+starttls://[::1]:2525":          "smtp+starttls://[::1]:2525",
		"imap+insecure://localhost:1143":      "imap+insecure://localhost:1143",
		"imap+insecure://127.0.0.9":           "imap+insecure://127.0.0.9:143",
		"imap+insecure://mail.x.test":         "",
		"smtp+insecure://192.168.0.1":         "",
		"imap+insecure://localhost.evil.test": "",
		"imap://mail.x.test":                  "",
		"http://mail.x.test":                  "",
		"imaps://":                            "",
		"imaps://x.test:0":                    "",
		"imaps://x.test:99999":                "",
		"imaps://user:pw@x.test":              "",
		"imaps://x.test/INBOX":                "",
		"mail.x.test":                         "",
	} {
		e, err := ParseEndpoint(url)
		if (err != nil) != (want == "") || (err == nil && e.String() != want) {
			t.Errorf("%s: %v, %v", url, e, err)
		}
		if err != nil && strings.Contains(err.Error(), "pw") {
			t.Errorf("the error holds the password: %v", err)
		}
	}
}
