package imapd

import (
	"slices"

	"github.com/sealpost/sealpost/bridge/mirror"
)

// thread answers THREAD (RFC 5256 §3).
func (s *session) thread(r *request) error {
	name, err := r.word()
	if err == nil {
		err = r.space()
	}
	if err != nil {
		return err
	}
	parts := mirror.DigestSubject
	build := bySubject
	switch name {
	case "ORDEREDSUBJECT":
	case "REFERENCES":
		parts, build = parts|mirror.DigestReferences, byReferences
	default:
		return refused("BAD Unknown threading algorithm")
	}
	found, err := s.findIn(r)
	if err != nil {
		return err
	}
	digests, err := s.digests(found, parts)
	if err != nil {
		return err
	}
	r.raw("* THREAD")
	if len(digests) > 0 {
		r.raw(" ")
	}
	number := func(d *mirror.Digest) uint32 { return numberOf(found, d.UID).number(r.uid) }
	for _, root := range build(digests) {
		r.threadOf(root, number)
	}
	r.raw("\r\n")
	return nil
}

// container is a message with those that answer it; without a message it is one that others
// refer to and that is not there (RFC 5256 §3, REFERENCES).
type container struct {
	message  *mirror.Digest
	parent   *container
	children []*container
}

// threadOf writes "(2 (3)(4 5))": a message, then its only child, or all its children in parentheses.
// It is a loop where a thread goes straight on: the recursion is no deeper than what was sent in
// answer to different messages.
func (r *request) threadOf(c *container, number func(*mirror.Digest) uint32) {
	r.raw("(")
	for first := true; ; first = false {
		if c.message != nil {
			if !first {
				r.raw(" ")
			}
			r.num(int64(number(c.message)))
		}
		if len(c.children) != 1 {
			break
		}
		c = c.children[0]
	}
	if len(c.children) > 0 {
		if c.message != nil {
			r.raw(" ")
		}
		for _, child := range c.children {
			r.threadOf(child, number)
		}
	}
	r.raw(")")
}

// bySent orders messages by their date, those of the same date as the mailbox has them.
func bySent(a, b *mirror.Digest) int {
	if c := a.Sent.Compare(b.Sent); c != 0 {
		return c
	}
	return int(int64(a.UID) - int64(b.UID))
}

// bySubject is ORDEREDSUBJECT: messages of one base subject, all answering the first.
func bySubject(digests []mirror.Digest) []*container {
	sorted := make([]*mirror.Digest, len(digests))
	for i := range digests {
		sorted[i] = &digests[i]
	}
	slices.SortFunc(sorted, bySent)
	first := map[string]*container{}
	var roots []*container
	for _, d := range sorted {
		c := &container{message: d}
		if root := first[d.Subject]; root != nil {
			root.children = append(root.children, c)
			continue
		}
		first[d.Subject] = c
		roots = append(roots, c)
	}
	return roots
}
