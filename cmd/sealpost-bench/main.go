// Command sealpost-bench measures the daemon beside Dovecot: on mailboxes of several sizes, over raw IMAP
// connections, in one run; and the gateway beside Postfix. See docs/performance.md and docs/operations.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sealpost-bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	sizes   []int
	repeat  int
	out     string
	json    bool
	timeout time.Duration
	gateway bool
	alone   bool
	quick   bool
}

func parseFlags() (options, error) {
	var o options
	sizes := flag.String("sizes", "1000,10000,100000", "messages in the mailboxes, comma-separated")
	flag.BoolVar(&o.quick, "quick", false, "a smoke test: 1,000 messages, few repetitions")
	flag.BoolVar(&o.gateway, "gateway", false, "measure the gateway beside Postfix in place of IMAP; see docs/operations.md")
	flag.BoolVar(&o.alone, "alone", false, "with --gateway: the gateway without Postfix only")
	flag.IntVar(&o.repeat, "repeat", 9, "repetitions of each command after one warm-up (slow ones are repeated less)")
	flag.StringVar(&o.out, "out", "", "also write the tables between the markers of this page")
	flag.BoolVar(&o.json, "json", false, "print JSON instead of Markdown")
	flag.DurationVar(&o.timeout, "timeout", time.Hour, "give up after this time")
	flag.Parse()
	if flag.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q; see -help", flag.Arg(0))
	}
	if o.quick {
		*sizes, o.repeat = "1000", fewest
	}
	for _, text := range strings.Split(*sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 || n > 1_000_000 {
			return o, fmt.Errorf("--sizes: %q is not a number from 1 to 1000000", text)
		}
		o.sizes = append(o.sizes, n)
	}
	return o, nil
}

func run() error {
	o, err := parseFlags()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	if o.gateway {
		rep, err := measureGateway(ctx, o)
		if err != nil {
			return err
		}
		return publish(o, rep)
	}
	rep, err := measureSizes(ctx, o)
	if err != nil && len(rep.Results) == 0 {
		return err
	}
	return errors.Join(err, publish(o, rep), rep.problems())
}

// measureSizes returns what it has, also with an error.
func measureSizes(ctx context.Context, o options) (rep report, err error) {
	rep = newReport(ctx)
	dir, err := os.MkdirTemp("", "sealpost-bench-")
	if err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // Dovecot's own users must get in
		return rep, err
	}
	b := &bench{dir: dir, repeat: o.repeat}
	progress("build the daemon")
	if b.binary, err = build(ctx, dir); err != nil {
		return rep, err
	}
	if b.keys, err = newKeys(); err != nil {
		return rep, err
	}
	var users []string
	for _, n := range o.sizes {
		users = append(users, encryptedUser(n), clearUser(n))
	}
	if b.provider, err = startProvider(ctx, dir, users); err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, b.provider.close()) }()
	for _, n := range o.sizes {
		one, err := b.size(ctx, n)
		if err != nil {
			return rep, fmt.Errorf("%d messages: %w", n, err)
		}
		rep.Results = append(rep.Results, one)
	}
	rep.LoadAfter = load()
	return rep, nil
}

// newReport notes on what is measured.
func newReport(ctx context.Context) report {
	rep := report{When: time.Now().UTC().Format("2006-01-02"), Cores: runtime.NumCPU(), Go: runtime.Version(), LoadBefore: load(), Commit: "unknown"}
	if out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=10").Output(); err == nil {
		rep.Commit = strings.TrimSpace(string(out))
	}
	if out, err := exec.CommandContext(ctx, "dovecot", "--version").Output(); err == nil {
		rep.Dovecot, _, _ = strings.Cut(strings.TrimSpace(string(out)), " ")
	}
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				rep.Processor = strings.TrimSpace(value)
			}
		}
	}
	return rep
}

// load is the average of the last minute (proc(5)).
func load() string {
	data, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(data), " ")
	return one
}

// publish prints the report, and puts it into the page if one is named.
func publish(o options, rep interface{ markdown() string }) error {
	if o.json {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(rep); err != nil {
			return err
		}
	} else {
		fmt.Print(rep.markdown())
	}
	if o.out == "" {
		return nil
	}
	page, err := os.ReadFile(o.out)
	if err != nil {
		return err
	}
	changed, err := replaceBetween(string(page), rep.markdown())
	if err != nil {
		return fmt.Errorf("%s: %w", o.out, err)
	}
	return os.WriteFile(o.out, []byte(changed), 0o644)
}

// progress says on stderr what is being done.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
