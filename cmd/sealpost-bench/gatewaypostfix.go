package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// gpgFilter is the content filter that the gateway is compared with.
//
//go:embed gpgfilter.sh
var gpgFilter []byte

// ports of the Postfix, by what they are for.
type ports struct{ plain, twice, gateway, gpg, back, backOut, lane int }

// mta is a Postfix with an entrance for each path; all paths end at the sink.
type mta struct {
	dir, script string
	ports       ports
}

// startMTA starts it. dir must be open to others: Postfix and the filter drop privileges.
func startMTA(ctx context.Context, dir string, to *sink, p ports, gnupg string) (*mta, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/sealpost/sealpost").Output()
	if err != nil {
		return nil, fmt.Errorf("go list (run this inside the repository): %w", err)
	}
	m := &mta{dir: dir, script: filepath.Join(strings.TrimSpace(string(root)), "bridge/bridgetest/peers/rig/mta.sh"), ports: p}
	filter := filepath.Join(dir, "gpgfilter.sh")
	sinkHost, sinkPort, _ := strings.Cut(to.address(), ":")
	for name, text := range map[string]string{
		"users":         "postmaster@company.test\n",
		"main.cf.add":   fmt.Sprintf("transport_maps = inline:{ {world.test = smtp:[%s]:%s} }\ndefault_transport = error:5.1.2 no mail leaves\n", sinkHost, sinkPort),
		"master.cf.add": master(p, filter, gnupg),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filter, gpgFilter, 0o755); err != nil {
		return nil, err
	}
	return m, m.do(ctx, "start")
}

// master has the entrances. The gateway's part is that of docs/gateway.md.
func master(p ports, filter, gnupg string) string {
	entrance := func(port int, filter string) string {
		return fmt.Sprintf("127.0.0.1:%d inet n - n - - smtpd\n    -o content_filter=%s\n", port, filter)
	}
	return entrance(p.plain, "") +
		entrance(p.twice, fmt.Sprintf("again:[127.0.0.1]:%d", p.back)) +
		entrance(p.gateway, fmt.Sprintf("sealpost-out:[127.0.0.1]:%d", p.lane)) +
		entrance(p.gpg, "gpg-filter:dummy") +
		entrance(p.back, "") +
		fmt.Sprintf(`again unix - - n - 10 smtp
sealpost-out unix - - n - 10 lmtp
    -o lmtp_data_done_timeout=1200s
gpg-filter unix - n n - 10 pipe
    flags=Rq user=mail argv=%s %s %d ${sender} ${recipient}
`, filter, gnupg, p.back)
}

func (m *mta) do(ctx context.Context, verb string) error {
	out, err := exec.CommandContext(ctx, m.script, verb, m.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("postfix %s (Debian package postfix, as root): %w: %s", verb, err, out)
	}
	return nil
}

func (m *mta) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return m.do(ctx, "stop")
}

// problem is what the log says of trouble.
func (m *mta) problem() string {
	data, _ := os.ReadFile(filepath.Join(m.dir, "log", "postfix.log"))
	for line := range strings.Lines(string(data)) {
		for _, word := range []string{"fatal:", "panic:", "status=deferred", "status=bounced"} {
			if strings.Contains(line, word) {
				return strings.TrimSpace(line)
			}
		}
	}
	return ""
}

// cpu is the processor time of Postfix and of all it has started.
func (m *mta) cpu() time.Duration {
	data, err := os.ReadFile(filepath.Join(m.dir, "spool", "pid", "master.pid"))
	if err != nil {
		return 0
	}
	master, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return treeCPU(master)
}

// gnupgHome makes a GnuPG home for the filter's user: a secret key to sign with, certificates to encrypt to.
func gnupgHome(ctx context.Context, dir string, keys ...[]byte) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for i, key := range keys {
		file := filepath.Join(dir, fmt.Sprintf("import%d", i))
		if err := os.WriteFile(file, key, 0o600); err != nil {
			return err
		}
		if out, err := exec.CommandContext(ctx, "gpg", "--homedir", dir, "--batch", "--quiet", "--import", file).CombinedOutput(); err != nil {
			return fmt.Errorf("gpg (Debian package gnupg): %w: %s", err, out)
		}
	}
	if out, err := exec.CommandContext(ctx, "gpgconf", "--homedir", dir, "--kill", "all").CombinedOutput(); err != nil {
		return fmt.Errorf("gpgconf: %w: %s", err, out)
	}
	account, err := user.Lookup("mail")
	if err != nil {
		return err
	}
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	return filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}

// endAgent ends the agent that the filter's gpg has started.
func endAgent(ctx context.Context, dir string) {
	_ = exec.CommandContext(ctx, "gpgconf", "--homedir", dir, "--kill", "all").Run()
}
