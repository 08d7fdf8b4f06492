package imapd

import (
	"errors"
	"io"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
)

// fetching is one FETCH (RFC 9051 §6.4.5). Everything about a message is prepared before the
// first byte of its response: what fails then leaves no half a response.
type fetching struct {
	session  *session
	box      *selected
	out      *output
	items    *fetchItems
	now      *mirror.Snapshot
	previews map[imap.UID]string
	ids      map[imap.UID]mirror.ObjectID
	seen     []numbered // messages whose bodies were served without PEEK
	failure  error      // the first reason why a message could not be served now
}

// fetch serves what can be served. A message that is gone is left out (RFC 9051 §7.5.2); one that
// cannot be read now makes the command end in NO after the others.
func (s *session) fetch(r *request) error {
	set, err := r.set()
	if err == nil {
		err = r.space()
	}
	if err != nil {
		return err
	}
	items, err := r.fetchItems()
	if err == nil {
		err = r.end()
	}
	if err == nil && (items.emailID || items.threadID) && !s.gate.objectIDs.Load() {
		err = malformed
	}
	if err != nil {
		return err
	}
	box, err := s.selected()
	if err != nil {
		return err
	}
	messages, err := s.resolve(box, set.of(r.uid))
	if err != nil {
		return err
	}
	items.uid = items.uid || r.uid
	f := &fetching{session: s, box: box, out: r.output, items: items, now: box.Snapshot()}
	if items.flags && items.reads() {
		f.markSeen(messages) // the flags shown are those after it (RFC 9051 §6.4.5)
	}
	if err := f.run(messages); err != nil {
		return s.failed(err)
	}
	f.markSeen(f.seen)
	return s.failed(f.failure)
}

func (f *fetching) run(messages []numbered) error {
	if err := f.lookUp(messages); err != nil {
		return err
	}
	switch {
	case f.items.needsMessage():
		return f.contents(messages)
	case f.items.needsSummary(), f.items.size && f.someUnopened(messages):
		return f.summaries(messages)
	}
	for _, n := range messages {
		if err := f.write(&reply{numbered: n}); err != nil {
			return err
		}
	}
	return nil
}

// someUnopened says whether the size of some message is not known yet.
func (f *fetching) someUnopened(messages []numbered) bool {
	for _, n := range messages {
		if m := find(f.now, n.uid); m != nil && m.Size < 0 {
			return true
		}
	}
	return false
}

// lookUp finds what comes for all messages at once.
func (f *fetching) lookUp(messages []numbered) error {
	if f.items.flags {
		if err := f.box.view.beforeFlags(f.out, f.now); err != nil {
			return err
		}
	}
	uids := make([]imap.UID, len(messages))
	for i, n := range messages {
		uids[i] = n.uid
	}
	if f.items.preview {
		digests, err := f.box.Digests(f.session.ctx, uids, mirror.DigestPreview)
		if err != nil {
			return err
		}
		f.previews = make(map[imap.UID]string, len(digests))
		for _, d := range digests {
			f.previews[d.UID] = d.Preview
		}
	}
	return f.lookUpIDs(uids)
}

// summaries serves what is kept of every opened message.
func (f *fetching) summaries(messages []numbered) error {
	sequence := make(map[imap.UID]uint32, len(messages))
	uids := make([]imap.UID, 0, len(messages))
	for _, n := range messages {
		if find(f.now, n.uid) != nil {
			sequence[n.uid] = n.seq
			uids = append(uids, n.uid)
		}
	}
	return f.box.Summaries(f.session.ctx, uids, func(uid imap.UID, m *mirror.Summary, err error) error {
		r := &reply{numbered: numbered{sequence[uid], uid}}
		if err == nil {
			r.size, r.header = m.Size, m.Header
			if f.items.needsStructure() {
				r.structure, err = m.Structure()
			}
		}
		if err != nil {
			return f.skip(err)
		}
		return f.write(r)
	})
}

// contents serves from the messages themselves.
func (f *fetching) contents(messages []numbered) error {
	for _, n := range messages {
		if find(f.now, n.uid) == nil {
			continue
		}
		if err := f.content(n); err != nil {
			return err
		}
	}
	return nil
}

func (f *fetching) content(n numbered) error {
	c, err := f.box.Content(f.session.ctx, n.uid)
	if err != nil {
		return f.skip(err)
	}
	defer c.Message.Close()
	return f.write(&reply{numbered: n, size: c.Message.Size(), header: c.Header, structure: c.Structure, message: c.Message})
}

// skip notes why a message is not served.
func (f *fetching) skip(err error) error {
	if f.session.ctx.Err() != nil {
		return err
	}
	if !errors.Is(err, mirror.ErrExpunged) && f.failure == nil {
		f.failure = err
	}
	return nil
}

// write writes the response for one message, unless it is gone.
func (f *fetching) write(r *reply) error {
	r.state = find(f.now, r.uid)
	if r.state == nil {
		return nil
	}
	if r.state.Size >= 0 {
		r.size = r.state.Size
	}
	if err := r.prepare(f.items); err != nil {
		return f.skip(err)
	}
	if err := f.respond(r); err != nil {
		// Half a literal is written and nothing can follow it.
		f.session.log.Warn("imap: connection closed in the middle of a message", "uid", r.uid, "cause", err)
		_ = f.session.gate.Close()
		return err
	}
	if f.items.reads() && !hasFlag(r.state.Flags, imap.FlagSeen) {
		f.seen = append(f.seen, r.numbered)
	}
	return nil
}

// markSeen sets \Seen on what was read without PEEK; the client is told with all other changes. That
// the provider cannot be reached for it does not make the answer wrong.
func (f *fetching) markSeen(messages []numbered) {
	unseen := slices.DeleteFunc(slices.Clone(messages), func(n numbered) bool {
		m := find(f.now, n.uid)
		return m == nil || hasFlag(m.Flags, imap.FlagSeen)
	})
	if len(unseen) == 0 || f.box.readOnly {
		return
	}
	flags := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagSeen}}
	if err := f.box.Store(f.session.ctx, uidSet(unseen), flags); err != nil {
		f.session.log.Info("imap: messages that were read could not be marked so", "cause", err)
	}
	f.now = f.box.Snapshot()
}

// reply is the response for one message.
type reply struct {
	numbered
	state     *mirror.Message
	size      int64
	header    []byte          // nil if neither sections nor structure are asked for
	structure *mimescan.Part  // nil if not needed
	message   mimescan.Source // nil if only headers and state are asked for
	sections  []content
}

// prepare finds all sections.
func (r *reply) prepare(items *fetchItems) error {
	for _, s := range items.sections {
		c, err := r.section(s)
		if err != nil {
			return err
		}
		r.sections = append(r.sections, c)
	}
	return nil
}

// respond writes all items.
func (f *fetching) respond(r *reply) error {
	o, first := f.out, true
	item := func(wanted bool, name string, value func()) {
		if !wanted {
			return
		}
		if !first {
			o.raw(" ")
		}
		first = false
		o.raw(name, " ")
		value()
	}
	o.raw("* ")
	o.num(int64(r.seq))
	o.raw(" FETCH (")
	item(f.items.uid, "UID", func() { o.num(int64(r.uid)) })
	item(f.items.flags, "FLAGS", func() { o.flags(f.box.view.flagsOf(r)) })
	item(f.items.date, "INTERNALDATE", func() { o.date(r.state.InternalDate) })
	item(f.items.size, "RFC822.SIZE", func() { o.num(r.size) })
	item(f.items.envelope, "ENVELOPE", func() { o.envelope(r.structure) })
	item(f.items.body, "BODY", func() { o.body(r.structure, false) })
	item(f.items.bodyStructure, "BODYSTRUCTURE", func() { o.body(r.structure, true) })
	item(f.items.preview, "PREVIEW", func() { o.text(f.previews[r.uid]) })
	id, ok := f.ids[r.uid]
	item(f.items.emailID && ok, "EMAILID", func() { o.objectID(id.Email) })
	item(f.items.threadID && ok, "THREADID", func() { o.objectID(id.Thread) })
	var err error
	for i, s := range f.items.sections {
		item(true, s.name, func() { err = errors.Join(err, r.sections[i].write(o, s)) })
	}
	o.raw(")\r\n")
	return err
}

// write writes the bytes as a literal; too few of them are an error.
func (c content) write(o *output, s *sectionItem) error {
	if s.sizeOnly {
		o.num(c.size)
		return nil
	}
	if s.binary && c.nul { // RFC 3516 §4.2: only a literal8 may hold NUL
		o.raw("~")
	}
	o.literal(c.size)
	n, err := io.Copy(o, io.LimitReader(c.open(), c.size))
	if err == nil && n < c.size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Fetch is for the library, which never gets to see the command: see verbs.
func (s *session) Fetch(*imapserver.FetchWriter, imap.NumSet, *imap.FetchOptions) error {
	return errNotSelected
}
