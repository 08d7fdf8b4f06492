// Package query is the language in which legal discovery asks for messages: a tree of terms that are
// true, false or unknown of a message.
//
//	query  = and *("OR" and)
//	and    = not *(["AND"] not)
//	not    = ["NOT" / "-"] primary
//	primary = "(" query ")" / [field ":"] (word / DQUOTE phrase DQUOTE / "(" query ")")
//
// AND, OR and NOT are written in capitals. A field before a parenthesis is that of every term in it which has none.
//
//	word, "a phrase"    in subject, participants, text, names and text of attachments
//	subject: body:      words in the subject; in the text that is no attachment
//	from: to: cc: bcc:  a whole address (alice@alpha.test), a domain (@alpha.test), or words of the field
//	participants:       any of from, to, cc, bcc
//	attachment:         words of an attachment's name
//	attachment-text:    words of an attachment's text, attached messages included
//	type:               an attachment's media type (application/pdf, image/*) or the end of its name (pdf)
//	in: custodian:      the mailbox, the account; "*" at the end stands for anything
//	is:                 encrypted sealed clear failed signed unsigned signature-good signature-bad verified attached
//	id:                 the Message-ID, with or without angle brackets
//	since: until:       when it was sent: a day (2026-01-31), whole and inclusive, or a moment (RFC 3339)
//	received-since: received-until:   when the provider got it
//
// A word is a run of letters, digits and combining marks; everything else separates words, so that alice@alpha.test
// is also the phrase "alice alpha test". Words match whole words without regard to case (i;unicode-casemap); "*" at
// the end of a word stands for the rest of it. Between scripts written without spaces (Han, Kana, Thai, Lao, Khmer, Burmese)
// a word may begin and end anywhere. The words of a phrase follow each other with nothing but separators between.
//
// Days begin and end in the time zone the query is parsed with: UTC unless the user names another. A message was
// sent when its Date field says; one without a Date that can be read, when the provider got it.
package query

import (
	"strconv"
	"strings"
	"time"
)

// Truth is what is known of a term and a message.
type Truth int

// The zero value is Unknown: nothing is left out because somebody forgot to say something.
const (
	Unknown Truth = iota
	False
	True
)

// Of is the Truth of what is known.
func Of(b bool) Truth {
	if b {
		return True
	}
	return False
}

// Field is what a term is about.
type Field string

// The fields; Any is that of a term without one.
const (
	Any            Field = ""
	Subject        Field = "subject"
	Body           Field = "body"
	From           Field = "from"
	To             Field = "to"
	Cc             Field = "cc"
	Bcc            Field = "bcc"
	Participants   Field = "participants"
	Attachment     Field = "attachment"
	AttachmentText Field = "attachment-text"
	Type           Field = "type"
	In             Field = "in"
	Custodian      Field = "custodian"
	Is             Field = "is"
	ID             Field = "id"
	Since          Field = "since"
	Until          Field = "until"
	ReceivedSince  Field = "received-since"
	ReceivedUntil  Field = "received-until"
)

// Fields are all that can be written, in the order of the documentation.
var Fields = []Field{Subject, Body, From, To, Cc, Bcc, Participants, Attachment, AttachmentText, Type, In, Custodian, Is, ID,
	Since, Until, ReceivedSince, ReceivedUntil}

// States are the values of "is:".
var States = []string{"encrypted", "sealed", "clear", "failed", "signed", "unsigned", "signature-good", "signature-bad", "verified", "attached"}

// Expr is a query: And, Or, Not or *Term.
type Expr interface {
	// Eval is the query's truth, from that of its terms (Kleene's logic).
	Eval(leaf func(*Term) Truth) Truth
	// String is the query in a form that parses to the same.
	String() string
}

// Combinations. And and Or have at least two members.
type (
	And []Expr
	Or  []Expr
	Not struct{ Expr }
)

// Term is one thing that is asked for.
type Term struct {
	Field Field
	Value string    // as written, without quotes
	When  time.Time // of the date fields: Since and the like from it on, Until and the like before it
	words []word
}

// Eval implements Expr.
func (a And) Eval(leaf func(*Term) Truth) Truth {
	all := True
	for _, e := range a {
		switch e.Eval(leaf) {
		case False:
			return False
		case Unknown:
			all = Unknown
		}
	}
	return all
}

// Eval implements Expr.
func (o Or) Eval(leaf func(*Term) Truth) Truth {
	any := False
	for _, e := range o {
		switch e.Eval(leaf) {
		case True:
			return True
		case Unknown:
			any = Unknown
		}
	}
	return any
}

// Eval implements Expr.
func (n Not) Eval(leaf func(*Term) Truth) Truth {
	switch n.Expr.Eval(leaf) {
	case True:
		return False
	case False:
		return True
	}
	return Unknown
}

// Eval implements Expr.
func (t *Term) Eval(leaf func(*Term) Truth) Truth { return leaf(t) }

func (a And) String() string { return join(a, " AND ") }
func (o Or) String() string  { return join(o, " OR ") }
func (n Not) String() string { return "NOT " + n.Expr.String() }

func join[E ~[]Expr](members E, by string) string {
	var texts []string
	for _, e := range members {
		texts = append(texts, e.String())
	}
	return "(" + strings.Join(texts, by) + ")"
}

func (t *Term) String() string {
	value := `"` + t.Value + `"` // a value never has a quote in it
	if !t.When.IsZero() {
		value = strconv.Quote(t.when())
	}
	if t.Field == Any {
		return value
	}
	return string(t.Field) + ":" + value
}

// when is the moment of a date term as one may write it.
func (t *Term) when() string {
	at := t.When
	if t.Field == Until || t.Field == ReceivedUntil {
		at = at.Add(-time.Nanosecond) // it was made exclusive
	}
	return at.UTC().Format(time.RFC3339Nano)
}

// Terms are all terms of a query in order.
func Terms(e Expr) []*Term {
	switch e := e.(type) {
	case *Term:
		return []*Term{e}
	case Not:
		return Terms(e.Expr)
	case And:
		return termsOf(e)
	case Or:
		return termsOf(e)
	}
	return nil
}

func termsOf(members []Expr) []*Term {
	var all []*Term
	for _, e := range members {
		all = append(all, Terms(e)...)
	}
	return all
}
