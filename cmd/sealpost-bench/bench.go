package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// result is what was measured with one mailbox.
type result struct {
	Messages int   `json:"messages"`
	Rows     []row `json:"rows"`

	Fill        float64 `json:"fill_seconds"`        // from ready until the last message is opened
	FillCPU     float64 `json:"fill_cpu_seconds"`    // of the daemon, meanwhile
	FillRate    float64 `json:"fill_per_second"`     //
	Rested      float64 `json:"rested_seconds"`      // from ready until the text is indexed, too
	DecryptRate float64 `json:"decrypt_per_second"`  // two goroutines, in process, the same messages
	FirstSelect float64 `json:"first_select_ms"`     // the first command after a start
	Startup     float64 `json:"startup_ms"`          // to ready; not the first start
	FilledRSS   int64   `json:"rss_after_fill"`      // bytes
	FilledPeak  int64   `json:"peak_rss_fill"`       //
	ServingRSS  int64   `json:"rss_after_measuring"` // of a new process, after all the commands
	ServingPeak int64   `json:"peak_rss_measuring"`  //
	StateSize   int64   `json:"state_bytes"`         // on disk
	Verified    int     `json:"verified"`            // messages whose signature the daemon found good
}

// bench measures one size after the other.
type bench struct {
	dir      string
	binary   string
	provider *provider
	keys     keys
	repeat   int
}

func encryptedUser(count int) string { return fmt.Sprintf("sealed%d@bench.test", count) }
func clearUser(count int) string     { return fmt.Sprintf("clear%d@bench.test", count) }

// size measures with a mailbox of count messages, and removes it.
func (b *bench) size(ctx context.Context, count int) (res result, err error) {
	res.Messages = count
	home := filepath.Join(b.dir, fmt.Sprintf("home%d", count))
	if err := os.Mkdir(home, 0o700); err != nil {
		return res, err
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(home), b.provider.remove(encryptedUser(count)), b.provider.remove(clearUser(count)))
	}()
	p := program{binary: b.binary, home: home}
	if err := errors.Join(b.provider.prepare(encryptedUser(count)), b.provider.prepare(clearUser(count))); err != nil {
		return res, err
	}
	if err := p.init(ctx, b.provider, encryptedUser(count)); err != nil {
		return res, err
	}
	if err := b.fill(ctx, p, &res); err != nil {
		return res, err
	}
	return res, b.serve(ctx, p, &res)
}

// fill writes the messages and lets a new daemon read them all. How fast they can be decrypted is measured
// before and after: others may use the machine meanwhile.
func (b *bench) fill(ctx context.Context, p program, res *result) error {
	certificate, err := p.run(ctx, "key", "export")
	if err != nil {
		return err
	}
	secret, err := p.run(ctx, "key", "export", "--secret", "--unprotected")
	if err != nil {
		return err
	}
	progress("%d messages: generate, encrypt, store", res.Messages)
	sample, err := b.provider.fill(ctx, b.keys, certificate, encryptedUser(res.Messages), clearUser(res.Messages), res.Messages)
	if err != nil {
		return err
	}
	before, err := decryptRate(ctx, b.keys, secret, sample)
	if err != nil {
		return err
	}
	progress("  decrypt and verify in process: %.0f messages/s", before)
	if err := b.firstFill(ctx, p, res); err != nil {
		return err
	}
	after, err := decryptRate(ctx, b.keys, secret, sample)
	res.DecryptRate = (before + after) / 2
	return err
}

// firstFill runs a new daemon until it has opened every message.
func (b *bench) firstFill(ctx context.Context, p program, res *result) error {
	d, err := p.start(ctx)
	if err != nil {
		return err
	}
	cpu := d.cpu()
	err = waitOpened(ctx, p, res.Messages)
	if err == nil {
		res.Fill = time.Since(d.ready).Seconds()
		res.FillRate = float64(res.Messages) / res.Fill
		res.FillCPU = (d.cpu() - cpu).Seconds()
		progress("  first fill: %.1f s, %.0f messages/s, %.1f s of processor time", res.Fill, res.FillRate, res.FillCPU)
		err = d.rest(ctx)
	}
	if err == nil {
		res.Rested = max(res.Fill, (time.Since(d.ready) - 2*restWindow).Seconds())
		progress("  at rest after %.1f s", res.Rested)
		res.FilledRSS, res.FilledPeak, err = d.memory()
	}
	return errors.Join(err, d.stop())
}

// waitOpened asks the daemon from time to time, seldom enough not to slow it down.
func waitOpened(ctx context.Context, p program, count int) error {
	const limit = 30 * time.Minute
	pause := min(5*time.Second, 50*time.Millisecond*time.Duration(1+count/1000))
	last, said := 0, time.Now()
	for begin := time.Now(); time.Since(begin) < limit; {
		opened, err := p.opened(ctx)
		if err != nil {
			return err
		}
		if opened >= count {
			return nil
		}
		if time.Since(said) > 10*time.Second {
			progress("  %d of %d opened (%.0f/s)", opened, count, float64(opened-last)/time.Since(said).Seconds())
			last, said = opened, time.Now()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return fmt.Errorf("the first fill was not done after %v", limit)
}

// starts is how often the start is measured.
const starts = 3

// serve starts the daemon again on what it has, and measures it beside Dovecot.
func (b *bench) serve(ctx context.Context, p program, res *result) error {
	password, err := p.localPassword(ctx)
	if err != nil {
		return err
	}
	var times []time.Duration
	for range starts - 1 {
		d, err := p.start(ctx)
		if err != nil {
			return err
		}
		times = append(times, d.startup)
		if err := d.stop(); err != nil {
			return err
		}
	}
	d, err := p.start(ctx)
	if err != nil {
		return err
	}
	times = append(times, d.startup)
	slices.Sort(times)
	res.Startup = milliseconds(median(times))
	err = b.compare(ctx, d, password, res)
	if err == nil {
		res.ServingRSS, res.ServingPeak, err = d.memory()
	}
	err = errors.Join(err, d.stop())
	res.StateSize = folderSize(p.path(".local/state/sealpost"))
	return err
}

func (b *bench) compare(ctx context.Context, d *daemon, password string, res *result) error {
	own, err := dialIMAP(d.imap, encryptedUser(res.Messages), password)
	if err != nil {
		return err
	}
	defer own.close()
	start := time.Now()
	if _, err := own.do("SELECT INBOX"); err != nil {
		return err
	}
	res.FirstSelect = milliseconds(time.Since(start))
	if err := d.rest(ctx); err != nil {
		return err
	}
	bridge, err := newSide("bridge", own, func(r *row) **sample { return &r.Bridge })
	if err != nil {
		return err
	}
	signed, err := own.do("UID SEARCH KEYWORD $SignedGood")
	if err != nil {
		return err
	}
	res.Verified = signed.numbers
	sides := []*side{bridge}
	if b.provider.dovecot != nil {
		other, err := dialIMAP(b.provider.imap, clearUser(res.Messages), providerPassword)
		if err != nil {
			return err
		}
		defer other.close()
		dovecot, err := newSide("Dovecot", other, func(r *row) **sample { return &r.Dovecot })
		if err != nil {
			return err
		}
		sides = append(sides, dovecot)
	}
	res.Rows, err = measureAll(ctx, sides, res.Messages, b.repeat)
	return err
}

// folderSize adds up the files of a folder.
func folderSize(dir string) int64 {
	var size int64
	_ = filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size
}
