package imapd

import (
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/sealpost/sealpost/bridge/mirror"
)

// searchReturn is what a SEARCH is to return (RFC 4731 §3.1, RFC 5182 §2.1).
type searchReturn struct {
	given                      bool // there was RETURN (…)
	min, max, count, all, save bool
}

// search answers SEARCH.
func (s *session) search(r *request) error {
	wanted, err := r.searchReturn()
	if err != nil {
		return err
	}
	keys := s.searchKeys(r)
	if hasPrefixFold(r.rest, "CHARSET ") {
		r.rest = r.rest[len("CHARSET "):]
		if err := s.readCharset(keys); err != nil {
			return err
		}
		if err := r.space(); err != nil {
			return err
		}
	}
	criterion, err := keys.all()
	if err != nil {
		return err
	}
	if wanted.save {
		s.save(nil) // RFC 5182 §2.1: a search that fails leaves an empty result
	}
	found, err := s.find(criterion)
	if err != nil {
		return err
	}
	if wanted.save {
		s.save(wanted.saved(found))
	}
	r.searchResult(found, wanted, s.conn.EnabledCaps().Has(imap.CapIMAP4rev2))
	return nil
}

func (s *session) searchKeys(r *request) *searchKeys {
	k := &searchKeys{arguments: &r.arguments, saved: s.savedResult(), now: time.Now()}
	if box, err := s.selected(); err == nil {
		k.recent = box.view.recents()
	}
	return k
}

// searchReturn reads RETURN (…) if it is there.
func (r *request) searchReturn() (w searchReturn, err error) {
	if !hasPrefixFold(r.rest, "RETURN (") {
		return searchReturn{all: true}, nil
	}
	r.rest = r.rest[len("RETURN "):]
	w.given = true
	err = r.list(func() error {
		name, err := r.word()
		option := map[string]*bool{"MIN": &w.min, "MAX": &w.max, "COUNT": &w.count, "ALL": &w.all, "SAVE": &w.save}[name]
		if err != nil || option == nil {
			return refused("BAD Unknown return option")
		}
		*option = true
		return nil
	})
	if err == nil {
		err = r.space()
	}
	if w == (searchReturn{given: true}) { // RFC 4731 §3.1: () is (ALL)
		w.all = true
	}
	return w, err
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// readCharset reads a charset; RFC 6855 §3 forbids any once UTF-8 is enabled.
func (s *session) readCharset(k *searchKeys) error {
	name, err := k.astring()
	switch {
	case err != nil:
		return err
	case s.conn.EnabledCaps().Has(imap.CapUTF8Accept):
		return refused("BAD No CHARSET after ENABLE UTF8=ACCEPT")
	case strings.EqualFold(name, "UTF-8"), strings.EqualFold(name, "US-ASCII"):
		return nil
	}
	k.charset = name
	return checkCharset(name)
}

// find is the messages that match, of those the client knows of, in order.
func (s *session) find(c mirror.Criterion) ([]numbered, error) {
	box, err := s.selected()
	if err != nil {
		return nil, err
	}
	known := box.view.list()
	found, err := box.Search(s.ctx, c, known)
	if err != nil {
		return nil, s.failed(err)
	}
	messages := make([]numbered, 0, len(found))
	for _, uid := range found {
		if i, ok := slices.BinarySearch(known, uid); ok {
			messages = append(messages, numbered{uint32(i + 1), uid})
		}
	}
	return messages, nil
}

// number is what a message is called in the response.
func (n numbered) number(uid bool) uint32 {
	if uid {
		return uint32(n.uid)
	}
	return n.seq
}

// searchResult writes SEARCH, or ESEARCH where the client can take it (RFC 9051 §7.3.4).
func (r *request) searchResult(found []numbered, w searchReturn, rev2 bool) {
	numbers := make([]uint32, len(found))
	for i, n := range found {
		numbers[i] = n.number(r.uid)
	}
	if !w.given && !rev2 {
		r.numbers("SEARCH", numbers)
		return
	}
	if !w.min && !w.max && !w.count && !w.all {
		return // only SAVE (RFC 5182 §2.1)
	}
	r.raw("* ESEARCH (TAG ")
	r.text(r.tag)
	r.raw(")")
	if r.uid {
		r.raw(" UID")
	}
	r.returnData(numbers, w)
	r.raw("\r\n")
}

func (r *request) returnData(numbers []uint32, w searchReturn) {
	if n := len(numbers); n > 0 {
		if w.min {
			r.raw(" MIN ")
			r.num(int64(numbers[0]))
		}
		if w.max {
			r.raw(" MAX ")
			r.num(int64(numbers[n-1]))
		}
		if w.all {
			r.raw(" ALL ")
			r.ranges(numbers)
		}
	}
	if w.count {
		r.raw(" COUNT ")
		r.num(int64(len(numbers)))
	}
}

// numbers writes a response that is a list of numbers.
func (r *request) numbers(name string, numbers []uint32) {
	r.raw("* ", name)
	for _, n := range numbers {
		r.raw(" ")
		r.num(int64(n))
	}
	r.raw("\r\n")
}

// saved is what SAVE keeps: with MIN or MAX and neither ALL nor COUNT only those (RFC 5182 §2.4).
func (w searchReturn) saved(found []numbered) []imap.UID {
	if !w.all && !w.count && (w.min || w.max) && len(found) > 0 {
		first, last := found[0], found[len(found)-1]
		found = nil
		if w.min {
			found = append(found, first)
		}
		if w.max && (!w.min || last != first) {
			found = append(found, last)
		}
	}
	var uids []imap.UID
	for _, n := range found {
		uids = append(uids, n.uid)
	}
	return uids
}

func (s *session) save(uids []imap.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved = uids
}

func (s *session) savedResult() []imap.UID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved
}

// Search is for the library, which never gets to see the command: see verbs.
func (s *session) Search(imapserver.NumKind, *imap.SearchCriteria, *imap.SearchOptions) (*imap.SearchData, error) {
	return nil, errNotSelected
}
