package extract

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"path"
	"strings"
)

// zip reads an archive, or a document that is one.
func (e *extractor) zip(inside string, data []byte) error {
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		e.skip(inside, Damaged)
		return nil
	}
	office := isOffice(archive)
	for _, f := range archive.File {
		if err := e.entry(inside, f, office); err != nil {
			return err
		}
	}
	return nil
}

// isOffice says whether the archive is an Office Open XML or OpenDocument file.
func isOffice(archive *zip.Reader) bool {
	for _, f := range archive.File {
		if strings.EqualFold(f.Name, "[Content_Types].xml") || strings.EqualFold(f.Name, "META-INF/manifest.xml") {
			return true
		}
	}
	return false
}

func (e *extractor) entry(inside string, f *zip.File, office bool) error {
	where := path.Join(inside, f.Name)
	if strings.HasSuffix(f.Name, "/") && f.UncompressedSize64 == 0 && f.CompressedSize64 == 0 { // a folder; but the name may lie
		return nil
	}
	if !office {
		if err := e.piece(f.Name + "\n"); err != nil { // names are words, too
			return err
		}
	}
	if e.seen++; e.seen > e.files {
		if !e.crowded {
			e.crowded = true
			e.skip(inside, TooDeep)
		}
		return nil
	}
	data, reason := e.unpack(f)
	switch {
	case reason != "":
		e.skip(where, reason)
		return nil
	case office && isXML(f.Name):
		return e.xml(where, data)
	case office && (f.Name == "mimetype" || strings.EqualFold(path.Ext(f.Name), ".rels")):
		return nil
	}
	return e.file(where, f.Name, "", data)
}

// unpack bounds what comes out, whatever the archive says of its size.
func (e *extractor) unpack(f *zip.File) ([]byte, Reason) {
	if f.Flags&1 != 0 {
		return nil, Locked
	}
	in, err := f.Open()
	if errors.Is(err, zip.ErrAlgorithm) {
		return nil, Unsupported
	}
	if err != nil {
		return nil, Damaged
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, int64(e.limits.file)+1))
	e.unpacked += len(data)
	switch {
	case len(data) > e.limits.file, e.unpacked > e.total:
		return nil, TooLarge
	case err != nil:
		return nil, Damaged
	}
	return data, ""
}

func isXML(name string) bool { return strings.EqualFold(path.Ext(name), ".xml") }

// breaking are the elements between whose ends words end: paragraphs, cells, line breaks, tabulators, slides, of
// WordprocessingML, SpreadsheetML, DrawingML and OpenDocument. Elements inside a paragraph do not: a word may be in several.
var breaking = map[string]bool{"p": true, "h": true, "tr": true, "tc": true, "br": true, "cr": true, "tab": true, "line-break": true, "s": true,
	"si": true, "c": true, "row": true, "table-cell": true, "table-row": true, "list-item": true, "title": true, "creator": true, "v": true,
	"is": true, "noBreakHyphen": true, "comment": true, "text": true, "note": true, "note-citation": true,
	"annotation": true, "keywords": true, "subject": true, "description": true, "category": true}

// xml takes the character data of a document's part: also what was deleted with its changes tracked, and what fields are made of.
func (e *extractor) xml(where string, data []byte) error {
	decoder := xml.NewDecoder(bytes.NewReader(data))
	decoder.Strict = false
	t := &xmlText{}
	for n := 1; ; n++ {
		token, err := decoder.Token()
		if err != nil && err != io.EOF {
			e.skip(where, Damaged)
		}
		if err != nil {
			return e.piece(t.out.String() + "\n")
		}
		t.token(token)
		if n%1000 == 0 && e.ctx.Err() != nil {
			return e.ctx.Err()
		}
	}
}

type xmlText struct {
	out    strings.Builder
	shared bool // in a cell that refers to a shared string by number
}

func (x *xmlText) token(token xml.Token) {
	switch t := token.(type) {
	case xml.StartElement:
		if t.Name.Local == "c" {
			x.shared = hasAttribute(t, "t", "s")
		}
		x.element(t.Name.Local)
	case xml.EndElement:
		x.element(t.Name.Local)
		if t.Name.Local == "c" {
			x.shared = false
		}
	case xml.CharData:
		if !x.shared {
			x.out.Write(t)
		}
	}
}

func (x *xmlText) element(name string) {
	if breaking[name] {
		x.out.WriteByte('\n')
	}
}

func hasAttribute(t xml.StartElement, name, value string) bool {
	for _, a := range t.Attr {
		if a.Name.Local == name && a.Value == value {
			return true
		}
	}
	return false
}
