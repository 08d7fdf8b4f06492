package imapd

import (
	"slices"

	"github.com/sealpost/sealpost/bridge/mirror"
)

// byReferences is the REFERENCES algorithm of RFC 5256 §3; the numbers are its steps.
func byReferences(digests []mirror.Digest) []*container {
	t := threading{byID: map[string]*container{}}
	for i := range digests {
		t.add(&digests[i]) // (1)
	}
	roots := t.roots()            // (2)
	roots = prune(roots)          // (3)
	sortThreads(roots)            // (4)
	roots = mergeBySubject(roots) // (5)
	for _, root := range roots {  // (6)
		sortBelow(root)
	}
	sortThreads(roots)
	return roots
}

type threading struct {
	byID map[string]*container
	all  []*container // in the order made: maps have none
}

func (t *threading) container(id string) *container {
	c := t.byID[id]
	if c == nil {
		c = &container{}
		t.byID[id] = c
		t.all = append(t.all, c)
	}
	return c
}

// add is step 1: a message finds its place below the last of its references.
func (t *threading) add(d *mirror.Digest) {
	var parent *container
	for _, id := range d.References {
		c := t.container(id)
		if parent != nil && c.parent == nil && !above(c, parent) {
			c.setParent(parent)
		}
		parent = c
	}
	c := t.own(d)
	c.message = d
	// Its own references say best what it answers.
	if c.parent != nil {
		c.unlink()
	}
	if parent != nil && !above(c, parent) {
		c.setParent(parent)
	}
}

// own is the container of a message: one of its own if its Message-ID is missing or taken.
func (t *threading) own(d *mirror.Digest) *container {
	if d.MessageID != "" {
		if c := t.container(d.MessageID); c.message == nil {
			return c
		}
	}
	c := &container{}
	t.all = append(t.all, c)
	return c
}

// maxThread is how many generations a thread may have; one that goes on begins anew.
const maxThread = 1000

// above says whether c is in the line of ancestors: making it a child of the last would make a loop.
func above(c, below *container) bool {
	for n := 0; below != nil; below = below.parent {
		if n++; below == c || n > maxThread {
			return true
		}
	}
	return false
}

func (c *container) setParent(parent *container) {
	c.parent = parent
	parent.children = append(parent.children, c)
}

func (c *container) unlink() {
	i := slices.Index(c.parent.children, c)
	c.parent.children = slices.Delete(c.parent.children, i, i+1)
	c.parent = nil
}

// roots is step 2.
func (t *threading) roots() []*container {
	var roots []*container
	for _, c := range t.all {
		if c.parent == nil {
			roots = append(roots, c)
		}
	}
	return roots
}

// prune is step 3: containers without a message go, their children take their place, but not
// several at the top.
func prune(roots []*container) []*container {
	var kept []*container
	for _, c := range roots {
		pruneBelow(c)
		switch {
		case c.message != nil || len(c.children) > 1:
			kept = append(kept, c)
		case len(c.children) == 1:
			c.children[0].parent = nil
			kept = append(kept, c.children[0])
		}
	}
	return kept
}

// pruneBelow goes through a tree without recursion: references can make it as deep as they like.
func pruneBelow(root *container) {
	for _, c := range deepestFirst(root) {
		var kept []*container
		for _, child := range c.children {
			if child.message != nil {
				kept = append(kept, child)
				continue
			}
			for _, grandchild := range child.children {
				grandchild.parent = c
				kept = append(kept, grandchild)
			}
		}
		c.children = kept
	}
}

// deepestFirst lists a tree, every container after those below it.
func deepestFirst(root *container) []*container {
	list := []*container{root}
	for i := 0; i < len(list); i++ {
		list = append(list, list[i].children...)
	}
	slices.Reverse(list)
	return list
}

// first is the message that a thread is dated by and takes its subject from.
func (c *container) first() *mirror.Digest {
	for c.message == nil {
		c = c.children[0]
	}
	return c.message
}

// sortThreads orders siblings by the date of their first messages.
func sortThreads(siblings []*container) {
	for _, c := range siblings {
		if c.message == nil {
			sortThreads(c.children)
		}
	}
	slices.SortStableFunc(siblings, func(a, b *container) int { return bySent(a.first(), b.first()) })
}

// sortBelow is step 6.
func sortBelow(root *container) {
	for _, c := range deepestFirst(root) {
		slices.SortStableFunc(c.children, func(a, b *container) int { return bySent(a.first(), b.first()) })
	}
}

// mergeBySubject is step 5: threads of one base subject are one, unless it is empty.
func mergeBySubject(roots []*container) []*container {
	chosen := map[string]*container{}
	for _, c := range roots {
		subject := c.first().Subject
		if subject == "" {
			continue
		}
		old := chosen[subject]
		if old == nil || old.message != nil && c.message == nil ||
			old.message != nil && c.message != nil && old.first().Answer && !c.first().Answer {
			chosen[subject] = c
		}
	}
	var merged []*container
	for _, c := range roots {
		into := chosen[c.first().Subject]
		if into == nil || into == c {
			merged = append(merged, c)
		} else {
			join(into, c)
		}
	}
	for i, c := range merged {
		if c.parent != nil {
			merged[i] = c.parent // it has been put under a container of its own
		}
	}
	return merged
}

// join is step 5 (C): c becomes part of the thread chosen for its subject.
func join(into, c *container) {
	if into.parent != nil {
		into = into.parent
	}
	switch {
	case into.message == nil && c.message == nil:
		for _, child := range c.children {
			child.setParent(into)
		}
	case into.message == nil,
		c.message != nil && c.first().Answer && !into.first().Answer:
		c.setParent(into)
	default: // both are answers, or neither is: siblings
		both := &container{}
		into.setParent(both)
		c.setParent(both)
	}
}
