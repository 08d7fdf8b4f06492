package export

import (
	"bytes"
	"container/heap"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/export/query"
)

// Hit is a message that matches, or that could not be decided about.
type Hit struct {
	Custodian   string    `json:"custodian"`
	Mailbox     string    `json:"mailbox"`
	UIDValidity uint32    `json:"uidvalidity"`
	UID         uint32    `json:"uid"`
	Sent        time.Time `json:"sent"` // UTC
	From        string    `json:"from"`
	Subject     string    `json:"subject"`
	MessageID   string    `json:"message_id,omitempty"`
	Reason      string    `json:"reason,omitempty"` // why it could not be decided about; "" for a match
	Kept        string    `json:"kept,omitempty"`   // of what a hold kept: how and when it left its mailbox
}

func hitOf(a *Answer) Hit {
	h := Hit{Custodian: a.Custodian, Mailbox: a.Mailbox, UIDValidity: a.UIDValidity, UID: uint32(a.UID), Sent: a.Sent().UTC(), Reason: a.Reason, Kept: a.Departed()}
	if a.Header != nil {
		h.From, h.Subject, h.MessageID = decoded(a.Header, "From"), a.Subject(), a.ID()
	}
	return h
}

// Found is the answer to a search.
type Found struct {
	Matching   []Hit       `json:"matching"`
	Undecided  []Hit       `json:"undecided"` // with the reasons; those that are not available, too
	Accounting *Accounting `json:"accounting"`
}

// maxHits bounds what is held in memory of an answer, of either kind: an export has no such bound.
const maxHits = 10_000

// Search finds messages. Beyond 10,000 they are only counted.
func (d *Desk) Search(ctx context.Context, r Request, p Progress) (*Found, error) {
	q, err := d.question(&r)
	if err != nil {
		return nil, err
	}
	found := &Found{Matching: []Hit{}, Undecided: []Hit{}, Accounting: newAccounting(r.Custodians, nil)}
	err = d.ask(ctx, q, found.Accounting, p, func(a *Answer) {
		switch {
		case a.Outcome == Matching && len(found.Matching) < maxHits:
			found.Matching = append(found.Matching, hitOf(a))
		case (a.Outcome == Undecided || a.Outcome == Unavailable) && len(found.Undecided) < maxHits:
			found.Undecided = append(found.Undecided, hitOf(a))
		}
	})
	return found, err
}

// ask asks and counts.
func (d *Desk) ask(ctx context.Context, q Question, counts *Accounting, p Progress, f func(*Answer)) error {
	var terms []*query.Term
	if q.Query != nil {
		terms = query.Terms(q.Query)
	}
	q.Stale = func(custodian, mailbox string) { counts.Stale = append(counts.Stale, custodian+" "+mailbox) }
	err := q.Ask(ctx, p, func(a *Answer) error {
		counts.count(a.Custodian, a.Outcome, 0, a.kept != nil, numbersOf(terms, a.Hits))
		f(a)
		return nil
	})
	if err != nil {
		return err
	}
	return counts.check(true)
}

// numbersOf are the places of hits among the terms.
func numbersOf(terms, hits []*query.Term) []int {
	var numbers []int
	for i, t := range terms {
		if slices.Contains(hits, t) {
			numbers = append(numbers, i)
		}
	}
	return numbers
}

// Counted is what an export would have, before copies are told apart.
type Counted struct {
	Accounting
	Sample []Hit `json:"sample"` // of what matches
}

// Count counts the hits of every term, and draws a sample of what matches: each message has the same chance, and the same question to the same
// mail the same sample.
func (d *Desk) Count(ctx context.Context, r Request, sample int, p Progress) (*Counted, error) {
	q, err := d.question(&r)
	if err != nil {
		return nil, err
	}
	q.EachTerm = true
	var texts []string
	if q.Query != nil {
		for _, t := range query.Terms(q.Query) {
			texts = append(texts, t.String())
		}
	}
	counted := &Counted{Accounting: *newAccounting(r.Custodians, texts), Sample: []Hit{}}
	drawn := &draw{}
	err = d.ask(ctx, q, &counted.Accounting, p, func(a *Answer) {
		if a.Outcome == Matching {
			drawn.add(hitOf(a), sample)
		}
	})
	if err != nil {
		return nil, err
	}
	counted.Sample = append(counted.Sample, drawn.hits()...)
	return counted, d.o.Audit.Append(ctx, audit.Entry{Account: strings.Join(r.Custodians, ","), Event: "export", Decision: "count",
		Detail: fmt.Sprintf("%d messages looked at, %d match", counted.Total.Held, counted.Total.Matching)})
}

// draw keeps the hits with the smallest digests: a heap whose first is the largest.
type draw []drawn

type drawn struct {
	lot [sha256.Size]byte
	Hit
}

func (d draw) Len() int           { return len(d) }
func (d draw) Less(i, j int) bool { return bytes.Compare(d[i].lot[:], d[j].lot[:]) > 0 }
func (d draw) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *draw) Push(x any)        { *d = append(*d, x.(drawn)) }
func (d *draw) Pop() any {
	last := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return last
}

func (d *draw) add(h Hit, most int) {
	lot := sha256.Sum256(fmt.Appendf(nil, "%q %q %d %d", h.Custodian, h.Mailbox, h.UIDValidity, h.UID))
	heap.Push(d, drawn{lot, h})
	if d.Len() > most {
		heap.Pop(d)
	}
}

func (d *draw) hits() []Hit {
	var all []Hit
	for d.Len() > 0 {
		all = append(all, heap.Pop(d).(drawn).Hit)
	}
	return all
}
