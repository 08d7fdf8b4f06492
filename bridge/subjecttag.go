package bridge

import (
	"mime"
	"strings"

	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/mimescan"
)

// A sender's wish may stand in the subject, as a tag that the configuration names. It is taken out: the recipients
// have no use for it, and an answer would carry it back.

// tagged is the wish in a message's subject, and the subject without the tag; untagged if there is none.
func (p Policy) tagged(h mimescan.Header) (wish Force, subject string) {
	values := h.Values("Subject")
	if len(values) != 1 {
		return ForceNothing, ""
	}
	decoded, err := new(mime.WordDecoder).DecodeHeader(values[0])
	if err != nil {
		return ForceNothing, ""
	}
	for _, tag := range []struct {
		text string
		wish Force
	}{{p.TagRequire, ForceRequire}, {p.TagClear, ForceClear}} {
		if rest, ok := withoutTag(decoded, strings.TrimSpace(tag.text)); ok {
			return tag.wish, rest
		}
	}
	return ForceNothing, ""
}

// withoutTag takes the tag from the beginning or the end of a subject, in any case.
func withoutTag(subject, tag string) (string, bool) {
	subject = strings.TrimSpace(subject)
	if tag == "" || len(subject) < len(tag) {
		return subject, false
	}
	if head := subject[:len(tag)]; strings.EqualFold(head, tag) {
		return strings.TrimSpace(subject[len(tag):]), true
	}
	if tail := subject[len(subject)-len(tag):]; strings.EqualFold(tail, tag) {
		return strings.TrimSpace(subject[:len(subject)-len(tag)]), true
	}
	return subject, false
}

// subjectField is a Subject field, encoded where that is necessary (RFC 2047).
func subjectField(subject string) pgpmime.Field {
	return pgpmime.Field{Name: "Subject", Value: mime.QEncoding.Encode("utf-8", subject)}
}
