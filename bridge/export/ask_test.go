package export

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/bridge/export/query"
)

// letter is a message as the oracle knows it: from its making, not from reading it.
type letter struct {
	address, mailbox      string
	from, subject, body   []string // words
	name, attached, inner []string // of an attachment; of the text in it; of a message attached
	date                  time.Time
	encrypted, locked     bool
	closed                bool // the attachment cannot be read
	uid                   uint32
}

var vocabulary = []string{"harbour", "plan", "plans", "merger", "Ünsinn", "東京"}

func drawLetter(t *rapid.T) *letter {
	words := func(label string, most int) []string {
		return rapid.SliceOfN(rapid.SampledFrom(vocabulary), 0, most).Draw(t, label)
	}
	l := &letter{
		address: rapid.SampledFrom([]string{alice, bob}).Draw(t, "custodian"), mailbox: rapid.SampledFrom([]string{"INBOX", "Archive"}).Draw(t, "mailbox"),
		from: words("from", 1), subject: words("subject", 2), body: words("body", 4),
		date: time.Date(2026, 1, rapid.IntRange(1, 9).Draw(t, "day"), rapid.IntRange(0, 23).Draw(t, "hour"), 0, 0, 0, time.FixedZone("", rapid.SampledFrom([]int{-8, 0, 9}).Draw(t, "zone")*3600)),
	}
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		l.locked = true
	case 1, 2, 3:
		l.encrypted = true
	}
	if rapid.Bool().Draw(t, "has an attachment") {
		l.name, l.attached = append(words("name", 2), "x"), words("attached", 3)
		l.closed = rapid.IntRange(0, 3).Draw(t, "closed") == 0
	}
	if rapid.IntRange(0, 2).Draw(t, "has a message") == 0 {
		l.inner = append(words("inner", 3), "inner")
	}
	return l
}

// text is the message as it is stored.
func (l *letter) text() string {
	join := func(words []string) string { return strings.Join(words, " ") }
	parts := "--b\nContent-Type: text/html; charset=utf-8\n\n<p>" + strings.Join(l.body, "</p><i></i> <b>") + "\n"
	if l.name != nil {
		data := []byte("\xff\xfe") // UTF-16: nobody finds it without reading it
		for _, r := range join(l.attached) {
			data = append(data, byte(r), byte(r>>8))
		}
		if l.closed {
			data = append([]byte{0, 1, 2}, data...)
		}
		parts += "--b\nContent-Type: application/octet-stream; name=\"=?utf-8?b?" + base64.StdEncoding.EncodeToString([]byte(join(l.name)+".bin")) +
			"?=\"\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(data) + "\n"
	}
	if l.inner != nil {
		parts += "--b\nContent-Type: message/rfc822\n\nSubject: about\nContent-Type: text/plain; charset=utf-8\n\n" + join(l.inner) + "\n"
	}
	mark := map[bool]string{true: encryptedMark}[l.encrypted] + map[bool]string{true: lockedMark}[l.locked]
	return mark + "From: " + join(l.from) + " <x@y.test>\nSubject: " + join(l.subject) + "\nDate: " + l.date.Format(time.RFC1123Z) +
		"\nContent-Type: multipart/mixed; boundary=b\n\n" + parts + "--b--\n"
}

// truth of a term, by looking at what the letter was made of.
func (l *letter) truth(t *query.Term) query.Truth {
	has := func(texts ...[]string) bool {
		return slices.ContainsFunc(texts, func(words []string) bool { return phraseIn(t.Value, words) })
	}
	hidden := func(known bool, open bool) query.Truth {
		if !known && open {
			return query.Unknown
		}
		return query.Of(known)
	}
	switch t.Field {
	case query.Any:
		return hidden(has(l.from, l.subject) || !l.locked && (has(l.name, l.body, l.inner) || !l.closed && has(l.attached)), l.locked || l.closed)
	case query.Subject:
		return hidden(has(l.subject), l.locked)
	case query.Body:
		return hidden(!l.locked && has(l.body), l.locked)
	case query.From:
		return query.Of(has(l.from))
	case query.Attachment:
		return hidden(!l.locked && has(l.name), l.locked)
	case query.AttachmentText:
		return hidden(!l.locked && (has(l.inner) || !l.closed && has(l.attached)), l.locked || l.closed)
	case query.In:
		return query.Of(l.mailbox == t.Value)
	case query.Is:
		return query.Of(l.encrypted)
	}
	return query.Of(!l.date.Before(t.When))
}

// phraseIn compares words one by one.
func phraseIn(phrase string, words []string) bool {
	var wanted []string
	for _, w := range strings.Fields(phrase) {
		wanted = append(wanted, strings.ToLower(w))
	}
	for i := range words {
		if i+len(wanted) > len(words) {
			return false
		}
		same := true
		for k, w := range wanted {
			have := strings.ToLower(words[i+k])
			stem, prefix := strings.CutSuffix(w, "*")
			same = same && (have == stem || prefix && strings.HasPrefix(have, stem))
		}
		if same {
			return true
		}
	}
	return false
}

func drawQuery(t *rapid.T, depth int) string {
	if depth > 0 {
		switch rapid.IntRange(0, 4).Draw(t, "shape") {
		case 0:
			return "(" + drawQuery(t, depth-1) + " AND " + drawQuery(t, depth-1) + ")"
		case 1:
			return "(" + drawQuery(t, depth-1) + " OR " + drawQuery(t, depth-1) + ")"
		case 2:
			return "NOT " + drawQuery(t, depth-1)
		}
	}
	switch rapid.IntRange(0, 6).Draw(t, "field") {
	case 0:
		return "in:" + rapid.SampledFrom([]string{"INBOX", "Archive"}).Draw(t, "mailbox")
	case 1:
		return "is:encrypted"
	case 2:
		return fmt.Sprintf("since:2026-01-0%d", rapid.IntRange(1, 9).Draw(t, "day"))
	}
	field := rapid.SampledFrom([]string{"", "", "", "subject:", "body:", "from:", "attachment:", "attachment-text:"}).Draw(t, "field of text")
	words := rapid.SliceOfN(rapid.SampledFrom([]string{"harbour", "PLAN", "plan*", "merger", "ünsinn", "東京", "plans"}), 1, 2).Draw(t, "words")
	return field + `"` + strings.Join(words, " ") + `"`
}

// The answer to any query is what a scan of every message gives that knows nothing of indexes, parts or charsets.
func TestAskAgainstScan(t *testing.T) {
	r := newRig(t)
	var letters []*letter
	for i := range 120 {
		l := rapid.Custom(drawLetter).Example(i)
		l.uid = r.deliver(l.address, l.mailbox, l.text())
		letters = append(letters, l)
	}
	rapid.Check(t, func(rt *rapid.T) {
		text := drawQuery(rt, 3)
		e, err := query.Parse(text, time.UTC)
		check(t, err)
		q := Question{Custodians: r.custodians, Query: e, EachTerm: rapid.Bool().Draw(rt, "each term")}
		if rapid.Bool().Draw(rt, "range") {
			q.Since, q.Until = time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC), time.Date(2026, 1, 7, 0, 0, 0, 0, time.UTC)
		}
		got := map[string]*Answer{}
		funnel := newAccounting([]string{alice, bob}, nil)
		check(t, q.Ask(t.Context(), quiet, func(a *Answer) error {
			funnel.count(a.Custodian, a.Outcome, 0, false, nil)
			got[fmt.Sprint(a.Custodian, a.Mailbox, a.UID)] = &Answer{Outcome: a.Outcome, Hits: a.Hits}
			return nil
		}))
		if len(got) != len(letters) || funnel.Total.Held != len(letters) || funnel.check(true) != nil {
			rt.Fatalf("%d answers about %d messages: %+v", len(got), len(letters), funnel)
		}
		for _, l := range letters {
			want := map[query.Truth]Outcome{query.True: Matching, query.False: NotMatching, query.Unknown: Undecided}[e.Eval(l.truth)]
			inRange := q.Since.IsZero() || !l.date.Before(q.Since) && l.date.Before(q.Until)
			if !inRange {
				want = OutOfRange
			}
			answer := got[fmt.Sprint(l.address, l.mailbox, l.uid)]
			if answer == nil || answer.Outcome != want {
				rt.Fatalf("%s: %v, not %s, of\n%s", text, answer, want, l.text())
			}
			for _, term := range query.Terms(e) {
				if hit := slices.Contains(answer.Hits, term); q.EachTerm && hit != (inRange && l.truth(term) == query.True) {
					rt.Fatalf("%s, %s: hit %v in\n%s", text, term, hit, l.text())
				}
			}
		}
	})
}
