package mirror

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/emersion/go-imap/v2"
)

// Run keeps the mirror in step with the provider until ctx ends: INBOX live, the others
// when selected and every minute; opens messages newest first in the background.
// Connection errors are retried with backoff and are not returned.
func (m *Mirror) Run(ctx context.Context) error {
	if m.running.Swap(true) {
		return errors.New("the mirror is running already")
	}
	defer m.running.Store(false)
	var parts sync.WaitGroup
	parts.Go(func() { m.runLive(ctx) })
	parts.Go(func() { m.watchSleep(ctx) })
	parts.Go(func() { m.repeat(ctx, m.wake.poll, m.poll, m.pollAll) })
	parts.Go(func() { m.repeat(ctx, m.wake.fill, time.Minute, m.fillSome) })
	parts.Go(func() { m.repeat(ctx, m.wake.hold, time.Minute, m.tendAll) })
	parts.Go(func() { m.repeat(ctx, m.wake.index, time.Minute, m.indexSome) })
	if m.o.Seal != nil {
		parts.Go(func() { m.repeat(ctx, m.wake.seal, time.Minute, m.sealSome) })
	}
	parts.Wait()
	return nil
}

// repeat calls f until ctx ends: again at once if it says so (a duration of 0), after the
// duration it gives, when woken, at the latest after the interval, and with backoff after an
// error.
func (m *Mirror) repeat(ctx context.Context, w waker, interval time.Duration, f func(ctx context.Context) (time.Duration, error)) {
	delay := newBackoff()
	for ctx.Err() == nil {
		next, err := f(ctx)
		if err != nil {
			m.logFailure(ctx, err)
			m.retry(ctx, delay)
			continue
		}
		delay.Reset()
		timer := time.NewTimer(min(next, interval))
		select {
		case <-ctx.Done():
		case <-w:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func newBackoff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 200*time.Millisecond, 2*time.Minute
	return b
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (m *Mirror) logFailure(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, ErrOffline):
		m.o.Log.Info("the provider cannot be reached; trying again", "error", err)
	default:
		m.o.Log.Warn("the mirror is not in step; trying again", "error", err)
	}
}

// pollAll looks for changes in all mailboxes that are not live, and frees what is not needed.
func (m *Mirror) pollAll(ctx context.Context) (time.Duration, error) {
	if err := m.refreshList(ctx); err != nil {
		return 0, err
	}
	m.wake.live.set()
	list, err := m.readList(ctx)
	if err != nil {
		return 0, err
	}
	for _, info := range list {
		if !selectable(joinFlags(info.Attrs)) {
			continue
		}
		if err := m.pollOne(ctx, info.Name); err != nil {
			if errors.Is(err, ErrOffline) || ctx.Err() != nil {
				return 0, err
			}
			m.logFailure(ctx, err)
		}
	}
	return m.poll, m.collect(ctx)
}

func (m *Mirror) pollOne(ctx context.Context, name string) error {
	b, done, err := m.use(ctx, name)
	if errors.Is(err, ErrNoMailbox) {
		return nil
	}
	if err != nil {
		return err
	}
	defer b.unload()
	defer done()
	if b.live.Load() && time.Since(time.Unix(0, b.fresh.Load())) < sweepEvery {
		return nil
	}
	if same, err := m.unchanged(ctx, b); err != nil || same {
		return err
	}
	return b.sync(ctx)
}

// sweepEvery is how often flags are read where STATUS alone cannot tell that they changed,
// and how often a live mailbox is looked at in case a hint was lost.
const sweepEvery = 10 * time.Minute

// unchanged asks by STATUS, which is cheap, whether a mailbox that is in step still is.
func (m *Mirror) unchanged(ctx context.Context, b *box) (bool, error) {
	now, rows := b.state()
	if !now.synced || time.Since(time.Unix(0, b.fresh.Load())) > sweepEvery {
		return false, nil
	}
	c, err := m.o.Provider.Acquire(ctx, "")
	if err != nil {
		return false, offline(err)
	}
	defer m.o.Provider.Release(c)
	condstore := c.Caps().Has(imap.CapCondStore)
	got, err := c.Status(b.Name(), &imap.StatusOptions{NumMessages: true, UIDNext: true, UIDValidity: true, NumUnseen: true, HighestModSeq: condstore}).Wait()
	if isRefusal(err) {
		return false, nil // SELECT will tell
	}
	if err != nil {
		return false, offline(err)
	}
	unseen := uint32(0)
	for _, r := range rows {
		if !hasFlag(r.flags, imap.FlagSeen) {
			unseen++
		}
	}
	return got.UIDValidity == now.validity && got.UIDNext == now.uidnext && got.HighestModSeq == now.modseq &&
		got.NumMessages != nil && *got.NumMessages == uint32(len(rows)) && got.NumUnseen != nil && *got.NumUnseen == unseen, nil
}

// runLive keeps INBOX and the mailboxes somebody watches live.
func (m *Mirror) runLive(ctx context.Context) {
	var parts sync.WaitGroup
	defer parts.Wait()
	running := map[*box]*liveBox{}
	for ctx.Err() == nil {
		wanted := m.wantLive(ctx)
		for b, l := range running {
			if wanted[b] != l.name {
				l.cancel()
				delete(running, b)
			}
		}
		for b, name := range wanted {
			if running[b] == nil {
				one, cancel := context.WithCancel(ctx)
				running[b] = &liveBox{name, cancel}
				parts.Go(func() { m.keepLive(one, b, name) })
			}
		}
		select {
		case <-ctx.Done():
		case <-m.wake.live:
		}
	}
	for _, l := range running {
		l.cancel()
	}
}

type liveBox struct {
	name   string
	cancel context.CancelFunc
}

// wantLive are the mailboxes to be watched, with their names.
func (m *Mirror) wantLive(ctx context.Context) map[*box]string {
	wanted := map[*box]string{}
	if b, err := m.boxOf(ctx, "INBOX"); err == nil {
		wanted[b] = "INBOX"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, b := range m.boxes {
		if !b.gone.Load() && b.watched() {
			wanted[b] = name
		}
	}
	return wanted
}

// keepLive watches one mailbox, syncs it at every hint, and starts again when the connection
// breaks.
func (m *Mirror) keepLive(ctx context.Context, b *box, name string) {
	b.handles.Add(1)
	defer b.handles.Add(-1)
	hints := make(waker, 1)
	var syncing sync.WaitGroup
	defer syncing.Wait()
	var watching sync.Mutex
	up := false
	set := func(on bool) {
		watching.Lock()
		defer watching.Unlock()
		up = on
		if !on {
			b.live.Store(false)
		}
	}
	syncing.Go(func() {
		m.repeat(ctx, hints, time.Hour, func(ctx context.Context) (time.Duration, error) {
			err := b.sync(ctx)
			watching.Lock()
			defer watching.Unlock()
			b.live.Store(err == nil && up)
			return time.Hour, err
		})
	})
	defer set(false)
	delay := newBackoff()
	for ctx.Err() == nil {
		err := m.o.Provider.Watch(ctx, name, func() { delay.Reset(); set(true); hints.set() }, hints.set)
		set(false)
		if ctx.Err() == nil {
			m.o.Log.Debug("a mailbox is not live; trying again", "mailbox", name, "error", err)
			m.retry(ctx, delay)
		}
	}
}

// fillSome opens a batch of messages: those of INBOX first, then of all others, the newest
// first. It lets everybody pass who waits for a message.
func (m *Mirror) fillSome(ctx context.Context) (time.Duration, error) {
	if m.demand.Load() > 0 {
		return time.Second, nil // woken when they are done
	}
	work, err := m.unopened(ctx)
	m.filling.Store(len(work) > 0)
	if err != nil || len(work) == 0 {
		m.wake.index.set()
		return time.Minute, err
	}
	tried, failures := 0, 0
	var last error
	for name, uids := range work {
		b, done, err := m.use(ctx, name)
		if err != nil {
			return 0, err
		}
		failed := b.open(ctx, uids)
		done()
		for _, err := range failed {
			if errors.Is(err, ErrOffline) || errors.Is(err, errReplaced) {
				return 0, err
			}
			failures, last = failures+1, err
		}
		tried += len(uids)
	}
	if failures == tried && tried > 1 {
		return 0, last // nothing can be opened now, not one bad message
	}
	return 0, nil
}

// unopened is the next work, by mailbox.
func (m *Mirror) unopened(ctx context.Context) (map[string][]imap.UID, error) {
	// The indexes hold what has not been opened only. SQLite does not know how little that is.
	for _, query := range []string{`
		SELECT b.name, m.uid FROM mailbox b CROSS JOIN message m INDEXED BY message_unopened ON m.mailbox = b.id
		WHERE b.account = ?1 AND b.name = 'INBOX' AND m.content IS NULL AND m.retry <= ?2 ORDER BY m.uid DESC LIMIT ?3`, `
		SELECT b.name, m.uid FROM message m INDEXED BY message_unopened_date CROSS JOIN mailbox b ON b.id = m.mailbox
		WHERE m.content IS NULL AND b.account = ?1 AND m.retry <= ?2 ORDER BY m.date DESC LIMIT ?3`} {
		work, err := m.unopenedBy(ctx, query)
		if err != nil || len(work) > 0 {
			return work, err
		}
	}
	return nil, nil
}

func (m *Mirror) unopenedBy(ctx context.Context, query string) (map[string][]imap.UID, error) {
	rows, err := m.o.DB.Read().QueryContext(ctx, query, m.o.Account, time.Now().UnixNano(), 2*batchesAtOnce*batchMessages)
	if err != nil {
		return nil, fmt.Errorf("look for messages to open: %w", err)
	}
	defer rows.Close()
	work := map[string][]imap.UID{}
	for rows.Next() {
		var name string
		var uid imap.UID
		if err := rows.Scan(&name, &uid); err != nil {
			return nil, fmt.Errorf("look for messages to open: %w", err)
		}
		work[name] = append(work[name], uid)
	}
	return work, rows.Err()
}

// tendAll looks after everything that is held back.
func (m *Mirror) tendAll(ctx context.Context) (time.Duration, error) {
	names, err := m.holding(ctx)
	if err != nil {
		return 0, err
	}
	next := time.Minute
	for _, name := range names {
		b, done, err := m.use(ctx, name)
		if err != nil {
			return 0, err
		}
		left, err := b.tend(ctx)
		done()
		if err != nil {
			return 0, err
		}
		if left > 0 {
			next = min(next, left)
		}
	}
	return next, nil
}

// holding are the mailboxes that hold something back.
func (m *Mirror) holding(ctx context.Context) ([]string, error) {
	rows, err := m.o.DB.Read().QueryContext(ctx, `
		SELECT DISTINCT b.name FROM message m INDEXED BY message_held CROSS JOIN mailbox b ON b.id = m.mailbox
		WHERE m.held > 0 AND b.account = ? AND b.synced`, m.o.Account)
	if err != nil {
		return nil, fmt.Errorf("look for messages that are held back: %w", err)
	}
	return scanStrings(rows)
}

func scanStrings(rows *sql.Rows) ([]string, error) {
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

// sealSome seals what is due.
func (m *Mirror) sealSome(ctx context.Context) (time.Duration, error) {
	found, err := m.sealDue(ctx)
	if found {
		return 0, err
	}
	return time.Minute, err
}
