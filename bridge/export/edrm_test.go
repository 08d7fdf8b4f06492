package export

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// edrmRule is what an element may be; see testdata/edrm-1.2.txt.
type edrmRule struct {
	parent    string
	must, may []string
}

func edrmRules(t *testing.T) map[string]edrmRule {
	t.Helper()
	data, err := os.ReadFile("testdata/edrm-1.2.txt")
	check(t, err)
	rules := map[string]edrmRule{}
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] == "#" {
			continue
		}
		rule := edrmRule{parent: strings.TrimPrefix(words[1], "parent=")}
		for _, word := range words[2:] {
			if name, must := strings.CutSuffix(word, "*"); must {
				rule.must = append(rule.must, name)
			} else {
				rule.may = append(rule.may, word)
			}
		}
		rules[words[0]] = rule
	}
	return rules
}

// strictEDRM reads a file by the rules, and checks what no rule says: documents are there once, relationships name documents, files exist with that
// size and digest.
func strictEDRM(t *testing.T, dir string, file io.Reader) error {
	t.Helper()
	rules, d := edrmRules(t), xml.NewDecoder(file)
	path, documents := []string{"-"}, map[string]bool{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && len(documents) > 0 {
			return nil
		}
		if err != nil {
			return err
		}
		switch e := token.(type) {
		case xml.StartElement:
			values := map[string]string{}
			rule, known := rules[e.Name.Local]
			if !known || rule.parent != path[len(path)-1] || e.Name.Space != "" {
				return fmt.Errorf("%s in %s", e.Name.Local, path[len(path)-1])
			}
			for _, a := range e.Attr {
				if _, twice := values[a.Name.Local]; twice || !slices.Contains(rule.must, a.Name.Local) && !slices.Contains(rule.may, a.Name.Local) {
					return fmt.Errorf("%s has %s", e.Name.Local, a.Name.Local)
				}
				values[a.Name.Local] = a.Value
			}
			for _, name := range rule.must {
				if _, there := values[name]; !there {
					return fmt.Errorf("%s lacks %s", e.Name.Local, name)
				}
			}
			if err := edrmMeaning(dir, e.Name.Local, values, documents); err != nil {
				return err
			}
			path = append(path, e.Name.Local)
		case xml.EndElement:
			path = path[:len(path)-1]
		case xml.CharData:
			if text := strings.TrimSpace(string(e)); text != "" && !slices.Contains([]string{"Custodian", "LocationURI"}, path[len(path)-1]) {
				return fmt.Errorf("text in %s: %q", path[len(path)-1], text)
			}
		}
	}
}

func edrmMeaning(dir, element string, values map[string]string, documents map[string]bool) error {
	switch element {
	case "Document":
		if documents[values["DocID"]] || values["DocType"] != "Message" && values["DocType"] != "File" {
			return fmt.Errorf("document %s of type %s", values["DocID"], values["DocType"])
		}
		documents[values["DocID"]] = true
	case "Relationship":
		if !documents[values["ParentDocId"]] || !documents[values["ChildDocId"]] || values["Type"] != "Attachment" {
			return fmt.Errorf("relationship %v", values)
		}
	case "ExternalFile":
		data, err := os.ReadFile(filepath.Join(dir, values["FilePath"], values["FileName"]))
		if err != nil || fmt.Sprint(len(data)) != values["FileSize"] || hashOf(data) != values["Hash"] {
			return fmt.Errorf("file %v: %w", values, err)
		}
	case "Tag":
		if !strings.HasPrefix(values["TagName"], "#") || values["TagDataType"] != "Text" {
			return fmt.Errorf("tag %v", values)
		}
	}
	return nil
}

// TestStrictEDRM: what an export writes is by the rules, and what is not is found.
func TestStrictEDRM(t *testing.T) {
	r := newRig(t)
	r.deliverAll()
	dir := filepath.Join(t.TempDir(), "export")
	_, err := r.desk(noon).Export(t.Context(), request(dir), quiet)
	check(t, err)
	data, err := os.ReadFile(filepath.Join(dir, edrmFile))
	check(t, err)
	if err := strictEDRM(t, dir, strings.NewReader(string(data))); err != nil {
		t.Error(err)
	}
	for what, change := range map[string][2]string{
		"unknown element": {"<Tags>", "<Labels></Labels><Tags>"}, "unknown attribute": {"<Batch>", `<Batch Name="x">`}, "missing attribute": {` MimeType="message/rfc822"`, ""},
		"other size": {`FileSize="894"`, `FileSize="895"`}, "unknown child": {`ChildDocId="ACME-00000002"`, `ChildDocId="ACME-99999999"`},
		"text": {"<Files>", "text<Files>"}, "not closed": {"</Root>", ""}, "twice": {`DocID="ACME-00000002"`, `DocID="ACME-00000001"`},
	} {
		changed := strings.Replace(string(data), change[0], change[1], 1)
		if changed == string(data) {
			t.Errorf("%s: nothing to change", what)
		}
		if strictEDRM(t, dir, strings.NewReader(changed)) == nil {
			t.Errorf("%s: not found", what)
		}
	}
}
