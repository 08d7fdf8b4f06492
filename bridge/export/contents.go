package export

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// contents are the documents of an export as the verifier finds them.
type contents struct {
	manifest  *Manifest
	files     map[string]File
	documents int
	messages  map[string]int // by custodian
	last      string
	family    []*Record // the one that is being read
}

func newContents(m *Manifest) *contents {
	c := &contents{manifest: m, files: map[string]File{}, messages: map[string]int{}}
	for _, f := range m.Files {
		c.files[f.Path] = f
	}
	return c
}

// documents checks every document: its files, their digests, and that its family is whole.
func (v *verifier) documents(c *contents) error {
	err := v.records(func(r *Record) error {
		c.documents++
		if r.DocID <= c.last {
			return fmt.Errorf("%s is not in order", r.DocID)
		}
		c.last = r.DocID
		if err := c.checkFiles(r); err != nil {
			return err
		}
		if r.Parent == "" {
			if err := c.wholeFamily(); err != nil {
				return err
			}
			c.messages[r.Custodian]++
		}
		c.family = append(c.family, r)
		return nil
	})
	if err != nil {
		return err
	}
	return c.wholeFamily()
}

func (c *contents) checkFiles(r *Record) error {
	for _, f := range r.Files {
		if known, ok := c.files[f.Path]; !ok || known.SHA256 != f.SHA256 {
			return fmt.Errorf("%s has another digest of %s than the manifest", r.DocID, f.Path)
		}
	}
	native, ciphertext := c.files[r.Native], c.files[r.CiphertextPath]
	switch {
	case native.SHA256 != r.SHA256 || native.Size != r.Size:
		return fmt.Errorf("%s: the digest is not that of %s", r.DocID, r.Native)
	case r.CiphertextPath == "" && (r.Parent != "" || r.Deleted != ""):
	case ciphertext.SHA256 != r.Ciphertext:
		return fmt.Errorf("%s: the digest of the ciphertext is not that of %s", r.DocID, r.CiphertextPath)
	case r.Encryption == "none" && r.Ciphertext != r.SHA256:
		return fmt.Errorf("%s was never encrypted, and is not what the provider stored", r.DocID)
	}
	return nil
}

// wholeFamily checks the family that was read last: first and last number, and that every member names its place.
func (c *contents) wholeFamily() error {
	family := c.family
	c.family = nil
	if len(family) == 0 {
		return nil
	}
	first, last := family[0].DocID, family[len(family)-1].DocID
	for _, r := range family {
		var attached []string
		for _, other := range family {
			if other.Parent == r.DocID {
				attached = append(attached, other.DocID)
			}
		}
		parent := slices.ContainsFunc(family, func(o *Record) bool { return o.DocID == r.Parent })
		if r.BeginAttach != first || r.EndAttach != last || !slices.Equal(attached, r.Attached) || (r.Parent != "") != (r.DocID != first) || r.Parent != "" && !parent {
			return fmt.Errorf("the family of %s is not whole at %s", first, r.DocID)
		}
	}
	return nil
}

// numbers compares the accounting with what is there.
func (v *verifier) numbers(c *contents) {
	data, err := v.read(accountingFile)
	var a Accounting
	if err == nil {
		err = json.Unmarshal(data, &a)
	}
	if err != nil {
		v.problem("%s: %v", accountingFile, err)
		return
	}
	if said, _ := json.Marshal(a); !sameJSON(said, c.manifest.Accounting) {
		v.problem("%s and %s disagree", accountingFile, manifestFile)
	}
	duplicates, withheld := v.listed(duplicatesFile, nil), v.listed(privilegeFile, nil)
	undecided := v.listed(exceptionsFile, func(line []string) bool { return line[5] == string(Undecided) })
	unavailable := v.listed(exceptionsFile, func(line []string) bool { return line[5] == string(Unavailable) })
	total := 0
	for _, n := range a.Custodians {
		name := n.Custodian
		if duplicates[name] != n.Duplicates || withheld[name] != n.Withheld || undecided[name] != n.Undecided || unavailable[name] != n.Unavailable || c.messages[name] != n.Exported {
			v.problem("the numbers of %s are not those of the lists", name)
		}
		total += n.Exported
	}
	if c.documents != a.Total.Documents || total != a.Total.Exported {
		v.problem("there are %d documents, not %d", c.documents, a.Total.Documents)
	}
}

func sameJSON(a []byte, b any) bool {
	other, err := json.Marshal(b)
	return err == nil && string(a) == string(other)
}

// listColumns is how many columns each list has at least: where a message is, and two more.
const listColumns = 6

// listed counts the lines of a list by custodian.
func (v *verifier) listed(path string, counts func([]string) bool) map[string]int {
	found := map[string]int{}
	data, err := v.read(path)
	if err != nil {
		v.problem("%s: %v", path, err)
		return found
	}
	in := csv.NewReader(strings.NewReader(string(data)))
	for n := 0; ; n++ {
		line, err := in.Read()
		if err == io.EOF {
			return found
		}
		if err != nil || len(line) < listColumns {
			v.problem("%s: line %d is malformed", path, n+1)
			return found
		}
		if n > 0 && (counts == nil || counts(line)) {
			found[line[0]]++
		}
	}
}
