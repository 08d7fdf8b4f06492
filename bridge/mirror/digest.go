package mirror

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/text/unicode/norm"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// Digest is what sorting, threading and previews need of a message (RFC 5256 §2 and §3).
// Strings are decoded and in the form in which they are compared, but for the preview and the Message-IDs.
type Digest struct {
	UID                    imap.UID
	Arrival                time.Time
	Sent                   time.Time // INTERNALDATE if the message has no Date that can be read
	Size                   int64
	Subject                string // base subject
	Answer                 bool   // the subject says that it is a reply or a forward
	From, To, Cc           string // local part of the first address
	DisplayFrom, DisplayTo string // RFC 5957
	MessageID              string
	References             []string // the oldest first
	Preview                string   // RFC 8970: at most 200 characters
}

// DigestPart is a part of Digest that costs memory; State is always there.
type DigestPart int

const (
	DigestSubject DigestPart = 1 << iota
	DigestAddresses
	DigestReferences
	DigestPreview
	DigestState DigestPart = 0
)

// Digests returns the digests of those of the UIDs, which are ascending, that can be opened. It
// opens what has not been; ErrOffline if that is impossible without the provider.
func (b *Mailbox) Digests(ctx context.Context, uids []imap.UID, parts DigestPart) ([]Digest, error) {
	defer runtime.KeepAlive(b)
	s := &search{box: b.box, view: b.snapshot()}
	in := make([]int, 0, len(uids))
	for _, uid := range uids {
		if i, ok := s.view.index(uid); ok {
			in = append(in, i)
		}
	}
	in, err := s.openAll(ctx, in)
	if err != nil || len(in) == 0 {
		return nil, err
	}
	found, err := s.digests(ctx, in, parts)
	if err != nil {
		return nil, fmt.Errorf("read the digests of mailbox %q: %w", s.view.Name, err)
	}
	return found, nil
}

// index is where a message is in the view.
func (s *Snapshot) index(uid imap.UID) (int, bool) {
	return slices.BinarySearchFunc(s.Messages, uid, func(m Message, uid imap.UID) int { return cmp.Compare(m.UID, uid) })
}

func (s *search) digests(ctx context.Context, in []int, parts DigestPart) ([]Digest, error) {
	low, high := s.view.Messages[in[0]].UID, s.view.Messages[in[len(in)-1]].UID
	rows, err := s.m.o.DB.Read().QueryContext(ctx, `SELECT m.uid, d.date, d.answer`+columns(parts)+`
		FROM message m JOIN digest d ON d.content = m.content
		WHERE m.mailbox = ? AND m.uid BETWEEN ? AND ? ORDER BY m.uid`, s.id, low, high)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	wanted := make(map[imap.UID]int, len(in))
	for _, i := range in {
		wanted[s.view.Messages[i].UID] = i
	}
	found := make([]Digest, 0, len(in))
	for rows.Next() {
		d, err := scanDigest(rows, parts)
		if err != nil {
			return nil, err
		}
		if i, ok := wanted[d.UID]; ok {
			d.Arrival, d.Size = s.view.Messages[i].InternalDate, s.view.Messages[i].Size
			if d.Sent.IsZero() {
				d.Sent = d.Arrival
			}
			found = append(found, d)
		}
	}
	return found, rows.Err()
}

func columns(parts DigestPart) string {
	names := ""
	if parts&DigestSubject != 0 {
		names += `, d.subject`
	}
	if parts&DigestAddresses != 0 {
		names += `, d.sender, d.recipient, d.copy, d.sender_name, d.recipient_name`
	}
	if parts&DigestReferences != 0 {
		names += `, d.message_id, d.refs`
	}
	if parts&DigestPreview != 0 {
		names += `, d.preview`
	}
	return names
}

func scanDigest(rows *sql.Rows, parts DigestPart) (d Digest, err error) {
	var date sql.NullInt64
	var refs string
	to := []any{&d.UID, &date, &d.Answer}
	if parts&DigestSubject != 0 {
		to = append(to, &d.Subject)
	}
	if parts&DigestAddresses != 0 {
		to = append(to, &d.From, &d.To, &d.Cc, &d.DisplayFrom, &d.DisplayTo)
	}
	if parts&DigestReferences != 0 {
		to = append(to, &d.MessageID, &refs)
	}
	if parts&DigestPreview != 0 {
		to = append(to, &d.Preview)
	}
	err = rows.Scan(to...)
	d.References = strings.Fields(refs)
	if date.Valid {
		d.Sent = time.Unix(date.Int64, 0)
	}
	return d, err
}

// digest reads structure, header and text of a message that has been opened.
func (o *opened) digest() error {
	root, err := mimescan.Scan(o.message)
	if err != nil {
		return err
	}
	if o.structure, err = json.Marshal(root); err != nil {
		return err
	}
	o.header = make([]byte, min(root.Header.Len(), keptHeader))
	if _, err := o.message.ReadAt(o.header, root.Header.Start); err != nil && err != io.EOF {
		return err
	}
	header := mimescan.ParseHeader(o.header)
	o.fields, o.sent = foldFields(header), sentDay(header)
	o.keys = digestOf(header)
	var text, seen strings.Builder
	err = eachText(o.message, root, func(piece string) error {
		if seen.Len() < previewFrom {
			seen.WriteString(piece[:min(len(piece), previewFrom)])
		}
		if piece = fold(piece); text.Len()+len(piece) > maxText {
			o.partial = true
			return errEnough
		}
		text.WriteString(piece)
		return nil
	})
	o.body, o.keys.Preview = text.String(), preview(seen.String())
	return err
}

func digestOf(header mimescan.Header) (d Digest) {
	subject, answer := baseSubject(mimescan.DecodeWords(header.Get("Subject")))
	d.Subject, d.Answer = collate(subject), answer
	if t, err := mimescan.ParseDate(header.Get("Date")); err == nil {
		d.Sent = t
	}
	d.From, d.DisplayFrom = firstAddress(header.Get("From"))
	d.To, d.DisplayTo = firstAddress(header.Get("To"))
	d.Cc, _ = firstAddress(header.Get("Cc"))
	if ids := messageIDs(header.Get("Message-ID")); len(ids) > 0 {
		d.MessageID = ids[0]
	}
	d.References = messageIDs(header.Get("References"))
	if answers := messageIDs(header.Get("In-Reply-To")); len(d.References) == 0 && len(answers) > 0 {
		d.References = answers[:1] // RFC 5256 §3, REFERENCES (1)
	}
	return d
}

// firstAddress is the local part of the first address and what it is displayed as; of a group
// its name, as ENVELOPE has it.
func firstAddress(list string) (mailbox, display string) {
	all := mimescan.ParseAddresses(list)
	if len(all) == 0 {
		return "", ""
	}
	a := all[0]
	display = a.Mailbox
	if a.Host != "" && a.Host != mimescan.MissingDomain {
		display += "@" + a.Host
	}
	return collate(a.Mailbox), collate(cmp.Or(mimescan.DecodeWords(a.Name), display))
}

// collate is the form in which strings are put in order: titlecase, decomposed (RFC 5051 §2).
func collate(s string) string {
	return norm.NFKD.String(strings.ToTitle(norm.NFKD.String(strings.ToValidUTF8(s, "\uFFFD"))))
}

// maxReferences bounds what is kept of a References field; the newest count.
const maxReferences = 100

// messageIDs are the identifiers in angle brackets, without these and without white space.
func messageIDs(s string) []string {
	var ids []string
	for {
		_, after, found := strings.Cut(s, "<")
		id, rest, closed := strings.Cut(after, ">")
		if !found || !closed {
			return ids[max(0, len(ids)-maxReferences):]
		}
		if id = strings.Join(strings.Fields(id), ""); id != "" {
			ids = append(ids, id)
		}
		s = rest
	}
}

const (
	previewFrom   = 8 << 10 // bytes of text that a preview is made from
	previewLength = 200     // characters (RFC 8970 §3.1)
)

// preview is the beginning of a text without what it quotes.
func preview(text string) string {
	var out strings.Builder
	n := 0
	for line := range strings.Lines(strings.ToValidUTF8(text, "")) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, ">") {
			continue
		}
		for word := range strings.FieldsSeq(strings.Map(visible, line)) {
			length := len([]rune(word))
			if n > 0 && n+1+length > previewLength {
				return out.String()
			}
			if n > 0 {
				out.WriteByte(' ')
				n++
			}
			word = string([]rune(word)[:min(length, previewLength-n)])
			out.WriteString(word)
			n += length
		}
	}
	return out.String()
}

func visible(r rune) rune {
	if unicode.IsControl(r) && r != '\t' || r == '\u200b' || r == '\u200c' || r == '\u00ad' || r == '\ufeff' {
		return -1
	}
	return r
}
