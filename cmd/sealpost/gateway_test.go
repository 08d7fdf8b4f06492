package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// heldHop takes mail, and counts it by its text. While it is held, it answers no message.
type heldHop struct {
	address string
	mu      sync.Mutex
	got     map[string]int
	began   chan struct{}
	goOn    chan struct{} // nil: at once
}

func startHeldHop(t *testing.T, goOn chan struct{}) *heldHop {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &heldHop{address: l.Addr().String(), got: map[string]int{}, began: make(chan struct{}, 1), goOn: goOn}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &hopSession{h}, nil }))
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return h
}

type hopSession struct{ hop *heldHop }

func (*hopSession) Mail(string, *smtp.MailOptions) error { return nil }
func (*hopSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (*hopSession) Reset()                               {}
func (*hopSession) Logout() error                        { return nil }

func (s *hopSession) Data(r io.Reader) error {
	message, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.hop.goOn != nil {
		s.hop.began <- struct{}{}
		<-s.hop.goOn
	}
	_, text, _ := bytes.Cut(message, []byte("\r\n\r\n"))
	s.hop.mu.Lock()
	defer s.hop.mu.Unlock()
	s.hop.got[strings.TrimSpace(string(text))]++
	return nil
}

func (h *heldHop) count(text string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.got[text]
}

// gatewayDaemon is a `sealpost run` with a gateway.
type gatewayDaemon struct {
	t         *testing.T
	home      string
	process   *exec.Cmd
	log       lockedBuffer
	listeners map[string]string
}

// lockedBuffer is read while a process writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startGateway(t *testing.T, section string, sockets ...*os.File) *gatewayDaemon {
	t.Helper()
	path, err := exec.LookPath("sealpost")
	if err != nil {
		t.Fatal(err)
	}
	d := &gatewayDaemon{t: t, home: t.TempDir(), listeners: map[string]string{}}
	if err := os.WriteFile(filepath.Join(d.home, "passphrase"), []byte("open sesame"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.configure(section)
	d.process = exec.Command(path, "run", "--config", filepath.Join(d.home, "config.toml"))
	d.process.Env = []string{"HOME=" + d.home, "PATH=" + os.Getenv("PATH")}
	if len(sockets) > 0 { // sd_listen_fds(3), the first of them
		d.process = exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, path, "run", "--config", filepath.Join(d.home, "config.toml"))
		d.process.Env = []string{"HOME=" + d.home, "PATH=" + os.Getenv("PATH"), "LISTEN_FDS=1", "LISTEN_FDNAMES=gateway-outbound"}
		d.process.ExtraFiles = sockets
	}
	d.process.Stderr = &d.log
	out, err := d.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.process.ProcessState == nil {
			_ = d.process.Process.Kill()
			_ = d.process.Wait()
		}
	})
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "ready"; {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 {
			d.listeners[fields[1]] = fields[2]
		}
	}
	if d.listeners["gateway-outbound"] == "" {
		t.Fatalf("it does not listen: %s", &d.log)
	}
	return d
}

func (d *gatewayDaemon) configure(section string) {
	d.t.Helper()
	text := fmt.Sprintf(`state_dir = %q
[local]
imap = ""
imaps = ""
smtp = ""
smtps = ""
dashboard = ""
metrics = "127.0.0.1:0"
[vault]
unlock = ["file"]
passphrase_file = %q
[keydisc]
methods = ["contacts"]
[gateway]
outbound = "127.0.0.1:0"
%s`, filepath.Join(d.home, "state"), filepath.Join(d.home, "passphrase"), section)
	if err := os.WriteFile(filepath.Join(d.home, "config.toml"), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *gatewayDaemon) signal(s syscall.Signal) {
	d.t.Helper()
	if err := d.process.Process.Signal(s); err != nil {
		d.t.Fatal(err)
	}
}

// mta is a connection that stays.
func (d *gatewayDaemon) mta() *smtp.Client {
	d.t.Helper()
	c, err := smtp.Dial(d.listeners["gateway-outbound"])
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = c.Close() })
	if err := c.Hello("mta.test"); err != nil {
		d.t.Fatal(err)
	}
	return c
}

func handIn(c *smtp.Client, text string) error {
	message := "From: dave@delta.test\r\nTo: erin@echo.test\r\nSubject: x\r\n\r\n" + text + "\r\n"
	return c.SendMail("dave@delta.test", []string{"erin@echo.test"}, strings.NewReader(message))
}

// becomes waits for what another process does; there is nothing to wait on but its answers.
func becomes(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func (d *gatewayDaemon) readiness() int {
	response, err := http.Get("http://" + d.listeners["metrics"] + "/readyz")
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// At SIGTERM /readyz says so while what is under way goes on; nobody new is let in, and the answer comes before the end.
func TestGatewayDrains(t *testing.T) {
	hop := startHeldHop(t, make(chan struct{}))
	d := startGateway(t, fmt.Sprintf("next_hop_outbound = %q\ndomains = [\"alpha.test\"]\n", hop.address))
	busy, idle := d.mta(), d.mta()
	answer := make(chan error, 1)
	go func() { answer <- handIn(busy, "under way") }()
	<-hop.began
	if code := d.readiness(); code != http.StatusOK {
		t.Errorf("/readyz before: %d", code)
	}
	d.signal(syscall.SIGTERM)
	becomes(t, "/readyz is 503", func() bool { return d.readiness() == http.StatusServiceUnavailable })
	var reply *smtp.SMTPError
	becomes(t, "the idle connection is ended", func() bool { return idle.Noop() != nil })
	if c, err := smtp.Dial(d.listeners["gateway-outbound"]); err == nil {
		if err := c.Hello("late.test"); err == nil {
			t.Error("a new connection is taken")
		} else if errors.As(err, &reply) && reply.Code != 421 {
			t.Errorf("a new connection hears %v", err)
		}
		_ = c.Close()
	}
	select {
	case err := <-answer:
		t.Fatalf("answered before the next hop has: %v", err)
	default:
	}
	close(hop.goOn)
	if err := <-answer; err != nil {
		t.Errorf("what was under way: %v", err)
	}
	if err := d.process.Wait(); err != nil {
		t.Errorf("it ended with %v: %s", err, &d.log)
	}
	if hop.count("under way") != 1 {
		t.Errorf("the next hop has %v", hop.got)
	}
}

// SIGHUP puts another next hop and other trusted networks in force, on connections that stay; every message arrives once.
func TestGatewayReloads(t *testing.T) {
	hops := []*heldHop{startHeldHop(t, nil), startHeldHop(t, nil)}
	section := func(hop int, more string) string {
		return fmt.Sprintf("next_hop_outbound = %q\ndomains = [\"alpha.test\"]\n%s", hops[hop].address, more)
	}
	d := startGateway(t, section(0, ""))
	ctx, cancel := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	sent := make([]int, 3)
	for i := range sent {
		c := d.mta()
		sending.Go(func() {
			for ; ctx.Err() == nil; sent[i]++ {
				if err := handIn(c, fmt.Sprintf("%d.%d", i, sent[i])); err != nil {
					t.Errorf("message %d of connection %d: %v", sent[i], i, err)
					return
				}
			}
		})
	}
	probe, probes := d.mta(), 0
	for turn := range 6 {
		to := (turn + 1) % 2
		d.configure(section(to, ""))
		d.signal(syscall.SIGHUP)
		becomes(t, "mail goes to the other next hop", func() bool {
			probes++
			text := fmt.Sprintf("probe %d", probes)
			return handIn(probe, text) == nil && hops[to].count(text) == 1
		})
	}
	cancel()
	sending.Wait()
	for i, n := range sent {
		for k := range n {
			text := fmt.Sprintf("%d.%d", i, k)
			if got := hops[0].count(text) + hops[1].count(text); got != 1 {
				t.Errorf("message %s has arrived %d times", text, got)
			}
		}
	}

	d.configure(section(0, "trusted = [\"192.0.2.0/24\"]\n"))
	d.signal(syscall.SIGHUP)
	var reply *smtp.SMTPError
	becomes(t, "this machine is no longer trusted", func() bool { return errors.As(handIn(probe, "denied?"), &reply) })
	if reply.Code != 550 || probe.Noop() != nil {
		t.Errorf("the connection hears %v", reply)
	}
	d.configure("domains = [\"alpha.test\"]\nnext_hop_outbound = \"nonsense\"\n")
	d.signal(syscall.SIGHUP)
	becomes(t, "the log has the fault", func() bool { return strings.Contains(d.log.String(), "not reloaded") })
	if err := handIn(probe, "still denied"); !errors.As(err, &reply) || reply.Code != 550 {
		t.Errorf("a broken file has changed something: %v", err)
	}
	d.signal(syscall.SIGTERM)
	if err := d.process.Wait(); err != nil {
		t.Errorf("it ended with %v: %s", err, &d.log)
	}
}

// systemd keeps the socket open between two daemons: who connects meanwhile waits, and is served by the second.
func TestGatewayRestartsOnItsSocket(t *testing.T) {
	hop := startHeldHop(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	section := fmt.Sprintf("next_hop_outbound = %q\ndomains = [\"alpha.test\"]\n", hop.address)
	first := startGateway(t, section, socket)
	if err := handIn(first.mta(), "before"); err != nil {
		t.Fatal(err)
	}
	first.signal(syscall.SIGTERM)
	if err := first.process.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &first.log)
	}
	answer := make(chan error, 1)
	waiting, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	go func() { answer <- handIn(smtp.NewClient(waiting), "meanwhile") }()
	second := startGateway(t, section, socket)
	if err := <-answer; err != nil || hop.count("before") != 1 || hop.count("meanwhile") != 1 {
		t.Errorf("%v, the next hop has %v", err, hop.got)
	}
	if second.listeners["gateway-outbound"] != l.Addr().String() {
		t.Errorf("it listens on %v", second.listeners)
	}
}
