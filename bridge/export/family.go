package export

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
)

// family decides what becomes of a matching message and, if it is exported, writes its documents. One that
// went away meanwhile, or that the provider will not give, is unavailable.
func (x *run) family(ctx context.Context, a *Answer, r *row) error {
	err := x.writeFamily(ctx, a, r)
	if errors.Is(err, mirror.ErrExpunged) || isRefusal(err) {
		r.Outcome, r.Reason, r.Records, r.First, r.Identity = Unavailable, unavailable(err), nil, 0, ""
		return nil
	}
	return err
}

func (x *run) writeFamily(ctx context.Context, a *Answer, r *row) error {
	stored, err := a.stored(ctx)
	if err != nil {
		return err
	}
	if stored != nil {
		defer stored.Close()
	}
	message, err := a.ensure(ctx)
	if err != nil {
		return err
	}
	if r.Identity, err = identity(message, a.Message); err != nil {
		return err
	}
	ciphertext, err := storedHash(a, stored)
	if err != nil {
		return err
	}
	mark, copied := x.withheld[r.Identity]
	if !copied {
		mark = x.marks.of(a.ID(), ciphertext)
	}
	x.noteUse(a.ID(), ciphertext)
	if mark.Withhold { // before it can be a duplicate: a copy of it is withheld, too
		r.Outcome, r.Reason = Withheld, mark.Privilege
		r.Records = nil
		return nil
	}
	if r.Original, err = x.job.original(ctx, r.Identity); err != nil || r.Original != "" {
		r.Outcome = Duplicate
		return err
	}
	r.Outcome, r.First = Exported, x.job.last+1
	for i := range a.family.documents {
		record, err := x.document(a, i, r.First, message, stored)
		if err != nil {
			return err
		}
		record.Ciphertext, record.Privilege, record.Redacted, record.Mark = ciphertext, mark.Privilege, mark.Redacted, mark.Confidentiality
		r.Records = append(r.Records, *record)
	}
	return nil
}

// number is the DOCID, and with a prefix the Bates number, of the n-th document.
func (x *run) number(n int) string {
	if x.Bates != "" {
		return fmt.Sprintf("%s%08d", x.Bates, n)
	}
	return fmt.Sprintf("DOC%08d", n)
}

// document writes the files of one document of a family and describes it.
func (x *run) document(a *Answer, i, first int, message mimescan.Source, stored mirror.Blob) (*Record, error) {
	d := a.family.documents[i]
	r := &Record{DocID: x.number(first + i), BeginAttach: x.number(first), EndAttach: x.number(first + len(a.family.documents) - 1),
		Custodian: a.Custodian, AllCustodians: []string{a.Custodian}, Folder: a.Mailbox, UID: uint32(a.UID), UIDValidity: a.UIDValidity,
		Name: d.name, MediaType: d.part.MediaType, Extension: ending(d.name), Received: a.Received.UTC()}
	if x.Bates != "" {
		r.Begin, r.End = r.DocID, r.DocID
	}
	if d.parent >= 0 {
		r.Parent = x.number(first + d.parent)
	}
	for k, other := range a.family.documents {
		if other.parent == i {
			r.Attached = append(r.Attached, x.number(first+k))
		}
	}
	for _, s := range d.text.Skipped {
		what := "not searchable: " + string(s.Reason)
		if s.Name != "" {
			what += " (" + s.Name + ")"
		}
		r.Exception = append(r.Exception, what)
	}
	if err := x.head(r, a, i, message); err != nil {
		return nil, err
	}
	if i == 0 && a.kept != nil {
		r.Deleted = a.Departed()
		r.Exception = append(r.Exception, "kept by a hold: "+r.Deleted)
		if stored == nil {
			r.Exception = append(r.Exception, "what the provider had stored is lost; only what it said was kept")
		}
	}
	return r, x.writeFiles(r, a, i, message, stored)
}

// head describes a document that has a header: the message, or an attached one.
func (x *run) head(r *Record, a *Answer, i int, message mimescan.Source) error {
	nested := a.family.documents[i].part.Message
	switch {
	case i == 0:
		r.Extension = "eml"
		r.MediaType = "message/rfc822"
		r.describe(a.Header)
		r.verdict(a.Message)
	case nested != nil:
		header, err := mimescan.ReadHeader(message, nested.Header)
		if err != nil {
			return err
		}
		r.Extension = "eml"
		r.describe(header)
	}
	return nil
}

// writeFiles writes the native file, the text, and of a message what the provider stores.
func (x *run) writeFiles(r *Record, a *Answer, i int, message mimescan.Source, stored mirror.Blob) error {
	d := a.family.documents[i]
	native := func(w io.Writer) error {
		_, err := io.Copy(w, nativeOf(a, i, message))
		return err
	}
	f, err := x.sink.put("native/"+r.DocID+"."+r.Extension, native)
	if err != nil {
		return err
	}
	r.Native, r.MD5, r.Files = f.Path, f.MD5, append(r.Files, f)
	r.SHA256, r.Size = f.content()
	f, err = x.sink.put("text/"+r.DocID+".txt", func(w io.Writer) error {
		_, err := io.WriteString(w, d.text.Text)
		return err
	})
	if err != nil || i > 0 {
		r.Text, r.Files = f.Path, append(r.Files, f)
		return err
	}
	r.Text, r.Files = f.Path, append(r.Files, f)
	if stored == nil {
		return nil
	}
	f, err = x.sink.put("ciphertext/"+r.DocID+".eml", func(w io.Writer) error {
		_, err := io.Copy(w, all(stored))
		return err
	})
	r.CiphertextPath, r.Files = f.Path, append(r.Files, f)
	return err
}

// nativeOf are the bytes of a document: of the message as it was opened, without our field; of an attached
// message as it stands; of other attachments without their transfer encoding.
func nativeOf(a *Answer, i int, message mimescan.Source) io.Reader {
	part := a.family.documents[i].part
	switch {
	case i == 0:
		return io.NewSectionReader(message, a.statusLen, message.Size()-a.statusLen)
	case part.Message != nil:
		return io.NewSectionReader(message, part.Body.Start, part.Body.Len())
	}
	return mimescan.DecodeBody(message, part)
}

func all(src mimescan.Source) io.Reader { return io.NewSectionReader(src, 0, src.Size()) }

// storedHash is the digest of what the provider stores, also where that is lost and only its digest is known.
func storedHash(a *Answer, stored mimescan.Source) (string, error) {
	if a.kept != nil {
		return a.kept.storedHash, nil
	}
	return hashSource(stored)
}

func hashSource(src mimescan.Source) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, all(src))
	return hex.EncodeToString(h.Sum(nil)), err
}

// identityFields are what two copies of a message have in common, besides their content; what servers add on the way is not.
var identityFields = []string{"Message-ID", "Date", "From", "Sender", "To", "Cc", "Bcc", "Subject", "In-Reply-To", "References"}

// identity is the SHA-256 of all that a message says: the fields above as they stand, and type, name and decoded content of
// every part. Copies that differ in any of it are no duplicates; one that could not be opened is only equal to the same bytes.
func identity(message mimescan.Source, m *Message) (string, error) {
	h := sha256.New()
	if m.Kind == mirror.Failed {
		fmt.Fprintf(h, "failed\n")
		_, err := io.Copy(h, io.NewSectionReader(message, m.statusLen, message.Size()-m.statusLen))
		return hex.EncodeToString(h.Sum(nil)), err
	}
	for _, name := range identityFields {
		fmt.Fprintf(h, "%s %q\n", name, m.Header.Values(name))
	}
	err := hashPart(h, message, m.Structure)
	return hex.EncodeToString(h.Sum(nil)), err
}

func hashPart(w io.Writer, message mimescan.Source, p *mimescan.Part) error {
	fmt.Fprintf(w, "part %q %q %q %q %d\n", p.MediaType, p.Params["charset"], p.Params["name"], p.DispositionParams["filename"], len(p.Children))
	for _, child := range p.Children {
		if err := hashPart(w, message, child); err != nil {
			return err
		}
	}
	if len(p.Children) > 0 {
		return nil
	}
	h := sha256.New()
	_, err := io.Copy(h, mimescan.DecodeBody(message, p))
	fmt.Fprintf(w, "%x\n", h.Sum(nil))
	return err
}
