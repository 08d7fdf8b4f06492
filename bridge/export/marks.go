package export

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Mark is what reviewers have decided about a message and all that is attached to it.
type Mark struct {
	ID              string `json:"id"` // the Message-ID, or the SHA-256 of the message as the provider stores it
	Privilege       string `json:"privilege,omitempty"`
	Redacted        string `json:"redacted,omitempty"`
	Confidentiality string `json:"confidentiality,omitempty"`
	Withhold        bool   `json:"withhold,omitempty"` // it is counted and listed, and not exported
}

// markColumns are the header of a file of marks.
var markColumns = []string{"id", "privilege", "redacted", "confidentiality", "withhold"}

// ReadMarks reads a file of marks: CSV with the columns id, privilege, redacted, confidentiality and withhold (yes or no).
// What is withheld needs a privilege.
func ReadMarks(r io.Reader) ([]Mark, error) {
	in := csv.NewReader(r)
	in.FieldsPerRecord = len(markColumns)
	rows, err := in.ReadAll()
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || !slices.Equal(rows[0], markColumns) {
		return nil, fmt.Errorf("the first line must be %s", strings.Join(markColumns, ","))
	}
	var all []Mark
	for i, row := range rows[1:] {
		m := Mark{ID: markID(row[0]), Privilege: row[1], Redacted: row[2], Confidentiality: row[3], Withhold: row[4] == "yes"}
		switch {
		case m.ID == "":
			err = errors.New("the id is missing")
		case row[4] != "yes" && row[4] != "no":
			err = errors.New("withhold is yes or no")
		case m.Withhold && m.Privilege == "":
			err = errors.New("what is withheld needs a privilege")
		}
		if err != nil {
			return nil, fmt.Errorf("mark %d: %w", i+1, err)
		}
		all = append(all, m)
	}
	return all, nil
}

func markID(id string) string { return strings.Trim(strings.TrimSpace(id), "<>") }

type marks map[string]Mark

func marksOf(all []Mark) marks {
	found := marks{}
	for _, m := range all {
		found[m.ID] = m
	}
	return found
}

// of is the mark of a message. Several messages may have one Message-ID: the mark is for all of them.
func (m marks) of(id, ciphertext string) Mark {
	if mark, ok := m[ciphertext]; ok {
		return mark
	}
	return m[id]
}
