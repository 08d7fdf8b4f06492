package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// gatewayBench measures the gateway: beside Postfix, where mail takes one of several paths from the same generator to the same
// sink, and alone, on one core.
type gatewayBench struct {
	dir, binary string
	quick       bool
	people      people
	sink        *sink
	ports       ports
	gnupg       string
}

// measureGateway returns what it has, also with an error.
func measureGateway(ctx context.Context, o options) (rep gatewayReport, err error) {
	rep.report = newReport(ctx)
	dir, err := os.MkdirTemp(memoryFolder(), "sealpost-bench-")
	if err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil {
		return rep, err
	}
	b := &gatewayBench{dir: dir, quick: o.quick, gnupg: filepath.Join(dir, "gnupg")}
	progress("build the daemon")
	if b.binary, err = build(ctx, dir); err != nil {
		return rep, err
	}
	if b.people, err = newPeople(); err != nil {
		return rep, err
	}
	if b.sink, err = startSink(); err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, b.sink.listener.Close()) }()
	if !o.alone {
		if err := b.comparePaths(ctx, &rep); err != nil {
			return rep, err
		}
		if err := b.compareFilters(ctx, &rep); err != nil {
			return rep, err
		}
	}
	rep.Alone, err = b.aloneOnOneCore(ctx)
	rep.LoadAfter = load()
	return rep, err
}

// memoryFolder keeps the disk out of it, for all paths alike; "" if there is none in memory.
func memoryFolder() string {
	const shared = "/dev/shm"
	if info, err := os.Stat(shared); err == nil && info.IsDir() {
		return shared
	}
	return ""
}

// configure writes the gateway's configuration and tells it the strangers' certificates.
func (b *gatewayBench) configure(ctx context.Context, name, outboundHop string, environ ...string) (program, error) {
	home := filepath.Join(b.dir, name)
	p := program{binary: b.binary, home: home, environ: environ}
	certificates, err := b.people.certificates()
	if err != nil {
		return p, err
	}
	if err := os.MkdirAll(p.path(".config/sealpost"), 0o700); err != nil {
		return p, err
	}
	for file, text := range map[string]string{
		"passphrase": "open sesame", "certificates.asc": string(certificates),
		".config/sealpost/config.toml": fmt.Sprintf(`[local]
imap = ""
imaps = ""
smtp = ""
smtps = ""
dashboard = ""
[vault]
unlock = ["file"]
passphrase_file = %q
[keydisc]
methods = ["contacts", "autocrypt"]
[gateway]
outbound = "lmtp://127.0.0.1:%d"
inbound = "lmtp://127.0.0.1:%d"
next_hop_outbound = %q
next_hop_inbound = %q
domains = ["company.test"]
`, p.path("passphrase"), b.ports.lane, b.ports.lane+1, outboundHop, b.sink.address()),
	} {
		if err := os.WriteFile(p.path(file), []byte(text), 0o600); err != nil {
			return p, err
		}
	}
	_, err = p.run(ctx, "contact", "import", p.path("certificates.asc"))
	return p, err
}

// findPorts are below the ephemeral range; the gateway's two lanes are neighbours.
func findPorts() (p ports, err error) {
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	next := 20000 + os.Getpid()%10000
	for _, port := range []*int{&p.plain, &p.twice, &p.gateway, &p.gpg, &p.back, &p.lane, nil} {
		for {
			next++
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", next))
			if err == nil {
				held = append(held, l)
				break
			}
			if next > 32000 {
				return p, errors.New("no free ports between 20000 and 32000")
			}
		}
		if port != nil {
			*port = next
		}
	}
	return p, nil
}

// path is one way from the generator to the sink.
type path struct {
	Name      string  `json:"name"`
	Messages  int     `json:"messages"` // in a round
	PerSecond float64 `json:"per_second"`
	// Processor time for a message, in milliseconds.
	PostfixCPU float64 `json:"postfix_cpu_ms"`
	FilterCPU  float64 `json:"filter_cpu_ms"` // the gateway's, or what is done by gpg's agent

	port  int
	judge func([]byte) error
}

const pathConnections = 20

// comparePaths runs the paths in turns, several rounds; the best of each counts.
func (b *gatewayBench) comparePaths(ctx context.Context, rep *gatewayReport) (err error) {
	if b.ports, err = findPorts(); err != nil {
		return err
	}
	p, err := b.configure(ctx, "gateway", fmt.Sprintf("127.0.0.1:%d", b.ports.back))
	if err != nil {
		return err
	}
	if err := b.makeGnupg(ctx); err != nil {
		return err
	}
	defer endAgent(context.WithoutCancel(ctx), b.gnupg)
	mtaDir := filepath.Join(b.dir, "mta")
	if err := os.Mkdir(mtaDir, 0o755); err != nil {
		return err
	}
	m, err := startMTA(ctx, mtaDir, b.sink, b.ports, b.gnupg)
	if m != nil {
		defer func() { err = errors.Join(err, m.stop()) }()
	}
	if err != nil {
		return err
	}
	d, err := p.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	rep.Paths, err = b.rounds(ctx, m, d)
	if err == nil {
		err = b.watchMemory(ctx, d, rep)
	}
	if err != nil {
		err = fmt.Errorf("%w; Postfix says %q, the gateway %q", err, m.problem(), tail(d.log.String(), 1000))
	}
	return err
}

func (b *gatewayBench) makeGnupg(ctx context.Context) error {
	secret, err := b.people.secret()
	if err != nil {
		return err
	}
	certificates, err := b.people.certificates()
	if err != nil {
		return err
	}
	return gnupgHome(ctx, b.gnupg, secret, certificates)
}

func (b *gatewayBench) rounds(ctx context.Context, m *mta, d *daemon) ([]path, error) {
	paths := []path{
		{Name: "Postfix alone", Messages: 6000, port: b.ports.plain, judge: isPlain},
		{Name: "Postfix twice, nothing between", Messages: 4000, port: b.ports.twice, judge: isPlain},
		{Name: "Postfix, gateway, Postfix", Messages: 4000, port: b.ports.gateway, judge: isEncrypted},
		{Name: "Postfix, gpg for each message, Postfix", Messages: 300, port: b.ports.gpg, judge: isEncrypted},
	}
	rounds := 3
	if b.quick {
		rounds = 1
	}
	text := textOf(10_000)
	for round := range rounds + 1 { // the first warms up
		for i := range paths {
			one, err := b.runPath(ctx, m, d, paths[i], text, round == 0 || b.quick)
			if err != nil {
				return paths, fmt.Errorf("%s: %w", one.Name, err)
			}
			progress("  %-40s %8.1f messages/s, %6.2f + %6.2f ms of processor time a message", one.Name, one.PerSecond, one.PostfixCPU, one.FilterCPU)
			if round > 0 && one.PerSecond > paths[i].PerSecond {
				paths[i] = one
			}
		}
	}
	return paths, nil
}

// runPath measures from the first message handed in until the last has arrived.
func (b *gatewayBench) runPath(ctx context.Context, m *mta, d *daemon, p path, text []byte, short bool) (path, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if short {
		p.Messages /= 6
	}
	to := []string{stranger(0)}
	s := sender{address: fmt.Sprintf("127.0.0.1:%d", p.port), from: employee, to: to, connections: pathConnections}
	b.sink.expect(p.judge)
	postfix, filter := m.cpu(), d.cpu()+agentCPU(b.gnupg)
	begin := time.Now()
	if err := s.send(ctx, p.Messages, func(i int) []byte { return plain(text, i, to) }); err != nil {
		return p, err
	}
	end, err := b.sink.wait(ctx, p.Messages)
	if err != nil {
		return p, err
	}
	each := func(used time.Duration) float64 { return milliseconds(used) / float64(p.Messages) }
	p.PerSecond = float64(p.Messages) / end.Sub(begin).Seconds()
	p.PostfixCPU, p.FilterCPU = each(m.cpu()-postfix), each(d.cpu()+agentCPU(b.gnupg)-filter)
	return p, nil
}

// memoryTime is how long memory is watched under load.
const memoryTime = 40 * time.Second

// watchMemory keeps the gateway busy and looks at its resident size: the median of the second quarter of the time, and of the last.
func (b *gatewayBench) watchMemory(ctx context.Context, d *daemon, rep *gatewayReport) error {
	text, to := textOf(10_000), []string{stranger(0)}
	s := sender{address: fmt.Sprintf("127.0.0.1:%d", b.ports.lane), lmtp: true, from: employee, to: to, connections: pathConnections}
	total := memoryTime
	if b.quick {
		total /= 8
	}
	b.sink.expect(isEncrypted)
	ctx, cancel := context.WithTimeout(ctx, 2*total+time.Minute)
	defer cancel()
	sizes := make(chan []int64, 1)
	go func() { sizes <- sampleMemory(d.cmd.Process.Pid, total) }()
	count := 0
	for begin := time.Now(); time.Since(begin) < total; count += 500 {
		if err := s.send(ctx, 500, func(i int) []byte { return plain(text, i, to) }); err != nil {
			return err
		}
	}
	all := <-sizes
	quarter := len(all) / 4
	rep.Messages, rep.RSSWarm, rep.RSSEnd = count, middle(all[quarter:2*quarter]), middle(all[3*quarter:])
	progress("  memory after %d messages: %s, before %s", count, megabytes(rep.RSSEnd), megabytes(rep.RSSWarm))
	_, err := b.sink.wait(ctx, count)
	return err
}

func sampleMemory(pid int, total time.Duration) (sizes []int64) {
	for begin := time.Now(); time.Since(begin) < total; time.Sleep(100 * time.Millisecond) {
		sizes = append(sizes, residentSize(pid))
	}
	return sizes
}

func middle(sizes []int64) int64 {
	sorted := slices.Clone(sizes)
	slices.Sort(sorted)
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)/2]
}

// alone is what the gateway does by itself, on one core.
type alone struct {
	Name      string  `json:"name"`
	Size      int     `json:"bytes"`
	Messages  int     `json:"messages"`
	PerSecond float64 `json:"per_second"`
	CPU       float64 `json:"cpu_ms"` // for a message
	RSS       int64   `json:"rss"`    // bytes, afterwards

	inbound    bool
	recipients int
}

// aloneOnOneCore measures with GOMAXPROCS=1 between generator and sink; the best of several runs counts.
func (b *gatewayBench) aloneOnOneCore(ctx context.Context) (rows []alone, err error) {
	if b.ports, err = findPorts(); err != nil {
		return nil, err
	}
	p, err := b.configure(ctx, "alone", b.sink.address(), "GOMAXPROCS=1")
	if err != nil {
		return nil, err
	}
	d, err := p.start(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	certificate, err := b.introduce(ctx)
	if err != nil {
		return nil, err
	}
	for _, size := range []struct{ bytes, count int }{{10_000, 1500}, {100_000, 400}, {10_000_000, 8}} {
		for _, row := range []alone{
			{Name: "out, 1 recipient", recipients: 1}, {Name: "out, 5 recipients", recipients: 5}, {Name: "in", inbound: true, recipients: 1},
		} {
			row.Size, row.Messages = size.bytes, size.count
			if row, err = b.bestAlone(ctx, d, row, certificate); err != nil {
				return rows, fmt.Errorf("%s, %d bytes: %w; the gateway says %q", row.Name, row.Size, err, tail(d.log.String(), 1000))
			}
			progress("  %-18s %9d bytes %8.1f messages/s, %8.2f ms of processor time a message", row.Name, row.Size, row.PerSecond, row.CPU)
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// introduce sends a first message, which makes the user's key, and returns his certificate; a stranger must be able to read it.
func (b *gatewayBench) introduce(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	to := []string{stranger(0)}
	b.sink.expect(isEncrypted)
	if err := b.lane(false, 1, 1).send(ctx, 1, func(i int) []byte { return plain(textOf(1000), i, to) }); err != nil {
		return nil, err
	}
	if _, err := b.sink.wait(ctx, 1); err != nil {
		return nil, err
	}
	certificate, err := announced(b.sink.newest())
	if err != nil {
		return nil, err
	}
	return certificate, b.people.readable(b.sink.newest(), certificate)
}

func (b *gatewayBench) lane(inbound bool, recipients, connections int) sender {
	s := sender{address: fmt.Sprintf("127.0.0.1:%d", b.ports.lane), lmtp: true, from: employee, connections: connections}
	for i := range recipients {
		s.to = append(s.to, stranger(i))
	}
	if inbound {
		s.address, s.from, s.to = fmt.Sprintf("127.0.0.1:%d", b.ports.lane+1), stranger(0), []string{employee}
	}
	return s
}

func (b *gatewayBench) bestAlone(ctx context.Context, d *daemon, row alone, certificate []byte) (best alone, err error) {
	text := textOf(row.Size)
	s := b.lane(row.inbound, row.recipients, min(8, row.Messages/2))
	body, judge := func(i int) []byte { return plain(text, i, s.to) }, isEncrypted
	if row.inbound {
		judge = isOpened
		if body, err = b.people.sealedFor(certificate, text); err != nil {
			return row, err
		}
	}
	runs := 3
	if b.quick {
		runs, row.Messages = 1, max(2, row.Messages/10)
	}
	for range runs {
		one, err := b.runAlone(ctx, d, row, s, body, judge)
		if err != nil {
			return row, err
		}
		if one.PerSecond > best.PerSecond {
			best = one
		}
	}
	return best, nil
}

func (b *gatewayBench) runAlone(ctx context.Context, d *daemon, row alone, s sender, body func(int) []byte, judge func([]byte) error) (alone, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	b.sink.expect(judge)
	cpu, begin := d.cpu(), time.Now()
	if err := s.send(ctx, row.Messages, body); err != nil {
		return row, err
	}
	row.PerSecond = float64(row.Messages) / time.Since(begin).Seconds()
	row.CPU = milliseconds(d.cpu()-cpu) / float64(row.Messages)
	row.RSS = residentSize(d.cmd.Process.Pid)
	_, err := b.sink.wait(ctx, row.Messages)
	return row, err
}
