package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// filters are the gateway and the script that starts gpg without Postfix around them, whose own work hides the difference.
type filters struct {
	Gateway float64 `json:"gateway_per_second"`
	GPG     float64 `json:"gpg_per_second"`
}

const (
	filterWorkers = 8 // messages at a time
	gatewayCount  = 3000
	gpgCount      = 200
)

// compareFilters measures both in turns, on all cores; the best of each counts.
func (b *gatewayBench) compareFilters(ctx context.Context, rep *gatewayReport) (err error) {
	if b.ports, err = findPorts(); err != nil {
		return err
	}
	home, err := b.privateGnupg(ctx)
	if err != nil {
		return err
	}
	defer endAgent(context.WithoutCancel(ctx), home)
	p, err := b.configure(ctx, "filter", b.sink.address())
	if err != nil {
		return err
	}
	d, err := p.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	rounds, share := 3, 1
	if b.quick {
		rounds, share = 1, 10
	}
	text := textOf(10_000)
	for range rounds {
		gateway, err := b.throughGateway(ctx, text, gatewayCount/share)
		if err != nil {
			return fmt.Errorf("the gateway: %w", err)
		}
		gpg, err := b.throughScript(ctx, home, text, gpgCount/share)
		if err != nil {
			return fmt.Errorf("the script: %w", err)
		}
		progress("  without Postfix: gateway %.1f messages/s, gpg %.1f", gateway, gpg)
		rep.Filters.Gateway, rep.Filters.GPG = max(rep.Filters.Gateway, gateway), max(rep.Filters.GPG, gpg)
	}
	return nil
}

func (b *gatewayBench) privateGnupg(ctx context.Context) (home string, err error) {
	secret, err := b.people.secret()
	if err != nil {
		return "", err
	}
	certificates, err := b.people.certificates()
	if err != nil {
		return "", err
	}
	home = filepath.Join(b.dir, "gnupg-root")
	if err := gnupgHome(ctx, home, secret, certificates); err != nil {
		return "", err
	}
	return home, os.WriteFile(filepath.Join(b.dir, "filter.sh"), gpgFilter, 0o755)
}

func (b *gatewayBench) throughGateway(ctx context.Context, text []byte, count int) (perSecond float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	s := b.lane(false, 1, filterWorkers)
	b.sink.expect(isEncrypted)
	begin := time.Now()
	if err := s.send(ctx, count, func(i int) []byte { return plain(text, i, s.to) }); err != nil {
		return 0, err
	}
	_, err = b.sink.wait(ctx, count)
	return float64(count) / time.Since(begin).Seconds(), err
}

// throughScript starts the script as pipe(8) does.
func (b *gatewayBench) throughScript(ctx context.Context, home string, text []byte, count int) (perSecond float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	_, port, _ := strings.Cut(b.sink.address(), ":")
	b.sink.expect(isEncrypted)
	begin := time.Now()
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range filterWorkers {
		group.Go(func() error {
			for i := next.Add(1); i <= int64(count); i = next.Add(1) {
				cmd := exec.CommandContext(ctx, filepath.Join(b.dir, "filter.sh"), home, port, employee, stranger(0))
				cmd.Stdin = bytes.NewReader(bytes.ReplaceAll(plain(text, int(i), []string{stranger(0)}), []byte("\r\n"), []byte("\n")))
				if out, err := cmd.CombinedOutput(); err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	_, err = b.sink.wait(ctx, count)
	return float64(count) / time.Since(begin).Seconds(), err
}
