package mirror

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/emersion/go-imap/v2"
)

// Search returns the UIDs that match, ascending. Sequence numbers in the criterion refer to seq: the
// UIDs of the session's view in order. Messages not yet opened are opened if what they say
// matters: nothing that exists is missed. If that is impossible because the provider cannot
// be reached, the error is ErrOffline. A single message that cannot be opened does not match.
func (b *Mailbox) Search(ctx context.Context, c Criterion, seq []imap.UID) ([]imap.UID, error) {
	defer runtime.KeepAlive(b)
	s := &search{box: b.box, view: b.snapshot(), seq: seq}
	all := make([]int, len(s.view.Messages))
	for i := range all {
		all[i] = i
	}
	found, err := c.sift(ctx, s, all)
	if err != nil {
		return nil, fmt.Errorf("search mailbox %q: %w", s.view.Name, err)
	}
	uids := make([]imap.UID, len(found))
	for i, n := range found {
		uids[i] = s.view.Messages[n].UID
	}
	return uids, nil
}

// search is one run over one view. Sets of messages are ascending indexes into it.
type search struct {
	*box
	view *Snapshot
	seq  []imap.UID
}

// bySize keeps messages of an acceptable size.
func (s *search) bySize(ctx context.Context, in []int, accept func(size int64) bool) ([]int, error) {
	in, err := s.openAll(ctx, in)
	return keep(in, func(i int) bool {
		r, ok := s.row(s.view.Messages[i].UID)
		return ok && accept(r.bytes)
	}), err
}

// openAll opens what has not been opened, and leaves out what cannot be.
func (s *search) openAll(ctx context.Context, in []int) ([]int, error) {
	todo, failed := s.unopened(in), map[imap.UID]error{}
	for window := range slices.Chunk(todo, summaryWindow) {
		for uid, err := range s.demand(ctx, window) {
			if errors.Is(err, ErrOffline) || errors.Is(err, errReplaced) || ctx.Err() != nil {
				return nil, err
			}
			failed[uid] = err
		}
	}
	if len(failed) == 0 {
		return in, nil
	}
	return keep(in, func(i int) bool { return failed[s.view.Messages[i].UID] == nil }), nil
}

// unopened are the messages of a set that have not been opened. Both are in order of UIDs.
func (s *search) unopened(in []int) []imap.UID {
	s.mem.Lock()
	defer s.mem.Unlock()
	var todo []imap.UID
	at := 0
	for _, i := range in {
		uid := s.view.Messages[i].UID
		for at < len(s.rows) && s.rows[at].uid < uid {
			at++
		}
		if at < len(s.rows) && s.rows[at].uid == uid && s.rows[at].content == 0 {
			todo = append(todo, uid)
		}
	}
	return todo
}

// verdict is what a query says of a message.
type verdict int

const (
	miss verdict = iota
	hit
	maybe // what the database holds is not all of the text
)

// key is a criterion that is decided by a query and a function.
type key struct {
	query  string // of m.uid, a number, text
	args   []any
	needle string // what matches has this folded string somewhere; "": nothing is known
	judge  func(number int, text string) verdict
}

func judged(accepted bool) verdict {
	if accepted {
		return hit
	}
	return miss
}

const inMailbox = `
	FROM message m JOIN content c ON c.id = m.content WHERE m.mailbox = ?1 AND m.uid BETWEEN ?2 AND ?3 AND ?4 IS NULL`

// filter keeps the messages of a set that the key accepts.
func (s *search) filter(ctx context.Context, in []int, k key) ([]int, error) {
	in, err := s.openAll(ctx, in)
	if err != nil || len(in) == 0 {
		return in, err
	}
	verdicts, err := s.ask(ctx, in, k)
	return keep(in, func(i int) bool { return verdicts[s.view.Messages[i].UID] == hit }), err
}

// ask runs the key's query over the range of a set, or of that those that may match. The index says
// which do (see index.go).
func (s *search) ask(ctx context.Context, in []int, k key) (map[imap.UID]verdict, error) {
	low, high := s.view.Messages[in[0]].UID, s.view.Messages[in[len(in)-1]].UID
	terms := ""
	if len(in) > fewMessages {
		var err error
		if terms, err = s.m.terms(ctx, k.needle); err != nil {
			return nil, err
		}
	}
	if terms != "" {
		k.query, k.args = k.query+fromIndex, append([]any{terms}, k.args...)
	} else {
		k.query, k.args = k.query+inMailbox, append([]any{nil}, k.args...)
	}
	rows, err := s.m.o.DB.Read().QueryContext(ctx, k.query, append([]any{s.id, low, high}, k.args...)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	verdicts := map[imap.UID]verdict{}
	for rows.Next() {
		var uid imap.UID
		var number int
		var text sql.RawBytes
		if err := rows.Scan(&uid, &number, &text); err != nil {
			return nil, err
		}
		if v := k.judge(number, string(text)); v != miss {
			verdicts[uid] = v
		}
	}
	return verdicts, rows.Err()
}

// contains keeps the messages with a folded string in their text; of texts that are longer than
// what the database holds the rest is read from the message.
func (s *search) contains(ctx context.Context, in []int, needle, condition string) ([]int, error) {
	in, err := s.openAll(ctx, in)
	if err != nil || len(in) == 0 || needle == "" {
		return in, err
	}
	k := key{
		query:  `SELECT m.uid, CASE WHEN ` + condition + ` THEN 1 WHEN c.partial THEN 2 ELSE 0 END, ''`,
		args:   []any{needle},
		needle: needle,
		judge:  func(v int, _ string) verdict { return verdict(v) },
	}
	verdicts, err := s.ask(ctx, in, k)
	if err != nil {
		return nil, err
	}
	found := make([]int, 0, len(verdicts))
	for _, i := range in {
		v := verdicts[s.view.Messages[i].UID]
		if v == maybe {
			there, err := s.inBody(ctx, s.view.Messages[i].UID, needle)
			if err != nil {
				return nil, err
			}
			v = judged(there)
		}
		if v == hit {
			found = append(found, i)
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
	root, err := summary.Structure()
	if err != nil {
		return false, err
	}
	message := &body{box: s.box, uid: uid, id: id, size: summary.Size, validity: s.view.UIDValidity, ctx: ctx}
	defer message.Close()
	f := &finder{needle: needle}
	err = eachText(message, root, f.piece)
	return f.found, err
}

// span is a resolved range of numbers, both ends included.
type span[N ~uint32] struct{ low, high N }

// resolve gives "*" its meaning: the largest number in use (RFC 9051 §9, seq-range). go-imap
// writes it as 0; a range may be given the wrong way round. The spans are in order and do not overlap.
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
	slices.SortFunc(spans, func(a, b span[N]) int { return cmp.Compare(a.low, b.low) })
	merged := spans[:0]
	for _, s := range spans {
		if n := len(merged); n > 0 && s.low <= merged[n-1].high {
			merged[n-1].high = max(merged[n-1].high, s.high)
			continue
		}
		merged = append(merged, s)
	}
	return merged
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
	i, exact := slices.BinarySearchFunc(spans, n, func(s span[N], n N) int { return cmp.Compare(s.low, n) })
	return exact || i > 0 && n <= spans[i-1].high
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
