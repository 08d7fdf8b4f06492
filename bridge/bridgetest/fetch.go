package bridgetest

import (
	"bufio"
	"bytes"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-message/textproto"
)

// Fetch serves whole messages, headers and texts from the very bytes that were stored.
func (s *session) Fetch(w *imapserver.FetchWriter, set imap.NumSet, o *imap.FetchOptions) error {
	list, marked := s.pickToFetch(set, o)
	for _, p := range list {
		if err := write(w.CreateMessage(p.seq()), p, o, marked); err != nil {
			return err
		}
	}
	return nil
}

// pickToFetch sets \Seen where a body is fetched without PEEK (RFC 3501 §6.4.5).
func (s *session) pickToFetch(set imap.NumSet, o *imap.FetchOptions) (list []picked, marked bool) {
	s.p.store.mu.Lock()
	defer s.p.store.mu.Unlock()
	list = s.view.pick(set)
	for _, section := range o.BodySection {
		marked = marked || !section.Peek
	}
	if !marked {
		return list, false
	}
	var unseen []picked
	for i := range list {
		if p := &list[i]; !p.m.has(imap.FlagSeen) {
			p.m.store(imap.StoreFlagsAdd, []imap.Flag{imap.FlagSeen})
			p.flags = p.m.flags
			unseen = append(unseen, *p)
		}
	}
	s.touched(unseen)
	return list, len(unseen) > 0
}

func write(w *imapserver.FetchResponseWriter, p picked, o *imap.FetchOptions, marked bool) error {
	w.WriteUID(p.m.uid)
	if o.Flags || marked {
		w.WriteFlags(p.flags)
	}
	if o.InternalDate {
		w.WriteInternalDate(p.m.date)
	}
	if o.RFC822Size {
		w.WriteRFC822Size(int64(len(p.m.bytes)))
	}
	if o.Envelope {
		w.WriteEnvelope(p.m.envelope())
	}
	if o.BodyStructure != nil {
		w.WriteBodyStructure(p.m.structure())
	}
	for _, section := range o.BodySection {
		b := p.m.section(section)
		literal := w.WriteBodySection(section, int64(len(b)))
		if _, err := literal.Write(b); err != nil {
			return err
		}
		if err := literal.Close(); err != nil {
			return err
		}
	}
	return w.Close()
}

func (m *message) envelope() *imap.Envelope {
	header, err := textproto.ReadHeader(bufio.NewReader(bytes.NewReader(m.bytes)))
	if err != nil {
		return &imap.Envelope{}
	}
	return imapserver.ExtractEnvelope(header)
}

// structure falls back to text/plain for a multipart without parts, which the library's writer panics on.
func (m *message) structure() imap.BodyStructure {
	structure := imapserver.ExtractBodyStructure(bytes.NewReader(m.bytes))
	sound := true
	structure.Walk(func(_ []int, part imap.BodyStructure) bool {
		multi, ok := part.(*imap.BodyStructureMultiPart)
		sound = sound && (!ok || len(multi.Children) > 0)
		return true
	})
	if !sound {
		return &imap.BodyStructureSinglePart{Type: "text", Subtype: "plain", Encoding: "8bit", Size: uint32(len(m.bytes))}
	}
	return structure
}

// section cuts BODY[], BODY[HEADER] and BODY[TEXT] out of the stored bytes; the library, which
// rewrites what it extracts, does for the rest.
func (m *message) section(o *imap.FetchItemBodySection) []byte {
	header, text := m.split()
	simple := len(o.Part) == 0 && len(o.HeaderFields) == 0 && len(o.HeaderFieldsNot) == 0
	switch {
	case simple && o.Specifier == imap.PartSpecifierNone:
		return partial(m.bytes, o.Partial)
	case simple && o.Specifier == imap.PartSpecifierHeader:
		return partial(header, o.Partial)
	case simple && o.Specifier == imap.PartSpecifierText:
		return partial(text, o.Partial)
	}
	return imapserver.ExtractBodySection(bytes.NewReader(m.bytes), o)
}

// split divides after the first empty line; without one, all is header.
func (m *message) split() (header, text []byte) {
	if at := bytes.Index(m.bytes, []byte("\r\n\r\n")); at >= 0 {
		return m.bytes[:at+4], m.bytes[at+4:]
	}
	return m.bytes, nil
}

func partial(b []byte, p *imap.SectionPartial) []byte {
	if p == nil {
		return b
	}
	from := min(max(p.Offset, 0), int64(len(b)))
	return b[from : from+min(max(p.Size, 0), int64(len(b))-from)]
}
