package contacts

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/keydisc"
)

// How long the network's answers are good for.
const (
	refreshAfter = 24 * time.Hour // a pinned certificate is then looked for again
	noneLasts    = time.Hour      // a definite "there is none"
	retryAfter   = time.Hour      // between two attempts that nobody waits for
)

// Lookup is the answer for one recipient of an outgoing message.
type Lookup struct {
	Contact
	// Usable is nil if Certificate may be encrypted to now; else the reason: an
	// *keydisc.UnusableError, *ChangedError, *BlockedError, or ErrNone.
	Usable error
	// Conclusive is false if no usable certificate was found and some method could
	// not give a definite answer; Cause then says why (for the log).
	Conclusive bool
	Cause      error
}

// Lookup finds the certificate for a recipient: the pinned one if usable, else by
// the Finder; a first find is pinned. Before the first use of a pin that came with mail the Finder is
// asked, too. Fresh positive and negative answers are served
// from the database (positive: refreshed daily in the background; negative: 1 h;
// inconclusive: never cached). It never blocks longer than the Finder's deadline.
//
// Without the network, pins are served for as long as the certificates themselves are valid. That there is none is
// known for an hour; then it is an open question again, as it is for somebody whom a list may name that was never taken in.
func (b *Book) Lookup(ctx context.Context, address string) Lookup {
	awaited := b.awaited(ctx, address) // before: a list that is taken in meanwhile was not heard
	l := b.lookup(ctx, address)
	if awaited != nil && l.Conclusive && errors.Is(l.Usable, ErrNone) {
		l.Conclusive, l.Cause = false, awaited
	}
	return l
}

func (b *Book) lookup(ctx context.Context, address string) Lookup {
	normal, err := keydisc.NormalizeAddress(address)
	if err != nil {
		return unknown(address, err)
	}
	r, last, err := b.recall(ctx, normal)
	if err != nil {
		return unknown(normal, err)
	}
	now := b.options.Now()
	usable := r.usable(now)
	var changed *ChangedError
	pinned := usable == nil || errors.As(usable, &changed)
	switch {
	case r.blocked:
		return Lookup{Contact: r.contact(), Usable: usable, Conclusive: true}
	case pinned && r.hearsay() && r.lastUsed.IsZero() && b.mayAsk(last): // the network may know better
	case pinned:
		b.refresh(address, usable == nil, last)
		return Lookup{Contact: r.contact(), Usable: usable, Conclusive: true}
	case b.options.Finder == nil || isFresh(last.concluded, now, noneLasts):
		return Lookup{Contact: r.contact(), Usable: usable, Conclusive: true}
	}
	return b.await(ctx, address, r)
}

// await asks the network. r is what was known before.
func (b *Book) await(ctx context.Context, address string, r record) Lookup {
	s := b.search(address)
	if s == nil {
		return inconclusive(r, errClosed)
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		return inconclusive(r, ctx.Err())
	}
	if s.err != nil {
		return unknown(r.address, s.err)
	}
	l := Lookup{Contact: s.record.contact(), Usable: s.usable, Conclusive: s.answer.Conclusive, Cause: s.answer.Err}
	var changed *ChangedError
	if l.Usable == nil || errors.As(l.Usable, &changed) {
		l.Conclusive, l.Cause = true, nil
	}
	return l
}

var errClosed = errors.New("the contacts are closed")

// inconclusive is the answer where none could be had: nothing follows from it.
func inconclusive(r record, cause error) Lookup {
	return Lookup{Contact: r.contact(), Usable: ErrNone, Cause: cause}
}

// unknown is the answer where not even the database could be asked: there may have been a certificate.
func unknown(address string, cause error) Lookup {
	l := inconclusive(record{address: address}, cause)
	l.Ever = true
	return l
}

func (b *Book) recall(ctx context.Context, address string) (record, asked, error) {
	return b.recallFrom(ctx, ready{b.options.DB}, address)
}

// recallFrom reads when the network was asked before it reads what is known: a search that ends between the two must not look like
// one that found nothing.
func (b *Book) recallFrom(ctx context.Context, q querier, address string) (record, asked, error) {
	last, err := loadAsked(ctx, q, address)
	if err != nil {
		return record{}, last, store.Explain(err)
	}
	r, err := b.load(ctx, q, address)
	return r, last, store.Explain(err)
}

func isFresh(then, now time.Time, lasts time.Duration) bool {
	return !then.After(now) && now.Sub(then) < lasts // a clock that was set back makes nothing last
}

// refresh begins a search that nobody waits for, if one is due: for a pin daily, for a contested one
// as often as attempts are allowed at all.
func (b *Book) refresh(address string, settled bool, last asked) {
	if !b.mayAsk(last) || settled && isFresh(last.concluded, b.options.Now(), refreshAfter) {
		return
	}
	b.search(address)
}

// mayAsk says whether the network may be asked where the answer can wait.
func (b *Book) mayAsk(last asked) bool {
	return b.options.Finder != nil && !isFresh(last.attempted, b.options.Now(), retryAfter)
}

// search is one question to the network, shared by all who wait for its answer. The fields may be
// read once done is closed.
type search struct {
	done   chan struct{}
	answer keydisc.Answer
	record record // what is known afterwards
	usable error  // of the record; the reason against the best found certificate if none is pinned
	err    error  // the answer could not be stored
	// conclusive says that every place gave a definite answer, also about news of what was known.
	conclusive bool
}

// search begins one for the address as it was written, or joins the one under way; nil after Close.
func (b *Book) search(address string) *search {
	normal, err := keydisc.NormalizeAddress(address)
	if err != nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if s, ok := b.searches[normal]; ok || b.closed {
		return s
	}
	s := &search{done: make(chan struct{})}
	b.searches[normal] = s
	b.running.Go(func() {
		b.run(s, address, normal)
		b.mu.Lock()
		delete(b.searches, normal)
		b.mu.Unlock()
		close(s.done)
	})
	return s
}

func (b *Book) run(s *search, address, normal string) {
	known, _, err := b.recall(b.ctx, normal)
	if err != nil {
		s.err = err
		return
	}
	var news news
	var asking sync.WaitGroup
	asking.Go(func() { news = b.newsOf(known) })
	s.answer = b.options.Finder.Find(b.ctx, address)
	asking.Wait()
	named := known.named(news.found)
	s.answer.Found = slices.Concat(named, s.answer.Found)
	s.conclusive = s.answer.Conclusive && news.err == nil
	defer b.changed(normal)
	now := b.options.Now()
	s.err = b.options.DB.Write(b.ctx, func(tx *sql.Tx) (err error) {
		if err := keepNamed(b.ctx, tx, normal, named); err != nil {
			return err
		}
		if s.record, err = b.load(b.ctx, tx, normal); err != nil {
			return err
		}
		if err := s.record.takeIn(s.answer, news.found, now); err != nil {
			return err
		}
		if s.record.ever() {
			if err := s.record.save(b.ctx, tx); err != nil {
				return err
			}
		}
		// What was found but cannot be used may be renewed any minute.
		concluded := s.conclusive && (len(s.answer.Found) == 0 || s.record.usable(now) == nil)
		return saveAsked(b.ctx, tx, normal, concluded, now)
	})
	s.usable = s.record.usable(now)
	if s.record.pinned == nil && len(s.answer.Found) > 0 {
		s.usable = s.answer.Found[0].Certificate.Check(normal, now)
	}
	if s.err != nil {
		s.err = fmt.Errorf("what was found for %s could not be stored: %w", normal, s.err)
	}
	b.options.Log.Debug("looked for certificates", "address", normal, "found", len(s.answer.Found), "conclusive", s.answer.Conclusive, "cause", errors.Join(s.answer.Err, news.err, s.err))
}

// takeIn takes in all that the network said.
func (r *record) takeIn(a keydisc.Answer, news []keydisc.Found, at time.Time) error {
	if err := r.update(news); err != nil {
		return err
	}
	if err := r.adopt(at); err != nil {
		return err
	}
	return r.answered(a, at)
}

// ForVerification returns the certificates with which a signature by address may be
// checked (pinned first, then pending). It asks the network only if all that a contact ever had is
// unusable, and at most once an hour for an address; never about a stranger, who chooses the server that
// would be asked and would learn that the mail has arrived.
func (b *Book) ForVerification(ctx context.Context, address string) []Contact {
	normal, err := keydisc.NormalizeAddress(address)
	if err != nil {
		return nil
	}
	r, last, err := b.recall(ctx, normal)
	if err != nil {
		b.options.Log.Warn("certificates for verification", "error", err)
		return nil
	}
	if r.pinned == nil && r.ever() && !r.blocked && b.mayAsk(last) {
		if found := b.await(ctx, address, r); found.Certificate != nil {
			return []Contact{found.Contact}
		}
	}
	return r.signers()
}
