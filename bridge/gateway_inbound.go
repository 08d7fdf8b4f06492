package bridge

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/keydisc"
)

// How a message enters the company:
//
//	check     line ends are made CRLF; the recipients are users of ours; it is no loop; what is for the Web Key Service goes there (wkssubmission.go)
//	learn     the sender's certificate from an Autocrypt field
//	open      for each recipient with that one's own keys; judge and present as incoming.go does
//	deliver   what was opened in a transaction for that recipient alone; the rest byte for byte, but for the status field
//	record
//
// What cannot be opened is delivered as it is, but for bare line ends, and the status field says why.

// Inbound takes a message from the company's MTA; see Outbound.
func (g *Gateway) Inbound(ctx context.Context, e Envelope, message io.Reader, apart bool) (refused Refusals, err error) {
	start := time.Now()
	refused, err = g.arrive(ctx, e, message, apart)
	g.bridge.metrics.Delivered(resultOf(err), time.Since(start))
	return refused, err
}

func (g *Gateway) arrive(ctx context.Context, e Envelope, message io.Reader, apart bool) (refused Refusals, err error) {
	refused = Refusals{}
	for _, to := range e.To {
		if !g.Hosts(to) {
			refused.add(relayDenied(to), to)
		}
	}
	if len(refused) > 0 && (!apart || len(refused) == len(e.To)) {
		return nil, relayDenied(strings.Join(e.To, ", "))
	}
	m := &outgoing{from: e.From, utf8: e.UTF8, notice: e.Notice}
	for _, to := range mailboxesOf(e.To) {
		if refused.Of(to) == nil {
			m.to = append(m.to, to)
		}
	}
	return refused, g.enter(ctx, m, e.Client, message, apart, refused)
}

func relayDenied(address string) *Refusal {
	return &Refusal{Reason: ReasonRelay, Text: "relaying denied: " + address + " is in none of the gateway's domains"}
}

func (g *Gateway) enter(ctx context.Context, m *outgoing, c Client, message io.Reader, apart bool, refused Refusals) error {
	// Every line end is made CRLF before anything is read: the next hop takes no other, and a line end decides what is a field.
	raw, err := g.in.spoolLines(message)
	if err != nil {
		return err
	}
	defer raw.Close()
	header, err := mimescan.ReadTop(raw)
	if err != nil {
		return localRefusal(err)
	}
	if err := g.checkLoop(header, "inbound"); err != nil {
		return err
	}
	if i := slices.IndexFunc(m.to, g.isSubmission); i >= 0 {
		if refusal := g.takeSubmission(ctx, raw); refusal != nil && !apart {
			return refusal
		} else if refusal != nil {
			refused.add(refusal, m.to[i])
		}
		m.to = slices.Delete(m.to, i, i+1)
	}
	m.messageID = header.Get("Message-ID")
	return g.passOn(ctx, m, raw, c, apart, refused)
}

// passOn reads the message for its recipients and delivers it.
func (g *Gateway) passOn(ctx context.Context, m *outgoing, raw *spool.Spool, c Client, apart bool, refused Refusals) error {
	if len(m.to) == 0 {
		return nil
	}
	g.bridge.learnAutocrypt(ctx, raw, func(address string, _ *keydisc.Certificate) bool { return g.Hosts(address) })
	letters, err := g.read(ctx, raw, m.to)
	defer closeLetters(letters)
	if err != nil {
		return localRefusal(err)
	}
	parcels, err := g.dress(letters, c)
	defer closeAll(parcels)
	if err != nil {
		return localRefusal(err)
	}
	return g.deliver(ctx, m, parcels, letters, apart, refused)
}

// letter is a message as some recipients shall see it.
type letter struct {
	to      []string
	message *spool.Spool
	verdict verdict
	pass    bool // nobody has looked at it
}

func closeLetters(letters []letter) {
	for _, l := range letters {
		_ = l.message.Close()
	}
}

// read makes a letter for each recipient for whom the message could be opened, one for all others, and one for those who
// open theirs themselves.
func (g *Gateway) read(ctx context.Context, raw *spool.Spool, to []string) (letters []letter, err error) {
	passed, rest, err := g.partition(ctx, to)
	if err != nil {
		return nil, err
	}
	if len(passed) > 0 {
		l := letter{to: passed, pass: true, message: spool.New(g.bridge.spoolDir)}
		letters = append(letters, l)
		if err := pgpmime.WithoutStatus(l.message, raw); err != nil {
			return letters, err
		}
	}
	if len(rest) == 0 {
		return letters, nil
	}
	closed, err := g.readWith(ctx, raw, pgpmime.Keys{Own: rest})
	if err != nil {
		return letters, err
	}
	letters = append(letters, closed)
	shared := len(letters) - 1
	for _, address := range rest {
		if closed.verdict.encryption == pgpmime.EncryptionFailed {
			l, ok, err := g.readFor(ctx, raw, address)
			if err != nil {
				return letters, err
			}
			if ok {
				letters = append(letters, l)
				continue
			}
		}
		letters[shared].to = append(letters[shared].to, address)
	}
	return letters, nil
}

// partition divides recipients into those who open their mail themselves and the others.
func (g *Gateway) partition(ctx context.Context, to []string) (passed, rest []string, err error) {
	for _, address := range to {
		own, err := g.keepsOwnKey(ctx, address)
		if err != nil {
			return nil, nil, err
		}
		if own || slices.ContainsFunc(g.options.Pass, func(pattern string) bool { return matches(pattern, address) }) {
			passed = append(passed, address)
		} else {
			rest = append(rest, address)
		}
	}
	return passed, rest, nil
}

// readFor opens the message with one user's keys and his domain's; not ok if there are none.
func (g *Gateway) readFor(ctx context.Context, raw *spool.Spool, address string) (l letter, ok bool, err error) {
	keys, giveBack, err := g.keysFor(ctx, address)
	defer giveBack()
	if err != nil || len(keys.Decrypters) == 0 {
		return l, false, err
	}
	l, err = g.readWith(ctx, raw, keys)
	l.to = []string{address}
	return l, err == nil, err
}

// keysFor are lent until giveBack, which is never nil.
func (g *Gateway) keysFor(ctx context.Context, address string) (keys pgpmime.Keys, giveBack func(), err error) {
	keys.Own = []string{normalized(address)}
	giveBack, err = g.users.lend(ctx, &keys, address, domainRing(domainOf(normalized(address))))
	return keys, giveBack, err
}

// readWith opens the message with some keys, or none, and dresses it as incoming.go does. What was opened is journaled before anybody
// has it: answers to it stay encrypted.
func (g *Gateway) readWith(ctx context.Context, raw *spool.Spool, keys pgpmime.Keys) (letter, error) {
	result, signers, err := g.openWith(ctx, raw, keys)
	if err != nil {
		return letter{}, err
	}
	if result.Message != nil {
		if err := g.normalise(result); err != nil {
			return letter{}, err
		}
		defer result.Message.Close()
	}
	judged := g.fitting(*result)
	l := letter{verdict: judge(judged, signers)}
	if l.message, err = g.present(raw, judged, l.verdict.status()); err != nil {
		return letter{}, err
	}
	if l.verdict.encryption == pgpmime.EncryptionOpenPGP {
		l.message, err = g.journaled(ctx, l.message, raw)
	}
	return l, err
}

// journaled is an opened message that can be answered; it is closed if there is an error.
func (g *Gateway) journaled(ctx context.Context, message, raw *spool.Spool) (*spool.Spool, error) {
	hash := sha256.New()
	_, err := io.Copy(hash, raw.Reader())
	if err == nil {
		var ids []string
		if message, ids, err = g.answerable(message, raw, hash.Sum(nil)); err == nil {
			err = g.bridge.journal.noteEncrypted(ctx, gatewayInbound, ids)
		}
	}
	if err != nil {
		_ = message.Close()
	}
	return message, err
}

// normalise makes every line end of an opened message CRLF: programs encrypt what they find in a file.
func (g *Gateway) normalise(r *pgpmime.Result) error {
	opened, lines := r.Message, spool.New(g.bridge.spoolDir)
	defer opened.Close()
	if err := pgpmime.Normalise(lines, opened.Reader(), nil, nil); err != nil {
		return errors.Join(err, lines.Close())
	}
	r.Message = lines
	return nil
}

// fitting is the result, or one that could not be opened: a small message may open to more than the next hop takes, and is of more use
// closed than returned.
func (g *Gateway) fitting(r pgpmime.Result) *pgpmime.Result {
	if r.Encryption == pgpmime.EncryptionOpenPGP && r.Message != nil && r.Message.Size() > g.MaxInboundSize() {
		return &pgpmime.Result{Encryption: pgpmime.EncryptionFailed, Signature: pgpmime.SignatureNone, Reason: string(ReasonTooLarge)}
	}
	return &r
}

// dress puts the trace field on top of each letter. Nobody gets an empty one.
func (g *Gateway) dress(letters []letter, c Client) (parcels []parcel, err error) {
	for _, l := range letters {
		if len(l.to) == 0 {
			continue
		}
		p := parcel{to: l.to, body: spool.New(g.bridge.spoolDir), opened: l.verdict.encryption == pgpmime.EncryptionOpenPGP}
		parcels = append(parcels, p)
		trace := g.received("inbound", c)
		if _, err := fmt.Fprintf(p.body, "%s: %s\r\n", trace.Name, trace.Value); err != nil {
			return parcels, err
		}
		if _, err := io.Copy(p.body, l.message.Reader()); err != nil {
			return parcels, err
		}
	}
	return parcels, nil
}

// deliver hands over and records.
func (g *Gateway) deliver(ctx context.Context, m *outgoing, parcels []parcel, letters []letter, apart bool, refused Refusals) error {
	if apart {
		if err := handOverApart(ctx, g.inside, m, parcels, refused); err != nil {
			return err
		}
		g.recordDelivery(ctx, m, letters, refused)
		return nil
	}
	lost, err := g.in.handOver(ctx, m, parcels)
	if err != nil {
		return err
	}
	for _, address := range lost {
		refused.add(localRefusal(errNotQueued), address)
	}
	g.recordDelivery(ctx, m, letters, refused)
	if len(lost) == 0 {
		return nil
	}
	return partlyDelivered(lost)
}

// recordDelivery writes the decision log: an entry for each who has got the message.
func (g *Gateway) recordDelivery(ctx context.Context, m *outgoing, letters []letter, refused Refusals) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var entries []audit.Entry
	for _, l := range letters {
		if !l.pass && len(l.to) > 0 {
			g.bridge.metrics.Opened(string(l.verdict.encryption), string(l.verdict.signature))
		}
		for _, to := range l.to {
			if refused.Of(to) != nil {
				continue
			}
			entries = append(entries, audit.Entry{
				Time: g.bridge.now(), Account: normalized(to), Event: "deliver", MessageID: m.messageID, Recipient: to,
				Decision: l.done(), Fingerprint: string(l.verdict.signer), Reason: l.verdict.reason, Detail: "from <" + m.from + ">",
			})
		}
	}
	if err := g.bridge.audit.Append(ctx, entries...); err != nil {
		g.in.log.Error("the decision log could not be written", "message_id", m.messageID, "cause", err)
	}
}

// done is what was done to a letter, for the log.
func (l letter) done() string {
	if l.verdict.encryption == pgpmime.EncryptionOpenPGP {
		return "opened"
	}
	return "passed"
}
