package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// exported is an export of a whole mailbox.
type exported struct {
	Messages   int     `json:"messages"`
	Documents  int     `json:"documents"`
	Seconds    float64 `json:"seconds"`
	Before     int64   `json:"rss_before"` // bytes, of the daemon that makes it
	Peak       int64   `json:"peak_rss"`
	Verify     float64 `json:"verify_seconds"`
	VerifyPeak int64   `json:"verify_peak_rss"`
	Size       int64   `json:"bytes"` // of the folder
}

// exportReport is what exportRun has measured.
type exportReport struct {
	report
	Exports []exported `json:"exports"`
}

func (r exportReport) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s at %s: %d cores (%s), %s. Load average before and after: %s, %s.\n", r.When, r.Commit, r.Cores, r.Processor, r.Go, r.LoadBefore, r.LoadAfter)
	b.WriteString("\n| messages | documents | export | messages a second | memory before | at most | verify | at most | folder |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, e := range r.Exports {
		fmt.Fprintf(&b, "| %s | %s | %.1f s | %s | %s | %s | %.1f s | %s | %s |\n", grouped(e.Messages), grouped(e.Documents), e.Seconds,
			grouped(int(float64(e.Messages)/e.Seconds)), megabytes(e.Before), megabytes(e.Peak), e.Verify, megabytes(e.VerifyPeak), megabytes(e.Size))
	}
	return b.String()
}

// exportRun exports mailboxes of several sizes, in all formats.
func exportRun(ctx context.Context, o options) (r exportReport, err error) {
	r.report = newReport(ctx)
	err = withBench(ctx, o, func(b *bench) error {
		for _, n := range o.sizes {
			one, err := b.export(ctx, n)
			if err != nil {
				return fmt.Errorf("%d messages: %w", n, err)
			}
			r.Exports = append(r.Exports, one)
		}
		return nil
	})
	r.LoadAfter = load()
	return r, err
}

// export fills a mailbox, lets a new daemon export all of it, and checks the export.
func (b *bench) export(ctx context.Context, count int) (e exported, err error) {
	e.Messages = count
	p, done, err := b.prepared(ctx, count)
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := b.fill(ctx, p, &result{Messages: count}); err != nil {
		return e, err
	}
	d, err := p.start(ctx)
	if err != nil {
		return e, err
	}
	if err := d.rest(ctx); err != nil {
		return e, err
	}
	progress("  export")
	if err := e.make(ctx, p, d); err != nil {
		return e, errors.Join(err, d.stop())
	}
	return e, d.stop()
}

// make has the daemon export, and a process of its own verify.
func (e *exported) make(ctx context.Context, p program, d *daemon) (err error) {
	if err := clearPeak(d); err != nil {
		return err
	}
	if e.Before, _, err = d.memory(); err != nil {
		return err
	}
	begin := time.Now()
	out, err := p.long(ctx, "export", "--query", "received-since:2000-01-01", "--bates", "B", "--format", "eml,mbox,dat,edrm", "--out", p.path("export"), "--json")
	if err != nil {
		return err
	}
	e.Seconds = time.Since(begin).Seconds()
	if _, e.Peak, err = d.memory(); err != nil {
		return err
	}
	var a struct {
		Total struct{ Exported, Duplicates, Documents int }
	}
	if err := json.Unmarshal(out.stdout, &a); err != nil {
		return err
	}
	if a.Total.Exported+a.Total.Duplicates != e.Messages {
		return fmt.Errorf("%d of %d messages were exported", a.Total.Exported, e.Messages)
	}
	e.Documents, e.Size = a.Total.Documents, folderSize(p.path("export"))
	begin = time.Now()
	verified, err := p.long(ctx, "export", "verify", p.path("export"))
	e.Verify, e.VerifyPeak = time.Since(begin).Seconds(), verified.peak
	return err
}

// clearPeak has the kernel forget how much memory the daemon's start took (proc(5), clear_refs).
func clearPeak(d *daemon) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", d.cmd.Process.Pid), []byte("5"), 0)
}

// output of a command, and the most memory it has taken.
type output struct {
	stdout []byte
	peak   int64
}

// long is run without a limit of time.
func (p program) long(ctx context.Context, args ...string) (output, error) {
	var out, errs bytes.Buffer
	cmd := p.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		return output{}, err
	}
	peak := watchPeak(cmd.Process.Pid)
	err := cmd.Wait()
	if err != nil && cmd.ProcessState.ExitCode() != 3 {
		return output{}, fmt.Errorf("sealpost %s: %w: %s", args[0], err, tail(errs.String(), 1000))
	}
	return output{out.Bytes(), peak()}, nil
}

// watchPeak looks at a process until it ends; what getrusage(2) says begins with the memory of its parent.
func watchPeak(pid int) (peak func() int64) {
	highest := make(chan int64, 1)
	go func() {
		var last int64
		for {
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			now := statusValue(data, "VmHWM:")
			if err != nil || now == 0 { // it has ended
				highest <- last
				return
			}
			last = max(last, now)
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return func() int64 { return <-highest }
}
