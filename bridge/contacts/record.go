package contacts

import (
	"slices"
	"time"

	"github.com/sealpost/sealpost/keydisc"
)

// record is what is kept of an address. Its methods are the rules by which a pin comes about and is
// contested; they neither store nor ask anything.
type record struct {
	address       string
	pinned        *keydisc.Certificate // nil: none
	source        Source
	pending       *keydisc.Certificate // nil: none
	pendingSource Source
	dismissed     []keydisc.Fingerprint // the user decided against these
	firstSeen     time.Time             // zero: the address never had a certificate
	lastUsed      time.Time
	heard         time.Time // effective date of the newest Autocrypt field
	verified      time.Time // zero: the pin has not been compared
	blocked       bool
	vouches       []vouch       // of the lists in force
	every         time.Duration // Options.VerifyEvery
	was           string        // its standing when it was saved last
}

func (r *record) ever() bool { return !r.firstSeen.IsZero() }

func (r *record) contact() Contact {
	c := Contact{
		Address: r.address, Certificate: r.pinned, Source: r.source, Trust: Unknown,
		FirstSeen: r.firstSeen, LastUsed: r.lastUsed, Ever: r.ever() || len(r.vouches) > 0, Verified: r.verified, Blocked: r.blocked, VouchedBy: r.voucher(), InUse: r.inUse(),
	}
	if !r.verified.IsZero() && r.every > 0 {
		c.VerifyBy = r.verified.Add(r.every)
	}
	if c.VouchedBy != "" && r.verified.IsZero() && r.source != SourceImport {
		c.Source = SourceList
	}
	if rival := r.rival(); rival != nil {
		c.Trust, c.Pending = Changed, rival.fingerprint
	} else if r.pinned != nil {
		c.Trust = r.pinTrust()
	}
	return c
}

func (r *record) pinTrust() Trust {
	if r.verified.IsZero() && r.voucher() == "" {
		return Pinned
	}
	return Verified
}

// signers are the contacts by whom a signature may be: the one with the pinned certificate, and the one
// with the pending one, whose the change is.
func (r *record) signers() []Contact {
	if r.pinned == nil || r.blocked {
		return nil
	}
	pinned, rival := r.contact(), r.rival()
	if rival == nil {
		return []Contact{pinned}
	}
	pending := pinned
	pinned.Trust = r.pinTrust()
	if rival.certificate == nil {
		return []Contact{pinned}
	}
	pending.Certificate, pending.Source = rival.certificate, rival.source
	return []Contact{pinned, pending}
}

// usable is nil if mail may be encrypted to the pin.
func (r *record) usable(at time.Time) error {
	switch {
	case r.blocked:
		return &BlockedError{r.address}
	case r.pinned == nil:
		return ErrNone
	}
	if rival := r.rival(); rival != nil {
		return &ChangedError{r.address, r.pinned.Fingerprint(), rival.fingerprint}
	}
	return r.pinned.Check(r.address, at)
}

// hearsay says whether the pin came with mail, which anybody may have written, or from where anybody may
// publish, and not by a place that answers for the address, by a list or by the user.
func (r *record) hearsay() bool {
	return r.pinned != nil && r.verified.IsZero() && r.voucher() == "" && (r.source == SourceAutocrypt || r.source == SourceGossip || r.source == Source(keydisc.HKP))
}

func (r *record) seen(at time.Time) {
	if r.firstSeen.IsZero() {
		r.firstSeen = at
	}
}

// pin pins a certificate. What the user has compared was the one before, unless it is the same.
func (r *record) pin(c *keydisc.Certificate, s Source, at time.Time) {
	if !r.isPinned(c) {
		r.verified = time.Time{}
	}
	r.pinned, r.source = c, s
	r.seen(at)
}

// merge adds news of the pinned and of the pending certificate to them. It says whether c is the pinned one.
func (r *record) merge(c *keydisc.Certificate) (same bool, err error) {
	for _, mine := range []**keydisc.Certificate{&r.pinned, &r.pending} {
		if *mine == nil || (*mine).Fingerprint() != c.Fingerprint() {
			continue
		}
		merged, err := (*mine).Merge(c)
		if err != nil {
			return false, err
		}
		*mine = merged
	}
	return r.pinned != nil && r.pinned.Fingerprint() == c.Fingerprint(), nil
}

// answered takes in what the network said. An address of which only unusable certificates are found is
// remembered, too: it has had one.
func (r *record) answered(a keydisc.Answer, at time.Time) error {
	same := keydisc.Found{}
	for _, f := range a.Found {
		r.seen(at)
		isPin, err := r.merge(f.Certificate)
		if err != nil {
			return err
		}
		if isPin {
			same = f
		}
	}
	other := r.firstOther(a, at)
	usable := r.pinned != nil && r.pinned.Check(r.address, at) == nil
	switch {
	case r.pinned == nil && other.Certificate != nil:
		r.pin(other.Certificate, Source(other.Source), at)
	case same.Authenticated && usable:
		// The pin is published: whatever else is published beside it, or came with mail, is no change.
		r.pending, r.pendingSource = nil, ""
		if r.hearsay() {
			r.source = Source(same.Source)
		}
	case !other.Authenticated:
		// Nothing else, or where anybody may publish: that starts a pin but contests none.
	case r.hearsay() && r.lastUsed.IsZero():
		// What came with mail gives way as long as nothing was encrypted to it.
		r.pin(other.Certificate, Source(other.Source), at)
		r.pending, r.pendingSource = nil, ""
	case a.Conclusive || !usable || Source(other.Source) == r.source:
		// Else the place that would still show the pin may be the one that did not answer.
		r.pending, r.pendingSource = other.Certificate, Source(other.Source)
	}
	return nil
}

// firstOther is the first usable certificate found that is neither the pinned one nor dismissed; one that a list
// vouches for comes before all others.
func (r *record) firstOther(a keydisc.Answer, at time.Time) (first keydisc.Found) {
	for _, f := range a.Found {
		fp := f.Certificate.Fingerprint()
		if r.isPinned(f.Certificate) || slices.Contains(r.dismissed, fp) || f.Certificate.Check(r.address, at) != nil {
			continue
		}
		if r.listed(fp) {
			return f
		}
		if first.Certificate == nil {
			first = f
		}
	}
	return first
}

func (r *record) isPinned(c *keydisc.Certificate) bool {
	return r.pinned != nil && r.pinned.Fingerprint() == c.Fingerprint()
}

// learn takes in a usable certificate that came with mail. It contests only a pin that came the same way:
// else anybody's mail could stop the sending to a contact.
func (r *record) learn(c *keydisc.Certificate, s Source, effective, at time.Time) error {
	same, err := r.merge(c)
	if err != nil || effective.Before(r.heard) {
		return err
	}
	if s != SourceGossip {
		r.heard = effective
	}
	switch {
	case r.pinned == nil:
		r.pin(c, s, at)
	case s == SourceAutocrypt && r.source == SourceGossip && r.hearsay() && r.lastUsed.IsZero():
		// What the owner says comes before what others say of him (Autocrypt 1.1 §2.3); nobody has relied on it yet.
		r.pin(c, s, at)
		r.pending, r.pendingSource = nil, ""
	case same && s == SourceAutocrypt && r.pendingSource == SourceAutocrypt:
		r.pending, r.pendingSource = nil, ""
	case same, s == SourceGossip, !r.hearsay(), slices.Contains(r.dismissed, c.Fingerprint()):
	default:
		r.pending, r.pendingSource = c, s
	}
	return nil
}

// replace pins by the user's own act. What was pinned or pending before is dismissed: finding it
// again is no change, or the user's decision would last only until the next lookup.
func (r *record) replace(c *keydisc.Certificate, at time.Time) error {
	c, err := c.ForAddress(r.address)
	if err != nil {
		return err
	}
	same, err := r.merge(c)
	if err != nil {
		return err
	}
	if same {
		c = r.pinned
	} else if err := c.Check(r.address, at); err != nil {
		return err
	}
	if r.pinned != nil {
		r.dismiss(r.pinned.Fingerprint())
		r.dismissRivals()
	}
	for _, v := range r.vouches { // the user knows what the list says
		r.dismiss(v.fingerprint)
	}
	r.dismissed = slices.DeleteFunc(r.dismissed, func(f keydisc.Fingerprint) bool { return f == c.Fingerprint() })
	r.pending, r.pendingSource = nil, ""
	r.pin(c, SourceImport, at)
	return nil
}
