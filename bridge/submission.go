package bridge

import (
	"bytes"
	"context"
	"io"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge/internal/keyring"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/upstream"
	"github.com/sealpost/sealpost/keydisc"
)

// neverSent are header fields that leave with no message: hidden recipients, what names
// the user's program and machine, what only we may write, and our own controls.
var neverSent = []string{
	"Bcc", "Resent-Bcc", "User-Agent", "X-Mailer", "X-Originating-IP", "Received", "Return-Path",
	"Autocrypt", "Autocrypt-Gossip", statusField, sealField, policyField,
}

const (
	statusField    = "X-Sealpost-Status"
	sealField      = "X-Sealpost-Seal"
	policyField    = "X-Sealpost-Policy"
	ruleCiphertext = "encrypted by the mail program"
)

// outgoing is a submitted message: spooled, normalised, its header read.
type outgoing struct {
	message    *spool.Spool // CRLF lines, without the fields that are never sent
	from       string       // envelope
	to         []string     // envelope, each address once
	utf8       bool
	notice     upstream.Notice
	client     Client          // who hands it in
	header     mimescan.Header // as it came
	ciphertext bool            // the mail program has encrypted it already
	regime     Regime          // what is in force for it, whatever is reloaded meanwhile
	ours       bool            // at a gateway: a user has written it, for whom we sign
	ring       *keyring.Ring   // of a gateway's user or a device; nil: nobody signs
	fromFields []string        // values of From
	author     string          // the address in From, normalised; "" unless there is exactly one
	authors    []string        // all that From names, normalised
	certain    bool            // From can be read; otherwise authors are guessed
	senders    []string        // values of Sender
	messageID  string
	references []string        // Message-IDs of what it answers or forwards
	visible    map[string]bool // addresses in To and Cc, normalised
	force      Force
	subject    *string // without the tag it had; nil: as it is
}

func (m *outgoing) Close() { _ = m.message.Close() }

// receive spools the message and reads its header: as it will leave, because line ends decide
// what is a field.
func (s *sender) receive(ctx context.Context, e Envelope, r io.Reader) (*outgoing, error) {
	raw, err := s.spoolLines(r)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	root, err := mimescan.Scan(raw)
	if err != nil {
		return nil, localRefusal(err)
	}
	header, err := mimescan.ReadHeader(raw, root.Header)
	if err != nil || len(header) == 0 || root.Limited { // beyond the limit another From might hide
		return nil, &Refusal{Reason: ReasonMalformed, Text: "the message has no header that can be read", Err: err}
	}
	m, err := readHeader(e, header, s.bridge.Policy())
	if err != nil {
		return nil, err
	}
	if m.ciphertext, err = encryptedAlready(raw); err != nil {
		return nil, localRefusal(err)
	}
	if err := s.origin.meet(ctx, m); err != nil {
		return nil, localRefusal(err)
	}
	m.regime = s.origin.regime(append(m.authors, m.from)...)
	m.message, err = s.complete(m, header, raw)
	if err != nil {
		return nil, localRefusal(err)
	}
	return m, nil
}

// spoolLines spools a message with every line ending made CRLF.
func (s *sender) spoolLines(r io.Reader) (*spool.Spool, error) {
	limit := s.origin.MaxMessageSize()
	lines := spool.New(s.bridge.spoolDir)
	err := pgpmime.Normalise(lines, io.LimitReader(r, limit+1), nil, nil)
	switch {
	case err != nil:
		err = localRefusal(err)
	case lines.Size() > limit: // no line gets shorter
		err = tooLarge(spool.ErrTooLarge)
	default:
		return lines, nil
	}
	_ = lines.Close()
	return nil, err
}

// readHeader takes from the header what the journey needs.
func readHeader(e Envelope, h mimescan.Header, p Policy) (*outgoing, error) {
	m := &outgoing{
		from: e.From, to: mailboxesOf(e.To), utf8: e.UTF8, notice: e.Notice, client: e.Client, header: h,
		fromFields: h.Values("From"), senders: h.Values("Sender"),
		messageID:  h.Get("Message-ID"),
		references: messageIDs(h, "In-Reply-To", "References", "X-Forwarded-Message-Id"),
		visible:    map[string]bool{},
	}
	if m.authors, m.certain = authorsIn(m.fromFields); m.certain && len(m.authors) == 1 {
		m.author = m.authors[0]
	}
	for _, name := range []string{"To", "Cc", "Resent-To", "Resent-Cc"} {
		for _, value := range h.Values(name) {
			for _, address := range addressesIn(value) {
				m.visible[normalized(address)] = true
			}
		}
	}
	var err error
	if m.force, err = wishOf(h); err != nil {
		return nil, err
	}
	wish, subject := p.tagged(h)
	if wish == ForceNothing {
		return m, nil
	}
	if m.force != ForceNothing && m.force != wish {
		return nil, &Refusal{Reason: ReasonMalformed, Text: policyField + " and the tag in the subject contradict each other. Leave one of them out"}
	}
	m.force, m.subject = wish, &subject
	return m, nil
}

// wishOf is the sender's wish for this message. One that cannot be read, or more than one, is refused: the
// stricter might be meant.
func wishOf(h mimescan.Header) (Force, error) {
	wishes := h.Values(policyField)
	for _, f := range h {
		if f.Name == "" && bytes.Contains(bytes.ToLower(f.Raw), []byte(strings.ToLower(policyField))) {
			wishes = append(wishes, "") // as good as a field, but for a line break before the colon
		}
	}
	if len(wishes) == 0 {
		return ForceNothing, nil
	}
	wish := Force(strings.ToLower(wishes[0]))
	if len(wishes) > 1 || wish != ForceRequire && wish != ForceClear {
		return ForceNothing, &Refusal{Reason: ReasonMalformed, Text: policyField + " must be there once, with the value require or clear. Correct it or leave it out"}
	}
	return wish, nil
}

// complete drops what is never sent and adds what a message must have (RFC 6409 §8.2, §8.3).
func (s *sender) complete(m *outgoing, h mimescan.Header, lines *spool.Spool) (*spool.Spool, error) {
	add := s.origin.trace(m)
	if m.messageID == "" {
		m.messageID = newMessageID(m.author)
		add = append(add, pgpmime.Field{Name: "Message-ID", Value: m.messageID})
	}
	if h.Get("Date") == "" {
		add = append(add, pgpmime.Field{Name: "Date", Value: s.bridge.now().UTC().Format(time.RFC1123Z)})
	}
	drop := s.origin.neverSent(m)
	if m.subject != nil {
		drop, add = append(slices.Clone(drop), "Subject"), append(add, subjectField(*m.subject))
	}
	out := spool.New(s.bridge.spoolDir)
	if err := pgpmime.Normalise(out, lines.Reader(), drop, add); err != nil {
		_ = out.Close()
		return nil, err
	}
	return out, nil
}

// checkSender refuses mail that does not come from this account: in the envelope, in From
// (exactly one field with exactly one address, so that a signature speaks for it) and in Sender.
func (a *Account) checkSender(m *outgoing) error {
	if len(m.to) == 0 {
		return &Refusal{Reason: ReasonMalformed, Text: "the message has no recipients"}
	}
	if m.from != "" && !a.Owns(m.from) {
		return a.wrongSender(m.from)
	}
	if len(m.fromFields) != 1 {
		return &Refusal{Reason: ReasonMalformed, Text: "the message must have exactly one From field"}
	}
	if m.author == "" {
		return &Refusal{Reason: ReasonMalformed, Text: "the From field must hold exactly one address"}
	}
	if !a.Owns(m.author) {
		return a.wrongSender(m.author)
	}
	for _, field := range m.senders {
		sender, err := mail.ParseAddress(field)
		if err != nil || !a.Owns(sender.Address) {
			return a.wrongSender("the Sender field")
		}
	}
	return nil
}

func (a *Account) wrongSender(address string) *Refusal {
	return &Refusal{
		Reason: ReasonSender,
		Text:   address + " is not an address of this account (" + a.Address() + "). Choose another identity in the mail program, or add the address to aliases in the configuration",
	}
}

func tooLarge(err error) *Refusal {
	return &Refusal{Reason: ReasonTooLarge, Text: "the message is larger than the provider accepts once encrypted", Err: err}
}

// addressesIn is the addr-specs of an address list. A list that cannot be parsed yields
// none: its recipients are then treated as hidden ones, which discloses nothing.
func addressesIn(value string) []string {
	list, err := mail.ParseAddressList(value)
	if err != nil {
		return nil
	}
	specs := make([]string, len(list))
	for i, a := range list {
		specs[i] = a.Address
	}
	return specs
}

// mailboxesOf are the recipients of an envelope without those that are there twice. Alice@ and alice@ may be two: only the host of a mailbox knows
// (RFC 5321 §2.4).
func mailboxesOf(to []string) (all []string) {
	seen := map[string]bool{}
	for _, address := range to {
		local := address[:max(0, strings.LastIndexByte(address, '@'))]
		if key := local + "@" + domainOf(normalized(address)); !seen[key] {
			seen[key] = true
			all = append(all, address)
		}
	}
	return all
}

// unique leaves out addresses that are the same in another spelling.
func unique(to []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, address := range to {
		if !seen[normalized(address)] {
			seen[normalized(address)] = true
			out = append(out, address)
		}
	}
	return out
}

// normalized is an address for comparison; see keydisc.NormalizeAddress. Of what is no plain addr-spec,
// such as one with two dots in a row, only the domain is sure to have another spelling.
func normalized(address string) string {
	if plain, err := keydisc.NormalizeAddress(address); err == nil {
		return plain
	}
	address = strings.TrimSpace(address)
	at := strings.LastIndexByte(address, '@') + 1
	if domain, err := keydisc.NormalizeAddress("x@" + address[at:]); err == nil && at > 0 {
		return address[:at] + strings.TrimPrefix(domain, "x@")
	}
	return address
}
