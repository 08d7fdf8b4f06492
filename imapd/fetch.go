package imapd

import (
	"errors"
	"io"
	"math"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
)

// fetch is one FETCH (RFC 9051 §6.4.5). Everything about a message is prepared before the first
// byte of its response: what fails then leaves no half a response.
type fetch struct {
	session *session
	box     *selected
	w       *imapserver.FetchWriter
	options *imap.FetchOptions
	now     *mirror.Snapshot
	seen    []numbered // messages whose bodies were served without PEEK
	failure error      // the first reason why a message could not be served now
}

// Fetch serves what can be served. A message that is gone is left out (RFC 9051 §7.5.2); one that
// cannot be read now makes the command end in NO after the others.
func (s *session) Fetch(w *imapserver.FetchWriter, set imap.NumSet, o *imap.FetchOptions) error {
	box, err := s.selected()
	if err != nil {
		return err
	}
	if err := checkSections(o); err != nil {
		return err
	}
	f := &fetch{session: s, box: box, w: w, options: o, now: box.Snapshot()}
	messages := s.resolve(box, set)
	switch {
	case needsContent(o):
		err = f.contents(messages)
	case needsSummary(o):
		err = f.summaries(messages)
	default:
		err = f.states(messages)
	}
	if err != nil {
		return s.failed(err)
	}
	f.markSeen()
	return s.failed(f.failure)
}

// checkSections refuses BODY[MIME], which the library lets through (RFC 9051 §6.4.5.1).
func checkSections(o *imap.FetchOptions) error {
	for _, section := range o.BodySection {
		if section.Specifier == imap.PartSpecifierMIME && len(section.Part) == 0 {
			return bad("MIME needs a part number")
		}
	}
	return nil
}

// needsContent says whether the message itself has to be at hand.
func needsContent(o *imap.FetchOptions) bool {
	for _, section := range o.BodySection {
		if !isHeader(section) {
			return true
		}
	}
	return len(o.BinarySection)+len(o.BinarySectionSize) > 0
}

// isHeader says whether a section is the message's header or fields of it.
func isHeader(section *imap.FetchItemBodySection) bool {
	return section.Specifier == imap.PartSpecifierHeader && len(section.Part) == 0
}

// needsSummary says whether the message must have been opened at some time.
func needsSummary(o *imap.FetchOptions) bool {
	return o.Envelope || o.BodyStructure != nil || o.RFC822Size || len(o.BodySection) > 0
}

// states serves what is known without opening anything.
func (f *fetch) states(messages []numbered) error {
	for _, n := range messages {
		if err := f.write(n, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// summaries serves what is kept of every opened message.
func (f *fetch) summaries(messages []numbered) error {
	sequence := make(map[imap.UID]uint32, len(messages))
	uids := make([]imap.UID, 0, len(messages))
	for _, n := range messages {
		if find(f.now, n.uid) != nil {
			sequence[n.uid] = n.seq
			uids = append(uids, n.uid)
		}
	}
	return f.box.Summaries(f.session.ctx, uids, func(uid imap.UID, m *mirror.Summary, err error) error {
		if err != nil {
			return f.skip(err)
		}
		return f.write(numbered{sequence[uid], uid}, m, nil)
	})
}

// contents serves from the messages themselves.
func (f *fetch) contents(messages []numbered) error {
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

func (f *fetch) content(n numbered) error {
	c, err := f.box.Content(f.session.ctx, n.uid)
	if err != nil {
		return f.skip(err)
	}
	defer c.Message.Close()
	m := &mirror.Summary{Structure: c.Structure, Header: c.Header, Size: c.Message.Size(), Kind: c.Kind}
	return f.write(n, m, c.Message)
}

// skip notes why a message is not served.
func (f *fetch) skip(err error) error {
	if f.session.ctx.Err() != nil {
		return err
	}
	if !errors.Is(err, mirror.ErrExpunged) && f.failure == nil {
		f.failure = err
	}
	return nil
}

// write writes the response for one message, unless it is gone.
func (f *fetch) write(n numbered, m *mirror.Summary, message mimescan.Source) error {
	state := find(f.now, n.uid)
	if state == nil {
		return nil
	}
	r := &reply{options: f.options, state: state, summary: m, message: message}
	if err := r.prepare(); err != nil {
		return f.skip(err)
	}
	out := f.w.CreateMessage(n.seq)
	err := r.write(out)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		// Half a literal is written and nothing can follow it.
		f.session.log.Warn("imap: connection closed in the middle of a message", "uid", n.uid, "cause", err)
		_ = f.session.gate.Close()
		return err
	}
	if r.reads() && !hasFlag(state.Flags, imap.FlagSeen) {
		f.seen = append(f.seen, n)
	}
	return nil
}

// markSeen sets \Seen on what was read without PEEK; the library's Poll tells the client. That
// the provider cannot be reached for it does not make the answer wrong.
func (f *fetch) markSeen() {
	if len(f.seen) == 0 || f.box.readOnly {
		return
	}
	flags := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagSeen}}
	if err := f.box.Store(f.session.ctx, uidSet(f.seen), flags); err != nil {
		f.session.log.Info("imap: messages that were read could not be marked so", "cause", err)
	}
}

// reply is the response for one message.
type reply struct {
	options  *imap.FetchOptions
	state    *mirror.Message
	summary  *mirror.Summary // nil if only state is asked for
	message  mimescan.Source // nil if only headers and state are
	sections []content
	binaries []content
	sizes    []uint32
}

// content is the bytes of a section.
type content struct {
	size int64
	open func() io.Reader
}

// reads says whether the client has read the message (RFC 9051 §6.4.5: BODY[…] sets \Seen).
func (r *reply) reads() bool {
	for _, s := range r.options.BodySection {
		if !s.Peek {
			return true
		}
	}
	for _, s := range r.options.BinarySection {
		if !s.Peek {
			return true
		}
	}
	return false
}

// prepare finds all sections.
func (r *reply) prepare() error {
	for _, s := range r.options.BodySection {
		c, err := r.section(s)
		if err != nil {
			return err
		}
		r.sections = append(r.sections, c)
	}
	for _, s := range r.options.BinarySection {
		c, err := r.binary(s.Part)
		if err != nil {
			return err
		}
		r.binaries = append(r.binaries, c.partial(s.Partial))
	}
	for _, s := range r.options.BinarySectionSize {
		c, err := r.binary(s.Part)
		if err != nil {
			return err
		}
		r.sizes = append(r.sizes, uint32(min(c.size, math.MaxUint32)))
	}
	return nil
}

// write writes all items.
func (r *reply) write(out *imapserver.FetchResponseWriter) error {
	o := r.options
	if o.UID {
		out.WriteUID(r.state.UID)
	}
	if o.Flags {
		out.WriteFlags(validFlags(r.state.Flags, false))
	}
	if o.InternalDate {
		out.WriteInternalDate(r.state.InternalDate)
	}
	if o.RFC822Size {
		out.WriteRFC822Size(r.summary.Size)
	}
	if o.Envelope {
		out.WriteEnvelope(envelope(r.summary.Structure))
	}
	if o.BodyStructure != nil {
		out.WriteBodyStructure(bodyStructure(r.summary.Structure))
	}
	for i, s := range o.BinarySectionSize {
		out.WriteBinarySectionSize(s, r.sizes[i])
	}
	for i, s := range o.BodySection {
		if err := r.sections[i].write(out.WriteBodySection(s, r.sections[i].size)); err != nil {
			return err
		}
	}
	for i, s := range o.BinarySection {
		if err := r.binaries[i].write(out.WriteBinarySection(s, r.binaries[i].size)); err != nil {
			return err
		}
	}
	return nil
}

// write writes the bytes to a literal and closes it; too few of them are an error.
func (c content) write(literal io.WriteCloser) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{literal}, io.LimitReader(c.open(), c.size), make([]byte, 32<<10))
	return errors.Join(err, literal.Close())
}

// partial is the part of the content that <offset.size> asks for (RFC 9051 §6.4.5); beyond the
// end there is nothing.
func (c content) partial(p *imap.SectionPartial) content {
	if p == nil {
		return c
	}
	offset := min(max(p.Offset, 0), c.size)
	size := min(max(p.Size, 0), c.size-offset)
	return content{size: size, open: func() io.Reader { return &after{r: c.open(), skip: offset} }}
}

// after is a reader without its first bytes.
type after struct {
	r    io.Reader
	skip int64
}

func (a *after) Read(p []byte) (int, error) {
	if s, ok := a.r.(io.Seeker); ok && a.skip > 0 {
		if _, err := s.Seek(a.skip, io.SeekStart); err != nil {
			return 0, err
		}
		a.skip = 0
	}
	if a.skip > 0 {
		n, err := io.CopyN(io.Discard, a.r, a.skip)
		if a.skip -= n; err != nil {
			return 0, err
		}
	}
	return a.r.Read(p)
}
