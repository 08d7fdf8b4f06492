package imapd

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// Search answers SEARCH with RFC 4731's return options and RFC 5182's SAVE.
func (s *session) Search(kind imapserver.NumKind, criteria *imap.SearchCriteria, o *imap.SearchOptions) (*imap.SearchData, error) {
	box, err := s.selected()
	if err != nil {
		return nil, err
	}
	s.resolveSaved(criteria)
	if o.ReturnSave {
		s.save(nil) // RFC 5182 §2.1: a search that fails leaves an empty result
	}
	known := box.view.list()
	found, err := box.Search(s.ctx, criteria, known)
	if err != nil {
		return nil, s.failed(err)
	}
	messages := number(found, known)
	if o.ReturnSave {
		s.save(savedUIDs(messages, o))
	}
	return searchData(kind, messages), nil
}

// number is the messages found that the client knows of, in order.
func number(found, known []imap.UID) []numbered {
	var messages []numbered
	for _, uid := range found {
		// The library's writer never returns from listing the highest of all UIDs.
		if i, ok := slices.BinarySearch(known, uid); ok && uid != math.MaxUint32 {
			messages = append(messages, numbered{uint32(i + 1), uid})
		}
	}
	return messages
}

// searchData is the result; All is never nil, on which the library would panic.
func searchData(kind imapserver.NumKind, messages []numbered) *imap.SearchData {
	data := &imap.SearchData{Count: uint32(len(messages))}
	uids, seqs := imap.UIDSet{}, imap.SeqSet{}
	for i, n := range messages {
		value := n.seq
		if kind == imapserver.NumKindUID {
			value = uint32(n.uid)
			uids.AddNum(n.uid)
		} else {
			seqs.AddNum(n.seq)
		}
		if i == 0 {
			data.Min = value
		}
		data.Max = value
	}
	data.All = seqs
	if kind == imapserver.NumKindUID {
		data.All = uids
	}
	return data
}

// savedUIDs is what SAVE keeps: with MIN or MAX and neither ALL nor COUNT only those
// (RFC 5182 §2.4). The library sets ReturnAll if nothing else is asked for.
func savedUIDs(messages []numbered, o *imap.SearchOptions) []imap.UID {
	if !o.ReturnAll && !o.ReturnCount && (o.ReturnMin || o.ReturnMax) && len(messages) > 0 {
		first, last := messages[0], messages[len(messages)-1]
		messages = nil
		if o.ReturnMin {
			messages = append(messages, first)
		}
		if o.ReturnMax && (!o.ReturnMin || last != first) {
			messages = append(messages, last)
		}
	}
	var uids []imap.UID
	for _, n := range messages {
		uids = append(uids, n.uid)
	}
	return uids
}

func (s *session) save(uids []imap.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved = uids
}

// resolveSaved replaces "$" by the saved result.
func (s *session) resolveSaved(c *imap.SearchCriteria) {
	for i, set := range c.UID {
		if imap.IsSearchRes(set) {
			c.UID[i] = append(imap.UIDSet{}, imap.UIDSetNum(s.saved...)...)
		}
	}
	for i := range c.Not {
		s.resolveSaved(&c.Not[i])
	}
	for i := range c.Or {
		s.resolveSaved(&c.Or[i][0])
		s.resolveSaved(&c.Or[i][1])
	}
}

// arity is how many arguments search keys take (RFC 9051 §9); the others take none, or keys.
var arity = map[string]int{
	"BCC": 1, "BEFORE": 1, "BODY": 1, "CC": 1, "FROM": 1, "KEYWORD": 1, "LARGER": 1, "ON": 1, "SENTBEFORE": 1, "SENTON": 1,
	"SENTSINCE": 1, "SINCE": 1, "SMALLER": 1, "SUBJECT": 1, "TEXT": 1, "TO": 1, "UID": 1, "UNKEYWORD": 1, "HEADER": 2, "CHARSET": 1,
}

// withoutSmaller says SMALLER n as NOT LARGER n-1 in the arguments of a SEARCH: the library's
// criteria lose SMALLER when a date or LARGER comes after it.
func withoutSmaller(args string) string {
	var out strings.Builder
	skip := 0
	for rest := args; rest != ""; {
		var word string
		word, rest = nextWord(rest)
		switch key := strings.ToUpper(word); {
		case word == "":
		case skip > 0:
			skip--
		case key == "SMALLER":
			number, tail := nextWord(strings.TrimPrefix(rest, " "))
			if n, err := strconv.ParseInt(number, 10, 64); err == nil {
				word, rest = notLarger(n-1), tail
			}
		default:
			skip = arity[key]
		}
		out.WriteString(word)
		for rest != "" && strings.IndexByte(" ()", rest[0]) >= 0 {
			out.WriteByte(rest[0])
			rest = rest[1:]
		}
	}
	return out.String()
}

func notLarger(n int64) string {
	if n < 0 {
		return "NOT ALL"
	}
	return "NOT LARGER " + strconv.FormatInt(n, 10)
}

// nextWord is the atom or quoted string that text begins with.
func nextWord(text string) (word, rest string) {
	if !strings.HasPrefix(text, `"`) {
		if end := strings.IndexAny(text, ` ()"`); end >= 0 {
			return text[:end], text[end:]
		}
		return text, ""
	}
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return text[:i+1], text[i+1:]
		}
	}
	return text, ""
}
