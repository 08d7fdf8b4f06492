package export

import (
	"context"
	"fmt"
)

// Numbers are how many messages of a custodian came to what end. Held is the sum of OutOfRange, NotMatching,
// Undecided, Unavailable and Matching; Matching that of Duplicates, Withheld and Exported.
type Numbers struct {
	Held        int `json:"held"`
	OutOfRange  int `json:"out_of_range"`
	NotMatching int `json:"not_matching"`
	Undecided   int `json:"undecided"`
	Unavailable int `json:"unavailable"`
	Matching    int `json:"matching"`
	Duplicates  int `json:"duplicates"`
	Withheld    int `json:"withheld"`
	Exported    int `json:"exported"`
	Documents   int `json:"documents"`      // exported messages and what is attached to them
	Kept        int `json:"kept,omitempty"` // of Held: in no mailbox any more, but in the archive of a hold
}

func (n *Numbers) count(o Outcome, documents int, kept bool) {
	n.Held++
	if kept {
		n.Kept++
	}
	n.Documents += documents
	switch o {
	case OutOfRange:
		n.OutOfRange++
	case NotMatching:
		n.NotMatching++
	case Undecided:
		n.Undecided++
	case Unavailable:
		n.Unavailable++
	default:
		n.Matching++
	}
	switch o {
	case Duplicate:
		n.Duplicates++
	case Withheld:
		n.Withheld++
	case Exported:
		n.Exported++
	}
}

func (n *Numbers) add(m Numbers) {
	n.Held += m.Held
	n.OutOfRange += m.OutOfRange
	n.NotMatching += m.NotMatching
	n.Undecided += m.Undecided
	n.Unavailable += m.Unavailable
	n.Matching += m.Matching
	n.Duplicates += m.Duplicates
	n.Withheld += m.Withheld
	n.Exported += m.Exported
	n.Documents += m.Documents
	n.Kept += m.Kept
}

// check says what of the numbers does not add up; asked is before copies are told apart.
func (n Numbers) check(asked bool) error {
	if n.Held != n.OutOfRange+n.NotMatching+n.Undecided+n.Unavailable+n.Matching {
		return fmt.Errorf("%d messages were looked at, but %d are accounted for", n.Held, n.OutOfRange+n.NotMatching+n.Undecided+n.Unavailable+n.Matching)
	}
	if !asked && n.Matching != n.Duplicates+n.Withheld+n.Exported {
		return fmt.Errorf("%d messages match, but %d are accounted for", n.Matching, n.Duplicates+n.Withheld+n.Exported)
	}
	return nil
}

// CustodianNumbers are those of one account.
type CustodianNumbers struct {
	Custodian string `json:"custodian"`
	Numbers
}

// TermHits are how many messages within the dates a term is true of, by custodian in the order of the accounting. Terms are counted one by one:
// a message counts for every term it has, whether it matches the query or not.
type TermHits struct {
	Term string `json:"term"`
	Hits []int  `json:"hits"`
}

// Accounting is what was looked at, and what became of it.
type Accounting struct {
	Custodians []CustodianNumbers `json:"custodians"`
	Total      Numbers            `json:"total"`
	Terms      []TermHits         `json:"terms"`
	// Stale are mailboxes that could not be compared with the provider's: they are as at the last time.
	Stale []string `json:"stale,omitempty"`
	// UnusedMarks are about no message that matches: a slip would be a message that is not withheld.
	UnusedMarks int `json:"marks_unused,omitempty"`
}

func newAccounting(custodians, terms []string) *Accounting {
	a := &Accounting{Terms: []TermHits{}}
	for _, c := range custodians {
		a.Custodians = append(a.Custodians, CustodianNumbers{Custodian: c})
	}
	for _, t := range terms {
		a.Terms = append(a.Terms, TermHits{t, make([]int, len(custodians))})
	}
	return a
}

// count adds one message.
func (a *Accounting) count(custodian string, o Outcome, documents int, kept bool, hits []int) {
	for i := range a.Custodians {
		if a.Custodians[i].Custodian != custodian {
			continue
		}
		a.Custodians[i].count(o, documents, kept)
		for _, t := range hits {
			a.Terms[t].Hits[i]++
		}
	}
	a.Total.count(o, documents, kept)
}

// check says what does not add up.
func (a *Accounting) check(asked bool) error {
	var sum Numbers
	for _, c := range a.Custodians {
		if err := c.check(asked); err != nil {
			return fmt.Errorf("%s: %w", c.Custodian, err)
		}
		sum.add(c.Numbers)
	}
	if sum != a.Total {
		return fmt.Errorf("the custodians' numbers do not add up to the total")
	}
	return nil
}

// NeedsAttention says whether something may be missing from the result.
func (a *Accounting) NeedsAttention() bool {
	return a.Total.Undecided+a.Total.Unavailable > 0 || len(a.Stale) > 0 || a.UnusedMarks > 0
}

// account counts the rows of the job.
func (x *run) account(ctx context.Context) (*Accounting, error) {
	a := newAccounting(x.Custodians, x.termTexts())
	a.Stale, a.UnusedMarks = x.stale, x.unusedMarks()
	err := x.job.each(ctx, func(r row) error {
		a.count(r.Custodian, r.Outcome, len(r.Records), r.Kept != "", r.Hits)
		return nil
	})
	if err == nil {
		err = a.check(false)
	}
	return a, err
}

func (x *run) termTexts() []string {
	var texts []string
	for _, t := range x.terms {
		texts = append(texts, t.String())
	}
	return texts
}
