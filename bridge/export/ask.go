package export

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/export/extract"
	"github.com/sealpost/sealpost/bridge/export/query"
	"github.com/sealpost/sealpost/bridge/mirror"
)

// Custodian is an account of this device: whose mail it is, and its mailboxes.
type Custodian struct {
	Address string
	Mirror  *mirror.Mirror
}

// Question is what is asked for.
type Question struct {
	Custodians   []Custodian
	Query        query.Expr // nil: everything
	Since, Until time.Time  // sent from Since on and before Until; zero: no limit
	EachTerm     bool       // also say of every message in the range which terms are true of it
	// Stale, if not nil, is told of mailboxes whose state could not be compared with the provider's now: what is
	// known of them is what was there at the last time.
	Stale func(custodian, mailbox string)
	// Archive, if not nil, is asked too: messages that are in no mailbox any more because a hold kept them.
	Archive *Holds
}

// Outcome is what became of a message. Every message the mailboxes hold has exactly one.
type Outcome string

// The outcomes of asking. Matching goes on to become exported, a duplicate, or withheld.
const (
	OutOfRange  Outcome = "out-of-range" // not sent within the dates
	NotMatching Outcome = "not-matching"
	Matching    Outcome = "matching"
	Undecided   Outcome = "undecided" // it, or something attached, cannot be read, and the rest does not decide
	Unavailable Outcome = "unavailable"
)

// Answer is the outcome of one message. It is valid until the function it is given to returns.
type Answer struct {
	*Message
	Outcome Outcome
	Reason  string        // of Undecided and Unavailable; without names: it may be shown to those who are not to have the message
	Hits    []*query.Term // with EachTerm: the terms that are true of a message in the range

	family *family
	blob   mirror.Blob
	kept   *kept // in the archive; nil: in its mailbox
	// content gives the message as opened, stored as the provider stores it: nil, nil if the archive has lost it.
	content, stored func(ctx context.Context) (mirror.Blob, error)
}

// Departed says in words how and when the message left its mailbox, if it is in the archive of a hold; else "".
func (a *Answer) Departed() string {
	if a.kept == nil {
		return ""
	}
	return a.kept.departed()
}

// Ask calls f for every message of the custodians' mailboxes, in the order of custodians, mailboxes by name, and UIDs; then for what has
// come to a mailbox meanwhile, as a message that a client files elsewhere does; and after each custodian's for those of the archive. It fails if it cannot be complete: without the provider, if there is mail that was never opened (mirror.ErrOffline).
func (q Question) Ask(ctx context.Context, p Progress, f func(*Answer) error) error {
	for _, c := range q.Custodians {
		if err := q.askCustodian(ctx, c, p, f); err != nil {
			return err
		}
	}
	return nil
}

func (q Question) askCustodian(ctx context.Context, c Custodian, p Progress, f func(*Answer) error) error {
	live, seen := map[place]bool{}, map[string]reached{}
	for more := true; more; {
		var err error
		more, err = q.askRound(ctx, c, seen, p, func(a *Answer) error {
			if q.Archive != nil {
				live[place{a.Mailbox, a.UIDValidity, uint32(a.UID)}] = true
			}
			return f(a)
		})
		if err != nil {
			return err
		}
	}
	if q.Archive == nil {
		return nil
	}
	all, err := q.Archive.of(ctx, c.Address) // after the mailboxes: what is deleted meanwhile is in one of them
	if err != nil {
		return err
	}
	return q.askKept(ctx, c, live, all, p, f)
}

// reached is how far a mailbox has been asked about.
type reached struct {
	validity uint32
	last     imap.UID
}

// askRound asks about what is new in the mailboxes; more says whether there was anything.
func (q Question) askRound(ctx context.Context, c Custodian, seen map[string]reached, p Progress, f func(*Answer) error) (more bool, err error) {
	names, err := mailboxes(ctx, c.Mirror)
	if err != nil {
		return false, fmt.Errorf("mailboxes of %s: %w", c.Address, err)
	}
	for _, name := range names {
		asked, err := q.askMailbox(ctx, c, name, seen, p, f)
		if err != nil {
			return false, fmt.Errorf("mailbox %s of %s: %w", name, c.Address, err)
		}
		more = more || asked
	}
	return more, nil
}

// Progress is told after each message; total is 0 while unknown.
type Progress func(mailbox string, done, total int)

// mailboxes are the names of those that hold messages, in order.
func mailboxes(ctx context.Context, m *mirror.Mirror) ([]string, error) {
	list, err := m.List(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, info := range list {
		if !slices.Contains(info.Attrs, imap.MailboxAttrNoSelect) && !slices.Contains(info.Attrs, imap.MailboxAttrNonExistent) {
			names = append(names, info.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// asked is one question about one mailbox.
type asked struct {
	Question
	custodian Custodian
	box       *mirror.Mailbox
	view      *mirror.Snapshot
	found     found
	armored   map[imap.UID]bool // some of their text is encrypted
}

// askMailbox asks about what is in the mailbox beyond what was reached; asked says whether there was anything.
func (q Question) askMailbox(ctx context.Context, c Custodian, name string, seen map[string]reached, p Progress, f func(*Answer) error) (more bool, err error) {
	box, err := c.Mirror.Mailbox(ctx, name)
	if err != nil {
		return false, err
	}
	before, again := seen[name]
	if err := box.Sync(ctx); err != nil && ctx.Err() == nil && q.Stale != nil && !again {
		q.Stale(c.Address, name)
	}
	a := &asked{Question: q, custodian: c, box: box, view: box.Snapshot(), found: found{}}
	uids, at := beyond(a.view, before)
	if n := len(uids); n > 0 {
		before.last = uids[n-1]
	}
	seen[name] = reached{a.view.UIDValidity, before.last}
	if len(uids) == 0 {
		return false, nil
	}
	return true, a.each(ctx, uids, at, p, f)
}

// beyond are the messages of a mailbox that have not been asked about, by UID, and where they are. UIDs only rise (RFC 9051 §2.3.1.1).
func beyond(view *mirror.Snapshot, before reached) (uids []imap.UID, at map[imap.UID]int) {
	at = make(map[imap.UID]int, len(view.Messages))
	for i, m := range view.Messages {
		if m.UID > before.last || view.UIDValidity != before.validity {
			uids, at[m.UID] = append(uids, m.UID), i
		}
	}
	return uids, at
}

// each asks about messages of the mailbox.
func (a *asked) each(ctx context.Context, uids []imap.UID, at map[imap.UID]int, p Progress, f func(*Answer) error) error {
	if err := a.narrow(ctx); err != nil {
		return err
	}
	done := 0
	return a.box.Summaries(ctx, uids, func(uid imap.UID, s *mirror.Summary, err error) error {
		answer, err := a.answer(ctx, a.view.Messages[at[uid]], s, err)
		if err == nil {
			err = f(&answer)
		}
		if answer.blob != nil {
			err = errors.Join(err, answer.blob.Close())
		}
		done++
		p(a.view.Name, done, len(uids))
		return err
	})
}

// narrow asks the mirror's search for the words of every term about text: what it does not find need not be read.
func (a *asked) narrow(ctx context.Context) (err error) {
	for _, t := range a.terms() {
		if !isNarrowed(t) || len(a.view.Messages) == 0 {
			continue
		}
		if a.found[t], err = a.search(ctx, criterion(t)); err != nil {
			return err
		}
		if a.armored == nil {
			if a.armored, err = a.search(ctx, mirror.Text(extract.Armor)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *asked) search(ctx context.Context, c mirror.Criterion) (map[imap.UID]bool, error) {
	uids, err := a.box.Search(ctx, c, nil)
	set := make(map[imap.UID]bool, len(uids))
	for _, uid := range uids {
		set[uid] = true
	}
	return set, err
}

func (a *asked) terms() []*query.Term {
	if a.Query == nil {
		return nil
	}
	return query.Terms(a.Query)
}

// answer decides about one message. s and failed are what the mirror has of it.
func (a *asked) answer(ctx context.Context, m mirror.Message, s *mirror.Summary, failed error) (Answer, error) {
	answer := Answer{Message: &Message{Custodian: a.custodian.Address, Mailbox: a.view.Name, UIDValidity: a.view.UIDValidity, UID: m.UID, Received: m.InternalDate}}
	answer.content = func(ctx context.Context) (mirror.Blob, error) {
		content, err := a.box.Content(ctx, m.UID)
		if err != nil {
			return nil, err
		}
		return content.Message, nil
	}
	answer.stored = func(ctx context.Context) (mirror.Blob, error) {
		return a.custodian.Mirror.Stored(ctx, a.view.Name, m.UID)
	}
	if failed != nil {
		answer.Outcome, answer.Reason = Unavailable, unavailable(failed)
		return answer, fatal(ctx, failed)
	}
	message, err := newMessage(a.custodian.Address, a.view, m, s)
	if err != nil {
		return answer, err
	}
	answer.Message, answer.family = message, newFamily(message)
	if !a.covers(message) {
		answer.Outcome = OutOfRange
		return answer, nil
	}
	hidden := extract.Hidden(message.Structure) || a.armored[m.UID]
	j := &judged{family: answer.family, hidden: hidden, possible: func(t *query.Term) bool { return a.found[t][m.UID] }}
	err = a.decide(ctx, j, &answer)
	if err != nil && fatal(ctx, err) == nil {
		answer.Outcome, answer.Reason, err = Unavailable, unavailable(err), nil
	}
	return answer, err
}

// decide asks about the message: without its text, and with it where that leaves something open.
func (a *asked) decide(ctx context.Context, j *judged, answer *Answer) error {
	truth := a.eval(j)
	if j.Kind != mirror.Failed && (truth == query.Unknown || a.EachTerm && a.leavesOpen(j)) {
		if _, err := answer.ensure(ctx); err != nil {
			return err
		}
		j.read = true
		truth = a.eval(j)
	}
	answer.conclude(truth, j)
	if a.EachTerm {
		for _, t := range a.terms() {
			if j.truth(t) == query.True {
				answer.Hits = append(answer.Hits, t)
			}
		}
	}
	return nil
}

func (a *asked) eval(j *judged) query.Truth {
	if a.Query == nil {
		return query.True
	}
	return a.Query.Eval(j.truth)
}

func (a *asked) leavesOpen(j *judged) bool {
	return slices.ContainsFunc(a.terms(), func(t *query.Term) bool { return j.truth(t) == query.Unknown })
}

func (a *Answer) conclude(truth query.Truth, j *judged) {
	switch truth {
	case query.True:
		a.Outcome = Matching
	case query.False:
		a.Outcome = NotMatching
	default:
		a.Outcome, a.Reason = Undecided, undecided(j)
	}
}

// undecided says in words what leaves the query open.
func undecided(j *judged) string {
	if j.Kind == mirror.Failed {
		return "it cannot be decrypted: " + j.status["reason"]
	}
	var reasons []string
	for _, d := range j.documents {
		for _, s := range d.text.Skipped {
			if s.Reason.Open() && !slices.Contains(reasons, string(s.Reason)) {
				reasons = append(reasons, string(s.Reason))
			}
		}
	}
	return "something in it cannot be read: " + strings.Join(reasons, ", ")
}

// unavailable says in words why the mirror does not have a message; what it says of its cause is not for others.
func unavailable(err error) string {
	if errors.Is(err, mirror.ErrExpunged) {
		return "it was deleted while it was looked at"
	}
	return "it could not be opened"
}

// isRefusal says whether the provider refused, which it will do again.
func isRefusal(err error) bool {
	var refused *imap.Error
	return errors.As(err, &refused)
}

// fatal are errors after which an answer would not be complete.
func fatal(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, mirror.ErrExpunged) {
		return nil
	}
	if errors.Is(err, mirror.ErrOffline) {
		return err
	}
	return nil
}

// ensure reads the texts of a matching message and gives its bytes.
func (a *Answer) ensure(ctx context.Context) (mirror.Blob, error) {
	if a.blob != nil {
		return a.blob, nil
	}
	blob, err := a.content(ctx)
	if err != nil {
		return nil, err
	}
	a.blob = blob
	return blob, a.family.read(ctx, blob)
}
