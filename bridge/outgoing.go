package bridge

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/outbox"
	"github.com/sealpost/sealpost/bridge/upstream"
	"github.com/sealpost/sealpost/keydisc"
)

// How an outgoing message travels:
//
//	receive   spool it (large ones encrypted on disk) and read its header
//	check     the sender is this account
//	decide    look for every envelope recipient's certificate, then ask the policy
//	compose   one ciphertext for To and Cc, one for each Bcc, one clear copy if allowed
//	hand over to the provider, all or nothing up to its 354
//	record    what was decided, for whom, by which rule
//
// Only then does Submit return nil and the client see 250. Whatever goes wrong before
// the provider has accepted anything is a *Refusal, and nothing has left the device.
// Afterwards it is sent, queued, or the client is told who gets nothing.

// Envelope of a submission (RFC 5321 §2.3.1): it decides who receives, not the header.
type Envelope struct {
	From string   // addr-spec, or "" for notifications
	To   []string // addr-specs
	UTF8 bool     // SMTPUTF8 (RFC 6531)
	// Notice is what a relayed message's sender wants to hear of its fate.
	Notice upstream.Notice
	// Client is who hands the message in; of interest for devices.
	Client Client
}

// Client is the other end of a submission.
type Client struct {
	IP    string
	Hello string // what it calls itself (RFC 5321 §4.1.1.1)
}

// Submit takes a message from the account's user and returns nil once the provider has
// accepted it for every recipient (or it is safely queued after a part was accepted). The
// error is a *Refusal: nothing left the device, or, if a part did and the rest could not be queued,
// it is permanent and names those who get nothing.
func (a *Account) Submit(ctx context.Context, e Envelope, message io.Reader) error {
	start := time.Now()
	err := a.deliver(ctx, e, message)
	a.bridge.metrics.Submitted(resultOf(err), time.Since(start))
	return err
}

// resultOf is what a submission came to, for the metrics.
func resultOf(err error) string {
	var refusal *Refusal
	switch {
	case err == nil:
		return "accepted"
	case errors.As(err, &refusal):
		return string(refusal.Reason)
	}
	return "error"
}

func (a *Account) deliver(ctx context.Context, e Envelope, message io.Reader) error {
	m, err := a.receive(ctx, e, message)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := a.checkSender(m); err != nil {
		return err
	}
	facts, err := a.messageFacts(ctx, m)
	if err != nil {
		return err
	}
	recipients := a.decide(ctx, m.regime.Policy, facts, m.to, m.visible)
	if refusal := refusalOf(recipients); refusal != nil {
		a.record(ctx, m, recipients)
		return refusal
	}
	parcels, err := a.compose(ctx, m, recipients)
	defer closeAll(parcels)
	if err != nil {
		return err
	}
	lost, err := a.handOver(ctx, m, parcels)
	if err != nil {
		return err
	}
	refusal := partlySent(recipients, lost)
	a.record(ctx, m, recipients)
	if refusal != nil {
		return refusal
	}
	return nil
}

// recipient is one envelope recipient on its way through decide, compose and record.
type recipient struct {
	Verdict
	lookup  contacts.Lookup
	visible bool // named in To or Cc; the others are Bcc
}

// decide finds every recipient's certificate, all at once, and asks the policy.
func (s *sender) decide(ctx context.Context, p Policy, message MessageFacts, to []string, visible map[string]bool) []recipient {
	recipients, facts := make([]recipient, len(to)), make([]RecipientFacts, len(to))
	var wg sync.WaitGroup
	for i, address := range to {
		wg.Go(func() { recipients[i].lookup, facts[i] = s.origin.lookup(ctx, p, message, address) })
	}
	wg.Wait()
	for i, v := range p.Decide(message, facts) {
		recipients[i].Verdict = v
		recipients[i].visible = visible[normalized(v.Address)]
	}
	return recipients
}

// messageFacts are what the policy needs to know of the message itself.
func (s *sender) messageFacts(ctx context.Context, m *outgoing) (MessageFacts, error) {
	replies, err := s.bridge.journal.arrivedEncrypted(ctx, m.references)
	if err != nil {
		return MessageFacts{}, localRefusal(err)
	}
	return MessageFacts{From: m.author, Envelope: normalized(m.from), Force: m.force, RepliesToEncrypted: replies, Ciphertext: m.ciphertext}, nil
}

// factsOf turns what was found into what the policy needs to know.
func factsOf(address string, l contacts.Lookup) RecipientFacts {
	f := RecipientFacts{Address: address, Ever: l.Ever, Conclusive: l.Conclusive}
	var changed *contacts.ChangedError
	var unusable *keydisc.UnusableError
	var blocked *contacts.BlockedError
	switch {
	case errors.As(l.Usable, &blocked):
		f.Blocked = true
	case l.Usable == nil && l.Certificate != nil:
		f.Usable = true
	case errors.As(l.Usable, &changed):
		f.Problem = ReasonCertificate
		f.ProblemTxt = "the certificate of this address has changed from " + string(changed.Pinned) + " to " + string(changed.Pending) +
			". Ask the recipient over another channel whether that is right; then take the new one (sealpost contact accept " + address + ") or keep the old one (sealpost contact verify " + address + ")"
	case errors.As(l.Usable, &unusable):
		f.Problem = ReasonCertificate
		f.ProblemTxt = "the certificate of this address cannot be used (" + string(unusable.Reason) +
			"). Ask the recipient for a current one and import it (sealpost contact import)"
	}
	return f
}

// refusalOf is nil if everybody may be sent to; otherwise it names whoever stands in the way.
func refusalOf(recipients []recipient) *Refusal {
	var refused []RecipientRefusal
	for _, r := range recipients {
		if r.Decision == Refuse {
			refused = append(refused, RecipientRefusal{Address: r.Address, Reason: r.Reason, Text: r.Text})
		}
	}
	if len(refused) == 0 && len(recipients) > 0 {
		return nil
	}
	return &Refusal{Reason: gravest(refused), Text: "message not sent to anybody", Recipients: refused}
}

// gravest picks a permanent reason over a temporary one: trying again would not help.
func gravest(refused []RecipientRefusal) Reason {
	reason := ReasonLookup
	for _, r := range refused {
		if r.Reason != ReasonLookup {
			reason = r.Reason
		}
	}
	return reason
}

// parcel is one body and the recipients that get it.
type parcel struct {
	to     []string
	body   *spool.Spool
	opened bool // it came encrypted: reports about it return no more than its header
}

func closeAll(parcels []parcel) {
	for _, p := range parcels {
		_ = p.body.Close()
	}
}

// compose makes the bodies: one ciphertext for the visible recipients and the sender, one
// ciphertext for each hidden one (a shared one would name them by key ID), and one clear
// copy for those the policy sends clear.
func (s *sender) compose(ctx context.Context, m *outgoing, recipients []recipient) ([]parcel, error) {
	var shared, clear []recipient
	var groups [][]recipient
	for _, r := range recipients {
		switch {
		case r.Decision == Encrypt && r.visible:
			shared = append(shared, r)
		case r.Decision == Encrypt:
			groups = append(groups, []recipient{r})
		case r.Decision == Cleartext:
			clear = append(clear, r)
		default:
			return nil, localRefusal(errors.New("a refused recipient reached compose"))
		}
	}
	if len(shared) > 0 {
		groups = append([][]recipient{shared}, groups...)
	}
	var parcels []parcel
	for _, group := range groups {
		p, err := s.encryptFor(m, group)
		if err != nil {
			return parcels, err
		}
		parcels = append(parcels, p)
	}
	if len(clear) > 0 {
		p, err := s.copyFor(m, clear)
		if err != nil {
			return parcels, err
		}
		parcels = append(parcels, p)
	}
	return parcels, ctx.Err()
}

// encryptFor signs and encrypts for one group. What the mail program has encrypted
// itself passes unchanged but for the fields that are never sent.
func (s *sender) encryptFor(m *outgoing, group []recipient) (parcel, error) {
	if group[0].Rule == ruleCiphertext {
		return s.copyFor(m, group)
	}
	options, giveBack, err := s.encryptOptions(m, group)
	if err != nil {
		return parcel{}, localRefusal(err)
	}
	defer giveBack()
	body := spool.New(s.bridge.spoolDir)
	if err := s.encrypt(body, m, options); err != nil {
		_ = body.Close()
		return parcel{}, localRefusal(err)
	}
	return parcel{to: addresses(group), body: body}, nil
}

// encryptOptions lends the signer's key until giveBack.
func (s *sender) encryptOptions(m *outgoing, group []recipient) (o pgpmime.EncryptOptions, giveBack func(), err error) {
	giveBack = func() {}
	o = pgpmime.EncryptOptions{Headers: m.regime.Headers, Recipients: slices.Clone(m.regime.Archive), Time: s.bridge.now()}
	ring := s.origin.ringOf(m)
	if ring != nil {
		var own *keydisc.Certificate
		if own, o.Signer, giveBack, err = ring.For(m.author, o.Time); err != nil {
			return o, nil, err
		}
		if o.Autocrypt, err = autocryptFor(m.author, own); err != nil {
			giveBack()
			return o, nil, err
		}
		if group[0].visible {
			o.Recipients = append(o.Recipients, own)
		}
	}
	for _, r := range group {
		o.Recipients = append(o.Recipients, r.lookup.Certificate)
		if len(group) > 1 && r.ownsCertificate() { // Autocrypt 1.1 §3.3: gossip is for replying to all
			o.Gossip = append(o.Gossip, pgpmime.Gossip{Address: r.Address, Certificate: r.lookup.Certificate})
		}
	}
	return o, giveBack, nil
}

// autocryptFor is the value of the Autocrypt field, "" for none. It is about the address in From
// (Autocrypt 1.1 §2.1) and names no other: an alias does not give the account away.
func autocryptFor(author string, own *keydisc.Certificate) (string, error) {
	if !slices.Contains(own.Addresses(), author) {
		return "", nil
	}
	value, err := pgpmime.AutocryptValue(author, own)
	if errors.Is(err, pgpmime.ErrAutocryptSize) {
		return "", nil
	}
	return value, err
}

// copyFor is the message as it is, with the author's certificate in the Autocrypt field.
func (s *sender) copyFor(m *outgoing, group []recipient) (parcel, error) {
	add, err := s.autocryptField(m)
	if err != nil {
		return parcel{}, localRefusal(err)
	}
	body := spool.New(s.bridge.spoolDir)
	err = pgpmime.Normalise(body, m.message.Reader(), nil, add)
	if err != nil {
		_ = body.Close()
		return parcel{}, localRefusal(err)
	}
	return parcel{to: addresses(group), body: body}, nil
}

// autocryptField is the author's, if his key is here and there is room for it.
func (s *sender) autocryptField(m *outgoing) ([]pgpmime.Field, error) {
	ring := s.origin.ringOf(m)
	if ring == nil {
		return nil, nil
	}
	own, err := ring.CertificateFor(m.author, s.bridge.now())
	if err != nil {
		return nil, err
	}
	value, err := autocryptFor(m.author, own)
	if err != nil || value == "" {
		return nil, err
	}
	return []pgpmime.Field{{Name: "Autocrypt", Value: value}}, nil
}

func addresses(group []recipient) []string {
	to := make([]string, len(group))
	for i, r := range group {
		to[i] = r.Address
	}
	return to
}

// handOver gives all bodies to the provider. If it accepted none the client gets the
// reason and still has the message; if it accepted some, the rest goes to the outbox, which
// delivers it or tells the user. lost are the recipients for whom not even that could be done.
func (s *sender) handOver(ctx context.Context, m *outgoing, parcels []parcel) (lost []string, err error) {
	results, err := s.origin.submit(ctx, transactions(m, parcels))
	if err != nil {
		return nil, providerRefusal(err)
	}
	left := withoutDelivered(parcels, results)
	if len(left) == len(parcels) && !slices.ContainsFunc(results, partly) {
		return nil, providerRefusal(errors.Join(results...))
	}
	// The client may hang up now; what was half sent must still be queued.
	ctx = context.WithoutCancel(ctx)
	for _, u := range left {
		if !s.queue(ctx, m, u.parcel, u.failure) {
			lost = append(lost, u.to...)
		}
	}
	return lost, nil
}

func transactions(m *outgoing, parcels []parcel) []upstream.Transaction {
	list := make([]upstream.Transaction, len(parcels))
	for i, p := range parcels {
		list[i] = upstream.Transaction{From: m.from, To: p.to, Body: p.body, UTF8: m.utf8, Notice: p.notice(m)}
	}
	return list
}

// undelivered is what of a parcel the provider has not taken.
type undelivered struct {
	parcel
	failure error
}

func withoutDelivered(parcels []parcel, results []error) (left []undelivered) {
	for i, failure := range results {
		var some *upstream.PartialError
		switch p := parcels[i]; {
		case failure == nil:
		case errors.As(failure, &some):
			p.to = slices.DeleteFunc(slices.Clone(p.to), func(to string) bool { return some.Replies[to] == nil })
			left = append(left, undelivered{p, failure})
		default:
			left = append(left, undelivered{p, failure})
		}
	}
	return left
}

// partly says whether some recipients of a parcel have it.
func partly(failure error) bool {
	var some *upstream.PartialError
	return errors.As(failure, &some)
}

// queue puts what the provider did not take into the outbox; false if that failed, too.
func (s *sender) queue(ctx context.Context, m *outgoing, p parcel, failure error) bool {
	log := s.log.With("message_id", m.messageID, "recipients", len(p.to))
	log.Warn("part of a message goes to the outbox", "cause", failure)
	err := s.bridge.outbox.Add(ctx, s.queued(m, p, failure))
	if err != nil {
		log.Error("part of a message could not be queued", "cause", err)
	}
	return err == nil
}

// queued is a parcel as the outbox takes it.
func (s *sender) queued(m *outgoing, p parcel, failure error) outbox.Item {
	return outbox.Item{Body: p.body.Reader(), Message: outbox.Message{
		Account: s.origin.Address(), MessageID: m.messageID, From: m.from, To: p.to, UTF8: m.utf8, Notice: p.notice(m),
		Queued: s.bridge.now(), LastError: failure.Error(),
	}}
}

// partlySent turns the verdicts about lost recipients into refusals; nil if there are none. The reply is a
// permanent one: at a temporary one the client would send to everybody again.
func partlySent(recipients []recipient, lost []string) *Refusal {
	if len(lost) == 0 {
		return nil
	}
	r := &Refusal{
		Reason: ReasonProvider, Code: 554, Enhanced: [3]int{5, 3, 0},
		Text: "the message was sent, but not to everybody. Send it again to these recipients alone",
	}
	for i, one := range recipients {
		if slices.Contains(lost, one.Address) {
			v := refuse(one.Verdict, ReasonLocal, "the provider did not take it, and it could not be queued")
			recipients[i].Verdict = v
			r.Recipients = append(r.Recipients, RecipientRefusal{Address: v.Address, Reason: v.Reason, Text: v.Text})
		}
	}
	return r
}

// record writes the decision log and notes which certificates were used. The message is
// with the provider by now (or refused), so a failure here is logged, not returned.
func (s *sender) record(ctx context.Context, m *outgoing, recipients []recipient) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	verdicts := make([]Verdict, len(recipients))
	for i, r := range recipients {
		verdicts[i] = r.Verdict
	}
	entries := make([]audit.Entry, len(recipients))
	for i, r := range recipients {
		s.bridge.metrics.Decided(r.Decision.String(), string(r.Reason))
		entries[i] = audit.Entry{
			Time: s.bridge.now(), Account: s.origin.account(m), Event: s.origin.event(), MessageID: m.messageID,
			Recipient: r.Address, Decision: r.Decision.String(), Rule: r.Rule, Reason: string(r.Reason), Detail: s.detail(m, r, Mixed(verdicts)),
		}
		if r.Decision == Encrypt && r.lookup.Certificate != nil {
			entries[i].Fingerprint = string(r.lookup.Certificate.Fingerprint())
		}
	}
	if err := s.bridge.audit.Append(ctx, entries...); err != nil {
		s.log.Error("the decision log could not be written", "message_id", m.messageID, "cause", err)
	}
	s.noteUse(ctx, recipients)
}

// detail is what else the log has to say: that the message was split, that a whole domain can read it, who reads along.
func (s *sender) detail(m *outgoing, r recipient, mixed bool) string {
	var details []string
	if mixed {
		details = append(details, "split")
	}
	if r.Decision == Encrypt && r.Rule != ruleCiphertext {
		if r.lookup.Source == sourcePartner {
			details = append(details, "domain certificate")
		}
		for _, c := range m.regime.Archive {
			details = append(details, "archive "+string(c.Fingerprint()))
		}
	}
	return strings.Join(details, "; ")
}

// useLasts is how exactly the last use of a certificate is known.
const useLasts = time.Minute

func (s *sender) noteUse(ctx context.Context, recipients []recipient) {
	for _, r := range recipients {
		noted := s.bridge.now().Sub(r.lookup.LastUsed).Abs() < useLasts
		if r.Decision != Encrypt || noted || r.lookup.Source == sourceOwn || r.lookup.Source == sourcePartner {
			continue
		}
		if err := s.bridge.contacts.Used(ctx, r.Address, s.bridge.now()); err != nil {
			s.log.Warn("use of a certificate could not be noted", "address", r.Address, "cause", err)
		}
	}
}
