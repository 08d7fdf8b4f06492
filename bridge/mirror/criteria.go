package mirror

import (
	"context"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"
)

// Criterion is a search key (RFC 9051 §6.4.4). Text is compared as exact substrings, folded for
// case (i;unicode-casemap), over what messages say once opened.
type Criterion interface {
	// sift keeps the messages of a set that match; sets are ascending indexes into the view.
	sift(ctx context.Context, s *search, in []int) ([]int, error)
	// cost orders the keys of an And: state in memory, what is kept of each message, text.
	cost() int
}

const (
	costState = iota
	costKept
	costFields
	costText
)

// Keys that combine others. An empty And matches every message.
type (
	And []Criterion
	Or  struct{ Left, Right Criterion }
	Not struct{ Criterion }
)

// Keys about the state of messages.
type (
	Seq     imap.SeqSet // sequence numbers of the session's view; 0 is "*"
	UIDs    imap.UIDSet
	Flagged imap.Flag                         // has the flag or keyword
	Arrived struct{ Since, Before time.Time } // days of INTERNALDATE in its own zone; zero: no limit
	// Received is WITHIN (RFC 5032): moments, not days.
	Received struct{ After, UpTo time.Time } // INTERNALDATE > After, <= UpTo; zero: no limit
)

// Keys about what messages say.
type (
	Sent    struct{ Since, Before time.Time } // days of the Date field; zero: no limit
	Larger  int64                             // bytes, as the client sees the message
	Smaller int64
	Header  struct{ Name, Value string } // a field of that name has the value in it
	Body    string
	Text    string // body or header
)

func (And) cost() int   { return costState }
func (o Or) cost() int  { return max(o.Left.cost(), o.Right.cost()) }
func (n Not) cost() int { return n.Criterion.cost() }

func (a And) sift(ctx context.Context, s *search, in []int) ([]int, error) {
	ordered := slices.Clone(a)
	slices.SortStableFunc(ordered, func(x, y Criterion) int { return x.cost() - y.cost() })
	var err error
	for _, c := range ordered {
		if len(in) == 0 {
			return in, nil
		}
		if in, err = c.sift(ctx, s, in); err != nil {
			return nil, err
		}
	}
	return in, nil
}

func (o Or) sift(ctx context.Context, s *search, in []int) ([]int, error) {
	left, err := o.Left.sift(ctx, s, in)
	if err != nil {
		return nil, err
	}
	right, err := o.Right.sift(ctx, s, without(in, left))
	return union(left, right), err
}

func (n Not) sift(ctx context.Context, s *search, in []int) ([]int, error) {
	not, err := n.Criterion.sift(ctx, s, in)
	return without(in, not), err
}

func (Seq) cost() int      { return costState }
func (UIDs) cost() int     { return costState }
func (Flagged) cost() int  { return costState }
func (Arrived) cost() int  { return costState }
func (Received) cost() int { return costState }

func (c Seq) sift(_ context.Context, s *search, in []int) ([]int, error) {
	// "*" is the last number of the session's view.
	ranges := resolve(imap.SeqSet(c), uint32(len(s.seq)))
	return keep(in, func(i int) bool {
		n, ok := slices.BinarySearch(s.seq, s.view.Messages[i].UID)
		return ok && contains(ranges, uint32(n+1))
	}), nil
}

func (c UIDs) sift(_ context.Context, s *search, in []int) ([]int, error) {
	last := imap.UID(0)
	if n := len(s.view.Messages); n > 0 {
		last = s.view.Messages[n-1].UID
	}
	ranges := resolve(imap.UIDSet(c), last)
	return keep(in, func(i int) bool { return contains(ranges, s.view.Messages[i].UID) }), nil
}

func (c Flagged) sift(_ context.Context, s *search, in []int) ([]int, error) {
	// Most messages share a few sets of flags.
	known := map[*imap.Flag]bool{}
	return keep(in, func(i int) bool {
		flags := s.view.Messages[i].Flags
		if len(flags) == 0 {
			return false
		}
		has, ok := known[&flags[0]]
		if !ok {
			has = hasFlag(flags, imap.Flag(c))
			known[&flags[0]] = has
		}
		return has
	}), nil
}

func (c Arrived) sift(_ context.Context, s *search, in []int) ([]int, error) {
	return keep(in, func(i int) bool { return inDays(day(s.view.Messages[i].InternalDate), c.Since, c.Before) }), nil
}

func (c Received) sift(_ context.Context, s *search, in []int) ([]int, error) {
	return keep(in, func(i int) bool {
		t := s.view.Messages[i].InternalDate
		return (c.After.IsZero() || t.After(c.After)) && (c.UpTo.IsZero() || !t.After(c.UpTo))
	}), nil
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

func (Larger) cost() int  { return costKept }
func (Smaller) cost() int { return costKept }
func (Sent) cost() int    { return costKept }
func (Header) cost() int  { return costFields }
func (Body) cost() int    { return costText }
func (Text) cost() int    { return costText }

func (c Larger) sift(ctx context.Context, s *search, in []int) ([]int, error) {
	return s.bySize(ctx, in, func(size int64) bool { return size > int64(c) })
}

func (c Smaller) sift(ctx context.Context, s *search, in []int) ([]int, error) {
	return s.bySize(ctx, in, func(size int64) bool { return size < int64(c) })
}

func (c Sent) sift(ctx context.Context, s *search, in []int) ([]int, error) {
	return s.filter(ctx, in, key{query: `SELECT m.uid, c.sent, ''`, judge: func(day int, _ string) verdict {
		return judged(day != 0 && inDays(day, c.Since, c.Before))
	}})
}

func (c Header) sift(ctx context.Context, s *search, in []int) ([]int, error) {
	name, value := fold(c.Name), fold(c.Value)
	return s.filter(ctx, in, key{query: `SELECT m.uid, 0, c.fields`, needle: value, judge: func(_ int, fields string) verdict {
		return judged(hasField(fields, name, value))
	}})
}

func (c Body) sift(ctx context.Context, s *search, in []int) ([]int, error) {
	return s.contains(ctx, in, fold(string(c)), `instr(c.body, ?5) > 0`)
}

func (c Text) sift(ctx context.Context, s *search, in []int) ([]int, error) {
	return s.contains(ctx, in, fold(string(c)), `instr(c.body, ?5) > 0 OR instr(c.fields, ?5) > 0`)
}
