package bridge

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
)

// What was encrypted on its way in must not leave in clear because a program quotes it: an MTA in its report that a message could
// not be delivered, a rule that forwards, a vacation notice. All that passed the gateway on its way in bears our status field,
// and what was opened has its Message-ID in the journal.

// isReport says whether a message is an MTA's report (RFC 3464): from nobody, in the form of one, and by no user, who could write in that
// form what he likes.
func (g *Gateway) isReport(m *outgoing) bool {
	return m.from == "" && m.header.MediaType() == "multipart/report" && !slices.ContainsFunc(m.authors, g.isUser)
}

// isUser says whether an address is a user's, and not the name under which the company's MTA writes.
func (g *Gateway) isUser(address string) bool {
	local, _, _ := strings.Cut(address, "@")
	return g.Hosts(address) && !strings.EqualFold(local, "MAILER-DAEMON") && !strings.EqualFold(local, "postmaster")
}

// openedHere says whether a header is that of a message that was opened here, or of one of which that cannot be told.
func openedHere(h mimescan.Header) bool {
	values := h.Values(statusField)
	return len(values) > 0 && !cameInClear(values)
}

func cameInClear(values []string) bool {
	if len(values) != 1 {
		return false
	}
	encryption, _, _ := strings.Cut(values[0], ";")
	encryption = strings.TrimSpace(encryption)
	return encryption == "encryption=none" || encryption == "encryption=failed"
}

// quotations are what a message shows of others: messages inside, whole or their headers, and if told so what its texts quote.
type quotations struct {
	inTexts bool
	dir     string   // of spools
	ids     []string // Message-IDs
	opened  bool     // one was opened here, or that cannot be told
}

func (g *Gateway) quotedMessages(message *spool.Spool, inTexts bool) (ids []string, opened bool, err error) {
	q := &quotations{inTexts: inTexts, dir: g.bridge.spoolDir}
	err = q.scan(message, 0)
	return q.ids, q.opened, err
}

// maxWrapped is how often a message inside may be encoded in one that is, too.
const maxWrapped = 5

func (q *quotations) scan(message *spool.Spool, depth int) error {
	if depth > maxWrapped {
		q.opened = true
		return nil
	}
	root, err := mimescan.Scan(message)
	if err != nil {
		return err
	}
	return q.walk(message, root, depth)
}

func (q *quotations) walk(message *spool.Spool, p *mimescan.Part, depth int) error {
	if err := q.look(message, p, depth); err != nil {
		return err
	}
	for _, child := range p.Children {
		if err := q.walk(message, child, depth); err != nil {
			return err
		}
	}
	if p.Message != nil {
		return q.walk(message, p.Message, depth)
	}
	return nil
}

// look is about one part.
func (q *quotations) look(message *spool.Spool, p *mimescan.Part, depth int) error {
	switch {
	case quotes(p):
		h, err := quotedHeader(message, p)
		if err != nil {
			return err
		}
		q.ids, q.opened = append(q.ids, messageIDs(h, "Message-ID")...), q.opened || openedHere(h)
		if p.Message == nil {
			return q.unwrap(message, p, depth)
		}
	case q.inTexts && strings.HasPrefix(p.MediaType, "text/"):
		ids, opened, err := quotedInText(message, p)
		q.ids, q.opened = append(q.ids, ids...), q.opened || opened
		return err
	}
	return nil
}

// unwrap scans a message inside of which mimescan has seen no parts: encoded, or called something else.
func (q *quotations) unwrap(message *spool.Spool, p *mimescan.Part, depth int) error {
	inside, err := spool.FromReader(q.dir, mimescan.DecodeBody(message, p), message.Size())
	if err != nil {
		return err
	}
	defer inside.Close()
	return q.scan(inside, depth+1)
}

// The fields by which a message is known where a program quotes it in a text, in HTML, too.
var (
	shownID     = regexp.MustCompile(`(?i)message-id:\s*(?:<|&lt;)([^<>&\s]+)`)
	shownStatus = regexp.MustCompile(`(?i)` + statusField + `:[ \t]*([^\r\n<]*)`)
)

// maxQuotingText is how much of a text is looked at. Of a longer one it cannot be told what it quotes.
const maxQuotingText = 1 << 20

// quotedInText is for programs that quote without MIME, as old MTAs do in their reports.
func quotedInText(message *spool.Spool, p *mimescan.Part) (ids []string, opened bool, err error) {
	decoded, err := mimescan.Text(message, p)
	if err != nil {
		return nil, false, err
	}
	text, err := io.ReadAll(io.LimitReader(decoded, maxQuotingText+1))
	for _, match := range shownID.FindAllSubmatch(text, -1) {
		ids = append(ids, "<"+string(match[1])+">")
	}
	opened = len(text) > maxQuotingText
	for _, match := range shownStatus.FindAllSubmatch(text, -1) {
		opened = opened || !cameInClear([]string{string(match[1])})
	}
	return ids, opened, err
}

// quotes says whether a part is a message, or the header of one (RFC 2046 §5.2.1, RFC 6522 §4, RFC 6532 §3.7), or a file that programs show as
// a message.
func quotes(p *mimescan.Part) bool {
	switch p.MediaType {
	case "message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers":
		return true
	}
	isMail := func(name string) bool { return strings.HasSuffix(strings.ToLower(strings.TrimSpace(name)), ".eml") }
	return isMail(p.Params["name"]) || isMail(p.DispositionParams["filename"])
}

// quotedHeader is the header of a message inside, in whatever encoding: not all programs keep to the identity ones.
func quotedHeader(message *spool.Spool, p *mimescan.Part) (mimescan.Header, error) {
	raw, err := io.ReadAll(io.LimitReader(mimescan.DecodeBody(message, p), mimescan.MaxHeader))
	if err != nil {
		return nil, err
	}
	return mimescan.ParseHeader(raw), nil
}

// tellsFate says whether a part is the one of a report that programs read (RFC 3464, RFC 8098, RFC 6533).
func tellsFate(p *mimescan.Part) bool {
	switch p.MediaType {
	case "message/delivery-status", "message/global-delivery-status", "message/disposition-notification", "message/global-disposition-notification":
		return true
	}
	return false
}

// stripReport takes out of a report all but what has become of the message, unless that is known to have come in clear: the subject of an
// opened message stands in its header, in the words for people, and in the report's own subject.
func (g *Gateway) stripReport(ctx context.Context, m *outgoing) error {
	root, err := mimescan.Scan(m.message)
	if err != nil {
		return localRefusal(err)
	}
	if len(root.Children) < 2 || root.Limited || !tellsFate(root.Children[1]) {
		return &Refusal{Reason: ReasonMalformed, Text: "the report has no form in which it can be told what it quotes; it is not sent"}
	}
	clear, err := g.returnsClear(ctx, m.message, root.Children)
	if err != nil {
		return localRefusal(err)
	}
	header, err := mimescan.ReadHeader(m.message, root.Header)
	if err != nil {
		return localRefusal(err)
	}
	if !clear {
		header, root.Children = aboutNothing(header), root.Children[1:2]
	}
	stripped := spool.New(g.bridge.spoolDir)
	if err := writeReport(stripped, m.message, header, root); err != nil {
		_ = stripped.Close()
		return localRefusal(err)
	}
	_ = m.message.Close()
	m.message = stripped
	return nil
}

// returnsClear says whether all that a report returns, and it must be something, is known to have come in clear.
func (g *Gateway) returnsClear(ctx context.Context, message *spool.Spool, parts []*mimescan.Part) (bool, error) {
	flat, err := saysInWords(message, parts[0])
	if err != nil || !flat {
		return false, err
	}
	for _, p := range parts[2:] {
		if !quotes(p) {
			return false, nil
		}
		h, err := quotedHeader(message, p)
		if err != nil || !cameInClear(h.Values(statusField)) {
			return false, err
		}
		if encrypted, err := g.bridge.journal.arrivedEncrypted(ctx, messageIDs(h, "Message-ID")); encrypted || err != nil {
			return false, err
		}
	}
	return len(parts) > 2, nil
}

// saysInWords says whether a report's first part is a text, as it should be, and quotes nothing.
func saysInWords(message *spool.Spool, first *mimescan.Part) (bool, error) {
	if first.MediaType != "text/plain" {
		return false, nil
	}
	ids, opened, err := quotedInText(message, first)
	return len(ids) == 0 && !opened, err
}

// ofReports are the header fields of a report that say nothing of the message it is about (RFC 5322 §3.6, RFC 3834 §5). Programs add others, with
// its subject in them.
var ofReports = []string{"Return-Path", "Received", "From", "To", "Cc", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted", "MIME-Version", "Content-Type"}

// aboutNothing is a report's header that does not tell which message it is about.
func aboutNothing(h mimescan.Header) mimescan.Header {
	h = slices.DeleteFunc(h, func(f mimescan.Field) bool {
		return !slices.ContainsFunc(ofReports, func(name string) bool { return strings.EqualFold(f.Name, name) })
	})
	return append(h, mimescan.Field{Name: "Subject", Raw: []byte("Subject: Report about a message\r\n")})
}

// ownWords stand for those of the MTA.
const ownWords = "Content-Type: text/plain; charset=us-ascii\r\n\r\nThis is a report about a message. What became of it is in the next part. What the message says\r\n" +
	"is not returned: it may have been encrypted on its way.\r\n"

// writeReport writes the parts of a report, with our words before them if those of the MTA are none of them, and without what stands beside the
// parts, where some programs look, too.
func writeReport(w io.Writer, message *spool.Spool, h mimescan.Header, root *mimescan.Part) error {
	var head bytes.Buffer
	for _, f := range h {
		head.Write(f.Raw)
	}
	head.WriteString("\r\n")
	if tellsFate(root.Children[0]) {
		fmt.Fprintf(&head, "--%s\r\n%s", root.Params["boundary"], ownWords)
	}
	if _, err := head.WriteTo(w); err != nil {
		return err
	}
	return writeParts(w, message, root)
}

func writeParts(w io.Writer, message *spool.Spool, root *mimescan.Part) error {
	for _, p := range root.Children {
		if _, err := fmt.Fprintf(w, "--%s\r\n", root.Params["boundary"]); err != nil {
			return err
		}
		if _, err := io.Copy(w, io.NewSectionReader(message, p.Header.Start, p.Body.End-p.Header.Start)); err != nil {
			return err
		}
		if _, err := io.WriteString(w, "\r\n"); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "--%s--\r\n", root.Params["boundary"])
	return err
}
