package mirror

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
)

// Mailbox is one mailbox. Handles of the same mailbox share their state.
type Mailbox struct{ *box }

// Message is the state of one message. Flags include the keywords of this moment.
type Message struct {
	UID          imap.UID
	Flags        []imap.Flag // shared, not to be changed
	InternalDate time.Time
	Size         int64 // bytes as the client sees it (RFC822.SIZE); -1: not opened yet
}

// Snapshot is an immutable view, ordered by UID, without messages that are held back.
type Snapshot struct {
	Name           string
	UIDValidity    uint32
	UIDNext        imap.UID
	Version        uint64      // grows with every change
	PermanentFlags []imap.Flag // as the provider says
	ReadOnly       bool
	ObjectID       string // the provider's identifier of the mailbox (RFC 8474); "" if it has none
	Messages       []Message
}

const (
	freshWait   = 2 * time.Second  // how long a selection waits for the provider
	freshFor    = time.Second      // how long a state counts as fresh
	refreshWait = 10 * time.Second // how long Refresh waits
)

// Mailbox returns a handle; it waits at most two seconds for a fresh state from the provider
// and then serves what is known. A mailbox that was never synced is waited for until ctx
// ends, and is ErrOffline without the provider. ErrNoMailbox if it does not exist.
func (m *Mirror) Mailbox(ctx context.Context, name string) (*Mailbox, error) {
	b, err := m.find(ctx, canonical(name))
	if err != nil {
		return nil, err
	}
	h := b.handle()
	defer runtime.KeepAlive(h)
	if err := b.load(ctx); err != nil {
		return nil, err
	}
	known := b.metaNow().synced
	err = b.freshen(ctx, known)
	if errors.Is(err, ErrNoMailbox) || !known && err != nil {
		return nil, err
	}
	if err != nil {
		m.wake.poll.set()
		m.o.Log.Debug("serving what is known", "mailbox", b.Name(), "error", err)
	}
	return h, nil
}

// find looks the name up here and then at the provider.
func (m *Mirror) find(ctx context.Context, name string) (*box, error) {
	b, err := m.boxOf(ctx, name)
	if !errors.Is(err, ErrNoMailbox) {
		return b, err
	}
	listing, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if refreshed := m.refreshList(listing); refreshed != nil {
		if known, _ := m.readList(ctx); len(known) > 0 {
			return nil, err
		}
		return nil, refreshed
	}
	return m.boxOf(ctx, name)
}

// freshen brings the state up to date, if it is known already within a time limit.
func (b *box) freshen(ctx context.Context, known bool) error {
	if known && (b.live.Load() || b.isFresh()) {
		return nil
	}
	if known {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, freshWait)
		defer cancel()
	}
	return b.sync(ctx)
}

func (b *box) isFresh() bool { return time.Since(time.Unix(0, b.fresh.Load())) < freshFor }

// Snapshot is the current view; cheap.
func (b *Mailbox) Snapshot() *Snapshot { return b.snapshot() }

// Watch returns a channel that is sent to (never blocking, capacity 1) after each
// change, and the function that ends it. While watched the mailbox is kept live if
// connections allow.
func (b *Mailbox) Watch() (<-chan struct{}, func()) {
	w := make(chan struct{}, 1)
	b.mem.Lock()
	b.watchers[w] = true
	b.mem.Unlock()
	b.m.wake.live.set()
	return w, sync.OnceFunc(func() {
		b.mem.Lock()
		delete(b.watchers, w)
		b.mem.Unlock()
		b.m.wake.live.set()
	})
}

func (b *box) watched() bool {
	b.mem.Lock()
	defer b.mem.Unlock()
	return len(b.watchers) > 0
}

// Refresh asks the provider for changes now (NOOP, CHECK), at most once a second, and
// waits for them at most ten.
func (b *Mailbox) Refresh(ctx context.Context) error {
	if b.isFresh() {
		return nil
	}
	return b.Sync(ctx)
}

// Sync is Refresh for those who must have all there is at this moment, however fresh the state is.
func (b *Mailbox) Sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, refreshWait)
	defer cancel()
	if err := b.sync(ctx); err != nil {
		return fmt.Errorf("refresh mailbox %q: %w", b.Name(), err)
	}
	return nil
}
