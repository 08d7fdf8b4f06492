package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sealpost/sealpost/bridge/bridgetest"
)

// The same mail goes through one Postfix on five paths, one after the other, in rounds that take turns:
//
//	direct     no filter: one pass through Postfix
//	smarthost  one pass, then the gateway, as docs/gateway.md has it
//	two        no filter, two passes, as every content filter needs them
//	gateway    a content filter as docs/gateway.md has it
//	gpg        one as companies write it: pipe(8) starts a script, which starts gpg and hands the mail in again
//
// to a sink in this process.
var pathNames = []string{"direct", "smarthost", "two", "gateway", "gpg"}

// pathResult is what one path did.
type pathResult struct {
	Name      string  `json:"name"`
	Messages  int     `json:"messages"`
	PerSecond float64 `json:"per_second"` // the best of the rounds
}

const (
	pathSize   = 10_000 // bytes of a message
	pathRounds = 3
)

// comparePaths is nothing where there is no Postfix, or not root.
func comparePaths(ctx context.Context, dir, binary string, quick bool) (results []pathResult, err error) {
	for _, name := range []string{"/usr/sbin/postfix", "/usr/sbin/smtp-source", "/usr/bin/gpg"} {
		if _, err := os.Stat(name); err != nil || os.Getuid() != 0 {
			progress("no %s, or not root: nothing to compare with", name)
			return nil, nil
		}
	}
	s, err := startSink()
	if err != nil {
		return nil, err
	}
	m, err := newMTA(dir, s.address)
	if err != nil {
		return nil, err
	}
	stop, err := m.startGateways(ctx, dir, binary, s)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return nil, err
	}
	if err := m.start(ctx); err != nil {
		return nil, err
	}
	defer m.stop()
	if results, err = m.rounds(ctx, s, quick); err != nil {
		return results, err
	}
	alone, err := m.filtersAlone(ctx, binary, s, quick)
	return append(results, alone...), err
}

// startGateways starts the content filter and the smarthost; stop whatever was returned.
func (m *mta) startGateways(ctx context.Context, dir, binary string, s *sink) (stop func() error, err error) {
	var started []*daemon
	stop = func() (err error) {
		for _, d := range started {
			err = errors.Join(err, d.stop())
		}
		return err
	}
	for name, hops := range map[string]string{
		"beside":    fmt.Sprintf("outbound = \"lmtp://127.0.0.1:%s\"\nnext_hop_outbound = \"127.0.0.1:%s\"\n", m.ports["lmtp"], m.ports["back"]),
		"smarthost": fmt.Sprintf("outbound = \"127.0.0.1:%s\"\nnext_hop_outbound = %q\n", m.ports["smtp"], s.address),
	} {
		d, err := startBeside(ctx, program{binary: binary, home: filepath.Join(dir, name)}, hops)
		if err != nil {
			return stop, err
		}
		started = append(started, d)
	}
	return stop, nil
}

// startBeside starts a gateway that Postfix hands mail to.
func startBeside(ctx context.Context, p program, hops string) (*daemon, error) {
	err := os.Mkdir(p.home, 0o700)
	if err == nil {
		err = gatewayConfig(p, hops)
	}
	if err == nil {
		err = knowFriends(ctx, p)
	}
	if err != nil {
		return nil, err
	}
	return p.start(ctx)
}

// filtersAlone are both filters between a load and the sink, without Postfix, in rounds that take turns.
func (m *mta) filtersAlone(ctx context.Context, binary string, s *sink, quick bool) ([]pathResult, error) {
	home := filepath.Join(filepath.Dir(m.dir), "filter")
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, err
	}
	g, err := startGateway(ctx, program{binary: binary, home: home})
	if err != nil {
		return nil, err
	}
	defer func() { _ = g.daemon.stop() }()
	message := plainOf(pathSize)
	results := []pathResult{{Name: "gateway alone", Messages: 3000}, {Name: "gpg alone", Messages: 100}, {Name: "lean alone", Messages: 200}}
	for range pathRounds {
		for i := range results {
			one := &results[i]
			if quick {
				one.Messages = min(one.Messages, 50)
			}
			begin := time.Now()
			if one.Name == "gateway alone" {
				err = handIn(ctx, g.out, gatewayUser, []string{gatewayFriend}, message, one.Messages, 8)
			} else {
				err = m.filterAlone(ctx, s, map[string]string{"gpg alone": "filter", "lean alone": "lean"}[one.Name], message, one.Messages)
			}
			if err != nil {
				return nil, err
			}
			one.PerSecond = max(one.PerSecond, float64(one.Messages)/time.Since(begin).Seconds())
			progress("%s: %.0f a second", one.Name, one.PerSecond)
		}
	}
	return results, nil
}

// filterAlone starts the script for each message, as pipe(8) does.
func (m *mta) filterAlone(ctx context.Context, s *sink, script string, message []byte, count int) error {
	_, port, _ := strings.Cut(s.address, ":")
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for range count {
		group.Go(func() error {
			filter := exec.CommandContext(ctx, "setpriv", "--reuid=mail", "--regid=mail", "--clear-groups", filepath.Join(m.dir, script), gatewayUser, gatewayFriend)
			filter.Env = append(os.Environ(), "BACK="+port)
			filter.Stdin = bytes.NewReader(message)
			if out, err := filter.CombinedOutput(); err != nil {
				return fmt.Errorf("filter: %w: %s", err, out)
			}
			return nil
		})
	}
	return group.Wait()
}

// rounds measures all paths in turns.
func (m *mta) rounds(ctx context.Context, s *sink, quick bool) ([]pathResult, error) {
	results := make([]pathResult, len(pathNames))
	for round := range pathRounds {
		for i, name := range pathNames {
			count := 1500
			if name == "gpg" {
				count = 60
			}
			if quick {
				count /= 10
			}
			rate, err := m.measure(ctx, s, name, count)
			if err != nil {
				return results, fmt.Errorf("path %s: %w", name, err)
			}
			progress("path %s: %d messages, %.0f a second", name, count, rate)
			if round == 0 { // to warm up
				results[i] = pathResult{Name: name, Messages: count}
				continue
			}
			results[i].PerSecond = max(results[i].PerSecond, rate)
		}
	}
	return results, nil
}

// measure sends messages into a path and waits until they are at the sink.
func (m *mta) measure(ctx context.Context, s *sink, path string, count int) (perSecond float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	before := s.messages.Load()
	s.keep.Store(true)
	defer s.keep.Store(false)
	begin := time.Now()
	source := exec.CommandContext(ctx, "/usr/sbin/smtp-source", "-s", "10", "-m", fmt.Sprint(count), "-l", fmt.Sprint(pathSize),
		"-f", gatewayUser, "-t", gatewayFriend, "127.0.0.1:"+m.ports[path])
	if out, err := source.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("smtp-source: %w: %s", err, out)
	}
	if err := s.wait(ctx, before+int64(count)); err != nil {
		return 0, fmt.Errorf("%w: %s", err, m.complaints())
	}
	elapsed := time.Since(begin)
	filtered := path == "smarthost" || path == "gateway" || path == "gpg"
	if encrypted := strings.Contains(string(*s.last.Load()), "BEGIN PGP MESSAGE"); encrypted != filtered {
		return 0, fmt.Errorf("the last message is encrypted: %v", encrypted)
	}
	return float64(count) / elapsed.Seconds(), nil
}

// mta is a Postfix with a listener for each path.
type mta struct {
	dir   string
	ports map[string]string
}

func newMTA(dir, sink string) (*mta, error) {
	m := &mta{dir: filepath.Join(dir, "postfix"), ports: map[string]string{}}
	ports, err := freePorts(3 + len(pathNames))
	if err != nil {
		return nil, err
	}
	for i, name := range append([]string{"lmtp", "smtp", "back"}, pathNames...) {
		m.ports[name] = ports[i]
	}
	for _, folder := range []string{"etc", "spool", "data", "log", "gnupg"} {
		if err := os.MkdirAll(filepath.Join(m.dir, folder), 0o755); err != nil {
			return nil, err
		}
	}
	for name, text := range map[string]string{"etc/main.cf": m.main(sink), "etc/master.cf": m.master(), "filter": m.filter(m.byPython()), "lean": m.filter(byMsmtp)} {
		if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o755); err != nil {
			return nil, err
		}
	}
	return m, errors.Join(m.own("data", "postfix"), m.own("gnupg", "mail"))
}

func (m *mta) own(folder, name string) error {
	account, err := user.Lookup(name)
	if err != nil {
		return err
	}
	out, err := exec.Command("chown", "-R", account.Uid, filepath.Join(m.dir, folder)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return os.Chmod(filepath.Join(m.dir, folder), 0o700)
}

func (m *mta) main(sink string) string {
	host, port, _ := strings.Cut(sink, ":")
	return `compatibility_level = 3.6
queue_directory = ` + m.dir + `/spool
data_directory = ` + m.dir + `/data
mail_owner = postfix
setgid_group = postdrop
maillog_file = ` + m.dir + `/log/postfix.log
maillog_file_prefixes = ` + m.dir + `/log
myhostname = mx.alpha.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
alias_maps =
local_recipient_maps =
relayhost = [` + host + `]:` + port + `
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_delay_open_until_valid_rcpt = no
in_flow_delay = 0
default_destination_concurrency_limit = 20
biff = no
`
}

// master: smtpd for each path; what comes back has no filter.
func (m *mta) master() string {
	listener := func(name, filter string) string {
		return "127.0.0.1:" + m.ports[name] + " inet n - n - - smtpd\n  -o content_filter=" + filter + "\n"
	}
	return listener("direct", "") + listener("smarthost", "smtp:[127.0.0.1]:"+m.ports["smtp"]) + listener("two", "smtp:[127.0.0.1]:"+m.ports["back"]) + listener("gateway", "lmtp:[127.0.0.1]:"+m.ports["lmtp"]) +
		listener("gpg", "filter:dummy") + listener("back", "") + `filter unix - n n - 10 pipe
  flags=Rq user=mail argv=` + m.dir + `/filter ${sender} ${recipient}
pickup unix n - n 1 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`
}

// byMsmtp hands in with the least that can be started.
const byMsmtp = `msmtp --host=127.0.0.1 --port="$BACK" --from="$1" -- "$2"`

// byPython hands in as gpg-mailgate and others do, which are written in it.
func (m *mta) byPython() string {
	return `python3 -c '
import smtplib, sys
smtplib.SMTP("127.0.0.1", '"${BACK:-` + m.ports["back"] + `}"').sendmail(sys.argv[1], [sys.argv[2]], sys.stdin.buffer.read())' "$1" "$2"`
}

// filter encrypts and signs a message with gpg as PGP/MIME and hands it in again.
func (m *mta) filter(handIn string) string {
	return `#!/bin/sh
# filter SENDER RECIPIENT
export GNUPGHOME=` + m.dir + `/gnupg
tmp=$(mktemp -d) || exit 75
trap 'rm -rf "$tmp"' EXIT
cat >"$tmp/in" || exit 75
gpg --batch --quiet --trust-model always --no-auto-key-locate --armor --sign --encrypt -u "$1" -r "$2" -o "$tmp/out" "$tmp/in" || exit 75
{
  sed '/^\r*$/q' "$tmp/in" | grep -v -i '^\(content-\|mime-version\)' | grep -v '^\r*$'
  printf 'MIME-Version: 1.0\nContent-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary="=_gpg"\n\n'
  printf -- '--=_gpg\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n--=_gpg\nContent-Type: application/octet-stream\n\n'
  cat "$tmp/out"
  printf -- '\n--=_gpg--\n'
} | ` + handIn + ` || exit 75
`
}

func (m *mta) start(ctx context.Context) error {
	for _, key := range [][]byte{bridgetest.SecretKey(gatewayUser), bridgetest.PublicKey(gatewayFriend)} {
		gpg := exec.CommandContext(ctx, "setpriv", "--reuid=mail", "--regid=mail", "--clear-groups", "gpg", "--batch", "--homedir", filepath.Join(m.dir, "gnupg"), "--import")
		gpg.Stdin = strings.NewReader(string(key))
		if out, err := gpg.CombinedOutput(); err != nil {
			return fmt.Errorf("gpg: %w: %s", err, out)
		}
	}
	out, err := exec.CommandContext(ctx, "/usr/sbin/postfix", "-c", filepath.Join(m.dir, "etc"), "start").CombinedOutput()
	if err != nil {
		return fmt.Errorf("postfix: %w: %s", err, out)
	}
	return nil
}

func (m *mta) stop() {
	_ = exec.Command("/usr/sbin/postfix", "-c", filepath.Join(m.dir, "etc"), "stop").Run()
	_ = exec.Command("setpriv", "--reuid=mail", "--regid=mail", "--clear-groups", "gpgconf", "--homedir", filepath.Join(m.dir, "gnupg"), "--kill", "all").Run()
}

// complaints is the end of Postfix' log.
func (m *mta) complaints() string {
	data, _ := os.ReadFile(filepath.Join(m.dir, "log", "postfix.log"))
	return tail(string(data), 2000)
}
