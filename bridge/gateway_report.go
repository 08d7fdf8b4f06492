package bridge

import (
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

// stripReport takes out of a report what it returns of the message, unless that is known to have come in clear: even its header has
// the subject. What stands beside the parts, where some programs look, too, is left out in any case.
func (g *Gateway) stripReport(ctx context.Context, m *outgoing) error {
	root, err := mimescan.Scan(m.message)
	if err != nil {
		return localRefusal(err)
	}
	if len(root.Children) < 2 || root.Limited || !tellsFate(root.Children[1]) {
		return &Refusal{Reason: ReasonMalformed, Text: "the report has no form in which it can be told what it quotes; it is not sent"}
	}
	parts := root.Children
	clear, err := g.returnsClear(ctx, m.message, parts[2:])
	if err != nil {
		return localRefusal(err)
	}
	if !clear {
		parts = parts[:2]
	}
	flat, err := saysInWords(m.message, parts[0])
	if err != nil {
		return localRefusal(err)
	}
	stripped := spool.New(g.bridge.spoolDir)
	if err := writeReport(stripped, m.message, root, parts, flat); err != nil {
		_ = stripped.Close()
		return localRefusal(err)
	}
	_ = m.message.Close()
	m.message = stripped
	return nil
}

// saysInWords says whether a report's first part is a text, as it should be, and quotes nothing.
func saysInWords(message *spool.Spool, first *mimescan.Part) (bool, error) {
	if first.MediaType != "text/plain" {
		return false, nil
	}
	ids, opened, err := quotedInText(message, first)
	return len(ids) == 0 && !opened, err
}

// returnsClear says whether all that a report returns is known to have come in clear.
func (g *Gateway) returnsClear(ctx context.Context, message *spool.Spool, returned []*mimescan.Part) (bool, error) {
	for _, p := range returned {
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
	return true, nil
}

// ownWords stand for a first part that quotes.
const ownWords = "Content-Type: text/plain; charset=us-ascii\r\n\r\nThis is a report about a message. Its text quoted the message and has been taken out.\r\n"

// writeReport writes some parts of a report as they are, but for the first if it is not flat.
func writeReport(w io.Writer, message *spool.Spool, root *mimescan.Part, parts []*mimescan.Part, flat bool) error {
	boundary := root.Params["boundary"]
	if _, err := io.Copy(w, io.NewSectionReader(message, root.Header.Start, root.Header.Len())); err != nil {
		return err
	}
	if !flat {
		parts = parts[1:]
		if _, err := fmt.Fprintf(w, "--%s\r\n%s", boundary, ownWords); err != nil {
			return err
		}
	}
	for _, p := range parts {
		if _, err := fmt.Fprintf(w, "--%s\r\n", boundary); err != nil {
			return err
		}
		if _, err := io.Copy(w, io.NewSectionReader(message, p.Header.Start, p.Body.End-p.Header.Start)); err != nil {
			return err
		}
		if _, err := io.WriteString(w, "\r\n"); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "--%s--\r\n", boundary)
	return err
}
