package upstream

import (
	"context"
	"errors"
	"time"

	"github.com/emersion/go-imap/v2"
)

const (
	idleRestart  = 9 * time.Minute // NAT boxes forget connections; RFC 2177 allows 29 minutes
	pollInterval = 30 * time.Second
)

// Watch keeps one connection of its own idling on the mailbox (IDLE, or NOOP every 30 s
// where not offered) and calls changed for every hint, until ctx ends or the connection
// does (the error; the caller decides when to try again). It calls ready once it idles.
// At most MaxConnections-1 watches run at once; further ones wait.
func (p *Provider) Watch(ctx context.Context, mailbox string, ready, changed func()) error {
	if cap(p.pool.watches) == 0 {
		return failure(ctx, "watch", p.options.IMAP, errors.New("watching needs MaxConnections of at least 2"))
	}
	for _, slots := range []chan struct{}{p.pool.watches, p.pool.slots} {
		if err := p.pool.enter(ctx, slots); err != nil {
			return failure(ctx, "watch", p.options.IMAP, err)
		}
		defer func() { <-slots }()
	}
	if old := p.pool.take(mailbox); old != nil {
		p.pool.drop(old) // its slot is ours now
	}
	c, err := p.connectIMAP(ctx, false)
	if err != nil {
		return err
	}
	defer p.pool.drop(c)
	defer c.bind(ctx)()
	p.pool.watch(c)
	if err := c.watch(ctx, mailbox, ready, changed); err != nil {
		return p.commandError(ctx, "watch", c, err)
	}
	return nil
}

func (c *Conn) watch(ctx context.Context, mailbox string, ready, changed func()) error {
	// Read-only, so that watching does not take \Recent away.
	if err := c.choose(mailbox, true); err != nil {
		return err
	}
	hints := make(chan struct{}, 1)
	c.hint.set(func() {
		select {
		case hints <- struct{}{}:
		default:
		}
	})
	// What changed between SELECT and IDLE is reported at IDLE.
	wait := c.poll
	if c.Caps().Has(imap.CapIdle) {
		wait = c.idle
	}
	for {
		err := wait(ctx, hints, ready, changed)
		if err != nil {
			return err
		}
		ready = func() {}
	}
}

// idle runs one IDLE command until it is time to restart it.
func (c *Conn) idle(ctx context.Context, hints <-chan struct{}, ready, changed func()) error {
	cmd, err := c.Idle()
	if err != nil {
		return err
	}
	ready()
	if err := c.await(ctx, idleRestart, hints, changed); err != nil {
		return err
	}
	if err := cmd.Close(); err != nil {
		return err
	}
	return cmd.Wait()
}

// poll asks once whether something has changed, and sleeps.
func (c *Conn) poll(ctx context.Context, hints <-chan struct{}, ready, changed func()) error {
	if err := c.Noop().Wait(); err != nil {
		return err
	}
	ready()
	return c.await(ctx, pollInterval, hints, changed)
}

var errEnded = errors.New("the server ended the connection")

// await passes hints on for a while.
func (c *Conn) await(ctx context.Context, d time.Duration, hints <-chan struct{}, changed func()) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-hints:
			changed()
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.Closed():
			return errEnded
		}
	}
}
