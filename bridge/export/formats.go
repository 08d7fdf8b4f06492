package export

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/mirror"
)

// eachRecord calls f for every document of an export, in order.
type eachRecord func(f func(*Record) error) error

// Concordance's separators: between fields, around each, and for a line break inside one.
const (
	datSeparator = "\x14"
	datQualifier = "\u00fe"
	datNewline   = "\u00ae"
)

// writeDAT writes the load file: UTF-8 with a byte order mark, the names of the fields in the first line.
func writeDAT(w io.Writer, records eachRecord) error {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	if _, err := io.WriteString(w, "\ufeff"); err != nil {
		return err
	}
	if err := datLine(w, names); err != nil {
		return err
	}
	values := make([]string, len(columns))
	return records(func(r *Record) error {
		for i, c := range columns {
			values[i] = c.value(r)
		}
		return datLine(w, values)
	})
}

// datReplacer keeps what mail says from ending a field or a line: the format has no way to write its own signs. A small thorn
// becomes a capital one, ® becomes (R); documents.jsonl has them as they are.
var datReplacer = strings.NewReplacer("\r\n", datNewline, "\n", datNewline, "\r", datNewline, datSeparator, " ", datQualifier, "\u00de", datNewline, "(R)", "\x00", "")

func datLine(w io.Writer, values []string) error {
	for i, v := range values {
		separator := datSeparator
		if i == 0 {
			separator = ""
		}
		if _, err := io.WriteString(w, separator+datQualifier+datReplacer.Replace(v)+datQualifier); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "\r\n")
	return err
}

// The elements of EDRM XML 1.2 that are used.
type (
	edrmDocument struct {
		XMLName  xml.Name       `xml:"Document"`
		DocID    string         `xml:"DocID,attr"`
		DocType  string         `xml:"DocType,attr"`
		MimeType string         `xml:"MimeType,attr"`
		Files    []edrmFileSet  `xml:"Files>File"`
		Tags     []edrmTag      `xml:"Tags>Tag"`
		Location []edrmLocation `xml:"Locations>Location"`
	}
	edrmFileSet struct {
		Type     string       `xml:"FileType,attr"`
		External edrmExternal `xml:"ExternalFile"`
	}
	edrmExternal struct {
		Path string `xml:"FilePath,attr"`
		Name string `xml:"FileName,attr"`
		Size int64  `xml:"FileSize,attr"`
		Hash string `xml:"Hash,attr"`
	}
	edrmTag struct {
		Name  string `xml:"TagName,attr"`
		Type  string `xml:"TagDataType,attr"`
		Value string `xml:"TagValue,attr"`
	}
	edrmLocation struct {
		Custodian string `xml:"Custodian"`
		URI       string `xml:"LocationURI"`
	}
	edrmRelationship struct {
		XMLName xml.Name `xml:"Relationship"`
		Type    string   `xml:"Type,attr"`
		Parent  string   `xml:"ParentDocId,attr"`
		Child   string   `xml:"ChildDocId,attr"`
	}
)

// writeEDRM writes EDRM XML 1.2: all documents, then which is attached to which.
func writeEDRM(w io.Writer, records eachRecord) error {
	_, err := io.WriteString(w, xml.Header+`<Root MajorVersion="1" MinorVersion="2" Description="sealpost export" DataInterchangeType="Update">`+"\n<Batch>\n<Documents>\n")
	if err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	if err := records(func(r *Record) error { return encoder.Encode(edrmOf(r)) }); err != nil {
		return err
	}
	if _, err := io.WriteString(w, "\n</Documents>\n<Relationships>\n"); err != nil {
		return err
	}
	err = records(func(r *Record) error {
		if r.Parent == "" {
			return nil
		}
		return encoder.Encode(edrmRelationship{Type: "Attachment", Parent: r.Parent, Child: r.DocID})
	})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, "\n</Relationships>\n</Batch>\n</Root>\n")
	return err
}

func edrmOf(r *Record) edrmDocument {
	d := edrmDocument{DocID: r.DocID, DocType: "File", MimeType: r.MediaType,
		Location: []edrmLocation{{r.Custodian, r.Folder}}}
	if r.Extension == "eml" {
		d.DocType = "Message"
	}
	for i, f := range r.Files {
		kind := []string{"Native", "Text", "Other"}[min(i, 2)]
		d.Files = append(d.Files, edrmFileSet{kind, edrmExternal{filepath.ToSlash(filepath.Dir(f.Path)), filepath.Base(f.Path), f.Size, f.SHA256}})
	}
	for _, c := range columns {
		if v := c.value(r); v != "" {
			d.Tags = append(d.Tags, edrmTag{"#" + c.name, "Text", xmlText(v)})
		}
	}
	return d
}

// xmlText leaves out what XML 1.0 has no way to write.
func xmlText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// writeMbox writes the originals one after the other (RFC 4155; "From " at the start of a line is quoted as mboxrd does, so
// that it can be undone).
func (x *run) writeMbox(ctx context.Context, w io.Writer) error {
	return x.mboxOf(ctx, w, func(f func(*Record) error) error { return x.job.eachRecord(ctx, f) })
}

func (x *run) mboxOf(ctx context.Context, w io.Writer, records eachRecord) error {
	return records(func(r *Record) error {
		if r.Parent != "" {
			return nil
		}
		message, err := x.readBack(ctx, r)
		if err != nil {
			return err
		}
		return mboxMessage(w, r, message)
	})
}

func mboxMessage(w io.Writer, r *Record, message []byte) error {
	var out bytes.Buffer
	fmt.Fprintf(&out, "From %s %s\n", "sealpost@localhost", r.Received.UTC().Format(time.ANSIC))
	for line := range bytes.Lines(bytes.ReplaceAll(message, []byte("\r\n"), []byte("\n"))) {
		if bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte("From ")) {
			out.WriteByte('>')
		}
		out.Write(line)
	}
	if !bytes.HasSuffix(out.Bytes(), []byte("\n")) {
		out.WriteByte('\n')
	}
	out.WriteByte('\n')
	_, err := w.Write(out.Bytes())
	return err
}

// readBack is the native file of a message that was written, or of an encrypted export the message itself.
func (x *run) readBack(ctx context.Context, r *Record) ([]byte, error) {
	if x.sink.encrypt == nil {
		return os.ReadFile(filepath.Join(x.Directory, filepath.FromSlash(r.Native)))
	}
	return x.again(ctx, r)
}

// again is a message's original from the mirror: what is encrypted for counsel cannot be read back here.
func (x *run) again(ctx context.Context, r *Record) ([]byte, error) {
	if r.Deleted != "" {
		return x.o.Holds.again(ctx, r)
	}
	for _, c := range x.question.Custodians {
		if c.Address != r.Custodian {
			continue
		}
		box, err := c.Mirror.Mailbox(ctx, r.Folder)
		if err != nil {
			return nil, err
		}
		content, err := box.Content(ctx, imap.UID(r.UID))
		if errors.Is(err, mirror.ErrExpunged) { // deleted since: a hold may have it
			return x.o.Holds.again(ctx, r)
		}
		if err != nil {
			return nil, err
		}
		defer content.Message.Close()
		status := mimescan.ParseHeader(content.Header)[0].Raw
		data, err := io.ReadAll(io.NewSectionReader(content.Message, int64(len(status)), content.Message.Size()))
		if err == nil && hashOf(data) == r.SHA256 {
			return data, nil
		}
		return nil, fmt.Errorf("%s is not what it was when it was exported: %w", r.DocID, err)
	}
	return nil, fmt.Errorf("%s: no account %s", r.DocID, r.Custodian)
}
