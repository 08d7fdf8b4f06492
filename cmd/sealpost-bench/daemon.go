package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// program is the binary under test with a home folder of its own.
type program struct {
	binary, home string
	environ      []string // beside HOME and PATH
}

// build compiles the daemon from the module in the working folder.
func build(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "sealpost")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/sealpost/sealpost/cmd/sealpost").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build (run this inside the repository): %w: %s", err, out)
	}
	return binary, nil
}

func (p program) path(name string) string { return filepath.Join(p.home, name) }

// command never inherits settings of whoever runs the benchmark.
func (p program) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.binary, args...)
	cmd.Env = append([]string{"HOME=" + p.home, "PATH=" + os.Getenv("PATH")}, p.environ...)
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// run returns what a command printed; exit status 3, something needs attention, is no failure.
func (p program) run(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := p.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil && cmd.ProcessState.ExitCode() != 3 {
		return nil, fmt.Errorf("sealpost %s: %w: %s", args[0], err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.Bytes(), nil
}

// init makes the account, with listeners on free ports, no sealing and no look-ups.
func (p program) init(ctx context.Context, where *provider, address string) error {
	for name, text := range map[string]string{"password": providerPassword, "passphrase": "open sesame"} {
		if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if _, err := p.run(ctx, "init", "--address", address, "--imap", "imap+insecure://"+where.imap, "--smtp", where.smtp.SMTPURL(),
		"--password-file", p.path("password"), "--passphrase-file", p.path("passphrase"), "--generate-key"); err != nil {
		return err
	}
	path := p.path(".config/sealpost/config.toml")
	config, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	config = append(config, "seal = \"off\"\n\n[local]\nimap = \"127.0.0.1:0\"\nimaps = \"127.0.0.1:0\"\nsmtp = \"127.0.0.1:0\"\nsmtps = \"127.0.0.1:0\"\ndashboard = \"\"\n\n"+
		"[keydisc]\nmethods = [\"contacts\", \"autocrypt\"]\n"...)
	return os.WriteFile(path, config, 0o600)
}

// localPassword is the one a mail client has to give.
func (p program) localPassword(ctx context.Context) (string, error) {
	out, err := p.run(ctx, "client", "--json")
	if err != nil {
		return "", err
	}
	var all []struct{ Password string }
	if err := json.Unmarshal(out, &all); err != nil || len(all) != 1 {
		return "", fmt.Errorf("sealpost client --json: %d accounts: %w", len(all), err)
	}
	return all[0].Password, nil
}

// opened says how many messages the running daemon has decrypted.
func (p program) opened(ctx context.Context) (int, error) {
	out, err := p.run(ctx, "status", "--json")
	if err != nil {
		return 0, err
	}
	var status struct {
		Accounts []struct {
			Opened  int
			Problem string
		}
	}
	if err := json.Unmarshal(out, &status); err != nil || len(status.Accounts) != 1 {
		return 0, fmt.Errorf("sealpost status --json: %d accounts: %w", len(status.Accounts), err)
	}
	if status.Accounts[0].Problem != "" {
		return 0, errors.New(status.Accounts[0].Problem)
	}
	return status.Accounts[0].Opened, nil
}

// daemon is a running sealpost.
type daemon struct {
	cmd     *exec.Cmd
	log     bytes.Buffer
	imap    string
	startup time.Duration // to the line "ready"
	ready   time.Time
}

// start runs the daemon and waits for its ready line.
func (p program) start(ctx context.Context) (*daemon, error) {
	d := &daemon{cmd: p.command(ctx, "run")}
	d.cmd.Stderr = &d.log
	d.cmd.Cancel = func() error { return d.cmd.Process.Signal(syscall.SIGTERM) }
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	stuck := time.AfterFunc(time.Minute, func() { _ = d.cmd.Process.Kill() })
	defer stuck.Stop()
	if err := d.waitReady(out, begin); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return d, nil
}

func (d *daemon) waitReady(out io.Reader, begin time.Time) error {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "ready" {
			d.ready = time.Now()
			d.startup = d.ready.Sub(begin)
			return nil
		}
		if address, ok := strings.CutPrefix(lines.Text(), "listening imap "); ok {
			d.imap = address
		}
	}
	return fmt.Errorf("the daemon ended before it was ready: %w", lines.Err())
}

// stop ends the daemon as an init system would.
func (d *daemon) stop() error {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	stuck := time.AfterFunc(30*time.Second, func() { _ = d.cmd.Process.Kill() })
	defer stuck.Stop()
	if err := d.cmd.Wait(); err != nil {
		return fmt.Errorf("sealpost run: %w: %s", err, tail(d.log.String(), 2000))
	}
	return nil
}

func tail(text string, n int) string { return text[max(0, len(text)-n):] }

// memory is the daemon's resident set now and at its largest, in bytes (proc(5)).
func (d *daemon) memory() (now, peak int64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	return statusValue(data, "VmRSS:"), statusValue(data, "VmHWM:"), nil
}

// statusValue is a line of /proc/PID/status in bytes; 0 if it is not there.
func statusValue(data []byte, name string) int64 {
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kilobytes, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kilobytes << 10
		}
	}
	return 0
}

// The daemon rests when it has used little processor time for some seconds on end.
const (
	restWindow = 3 * time.Second
	restShare  = restWindow / 20
	restLimit  = 30 * time.Minute
)

// rest waits until the daemon has nothing to do any more. It indexes text for search after it has opened all
// messages, and says so nowhere.
func (d *daemon) rest(ctx context.Context) error {
	quiet := 0
	for begin, last := time.Now(), d.cpu(); quiet < 2; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(restWindow):
		}
		if time.Since(begin) > restLimit {
			return fmt.Errorf("the daemon was still busy after %v", restLimit)
		}
		now := d.cpu()
		if quiet++; now-last > restShare {
			quiet = 0
		}
		last = now
	}
	return nil
}

// cpu is the processor time the daemon has used (proc(5): utime and stime, in hundredths of a second).
func (d *daemon) cpu() time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}
