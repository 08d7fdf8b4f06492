package bridge

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"net/mail"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
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
	fromFields []string // values of From
	sender     string   // value of Sender, "" if absent
	messageID  string
	references []string
	visible    map[string]bool // addresses in To and Cc, normalised
	force      Force
}

func (m *outgoing) Close() { _ = m.message.Close() }

// receive spools the message and reads its header.
func (a *Account) receive(e Envelope, r io.Reader) (*outgoing, error) {
	raw, err := spool.FromReader(a.bridge.spoolDir, r, a.MaxMessageSize())
	if errors.Is(err, spool.ErrTooLarge) {
		return nil, a.tooLarge(err)
	}
	if err != nil {
		return nil, localRefusal(err)
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
	m, err := readHeader(e, header)
	if err != nil {
		return nil, err
	}
	m.message, err = a.normalise(m, header, raw)
	if err != nil {
		return nil, localRefusal(err)
	}
	return m, nil
}

// readHeader takes from the header what the journey needs.
func readHeader(e Envelope, h mimescan.Header) (*outgoing, error) {
	m := &outgoing{
		from: e.From, to: unique(e.To), utf8: e.UTF8,
		fromFields: h.Values("From"), sender: h.Get("Sender"),
		messageID:  h.Get("Message-ID"),
		references: strings.Fields(h.Get("In-Reply-To") + " " + h.Get("References")),
		visible:    map[string]bool{},
	}
	for _, name := range []string{"To", "Cc", "Resent-To", "Resent-Cc"} {
		for _, value := range h.Values(name) {
			for _, address := range addressesIn(value) {
				m.visible[normalized(address)] = true
			}
		}
	}
	switch wish := Force(strings.ToLower(strings.TrimSpace(h.Get(policyField)))); wish {
	case ForceNothing, ForceRequire, ForceClear:
		m.force = wish
	default:
		return nil, &Refusal{Reason: ReasonMalformed, Text: policyField + " must be require or clear"}
	}
	return m, nil
}

// normalise makes line endings CRLF, drops what is never sent and adds what a message must
// have (RFC 6409 §8.2, §8.3).
func (a *Account) normalise(m *outgoing, h mimescan.Header, raw *spool.Spool) (*spool.Spool, error) {
	var add []pgpmime.Field
	if m.messageID == "" {
		m.messageID = newMessageID(a.Address())
		add = append(add, pgpmime.Field{Name: "Message-ID", Value: m.messageID})
	}
	if h.Get("Date") == "" {
		add = append(add, pgpmime.Field{Name: "Date", Value: a.bridge.now().UTC().Format(time.RFC1123Z)})
	}
	out := spool.New(a.bridge.spoolDir)
	if err := pgpmime.Normalise(out, raw.Reader(), neverSent, add); err != nil {
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
	from, err := mail.ParseAddressList(m.fromFields[0])
	if err != nil || len(from) != 1 {
		return &Refusal{Reason: ReasonMalformed, Text: "the From field must hold exactly one address", Err: err}
	}
	if !a.Owns(from[0].Address) {
		return a.wrongSender(from[0].Address)
	}
	if m.sender == "" {
		return nil
	}
	sender, err := mail.ParseAddress(m.sender)
	if err != nil || !a.Owns(sender.Address) {
		return a.wrongSender("the Sender field")
	}
	return nil
}

func (a *Account) wrongSender(address string) *Refusal {
	return &Refusal{
		Reason: ReasonSender,
		Text:   address + " is not an address of this account (" + a.Address() + "). Choose another identity in the mail program, or add the address to aliases in the configuration",
	}
}

func (a *Account) tooLarge(err error) *Refusal {
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

// normalized is an address for comparison. Local parts that differ only in case belong to
// the same person at every provider we know of; WKD thinks so too.
func normalized(address string) string { return strings.ToLower(strings.TrimSpace(address)) }

func newMessageID(address string) string {
	var random [16]byte
	_, _ = rand.Read(random[:])
	_, domain, _ := strings.Cut(address, "@")
	return "<" + hex.EncodeToString(random[:]) + "@" + domain + ">"
}
