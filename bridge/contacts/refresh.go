package contacts

import (
	"context"
	"database/sql"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/keydisc"
)

// Contacts in use are looked at again before the last answer is too old to rely on: a revocation, a new subkey or a
// change is noticed without any mail being sent.
//
// Whom the network is asked about it learns to be a correspondent. Therefore it is asked only about those who have been
// written to, or about whom the user has decided; never about somebody who has merely written (see the beacon in docs/security.md).

const (
	lookGap    = 20 * time.Second // the least between two looks: at most 180 an hour, most often less
	maxLookGap = 30 * time.Minute // while nothing can be reached
	nap        = time.Minute      // how often it is seen whether something is due; also how late after a sleep

	firstLook = time.Hour      // by when a contact nobody was ever asked about is looked at
	minRetry  = time.Hour      // after a look without a definite answer; then longer and longer
	maxRetry  = 12 * time.Hour //
)

// Run keeps contacts and lists fresh and reminds of comparisons that are due, until ctx ends.
func (b *Book) Run(ctx context.Context) error {
	var t Tending
	if err := b.FollowLists(ctx); err != nil && ctx.Err() == nil {
		b.options.Log.Warn("lists of certificates could not be looked at; trying again", "cause", err)
	}
	for {
		timer := time.NewTimer(nap)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		if err := b.Tend(ctx, &t); err != nil && ctx.Err() == nil {
			b.options.Log.Warn("contacts could not be looked after; trying again", "cause", err)
		}
	}
}

// Tending is what Tend remembers from one call to the next.
type Tending struct {
	last     time.Time // the last call
	quiet    time.Time // no look before
	failures int       // looks in a row without a definite answer
}

// Tend does what is due now: a look at each list, at most one contact, the reminder. It waits for the answers.
func (b *Book) Tend(ctx context.Context, t *Tending) error {
	err := b.followConfigured(ctx)
	return errors.Join(err, b.freshen(ctx, t), b.remind(ctx))
}

// freshen looks at the contact that has been due longest, unless the last look was a moment ago.
func (b *Book) freshen(ctx context.Context, t *Tending) error {
	now := b.options.Now()
	if away := now.Sub(t.last); away > 10*nap || away < 0 { // the device slept, or its clock was set
		t.quiet, t.failures = time.Time{}, 0
	}
	t.last = now
	if b.options.Finder == nil || now.Before(t.quiet) {
		return nil
	}
	address, err := b.mostOverdue(ctx, now)
	if err != nil || address == "" {
		return err
	}
	conclusive, err := b.look(ctx, address)
	if conclusive {
		t.failures = 0
	} else {
		t.failures++
	}
	gap := min(lookGap<<min(t.failures, 10), maxLookGap)
	t.quiet = b.options.Now().Add(gap + rand.N(gap))
	return err
}

// look asks the network about an address and waits for the answer.
func (b *Book) look(ctx context.Context, address string) (conclusive bool, err error) {
	s := b.search(address)
	if s == nil {
		return false, errClosed
	}
	select {
	case <-s.done:
		return s.conclusive, s.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// mostOverdue is the contact in use that has been due for the longest time; "" if none is due.
func (b *Book) mostOverdue(ctx context.Context, now time.Time) (most string, err error) {
	rows, err := b.options.DB.Read().QueryContext(ctx, `SELECT address, first_seen, coalesce(attempted, 0), coalesce(concluded, 0)
		FROM contact LEFT JOIN contact_lookup USING (address)
		WHERE certificate IS NOT NULL AND NOT blocked AND (last_used > 0 OR verified > 0 OR source = ? OR dismissed <> '')`, string(SourceImport))
	if err != nil {
		return "", store.Explain(err)
	}
	defer rows.Close()
	earliest := now
	for rows.Next() {
		var address string
		var firstSeen, attempted, concluded int64
		if err := rows.Scan(&address, &firstSeen, &attempted, &concluded); err != nil {
			return "", err
		}
		due := dueAt(address, fromNano(firstSeen), asked{fromNano(attempted), fromNano(concluded)}, now)
		if !due.After(earliest) {
			most, earliest = address, due
		}
	}
	return most, rows.Err()
}

// inUse says whether mail was ever encrypted to the contact, or the user has decided about it: it is somebody whom the user
// knows. mostOverdue asks the same of the database.
func (r *record) inUse() bool {
	return !r.blocked && r.pinned != nil && (!r.lastUsed.IsZero() || !r.verified.IsZero() || r.source == SourceImport || len(r.dismissed) > 0)
}

// dueAt is when a contact should be looked at again: some time before the last definite answer is too old, else later and
// later the longer there was none. Contacts are spread over that time, each by its own measure.
func dueAt(address string, firstSeen time.Time, last asked, now time.Time) time.Time {
	share := shareOf(address, last.attempted)
	switch {
	case last.attempted.After(now), firstSeen.After(now): // the clock was set back
		return now
	case last.attempted.IsZero():
		return firstSeen.Add(portion(firstLook, share))
	case !last.concluded.Before(last.attempted):
		return last.concluded.Add(refreshAfter*7/10 + portion(refreshAfter/4, share))
	}
	wait := maxRetry / 2
	if !last.concluded.IsZero() {
		wait = min(max(last.attempted.Sub(last.concluded)/4, minRetry), maxRetry)
	}
	return last.attempted.Add(wait + portion(wait/4, share))
}

// shareOf is between 0 and 255, as it falls, but the same whenever it is asked for.
func shareOf(address string, last time.Time) int64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(address + last.String()))
	return int64(h.Sum32() >> 24)
}

func portion(d time.Duration, share int64) time.Duration { return d / 256 * time.Duration(share) }

// news is what servers say of known certificates by their fingerprints.
type news struct {
	found []keydisc.Found
	err   error
}

// newsOf asks for the news of a contact: of its pin and of what lists only name.
func (b *Book) newsOf(r record) (n news) {
	wanted := map[keydisc.Fingerprint]bool{}
	if r.pinned != nil {
		wanted[r.pinned.Fingerprint()] = true
	}
	for _, v := range r.vouches {
		if v.certificate == nil {
			wanted[v.fingerprint] = true
		}
	}
	for fp := range wanted {
		found, err := b.options.Finder.Refresh(b.ctx, fp)
		n.found, n.err = append(n.found, found...), errors.Join(n.err, err)
	}
	return n
}

// update takes in news of the pinned and the pending certificate: revocations, subkeys, newer self-signatures. User IDs
// are not among them: where it comes from vouches for none.
func (r *record) update(found []keydisc.Found) error {
	for _, f := range found {
		for _, mine := range []**keydisc.Certificate{&r.pinned, &r.pending} {
			if *mine == nil || (*mine).Fingerprint() != f.Certificate.Fingerprint() {
				continue
			}
			updated, err := (*mine).Update(f.Certificate)
			if err != nil {
				return err
			}
			*mine = updated
		}
	}
	return nil
}

// named are those of what was found that a list names for the address: the list vouches for it, wherever it was found.
func (r *record) named(found []keydisc.Found) (named []keydisc.Found) {
	for _, f := range found {
		own, err := f.Certificate.ForAddress(r.address)
		if err == nil && r.listed(f.Certificate.Fingerprint()) {
			named = append(named, keydisc.Found{Certificate: own, Source: keydisc.Method(SourceList), Authenticated: true})
		}
	}
	return named
}

// verifyReminder is how often the log says that comparisons are due.
const verifyReminder = 24 * time.Hour

// remind logs how many contacts should be compared again.
func (b *Book) remind(ctx context.Context) error {
	now := b.options.Now()
	if b.options.VerifyEvery == 0 {
		return nil
	}
	due, err := b.VerifyAgain(ctx)
	if err != nil || len(due) == 0 {
		return err
	}
	first, err := b.firstWithin(ctx, "verify-reminder", verifyReminder, now)
	if first {
		b.options.Log.Warn("contacts were compared long ago; compare again with sealpost contact verify", "contacts", len(due), "one", due[0])
	}
	return err
}

// VerifyAgain are the addresses of the contacts whose comparison should be repeated.
func (b *Book) VerifyAgain(ctx context.Context) (due []string, err error) {
	if b.options.VerifyEvery == 0 {
		return nil, nil
	}
	rows, err := b.options.DB.Read().QueryContext(ctx, `SELECT address FROM contact WHERE verified > 0 AND verified <= ? AND NOT blocked ORDER BY address`,
		b.options.Now().Add(-b.options.VerifyEvery).UnixNano())
	if err != nil {
		return nil, store.Explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		var address string
		if err := rows.Scan(&address); err != nil {
			return nil, err
		}
		due = append(due, address)
	}
	return due, rows.Err()
}

// firstWithin notes that a chore is done now, and says whether the last time was at least that long ago.
func (b *Book) firstWithin(ctx context.Context, chore string, span time.Duration, now time.Time) (first bool, err error) {
	err = b.options.DB.Write(ctx, func(tx *sql.Tx) error {
		var done int64
		err := tx.QueryRowContext(ctx, `SELECT done FROM contact_chore WHERE name = ?`, chore).Scan(&done)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if first = !isFresh(fromNano(done), now, span); !first {
			return nil
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO contact_chore (name, done) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET done = excluded.done`, chore, toNano(now))
		return err
	})
	return first, err
}
