package export

import (
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
)

// Message is what is known of a message without reading its text.
type Message struct {
	Custodian   string
	Mailbox     string
	UIDValidity uint32
	UID         imap.UID
	Received    time.Time // INTERNALDATE
	Kind        mirror.Kind

	Header    mimescan.Header // without our status field
	Structure *mimescan.Part  // offsets are those of the message with it
	statusLen int64           // bytes of the status field on top
	status    map[string]string
	date      time.Time // of the Date field; zero if it cannot be read
}

// statusField is the one that the bridge puts on top of every message it has opened.
const statusField = "X-Sealpost-Status"

// madeByUs ends the Message-IDs that the bridge gives to opened mail which has none that is well-formed.
const madeByUs = "@sealpost.invalid>"

func newMessage(custodian string, view *mirror.Snapshot, m mirror.Message, s *mirror.Summary) (*Message, error) {
	root, err := s.Structure()
	if err != nil {
		return nil, err
	}
	found := &Message{Custodian: custodian, Mailbox: view.Name, UIDValidity: view.UIDValidity, UID: m.UID, Received: m.InternalDate,
		Kind: s.Kind, Header: mimescan.ParseHeader(s.Header), Structure: root}
	if len(found.Header) > 0 && strings.EqualFold(found.Header[0].Name, statusField) {
		found.status = statusOf(found.Header[0].Value())
		found.statusLen = int64(len(found.Header[0].Raw))
		found.Header = found.Header[1:]
	}
	found.date = sentAt(found.Header)
	return found, nil
}

// sentAt is the Date field's moment, in its own zone; zero if it cannot be read.
func sentAt(h mimescan.Header) time.Time {
	at, err := mimescan.ParseDate(h.Get("Date"))
	if err != nil || at.Year() < 1 || at.Year() > 9999 {
		return time.Time{}
	}
	return at
}

// statusOf are the parameters of the status field.
func statusOf(value string) map[string]string {
	status := map[string]string{}
	for parameter := range strings.SplitSeq(value, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		status[key] = value
	}
	return status
}

// Sent is when the message says it was sent; without a Date that can be read, when the provider got it.
func (m *Message) Sent() time.Time {
	if m.date.IsZero() {
		return m.Received
	}
	return m.date
}

// undated says whether there may be a Date in the rest of a header that is too long to be read as a whole.
func (m *Message) undated() bool { return m.date.IsZero() && m.Structure.Limited }

// ID is the Message-ID without angle brackets, "" if there is none, or only one that the bridge has made.
func (m *Message) ID() string {
	value := m.Header.Get("Message-ID")
	if strings.HasSuffix(value, madeByUs) {
		return ""
	}
	return strings.Trim(strings.TrimSpace(value), "<>")
}

// Subject is the decoded subject.
func (m *Message) Subject() string { return decoded(m.Header, "Subject") }

// decoded are the values of all fields of a name, decoded.
func decoded(h mimescan.Header, name string) string {
	var values []string
	for _, v := range h.Values(name) {
		values = append(values, strings.Join(strings.Fields(mimescan.DecodeWords(v)), " "))
	}
	return strings.Join(values, ", ")
}

// addressesIn is whatever may be an address in the fields of a name: in a malformed one, too, it is found.
func addressesIn(h mimescan.Header, name string) []string {
	values := h.Values(name)
	found := mimescan.LikelyAddresses(values...)
	for _, a := range mimescan.ParseAddresses(strings.Join(values, ", ")) {
		if a.Host != "" {
			found = append(found, a.Mailbox+"@"+a.Host)
		}
	}
	return found
}
