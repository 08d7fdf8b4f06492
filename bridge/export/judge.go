package export

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/export/extract"
	"github.com/sealpost/sealpost/bridge/export/query"
	"github.com/sealpost/sealpost/bridge/mirror"
)

// judged is a family about which a query is asked: first by what is known without its text, then, once that was read, for good.
type judged struct {
	*family
	read     bool
	possible func(t *query.Term) bool // whether the mirror's search finds the words of the term
	hidden   bool                     // there may be text that the mirror's search does not know
}

// truth of one term.
func (j *judged) truth(t *query.Term) query.Truth {
	switch t.Field {
	case query.Since, query.Until:
		if j.undated() {
			return query.Unknown
		}
		return query.Of(j.Sent().Before(t.When) == (t.Field == query.Until))
	case query.ReceivedSince, query.ReceivedUntil:
		return query.Of(j.Received.Before(t.When) == (t.Field == query.ReceivedUntil))
	case query.In:
		return query.Of(t.Names(j.Mailbox))
	case query.Custodian:
		return query.Of(t.Names(j.Custodian))
	case query.ID:
		return j.unlessCut(mirror.Fold(strings.Trim(t.Value, "<>")) == mirror.Fold(j.ID()))
	case query.Is:
		return j.state(t.Value)
	case query.Type, query.Attachment:
		return j.unlessClosed(j.hasAttachment(t))
	case query.From, query.To, query.Cc, query.Bcc, query.Participants:
		return j.unlessCut(j.participates(t))
	case query.Subject:
		return j.unlessClosed(t.In(mirror.Fold(j.Subject())))
	}
	return j.words(t)
}

// unlessClosed is the truth of something that a message which could not be opened may hide, or one that is not read as a whole.
func (j *judged) unlessClosed(found bool) query.Truth {
	if !found && j.Kind == mirror.Failed {
		return query.Unknown
	}
	return j.unlessCut(found)
}

// unlessCut is the truth of something that the rest of a header may hide that is too long to be read as a whole.
func (j *judged) unlessCut(found bool) query.Truth {
	if !found && j.Structure.Limited {
		return query.Unknown
	}
	return query.Of(found)
}

func (j *judged) hasAttachment(t *query.Term) bool {
	return slices.ContainsFunc(j.attachments(), func(d document) bool {
		if t.Field == query.Attachment {
			return d.named(t)
		}
		names := append(extract.Names(d.part), "")
		return slices.ContainsFunc(names, func(name string) bool { return t.IsType(d.part.MediaType, name) })
	})
}

// named says whether the words are in a name of the attachment.
func (d document) named(t *query.Term) bool {
	return slices.ContainsFunc(extract.Names(d.part), func(name string) bool { return t.In(mirror.Fold(name)) })
}

// fieldsOf are the names of the header fields of a participants' field.
var fieldsOf = map[query.Field][]string{query.From: {"From"}, query.To: {"To"}, query.Cc: {"Cc"}, query.Bcc: {"Bcc"},
	query.Participants: participants, query.Any: participants}

var participants = []string{"From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Resent-From", "Resent-To", "Resent-Cc"}

func (j *judged) participates(t *query.Term) bool {
	for _, name := range fieldsOf[t.Field] {
		if t.Address() == "" {
			if t.In(mirror.Fold(decoded(j.Header, name))) {
				return true
			}
			continue
		}
		for _, address := range addressesIn(j.Header, name) {
			if t.IsAddress(mirror.Fold(address)) {
				return true
			}
		}
	}
	return false
}

// words is the truth of a term about text.
func (j *judged) words(t *query.Term) query.Truth {
	if t.Field == query.Any && (t.In(mirror.Fold(j.Subject())) || j.participates(t) ||
		slices.ContainsFunc(j.attachments(), func(d document) bool { return d.named(t) })) {
		return query.True
	}
	switch {
	case j.Kind == mirror.Failed:
		return query.Unknown
	case j.read:
		return j.inText(t)
	case t.Field == query.AttachmentText && len(j.attachments()) == 0, !j.possible(t) && !j.hidden:
		return query.False
	}
	return query.Unknown
}

// inText looks into what was read; what could not be read leaves it open.
func (j *judged) inText(t *query.Term) query.Truth {
	open := false
	for i, d := range j.documents {
		if i == 0 && t.Field == query.AttachmentText || i > 0 && t.Field == query.Body {
			continue
		}
		if t.In(d.text.Folded) {
			return query.True
		}
		open = open || anyOpen(d.text.Skipped)
	}
	if open {
		return query.Unknown
	}
	return query.False
}

func anyOpen(skipped []extract.Skipped) bool {
	for _, s := range skipped {
		if s.Reason.Open() {
			return true
		}
	}
	return false
}

// state is the truth of "is:".
func (j *judged) state(value string) query.Truth {
	switch value {
	case "encrypted":
		return query.Of(j.status["encryption"] == "openpgp")
	case "sealed":
		return query.Of(j.Kind == mirror.Sealed)
	case "clear":
		return query.Of(j.Kind == mirror.Clear)
	case "failed":
		return query.Of(j.Kind == mirror.Failed)
	case "attached":
		return j.unlessClosed(len(j.attachments()) > 0)
	case "signed":
		return j.unlessClosed(j.isSigned())
	case "unsigned":
		if j.Kind == mirror.Failed {
			return query.Unknown
		}
		return query.Of(!j.isSigned())
	case "signature-good":
		return j.unlessClosed(j.status["signature"] == "good")
	case "signature-bad":
		return j.unlessClosed(j.status["signature"] == "bad" || j.status["signature"] == "mismatch")
	}
	return j.unlessClosed(j.status["trust"] == "verified" && j.status["signature"] == "good")
}

func (j *judged) isSigned() bool {
	return j.status["signature"] != "none" && j.status["signature"] != ""
}

// found are the UIDs that the mirror's search found for the words of each term.
type found map[*query.Term]map[imap.UID]bool

// criterion is what the mirror is asked for a term: whatever has its words has these.
func criterion(t *query.Term) mirror.Criterion {
	var all mirror.And
	for _, needle := range t.Needles() {
		all = append(all, mirror.Text(needle))
	}
	return all
}

// isNarrowed says whether a term is about text that the mirror can be asked for.
func isNarrowed(t *query.Term) bool {
	return t.Field == query.Any || t.Field == query.Body || t.Field == query.AttachmentText
}
