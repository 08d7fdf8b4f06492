package contacts

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sealpost/sealpost/bridge/store"
	"github.com/sealpost/sealpost/keydisc"
)

const (
	listEvery = 12 * time.Hour // between looks at a list
	listRetry = time.Hour      // after a look that failed
)

// ListState is what is known of a configured list.
type ListState struct {
	URL     string
	Signed  time.Time // of what was taken in last; zero: nothing yet
	Checked time.Time // the last look that found it good
	InForce bool      // it vouches now
	Problem string    // what the last look came to grief of
}

// ErrReplayed says that a list is older than what was taken in before.
var ErrReplayed = errors.New("the list was signed before the one known already; an old one may have been put in its place")

// SetLists replaces the configured lists; FollowLists has the contacts follow them.
func (b *Book) SetLists(lists []List) { b.lists.Store(&lists) }

func (b *Book) configured() []List { return *b.lists.Load() }

// Lists says how the configured lists are, in their order.
func (b *Book) Lists(ctx context.Context) ([]ListState, error) {
	var states []ListState
	for _, l := range b.configured() {
		s, err := loadList(ctx, b.options.DB.Read(), l)
		if err != nil {
			return nil, store.Explain(err)
		}
		now := b.options.Now()
		inForce := l.inForce(s.signed, now) && (s.news == nil || !s.news.Revoked(now))
		states = append(states, ListState{l.URL, s.signed, s.checked, inForce, s.problem})
	}
	return states, nil
}

// ErrLapsed says that a list was signed too long ago.
var ErrLapsed = errors.New("the list was signed too long ago; its organisation must sign it again, or max_age be longer")

// listRow is what is kept of a list.
type listRow struct {
	signed, attempted, checked time.Time
	problem                    string
	inForce                    bool                 // when its contacts were last judged
	news                       *keydisc.Certificate // the authority's with what is known of it by now; nil: nothing new
}

func loadList(ctx context.Context, q querier, l List) (s listRow, err error) {
	var signed, attempted, checked int64
	var news []byte
	err = q.QueryRowContext(ctx, `SELECT signed, attempted, checked, problem, in_force, news FROM vouching_list WHERE url = ? AND authority = ?`,
		l.URL, string(l.authority())).Scan(&signed, &attempted, &checked, &s.problem, &s.inForce, &news)
	if errors.Is(err, sql.ErrNoRows) {
		return listRow{}, nil
	}
	if err != nil {
		return s, err
	}
	s.signed, s.attempted, s.checked = fromNano(signed), fromNano(attempted), fromNano(checked)
	s.news, err = parse(news)
	return s, err
}

func (s listRow) save(ctx context.Context, tx *sql.Tx, l List) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO vouching_list (url, authority, signed, attempted, checked, problem, in_force, news) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (url, authority) DO UPDATE SET signed = excluded.signed, attempted = excluded.attempted, checked = excluded.checked,
			problem = excluded.problem, in_force = excluded.in_force, news = excluded.news`,
		l.URL, string(l.authority()), toNano(s.signed), toNano(s.attempted), toNano(s.checked), s.problem, s.inForce, blob(s.news))
	return err
}

// due says whether the list should be looked at.
func (s listRow) due(now time.Time) bool {
	if s.problem != "" {
		return !isFresh(s.attempted, now, listRetry)
	}
	return !isFresh(s.attempted, now, listEvery)
}

// FollowLists looks at the lists that are due and has the contacts follow what they say, and what they no longer say: a list
// that became too old, or left the configuration. The error is the database's; what is wrong with a list is in Lists.
func (b *Book) FollowLists(ctx context.Context) error {
	if err := b.dropLists(ctx); err != nil {
		return err
	}
	return b.followConfigured(ctx)
}

func (b *Book) followConfigured(ctx context.Context) error {
	for _, l := range b.configured() {
		s, err := loadList(ctx, b.options.DB.Read(), l)
		if err != nil {
			return store.Explain(err)
		}
		if b.options.Finder != nil && s.due(b.options.Now()) {
			if err := b.lookAtList(ctx, l); err != nil {
				return err
			}
		} else if s.inForce != l.inForce(s.signed, b.options.Now()) {
			if err := b.judgeListed(ctx, l, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// errAuthorityRevoked ends a list.
var errAuthorityRevoked = errors.New("the certificate of its organisation is revoked: it vouches for nothing any more; ask the organisation for the new one")

// lookAtList fetches a list and takes it in, or notes why not.
func (b *Book) lookAtList(ctx context.Context, l List) error {
	source := l.ListSource
	var failure error
	if source.Authority, failure = b.authorityNow(ctx, l); failure != nil {
		return failure
	}
	if source.Authority.Revoked(b.options.Now()) {
		if err := b.judgeListed(ctx, l, &keydisc.List{}); err != nil {
			return err
		}
		failure = errAuthorityRevoked
	} else {
		failure = b.fetchList(ctx, l, source)
	}
	if failure == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	b.options.Log.Warn("a list of certificates could not be taken in", "list", l.URL, "cause", failure)
	err := b.options.DB.Write(ctx, func(tx *sql.Tx) error {
		s, err := loadList(ctx, tx, l)
		if err != nil {
			return err
		}
		s.attempted, s.problem = b.options.Now(), failure.Error()
		return s.save(ctx, tx, l)
	})
	if err != nil {
		return err
	}
	return b.judgeListed(ctx, l, nil)
}

func (b *Book) fetchList(ctx context.Context, l List, source keydisc.ListSource) error {
	list, err := b.options.Finder.List(ctx, source)
	if err != nil {
		return err
	}
	return b.TakeList(ctx, l, list)
}

// authorityNow is the certificate of a list's organisation with what servers say of it by now, which is kept: a revocation ends
// its word, wherever it is found.
func (b *Book) authorityNow(ctx context.Context, l List) (*keydisc.Certificate, error) {
	s, err := loadList(ctx, b.options.DB.Read(), l)
	if err != nil {
		return nil, store.Explain(err)
	}
	authority := l.Authority
	found, _ := b.options.Finder.Refresh(ctx, l.authority()) // without an answer it is what it was
	if s.news != nil {
		found = append(found, keydisc.Found{Certificate: s.news})
	}
	for _, f := range found {
		if authority, err = authority.Update(f.Certificate); err != nil {
			return nil, err
		}
	}
	err = b.options.DB.Write(ctx, func(tx *sql.Tx) error {
		s, err := loadList(ctx, tx, l)
		if err != nil {
			return err
		}
		s.news = authority
		return s.save(ctx, tx, l)
	})
	return authority, err
}

// TakeList makes what a list says the organisation's word, in place of what it said before, and has the contacts follow.
// ErrReplayed if it was signed earlier, ErrLapsed if it is too old.
func (b *Book) TakeList(ctx context.Context, l List, list *keydisc.List) error {
	return b.judgeListed(ctx, l, list)
}

// judgeListed judges the contacts of a list anew, after replacing what it says if news is not nil. A zero Signed is that of the list
// before.
func (b *Book) judgeListed(ctx context.Context, l List, news *keydisc.List) error {
	var affected map[string]bool
	defer func() { b.changed(slices.Collect(maps.Keys(affected))...) }()
	return b.options.DB.Write(ctx, func(tx *sql.Tx) error {
		s, err := loadList(ctx, tx, l)
		if err != nil {
			return err
		}
		affected, err = listedAddresses(ctx, tx, l.URL, string(l.authority()))
		if err != nil {
			return err
		}
		now := b.options.Now()
		if news != nil {
			switch {
			case news.Signed.IsZero(): // the end of it
				news.Signed = s.signed
			case !l.inForce(news.Signed, now):
				return ErrLapsed
			case news.Signed.Before(s.signed):
				return ErrReplayed
			}
			if err := replaceVouches(ctx, tx, l, news.Entries, affected); err != nil {
				return err
			}
			s.signed, s.attempted, s.checked, s.problem = news.Signed, now, now, ""
		}
		s.inForce = l.inForce(s.signed, now)
		if err := s.save(ctx, tx, l); err != nil {
			return err
		}
		return b.judgeAgain(ctx, tx, affected)
	})
}

// replaceVouches adds the new addresses to those affected. Certificates that were found for what the list only names stay.
func replaceVouches(ctx context.Context, tx *sql.Tx, l List, entries []keydisc.ListEntry, affected map[string]bool) error {
	if _, err := tx.ExecContext(ctx, `UPDATE vouch SET stale = TRUE WHERE url = ? AND authority = ?`, l.URL, string(l.authority())); err != nil {
		return err
	}
	for _, e := range entries {
		_, err := tx.ExecContext(ctx, `INSERT INTO vouch (address, url, authority, fingerprint, certificate, stale) VALUES (?, ?, ?, ?, ?, FALSE)
			ON CONFLICT (address, url, authority, fingerprint) DO UPDATE SET
				certificate = coalesce(excluded.certificate, vouch.certificate), stale = FALSE`,
			e.Address, l.URL, string(l.authority()), string(e.Fingerprint), blob(e.Certificate))
		if err != nil {
			return fmt.Errorf("entry of %s: %w", e.Address, err)
		}
		affected[e.Address] = true
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM vouch WHERE url = ? AND authority = ? AND stale`, l.URL, string(l.authority()))
	return err
}

// keepNamed keeps the certificates that were found for what lists only name.
func keepNamed(ctx context.Context, tx *sql.Tx, address string, named []keydisc.Found) error {
	for _, f := range named {
		_, err := tx.ExecContext(ctx, `UPDATE vouch SET certificate = ? WHERE address = ? AND fingerprint = ? AND certificate IS NULL`,
			blob(f.Certificate), address, string(f.Certificate.Fingerprint()))
		if err != nil {
			return err
		}
	}
	return nil
}

func listedAddresses(ctx context.Context, q querier, url, authority string) (map[string]bool, error) {
	rows, err := q.QueryContext(ctx, `SELECT DISTINCT address FROM vouch WHERE url = ? AND authority = ?`, url, authority)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string]bool{}
	for rows.Next() {
		var address string
		if err := rows.Scan(&address); err != nil {
			return nil, err
		}
		all[address] = true
	}
	return all, rows.Err()
}

// judgeAgain has contacts follow the lists; their mail follows them.
func (b *Book) judgeAgain(ctx context.Context, tx *sql.Tx, addresses map[string]bool) error {
	for address := range addresses {
		r, err := b.load(ctx, tx, address)
		if err == nil {
			err = r.adopt(b.options.Now())
		}
		if err == nil && r.ever() {
			err = r.save(ctx, tx)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
	}
	return nil
}

// dropLists forgets lists that are not configured any more, or not with that authority.
func (b *Book) dropLists(ctx context.Context) error {
	rows, err := b.options.DB.Read().QueryContext(ctx, `SELECT url, authority FROM vouching_list`)
	if err != nil {
		return store.Explain(err)
	}
	defer rows.Close()
	var gone [][2]string
	for rows.Next() {
		var url, authority string
		if err := rows.Scan(&url, &authority); err != nil {
			return err
		}
		if !b.isConfigured(url, authority) {
			gone = append(gone, [2]string{url, authority})
		}
	}
	for _, list := range gone {
		if err := b.dropList(ctx, list[0], list[1]); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (b *Book) isConfigured(url, authority string) bool {
	for _, l := range b.configured() {
		if l.URL == url && string(l.authority()) == authority {
			return true
		}
	}
	return false
}

func (b *Book) dropList(ctx context.Context, url, authority string) error {
	defer b.changed()
	return b.options.DB.Write(ctx, func(tx *sql.Tx) error {
		affected, err := listedAddresses(ctx, tx, url, authority)
		if err != nil {
			return err
		}
		for _, statement := range []string{`DELETE FROM vouch WHERE url = ? AND authority = ?`, `DELETE FROM vouching_list WHERE url = ? AND authority = ?`} {
			if _, err := tx.ExecContext(ctx, statement, url, authority); err != nil {
				return err
			}
		}
		return b.judgeAgain(ctx, tx, affected)
	})
}
