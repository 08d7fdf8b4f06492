package mirror

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"
)

// Search returns the UIDs that match, ascending. Sequence numbers in the criteria refer to seq: the
// UIDs of the session's view in order. Text criteria are exact substrings, case-folded, over decrypted
// text (RFC 9051 §6.4.4); messages not yet opened are opened: nothing that exists is missed. If
// that is impossible because the provider cannot be reached, the error is ErrOffline. A single
// message that cannot be opened does not match.
func (b *Mailbox) Search(ctx context.Context, c *imap.SearchCriteria, seq []imap.UID) ([]imap.UID, error) {
	defer runtime.KeepAlive(b)
	if usesModSeq(c) {
		return nil, &imap.Error{Type: imap.StatusResponseTypeBad, Text: "MODSEQ needs CONDSTORE, which is not offered"}
	}
	s := &search{box: b.box, view: b.snapshot(), seq: seq}
	all := make([]int, len(s.view.Messages))
	for i := range all {
		all[i] = i
	}
	found, err := s.match(ctx, c, all)
	if err != nil {
		return nil, fmt.Errorf("search mailbox %q: %w", s.view.Name, err)
	}
	uids := make([]imap.UID, len(found))
	for i, n := range found {
		uids[i] = s.view.Messages[n].UID
	}
	return uids, nil
}

func usesModSeq(c *imap.SearchCriteria) bool {
	if c.ModSeq != nil {
		return true
	}
	for i := range c.Not {
		if usesModSeq(&c.Not[i]) {
			return true
		}
	}
	for i := range c.Or {
		if usesModSeq(&c.Or[i][0]) || usesModSeq(&c.Or[i][1]) {
			return true
		}
	}
	return false
}

// search is one run over one view. Sets of messages are ascending indexes into it.
type search struct {
	*box
	view *Snapshot
	seq  []imap.UID
}

// match narrows a set down to the messages that match all keys, the cheap ones first.
func (s *search) match(ctx context.Context, c *imap.SearchCriteria, in []int) ([]int, error) {
	in = s.matchState(c, in)
	for i := range c.Or {
		left, err := s.match(ctx, &c.Or[i][0], in)
		if err != nil {
			return nil, err
		}
		right, err := s.match(ctx, &c.Or[i][1], without(in, left))
		if err != nil {
			return nil, err
		}
		in = union(left, right)
	}
	for i := range c.Not {
		not, err := s.match(ctx, &c.Not[i], in)
		if err != nil {
			return nil, err
		}
		in = without(in, not)
	}
	return s.matchContent(ctx, c, in)
}

// matchState looks at what is known of every message.
func (s *search) matchState(c *imap.SearchCriteria, in []int) []int {
	last := imap.UID(0)
	if n := len(s.view.Messages); n > 0 {
		last = s.view.Messages[n-1].UID
	}
	for _, set := range c.SeqNum {
		// "*" is the last number of the session's view.
		ranges := resolve(set, uint32(len(s.seq)))
		in = keep(in, func(i int) bool {
			n, ok := slices.BinarySearch(s.seq, s.view.Messages[i].UID)
			return ok && contains(ranges, uint32(n+1))
		})
	}
	for _, set := range c.UID {
		ranges := resolve(set, last)
		in = keep(in, func(i int) bool { return contains(ranges, s.view.Messages[i].UID) })
	}
	return keep(in, func(i int) bool {
		m := &s.view.Messages[i]
		return inDays(day(m.InternalDate), c.Since, c.Before) && hasAll(m.Flags, c.Flag) && hasNone(m.Flags, c.NotFlag)
	})
}

func hasAll(have, want []imap.Flag) bool {
	return !slices.ContainsFunc(want, func(f imap.Flag) bool { return !hasFlag(have, f) })
}

func hasNone(have, unwanted []imap.Flag) bool {
	return !slices.ContainsFunc(unwanted, func(f imap.Flag) bool { return hasFlag(have, f) })
}

// day is a calendar day as yyyymmdd, in the time's own zone (RFC 9051 §6.4.4: "disregarding
// time and timezone").
func day(t time.Time) int {
	y, m, d := t.Date()
	return y*10000 + int(m)*100 + d
}

func inDays(d int, since, before time.Time) bool {
	return (since.IsZero() || d >= day(since)) && (before.IsZero() || d < day(before))
}

// matchContent looks at what messages say; those that have not been opened are opened now.
func (s *search) matchContent(ctx context.Context, c *imap.SearchCriteria, in []int) ([]int, error) {
	plain := c.Larger == 0 && c.Smaller == 0 && c.SentSince.IsZero() && c.SentBefore.IsZero() &&
		len(c.Header)+len(c.Body)+len(c.Text) == 0
	if plain || len(in) == 0 {
		return in, nil
	}
	in, err := s.openAll(ctx, in)
	if err != nil {
		return nil, err
	}
	if in, err = s.filter(ctx, in, sizeAndDate(c)); err != nil {
		return nil, err
	}
	for _, h := range c.Header {
		if in, err = s.filter(ctx, in, headerKey(h)); err != nil {
			return nil, err
		}
	}
	for _, text := range c.Body {
		if in, err = s.contains(ctx, in, fold(text), false); err != nil {
			return nil, err
		}
	}
	for _, text := range c.Text {
		if in, err = s.contains(ctx, in, fold(text), true); err != nil {
			return nil, err
		}
	}
	return in, nil
}

func sizeAndDate(c *imap.SearchCriteria) key {
	sent := !c.SentSince.IsZero() || !c.SentBefore.IsZero()
	return key{`SELECT m.uid, c.size, c.sent, ''`, nil, func(size int64, day int, _ string) bool {
		return (c.Larger == 0 || size > c.Larger) && (c.Smaller == 0 || size < c.Smaller) &&
			(!sent || day != 0 && inDays(day, c.SentSince, c.SentBefore))
	}}
}

func headerKey(h imap.SearchCriteriaHeaderField) key {
	name, value := fold(h.Key), fold(h.Value)
	return key{`SELECT m.uid, 0, 0, c.fields`, nil, func(_ int64, _ int, fields string) bool {
		return hasField(fields, name, value)
	}}
}

// openAll opens what has not been opened, and leaves out what cannot be.
func (s *search) openAll(ctx context.Context, in []int) ([]int, error) {
	var todo []imap.UID
	for _, i := range in {
		uid := s.view.Messages[i].UID
		if r, ok := s.row(uid); ok && r.content == 0 {
			todo = append(todo, uid)
		}
	}
	failed := map[imap.UID]error{}
	for window := range slices.Chunk(todo, summaryWindow) {
		for uid, err := range s.demand(ctx, window) {
			if errors.Is(err, ErrOffline) || errors.Is(err, errReplaced) || ctx.Err() != nil {
				return nil, err
			}
			failed[uid] = err
		}
	}
	return keep(in, func(i int) bool { return failed[s.view.Messages[i].UID] == nil }), nil
}

// key is a criterion that is decided by a query and a function.
type key struct {
	query  string // of m.uid, size, sent, text
	args   []any
	accept func(size int64, day int, text string) bool
}

// filter keeps the messages of a set that the key accepts.
func (s *search) filter(ctx context.Context, in []int, k key) ([]int, error) {
	if len(in) == 0 {
		return in, nil
	}
	low, high := s.view.Messages[in[0]].UID, s.view.Messages[in[len(in)-1]].UID
	rows, err := s.m.o.DB.Read().QueryContext(ctx, k.query+`
		FROM message m JOIN content c ON c.id = m.content WHERE m.mailbox = ?1 AND m.uid BETWEEN ?2 AND ?3`,
		append([]any{s.id, low, high}, k.args...)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	accepted := map[imap.UID]bool{}
	for rows.Next() {
		var uid imap.UID
		var size int64
		var day int
		var text sql.RawBytes
		if err := rows.Scan(&uid, &size, &day, &text); err != nil {
			return nil, err
		}
		if k.accept(size, day, string(text)) {
			accepted[uid] = true
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return keep(in, func(i int) bool { return accepted[s.view.Messages[i].UID] }), nil
}

// contains keeps the messages with a folded string in their text. The database searches what
// it holds of the text; of longer texts the rest is read from the message.
func (s *search) contains(ctx context.Context, in []int, needle string, fields bool) ([]int, error) {
	if needle == "" {
		return in, nil
	}
	query := `SELECT m.uid, c.partial, instr(c.body, ?4) > 0, ''`
	if fields {
		query = `SELECT m.uid, c.partial, instr(c.body, ?4) > 0 OR instr(c.fields, ?4) > 0, ''`
	}
	found, err := s.filter(ctx, in, key{query, []any{needle}, func(_ int64, hit int, _ string) bool { return hit != 0 }})
	if err != nil {
		return nil, err
	}
	longer, err := s.filter(ctx, without(in, found), key{query, []any{needle}, func(partial int64, hit int, _ string) bool { return partial != 0 && hit == 0 }})
	if err != nil {
		return nil, err
	}
	for _, i := range longer {
		hit, err := s.inBody(ctx, s.view.Messages[i].UID, needle)
		if err != nil {
			return nil, err
		}
		if hit {
			found = union(found, []int{i})
		}
	}
	return found, nil
}

// inBody searches the whole text of one message.
func (s *search) inBody(ctx context.Context, uid imap.UID, needle string) (bool, error) {
	summary, id, err := s.summary(ctx, uid)
	if errors.Is(err, ErrExpunged) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	message := &body{box: s.box, uid: uid, id: id, size: summary.Size, validity: s.view.UIDValidity, ctx: ctx}
	defer message.Close()
	f := &finder{needle: needle}
	err = eachText(message, summary.Structure, f.piece)
	return f.found, err
}

// span is a resolved range of numbers, both ends included.
type span[N ~uint32] struct{ low, high N }

// resolve gives "*" its meaning: the largest number in use (RFC 9051 §9, seq-range). go-imap
// writes it as 0; a range may be given the wrong way round.
func resolve[R imap.SeqRange | imap.UIDRange, N ~uint32](set []R, last N) []span[N] {
	var spans []span[N]
	for _, r := range set {
		start, stop := bounds[N](r)
		if start == 0 {
			start = last
		}
		if stop == 0 {
			stop = last
		}
		spans = append(spans, span[N]{min(start, stop), max(start, stop)})
	}
	return spans
}

func bounds[N ~uint32, R imap.SeqRange | imap.UIDRange](r R) (start, stop N) {
	switch r := any(r).(type) {
	case imap.SeqRange:
		return N(r.Start), N(r.Stop)
	case imap.UIDRange:
		return N(r.Start), N(r.Stop)
	}
	return 0, 0
}

func contains[N ~uint32](spans []span[N], n N) bool {
	return slices.ContainsFunc(spans, func(s span[N]) bool { return s.low <= n && n <= s.high })
}

func keep(in []int, f func(int) bool) []int {
	out := make([]int, 0, len(in))
	for _, i := range in {
		if f(i) {
			out = append(out, i)
		}
	}
	return out
}

// without is a less b.
func without(a, b []int) []int {
	return keep(a, func(i int) bool { _, ok := slices.BinarySearch(b, i); return !ok })
}

func union(a, b []int) []int {
	all := append(slices.Clone(a), b...)
	slices.Sort(all)
	return slices.Compact(all)
}
