package export

import (
	"context"

	"github.com/sealpost/sealpost/bridge/export/extract"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
)

// document is one of a family: the message (number 0) or one of its attachments, those of attached messages included.
type document struct {
	part   *mimescan.Part // of the message: its root
	parent int            // number of the document it is attached to; -1: of none
	name   string
	text   extract.Result // once read
}

// family is a message and what is attached to it.
type family struct {
	*Message
	documents []document
	bodies    []*mimescan.Part // text that is the message's own
}

func newFamily(m *Message) *family {
	f := &family{Message: m, documents: []document{{part: m.Structure, parent: -1}}}
	if m.Kind == mirror.Failed { // its parts are those of the encryption
		f.documents[0].text.Skipped = []extract.Skipped{{Reason: extract.Locked}}
		return f
	}
	f.collect(m.Structure, 0)
	return f
}

// collect finds the attachments in a part, in order; owner is the document they belong to.
func (f *family) collect(p *mimescan.Part, owner int) {
	for _, child := range p.Children {
		f.collect(child, owner)
	}
	switch {
	case len(p.Children) > 0:
	case extract.IsAttachment(p):
		f.documents = append(f.documents, document{part: p, parent: owner, name: extract.Name(p)})
		if p.Message != nil {
			f.collect(p.Message, len(f.documents)-1)
		}
	case owner == 0:
		f.bodies = append(f.bodies, p)
	}
}

// attachments are the documents below the message.
func (f *family) attachments() []document { return f.documents[1:] }

// read fills in all texts. src is the message as the bridge has opened it.
func (f *family) read(ctx context.Context, src mimescan.Source) error {
	if f.Kind == mirror.Failed {
		return nil
	}
	for i := range f.documents {
		d := &f.documents[i]
		var err error
		if i == 0 {
			d.text, err = f.own(ctx, src)
		} else {
			d.text, err = extract.Part(ctx, src, d.part)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// own is the message's own text.
func (f *family) own(ctx context.Context, src mimescan.Source) (extract.Result, error) {
	var all extract.Result
	for _, p := range f.bodies {
		r, err := extract.Part(ctx, src, p)
		if err != nil {
			return all, err
		}
		all.Text += r.Text
		all.Folded += r.Folded
		all.Skipped = append(all.Skipped, r.Skipped...)
	}
	return all, nil
}
