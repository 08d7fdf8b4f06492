package imapd

import (
	"cmp"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/mirror"
)

// sortKey is one key of SORT (RFC 5256 §3, RFC 5957).
type sortKey struct {
	parts   mirror.DigestPart
	compare func(a, b *mirror.Digest) int
}

var sortKeys = map[string]sortKey{
	"ARRIVAL":     {0, func(a, b *mirror.Digest) int { return a.Arrival.Compare(b.Arrival) }},
	"DATE":        {0, func(a, b *mirror.Digest) int { return a.Sent.Compare(b.Sent) }},
	"SIZE":        {0, func(a, b *mirror.Digest) int { return cmp.Compare(a.Size, b.Size) }},
	"SUBJECT":     {mirror.DigestSubject, func(a, b *mirror.Digest) int { return strings.Compare(a.Subject, b.Subject) }},
	"FROM":        {mirror.DigestAddresses, func(a, b *mirror.Digest) int { return strings.Compare(a.From, b.From) }},
	"TO":          {mirror.DigestAddresses, func(a, b *mirror.Digest) int { return strings.Compare(a.To, b.To) }},
	"CC":          {mirror.DigestAddresses, func(a, b *mirror.Digest) int { return strings.Compare(a.Cc, b.Cc) }},
	"DISPLAYFROM": {mirror.DigestAddresses, func(a, b *mirror.Digest) int { return strings.Compare(a.DisplayFrom, b.DisplayFrom) }},
	"DISPLAYTO":   {mirror.DigestAddresses, func(a, b *mirror.Digest) int { return strings.Compare(a.DisplayTo, b.DisplayTo) }},
}

// sort answers SORT (RFC 5256).
func (s *session) sort(r *request) error {
	keys, parts, err := r.sortKeys()
	if err != nil {
		return err
	}
	found, err := s.findIn(r)
	if err != nil {
		return err
	}
	digests, err := s.digests(found, parts)
	if err != nil {
		return err
	}
	slices.SortFunc(digests, func(a, b mirror.Digest) int {
		for _, key := range keys {
			if c := key(&a, &b); c != 0 {
				return c
			}
		}
		return cmp.Compare(a.UID, b.UID) // the order of sequence numbers
	})
	r.numbers("SORT", r.numbersOf(digests, found))
	return nil
}

type comparison func(a, b *mirror.Digest) int

func (r *request) sortKeys() (keys []comparison, parts mirror.DigestPart, err error) {
	reverse := false
	err = r.list(func() error {
		name, err := r.word()
		key, ok := sortKeys[name]
		switch {
		case err != nil:
			return err
		case name == "REVERSE":
			reverse = true
			return nil
		case !ok:
			return refused("BAD Unknown sort key")
		}
		compare := comparison(key.compare)
		if reverse {
			compare = func(a, b *mirror.Digest) int { return key.compare(b, a) }
		}
		keys, parts, reverse = append(keys, compare), parts|key.parts, false
		return nil
	})
	if err == nil && (reverse || len(keys) == 0) {
		err = malformed
	}
	if err == nil {
		err = r.space()
	}
	return keys, parts, err
}

// findIn reads charset and keys, as SORT and THREAD have them, and searches.
func (s *session) findIn(r *request) ([]numbered, error) {
	keys := s.searchKeys(r)
	if err := s.readCharset(keys); err != nil {
		return nil, err
	}
	if err := r.space(); err != nil {
		return nil, err
	}
	criterion, err := keys.all()
	if err != nil {
		return nil, err
	}
	return s.find(criterion)
}

// digests reads what is to be compared of the messages found.
func (s *session) digests(found []numbered, parts mirror.DigestPart) ([]mirror.Digest, error) {
	box, err := s.selected()
	if err != nil {
		return nil, err
	}
	uids := make([]imap.UID, len(found))
	for i, n := range found {
		uids[i] = n.uid
	}
	digests, err := box.Digests(s.ctx, uids, parts)
	return digests, s.failed(err)
}

// numbersOf is what the messages are called in the response.
func (r *request) numbersOf(digests []mirror.Digest, found []numbered) []uint32 {
	numbers := make([]uint32, len(digests))
	for i, d := range digests {
		numbers[i] = numberOf(found, d.UID).number(r.uid)
	}
	return numbers
}

func numberOf(found []numbered, uid imap.UID) numbered {
	i, _ := slices.BinarySearchFunc(found, uid, func(n numbered, uid imap.UID) int { return cmp.Compare(n.uid, uid) })
	return found[i]
}
