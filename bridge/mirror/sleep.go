package mirror

import (
	"context"
	"sync"
	"time"
)

// A laptop that was asleep comes back with connections that look alive and with retries that are
// minutes away. The steady clock stands still meanwhile and the wall clock does not: that tells.

const (
	sleepCheck = 5 * time.Second
	sleptLeast = 30 * time.Second // less does not break a connection; nor is a clock that is set right a reason
)

// clock is the wall's time and the steady one, from any beginning.
type clock func() (wall, steady time.Duration)

func systemClock() clock {
	began := time.Now()
	return func() (wall, steady time.Duration) {
		now := time.Now()
		return now.Round(0).Sub(began.Round(0)), now.Sub(began)
	}
}

// watchSleep calls Wake after the device has slept, until ctx ends.
func (m *Mirror) watchSleep(ctx context.Context) {
	wall, steady := m.clock()
	for ctx.Err() == nil {
		pause(ctx, m.sleepCheck)
		nowWall, nowSteady := m.clock()
		if slept := (nowWall - wall) - (nowSteady - steady); slept >= sleptLeast {
			m.o.Log.Info("the device was asleep; connecting anew", "for", slept.Round(time.Second))
			m.Wake()
		}
		wall, steady = nowWall, nowSteady
	}
}

// Wake forgets connections that nobody is using, and looks for changes now instead of when the
// next attempt would be due.
func (m *Mirror) Wake() {
	m.o.Provider.Reset()
	m.awake.broadcast()
	m.wake.poll.set()
}

// bell wakes all who wait for it at that moment.
type bell struct {
	mu   sync.Mutex
	rung chan struct{}
}

func (b *bell) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rung == nil {
		b.rung = make(chan struct{})
	}
	return b.rung
}

func (b *bell) broadcast() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rung != nil {
		close(b.rung)
		b.rung = nil
	}
}

// retry waits before another attempt; waking ends the wait and the growth of the delays.
func (m *Mirror) retry(ctx context.Context, delay interface {
	NextBackOff() time.Duration
	Reset()
}) {
	timer := time.NewTimer(delay.NextBackOff())
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-m.awake.wait():
		delay.Reset()
	}
}
