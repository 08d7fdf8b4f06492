package bridge

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
)

// What was encrypted on its way in must not leave in clear because a program quotes it: an MTA in its report that a message could
// not be delivered, a rule that forwards, a vacation notice. All that passed the gateway on its way in bears our status field,
// and what was opened has its Message-ID in the journal.

// isReport says whether a message is an MTA's report (RFC 3464): from nobody, and in the form of one.
func isReport(m *outgoing) bool { return m.from == "" && m.header.MediaType() == "multipart/report" }

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

// quotedMessages looks at the messages inside a message, whole or their headers: their Message-IDs, and whether one was opened
// here.
func quotedMessages(message *spool.Spool) (ids []string, opened bool, err error) {
	root, err := mimescan.Scan(message)
	if err != nil {
		return nil, false, err
	}
	var walk func(p *mimescan.Part) error
	walk = func(p *mimescan.Part) error {
		if quotes(p) {
			h, err := quotedHeader(message, p)
			if err != nil {
				return err
			}
			ids = append(ids, messageIDs(h, "Message-ID")...)
			opened = opened || openedHere(h)
		}
		for _, child := range p.Children {
			if err := walk(child); err != nil {
				return err
			}
		}
		if p.Message != nil {
			return walk(p.Message)
		}
		return nil
	}
	return ids, opened, walk(root)
}

// quotes says whether a part is a message, or the header of one (RFC 2046 §5.2.1, RFC 6522 §4, RFC 6532 §3.7).
func quotes(p *mimescan.Part) bool {
	switch p.MediaType {
	case "message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers":
		return true
	}
	return false
}

// quotedHeader is the header of a message inside, in whatever encoding: not all programs keep to the identity ones.
func quotedHeader(message *spool.Spool, p *mimescan.Part) (mimescan.Header, error) {
	raw, err := io.ReadAll(io.LimitReader(mimescan.DecodeBody(message, p), mimescan.MaxHeader))
	if err != nil {
		return nil, err
	}
	return mimescan.ParseHeader(raw), nil
}

// stripReport takes out of a report what it returns of the message, unless that is known to have come in clear. Even its header has
// the subject.
func (g *Gateway) stripReport(ctx context.Context, m *outgoing) error {
	root, err := mimescan.Scan(m.message)
	if err != nil {
		return localRefusal(err)
	}
	if len(root.Children) < 2 || root.Limited || root.Children[1].MediaType != "message/delivery-status" && root.Children[1].MediaType != "message/global-delivery-status" {
		return &Refusal{Reason: ReasonMalformed, Text: "the report has no form in which it can be told what it quotes; it is not sent"}
	}
	clear, err := g.returnsClear(ctx, m.message, root.Children[2:])
	if err != nil {
		return localRefusal(err)
	}
	if clear {
		return nil
	}
	stripped := spool.New(g.bridge.spoolDir)
	if err := writeParts(stripped, m.message, root, root.Children[:2]); err != nil {
		_ = stripped.Close()
		return localRefusal(err)
	}
	_ = m.message.Close()
	m.message = stripped
	return nil
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

// writeParts writes a multipart message with some of its parts, as they are.
func writeParts(w io.Writer, message *spool.Spool, root *mimescan.Part, parts []*mimescan.Part) error {
	boundary := root.Params["boundary"]
	if _, err := io.Copy(w, io.NewSectionReader(message, root.Header.Start, root.Header.Len())); err != nil {
		return err
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
