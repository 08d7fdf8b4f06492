package keydisc

import (
	"slices"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Whether a certificate can be used changes with time, but only at moments that are written in it. Between two of them an
// answer stays what it was: checking all signatures again for every message is what a gateway would spend its time on.

// Turns are the moments, in Unix seconds and ascending, before and after which an answer about a key may differ: where its
// signatures, it and its subkeys begin and end to hold.
type Turns []int64

// TurnsOf reads them from all signatures of an entity, verified or not.
func TurnsOf(e *openpgp.Entity) Turns {
	var t Turns
	t.signatures(e.PrimaryKey, e.Revocations)
	t.signatures(e.PrimaryKey, e.DirectSignatures)
	for _, id := range e.Identities {
		t.signatures(e.PrimaryKey, id.SelfCertifications)
		t.signatures(e.PrimaryKey, id.Revocations)
	}
	for _, s := range e.Subkeys {
		t.signatures(s.PublicKey, s.Bindings)
		t.signatures(s.PublicKey, s.Revocations)
	}
	slices.Sort(t)
	return slices.Compact(t)
}

func (t *Turns) signatures(of *packet.PublicKey, all []*packet.VerifiableSignature) {
	t.add(of.CreationTime, nil)
	for _, s := range all {
		t.add(s.Packet.CreationTime, s.Packet.SigLifetimeSecs)
		t.add(of.CreationTime, s.Packet.KeyLifetimeSecs)
		if inner := s.Packet.EmbeddedSignature; inner != nil {
			t.add(inner.CreationTime, inner.SigLifetimeSecs)
		}
	}
}

// add adds a beginning and, if there is one, the end. Comparisons differ in whether the second itself counts: both do.
func (t *Turns) add(begin time.Time, lasts *uint32) {
	at := begin.Unix()
	*t = append(*t, at, at+1)
	if lasts != nil && *lasts > 0 {
		at += int64(*lasts)
		*t = append(*t, at, at+1)
	}
}

// Epoch numbers the times between turns.
func (t Turns) Epoch(at time.Time) int {
	n, _ := slices.BinarySearch(t, at.Unix()+1)
	return n
}

// Epoch numbers the times between which nothing about the certificate changes.
func (c *Certificate) Epoch(at time.Time) int { return c.turns.Epoch(at) }

// maxAnswers bounds what is remembered about one certificate.
const maxAnswers = 32

// answers are what is known of a certificate in one of its epochs, by question.
type answers struct {
	mu    sync.Mutex
	epoch int
	known map[string]any
}

// Remember is what find returns about the certificate at that time, found once in each of its epochs. question names find and
// all that it depends on beside certificate and time; a zero time is none, and nothing is remembered.
func Remember[T any](c *Certificate, at time.Time, question string, find func() T) T {
	if at.IsZero() {
		return find()
	}
	epoch := c.Epoch(at)
	if known, ok := c.answers.recall(epoch, question); ok {
		return known.(found[T]).answer
	}
	answer := find()
	c.answers.keep(epoch, question, found[T]{answer})
	return answer
}

// found keeps the type of an answer that is a nil interface.
type found[T any] struct{ answer T }

func (a *answers) recall(epoch int, question string) (any, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, ok := a.known[question]
	return known, ok && a.epoch == epoch
}

func (a *answers) keep(epoch int, question string, answer any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil || a.epoch != epoch || len(a.known) >= maxAnswers {
		a.known = map[string]any{}
	}
	a.epoch, a.known[question] = epoch, answer
}

// BorrowToEncrypt is Borrow for encrypting at that time. go-crypto remembers of a signature whether it held under the
// configuration and at the time of the first look: copies are not shared with other uses, nor between epochs.
func (c *Certificate) BorrowToEncrypt(at time.Time) (e *openpgp.Entity, giveBack func(), err error) {
	lent := Remember(c, at, "to encrypt", func() *spareEntities { return &spareEntities{} })
	if e = lent.take(); e == nil {
		if e, err = c.Entity(); err != nil {
			return nil, nil, err
		}
	}
	return e, func() { lent.put(e) }, nil
}
