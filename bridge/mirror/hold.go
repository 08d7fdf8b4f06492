package mirror

import (
	"context"
	"fmt"
	"time"

	"github.com/emersion/go-imap/v2"
)

// New mail of a mailbox that is sealed is held back: its row is there and not shown, until it
// is opened and found not to be clear, or its sealed copy has come and the original is gone,
// or sealing failed, or HoldBack has passed since it was first seen. What was shown is never
// hidden again. Rows remember, so a crash changes nothing.

// mustWait says whether an opened message stays held back.
func (b *box) mustWait(r row) bool {
	return r.held != 0 && r.kind == Clear && b.m.shouldSeal(b.Name()) && !b.overdue(r)
}

// overdue says whether a message was held back long enough. A clock that was set back is no
// reason to hide mail.
func (b *box) overdue(r row) bool {
	waited := time.Now().UnixNano() - r.held
	return waited < 0 || waited >= int64(b.m.o.HoldBack)
}

// release shows messages that were held back.
func (b *box) release(ctx context.Context, which func(row) bool) error {
	b.write.Lock()
	defer b.write.Unlock()
	_, rows := b.state()
	var e edit
	for _, r := range rows {
		if r.held != 0 && which(r) {
			r.held = 0
			e.put = append(e.put, r)
		}
	}
	return b.commit(ctx, e, nil)
}

// heldRows are the messages that are held back now.
func (b *box) heldRows() []row {
	b.mem.Lock()
	defer b.mem.Unlock()
	var held []row
	for _, r := range b.rows {
		if r.held != 0 {
			held = append(held, r)
		}
	}
	return held
}

// tend opens what is held back, shows what need not be or is overdue, and returns how long
// until something else will be; 0 if nothing is held back.
func (b *box) tend(ctx context.Context) (time.Duration, error) {
	held := b.heldRows()
	if len(held) == 0 {
		return 0, nil
	}
	// Overdue ones first: opening waits for the network.
	if err := b.release(ctx, b.overdue); err != nil {
		return 0, err
	}
	var unopened []imap.UID
	for _, r := range b.heldRows() {
		if r.content == 0 {
			unopened = append(unopened, r.uid)
		}
	}
	limited, cancel := context.WithTimeout(ctx, b.m.o.HoldBack)
	defer cancel()
	b.open(limited, unopened)
	done := func(r row) bool { return b.overdue(r) || r.content != 0 && !b.mustWait(r) }
	if err := b.release(ctx, done); err != nil {
		return 0, err
	}
	next := time.Duration(0)
	for _, r := range b.heldRows() {
		left := max(time.Until(time.Unix(0, r.held).Add(b.m.o.HoldBack)), time.Millisecond)
		if next == 0 || left < next {
			next = left
		}
	}
	return next, nil
}

// awaitShown waits until a message with that UID would be shown: for as long as earlier
// ones are held back, at most HoldBack.
func (b *box) awaitShown(ctx context.Context, uid imap.UID) error {
	changed := make(chan struct{}, 1)
	b.mem.Lock()
	b.watchers[changed] = true
	b.mem.Unlock()
	defer func() {
		b.mem.Lock()
		defer b.mem.Unlock()
		delete(b.watchers, changed)
	}()
	for b.snapshot().UIDNext <= uid {
		next, err := b.tend(ctx)
		if err != nil {
			return err
		}
		if next == 0 { // nothing is held back: the UID is simply not there
			return nil
		}
		timer := time.NewTimer(next)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// candidate is a clear message that came after its mailbox was first seen.
type candidate struct {
	mailbox  string
	validity uint32
	uid      imap.UID
}

const sealAtOnce = 16

// sealDue seals some of what has to be, held back ones first, and says whether it found any.
func (m *Mirror) sealDue(ctx context.Context) (bool, error) {
	due, err := m.sealCandidates(ctx)
	if err != nil {
		return false, err
	}
	for _, c := range due {
		if err := m.sealOne(ctx, c); err != nil {
			return false, err
		}
	}
	return len(due) > 0, nil
}

func (m *Mirror) sealCandidates(ctx context.Context) ([]candidate, error) {
	// CROSS JOIN keeps the order: the few new messages, not all that are clear.
	rows, err := m.o.DB.Read().QueryContext(ctx, `
		SELECT b.name, b.validity, m.uid FROM mailbox b
		CROSS JOIN message m ON m.mailbox = b.id AND m.uid >= b.baseline
		CROSS JOIN content c ON c.id = m.content
		WHERE b.account = ? AND b.synced AND c.kind = 'clear' AND m.retry <= ?
		ORDER BY m.held = 0, m.date DESC`, m.o.Account, time.Now().UnixNano())
	if err != nil {
		return nil, fmt.Errorf("look for clear mail: %w", err)
	}
	defer rows.Close()
	var due []candidate
	for rows.Next() && len(due) < sealAtOnce {
		var c candidate
		if err := rows.Scan(&c.mailbox, &c.validity, &c.uid); err != nil {
			return nil, fmt.Errorf("look for clear mail: %w", err)
		}
		if m.shouldSeal(c.mailbox) {
			due = append(due, c)
		}
	}
	return due, rows.Err()
}

// sealing is the key by which Append knows that it is called by Seal.
type sealing struct{}

// sealOne has a message sealed and shows what came of it.
func (m *Mirror) sealOne(ctx context.Context, c candidate) error {
	b, done, err := m.use(ctx, c.mailbox)
	if err != nil {
		return err
	}
	defer done()
	err = m.o.Seal(context.WithValue(ctx, sealing{}, true), c.mailbox, c.validity, c.uid)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// Also after success: if the original is still there then, it is not the time to try again.
	if laterErr := b.later(ctx, []imap.UID{c.uid}); laterErr != nil {
		return laterErr
	}
	if err != nil {
		m.o.Log.Warn("a message could not be sealed; it is shown as it is", "mailbox", c.mailbox, "uid", c.uid, "error", err)
		return b.release(ctx, func(r row) bool { return r.uid == c.uid })
	}
	if err := b.sync(ctx); err != nil {
		return err
	}
	_, err = b.tend(ctx)
	return err
}
