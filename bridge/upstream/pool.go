package upstream

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

const (
	idleLimit   = 4 * time.Minute  // how long an unused connection is kept
	reuseLimit  = 10 * time.Second // how long a kept connection has to show that it lives
	logoutLimit = 2 * time.Second
	selectedFor = 10 * time.Second // how long a selection is trusted without asking
)

// Conn is one leased, logged-in IMAP connection. Its Caps are the server's, less
// IMAP4rev2 (go-imap would then expect raw UTF-8 that is not enabled).
type Conn struct {
	*imapclient.Client
	Selected *imap.SelectData // of Mailbox; nil if none is selected
	Mailbox  string
	ObjectID string // of Mailbox (RFC 8474 §4.2); "" where the provider has none

	wire    *imapConn
	hint    *hintSwitch
	reaper  *time.Timer
	since   time.Time // when it was given back
	discard bool
	watches bool

	// Of a lease: every lease is a Conn of its own, so that a second Release cannot
	// end the next holder's.
	kept   *Conn       // the pool's; nil once released
	detach func() bool // from the lease's context
}

// hintSwitch is where the filter's hints go; nowhere at first.
type hintSwitch struct {
	mu sync.Mutex
	to func()
}

func (h *hintSwitch) set(to func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.to = to
}

func (h *hintSwitch) call() {
	h.mu.Lock()
	to := h.to
	h.mu.Unlock()
	if to != nil {
		to()
	}
}

// pool keeps logged-in connections. A slot is held by every leased connection and every
// watch; idle connections are what earlier holders left, so there are never more than
// slots altogether.
type pool struct {
	slots   chan struct{}
	watches chan struct{} // one less: a lease must always be possible
	closing chan struct{}

	mu     sync.Mutex
	closed bool
	idle   []*Conn // the longest unused first
	open   map[*Conn]bool
}

func (p *pool) init(size int) {
	p.slots = make(chan struct{}, size)
	p.watches = make(chan struct{}, size-1)
	p.closing = make(chan struct{})
	p.open = map[*Conn]bool{}
}

// enter takes one of the slots, waiting for it.
func (p *pool) enter(ctx context.Context, slots chan struct{}) error {
	select {
	case <-p.closing:
		return ErrClosed
	default:
	}
	select {
	case slots <- struct{}{}:
		return nil
	case <-p.closing:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *pool) close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	close(p.closing)
	var all []*Conn
	for c := range p.open {
		all = append(all, c)
	}
	p.idle = nil
	p.mu.Unlock()
	for _, c := range all {
		p.drop(c)
	}
}

// add takes note of a new connection, unless the pool has been closed meanwhile.
func (p *pool) add(c *Conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	p.open[c] = true
	return nil
}

// drop closes a connection for good.
func (p *pool) drop(c *Conn) {
	p.mu.Lock()
	delete(p.open, c)
	p.idle = slices.DeleteFunc(p.idle, func(other *Conn) bool { return other == c })
	if c.reaper != nil {
		c.reaper.Stop()
	}
	p.mu.Unlock()
	c.end()
}

// end closes the connection. go-imap's own Close waits for its reading goroutine, which
// hangs for ever if a command's answer is left unread: so wait, but not long.
func (c *Conn) end() {
	_ = c.wire.Conn.Close()
	timer := time.NewTimer(logoutLimit)
	defer timer.Stop()
	select {
	case <-c.Closed():
	case <-timer.C:
	}
}

// take removes the best idle connection: the one on that mailbox, else one on none,
// else the longest unused. nil if there is none.
func (p *pool) take(mailbox string) *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	best := slices.IndexFunc(p.idle, func(c *Conn) bool { return c.Mailbox == mailbox })
	if best < 0 {
		best = max(0, slices.IndexFunc(p.idle, func(c *Conn) bool { return c.Mailbox == "" }))
	}
	c := p.idle[best]
	p.idle = slices.Delete(p.idle, best, best+1)
	c.reaper.Stop()
	return c
}

// put keeps a connection for later; false if it cannot be used any more.
func (p *pool) put(c *Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || !p.open[c] || !c.usable() {
		return false
	}
	previous := c.Mailbox
	c.Mailbox, c.since = "", time.Now()
	if selected := c.Client.Mailbox(); selected != nil { // the holder may have selected another
		c.Mailbox = selected.Name
	}
	if c.Mailbox != previous {
		c.Selected = nil
	}
	p.idle = append(p.idle, c)
	c.reaper = time.AfterFunc(idleLimit, func() { p.reap(c) })
	return true
}

// watch marks a connection as one that watches.
func (p *pool) watch(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.watches = true
}

// Reset ends the connections that nobody is in the middle of using: kept ones, and watches,
// which return an error. It is for when the network may have changed unnoticed.
func (p *Provider) Reset() {
	p.pool.mu.Lock()
	ending := slices.Clone(p.pool.idle)
	for c := range p.pool.open {
		if c.watches {
			ending = append(ending, c)
		}
	}
	p.pool.mu.Unlock()
	for _, c := range ending {
		_ = c.wire.Conn.Close() // whoever has it finds out
	}
}

func (p *pool) reap(c *Conn) {
	p.mu.Lock()
	idle := slices.Contains(p.idle, c)
	p.mu.Unlock()
	if idle {
		p.drop(c)
	}
}

// usable says whether the connection is in step: alive, and no command of the last holder
// still under way.
func (c *Conn) usable() bool {
	select {
	case <-c.Closed():
		return false
	default:
	}
	return !c.discard && c.wire.broken() == nil && !c.wire.busy()
}

// Acquire leases a connection, waiting for one if MaxConnections are out, preferring one
// that has the mailbox selected already, and selects it ("" for none) afresh: its
// SelectData is current. The lease ends with ctx: then the connection is closed and its
// commands fail. Every lease is given back with Release. The error is an *Error; of a
// refused SELECT it unwraps to the server's *imap.Error.
func (p *Provider) Acquire(ctx context.Context, mailbox string) (*Conn, error) {
	return p.acquire(ctx, mailbox, p.reuse)
}

// AcquireSelected is Acquire for commands that name messages by UID: a connection that had the
// mailbox selected a moment ago is given as it is, if its SELECT came after the message with that
// UID. (A server need not show a session what came later.) Its SelectData may be old, but UIDVALIDITY
// does not change while a mailbox is selected. To select it again can take longer than what is to be done.
func (p *Provider) AcquireSelected(ctx context.Context, mailbox string, uid imap.UID) (*Conn, error) {
	return p.acquire(ctx, mailbox, func(ctx context.Context, c *Conn, mailbox string) error {
		if c.usable() && c.Selected != nil && c.Mailbox == mailbox && uid < c.Selected.UIDNext && time.Since(c.since) < selectedFor {
			return nil
		}
		return p.reuse(ctx, c, mailbox)
	})
}

func (p *Provider) acquire(ctx context.Context, mailbox string, reuse func(context.Context, *Conn, string) error) (*Conn, error) {
	if err := p.pool.enter(ctx, p.pool.slots); err != nil {
		return nil, failure(ctx, "connect", p.options.IMAP, err)
	}
	c, err := p.lease(ctx, mailbox, reuse)
	if err != nil {
		<-p.pool.slots
		return nil, err
	}
	return c, nil
}

// Release gives the lease back; a connection whose last command failed with an I/O error,
// or is not finished, is closed instead. A second Release does nothing.
func (p *Provider) Release(c *Conn) {
	if c == nil || c.kept == nil {
		return
	}
	kept := c.kept
	c.kept = nil
	if !c.detach() || !p.pool.put(kept) {
		p.pool.drop(kept)
	}
	<-p.pool.slots
}

// lease reuses an idle connection if one still works, else opens one.
func (p *Provider) lease(ctx context.Context, mailbox string, reuse func(context.Context, *Conn, string) error) (*Conn, error) {
	for c := p.pool.take(mailbox); c != nil; c = p.pool.take(mailbox) {
		err := reuse(ctx, c, mailbox)
		var refused *imap.Error
		if err == nil || errors.As(err, &refused) || ctx.Err() != nil {
			return p.begin(ctx, c, err)
		}
		p.pool.drop(c)
	}
	c, err := p.connectIMAP(ctx, false)
	if err != nil {
		return nil, err
	}
	stop := c.bind(ctx)
	err = c.choose(mailbox, false)
	stop()
	return p.begin(ctx, c, err)
}

// reuse selects the mailbox on an idle connection, which also shows whether it lives.
func (p *Provider) reuse(ctx context.Context, c *Conn, mailbox string) error {
	if !c.usable() {
		return errStale
	}
	limited, cancel := context.WithTimeout(ctx, reuseLimit)
	defer cancel()
	defer c.bind(limited)()
	return c.choose(mailbox, false)
}

// errStale: use another connection.
var errStale = errors.New("the kept connection was closed")

// begin hands a connection out, or takes it back if its mailbox could not be selected.
func (p *Provider) begin(ctx context.Context, c *Conn, err error) (*Conn, error) {
	if err == nil {
		lease := *c
		lease.kept, lease.detach = c, c.bind(ctx)
		return &lease, nil
	}
	if !p.pool.put(c) {
		p.pool.drop(c)
	}
	return nil, p.commandError(ctx, "select", c, err)
}

// bind closes the connection when ctx ends, until the result is called, which says whether
// it came in time.
func (c *Conn) bind(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, func() { _ = c.wire.Conn.Close() })
}

// choose makes mailbox the selected one ("" for none), always with a fresh state.
func (c *Conn) choose(mailbox string, readOnly bool) error {
	previous := c.Mailbox
	c.Mailbox, c.Selected = "", nil
	c.wire.mailbox.take()
	if mailbox == "" {
		return c.unselect(previous)
	}
	o := &imap.SelectOptions{ReadOnly: readOnly, CondStore: c.Caps().Has(imap.CapCondStore) || c.Caps().Has(imap.CapQResync)}
	data, err := c.Select(mailbox, o).Wait()
	if err != nil {
		return err
	}
	c.Mailbox, c.Selected, c.ObjectID = mailbox, data, c.wire.mailbox.take()
	return nil
}

// unselect leaves the mailbox, never by CLOSE, which expunges.
func (c *Conn) unselect(previous string) error {
	switch {
	case previous == "":
		return c.Noop().Wait()
	case c.Caps().Has(imap.CapUnselect):
		return c.Unselect().Wait()
	}
	c.discard = true
	return errStale
}

// connectIMAP opens a logged-in connection. force tries even after a refused login.
func (p *Provider) connectIMAP(ctx context.Context, force bool) (*Conn, error) {
	who, err := p.credentials(ctx, p.options.IMAP)
	if err == nil && !force {
		err = p.imap.closed(who.password, time.Now())
	}
	if err != nil {
		p.note(ctx, err)
		return nil, err
	}
	l, err := dialIMAP(ctx, p.options.IMAP, p.options.TLS, p.options.Timeout, who)
	p.imap.result(who.password, err, time.Now())
	p.note(ctx, err)
	if err != nil {
		return nil, err
	}
	p.noteTransport(p.options.IMAP, l.conn)
	return p.handOver(l)
}

// handOver gives the logged-in connection to go-imap.
func (p *Provider) handOver(l *imapLogin) (*Conn, error) {
	hint := &hintSwitch{}
	wire := newIMAPConn(l, limits{line: maxLine, literal: p.options.MaxMessage}, hint.call)
	c := &Conn{wire: wire, hint: hint, Client: imapclient.New(wire, nil)}
	err := c.WaitGreeting()
	if err == nil {
		err = p.pool.add(c)
	}
	if err != nil {
		c.end()
		return nil, failure(context.Background(), "connect", l.at, err)
	}
	return c, nil
}

// logout ends a connection politely, but not at any price.
func (c *Conn) logout(timeout time.Duration) {
	timer := time.AfterFunc(min(timeout, logoutLimit), func() { _ = c.wire.Conn.Close() })
	defer timer.Stop()
	_ = c.Logout().Wait()
}

// commandError turns the error of an IMAP command into an *Error. The filter and the
// network know more about a broken connection than go-imap's error says.
func (p *Provider) commandError(ctx context.Context, op string, c *Conn, err error) *Error {
	var refused *imap.Error
	if errors.As(err, &refused) {
		return &Error{Kind: KindRejected, Host: p.options.IMAP.Address(), Op: op, Reply: oneLine(refused.Text), Err: err}
	}
	if cause := c.wire.broken(); cause != nil {
		err = cause
	}
	return failure(ctx, op, p.options.IMAP, err)
}
