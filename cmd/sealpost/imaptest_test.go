//go:build peers

package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// imaptest is Dovecot's test of IMAP servers, which Debian does not package. IMAPTEST names the program where it
// has been built from source; its scripts lie in the folder "tests" beside it.
type imaptest struct {
	t       *testing.T
	program string
}

func newImaptest(t *testing.T) *imaptest {
	program := os.Getenv("IMAPTEST")
	if program == "" {
		t.Skip("IMAPTEST is not set: it would name Dovecot's imaptest, built from https://github.com/dovecot/imaptest")
	}
	return &imaptest{t, program}
}

// plainPort is a port on which a server that wants TLS can be spoken to without: imaptest's own TLS is a matter
// of how it was built.
func (i *imaptest) plainPort(port string) string {
	i.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go throughTLS(client, "127.0.0.1:"+port)
		}
	}()
	_, plain, _ := net.SplitHostPort(listener.Addr().String())
	return plain
}

func throughTLS(client net.Conn, address string) {
	defer client.Close()
	server, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer server.Close()
	go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
	_, _ = io.Copy(client, server)
}

// run returns what it prints; that it finds errors is no error here.
func (i *imaptest) run(port, user, password string, args ...string) string {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, i.program, append([]string{"host=127.0.0.1", "port=" + i.plainPort(port), "user=" + user, "pass=" + password}, args...)...)
	cmd.Dir = filepath.Dir(i.program)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH=/usr/lib/dovecot")
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	_ = cmd.Run()
	return out.String()
}

var (
	failedScript = regexp.MustCompile(`(?m)^\*\*\* Test (\S+) command`)
	groups       = regexp.MustCompile(`(?m)^(\d+) test groups: `)
)

// scripts runs the scripted tests and returns the names of those that fail.
func (i *imaptest) scripts(port, user, password string) []string {
	i.t.Helper()
	out := i.run(port, user, password, "test=tests")
	if m := groups.FindStringSubmatch(out); m == nil || m[1] == "0" {
		i.t.Fatalf("no scripts were run:\n%s", out)
	}
	var failed []string
	for _, m := range failedScript.FindAllStringSubmatch(out, -1) {
		failed = append(failed, m[1])
	}
	slices.Sort(failed)
	return slices.Compact(failed)
}

// ownAnswers are scripts that compare a message's exact bytes or sizes, to which the bridge adds its status field,
// and one that stores a message with a NUL, which no other server need take.
var ownAnswers = []string{"append-binary", "fetch-binary-mime", "fetch-body-message-rfc822", "fetch-body-message-rfc822-mime",
	"fetch-body-message-rfc822-x2", "fetch-body-mime"}

// TestImaptest: what passes on Dovecot passes through the bridge.
func TestImaptest(t *testing.T) {
	tool := newImaptest(t)
	s := newSite(t)
	u := s.newUser(alice, false)
	u.start()
	o := s.provider.IMAPOptions(load)
	atDovecot := tool.scripts(o.IMAP, o.Username, o.Password)
	_, port, _ := strings.Cut(u.client.IMAPS, ":")
	for _, name := range tool.scripts(port, u.client.Username, u.client.Password) {
		if !slices.Contains(atDovecot, name) && !slices.Contains(ownAnswers, name) {
			t.Errorf("%s passes on Dovecot and not through the bridge", name)
		}
	}
}

// TestImaptestStress lets ten clients do everything at once for a while.
func TestImaptestStress(t *testing.T) {
	tool := newImaptest(t)
	s := newSite(t)
	u := s.newUser(alice, false)
	u.start()
	_, port, _ := strings.Cut(u.client.IMAPS, ":")
	out := tool.run(port, u.client.Username, u.client.Password, "mbox=tests/default.mbox", "clients=10", "secs=20", "msgs=100")
	if !strings.Contains(out, "Totals:") {
		t.Fatalf("it did not run:\n%s", out)
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "Error") {
			t.Error(line)
		}
	}
}
