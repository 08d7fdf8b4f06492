package export

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/bridge/mirror"
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
	seen := map[string]bool{}
	for i, row := range rows[1:] {
		m := Mark{ID: markID(row[0]), Privilege: row[1], Redacted: row[2], Confidentiality: row[3], Withhold: row[4] == "yes"}
		switch {
		case m.ID == "":
			err = errors.New("the id is missing")
		case row[4] != "yes" && row[4] != "no":
			err = errors.New("withhold is yes or no")
		case m.Withhold && m.Privilege == "":
			err = errors.New("what is withheld needs a privilege")
		case seen[m.ID]:
			err = errors.New("there is another mark for the same id")
		}
		if err != nil {
			return nil, fmt.Errorf("mark %d: %w", i+1, err)
		}
		seen[m.ID] = true
		all = append(all, m)
	}
	return all, nil
}

var isDigest = regexp.MustCompile(`^[0-9A-Fa-f]{64}$`)

// markID is an id as marks are compared: digests in lower case, of a Message-ID what is behind the @ (a domain, mostly).
func markID(id string) string {
	id = strings.Trim(strings.TrimSpace(id), "<>")
	if isDigest.MatchString(id) {
		return strings.ToLower(id)
	}
	at := strings.LastIndexByte(id, '@') + 1
	return id[:at] + strings.ToLower(id[at:])
}

type marks map[string]Mark

func marksOf(all []Mark) marks {
	found := marks{}
	for _, m := range all {
		found[markID(m.ID)] = m
	}
	return found
}

// of is the mark of a message: that of its digest before that of its Message-ID, which several messages may have, but what either
// withholds is withheld.
func (m marks) of(id, ciphertext string) Mark {
	byDigest, ok := m[ciphertext]
	byID := m[markID(id)]
	if !ok || byID.Withhold && !byDigest.Withhold {
		return byID
	}
	return byDigest
}

// withholdByDigest says whether a copy of a message may be withheld by the digest of another.
func (m marks) withholdByDigest() bool {
	for id, mark := range m {
		if mark.Withhold && isDigest.MatchString(id) {
			return true
		}
	}
	return false
}

// unusedMarks counts those that no message had; of an export that goes on it is not known.
func (x *run) unusedMarks() (n int) {
	for id := range x.marks {
		if !x.resumed && !x.used[id] {
			n++
		}
	}
	return n
}

func (x *run) noteUse(id, ciphertext string) {
	for _, one := range []string{markID(id), ciphertext} {
		if _, ok := x.marks[one]; ok {
			x.used[one] = true
		}
	}
}

// findWithheld looks for the messages that are withheld by the digest of one copy, before a copy can be written.
func (x *run) findWithheld(ctx context.Context, q Question) error {
	if !x.marks.withholdByDigest() {
		return nil
	}
	q.EachTerm, q.Stale = false, nil
	return q.Ask(ctx, func(string, int, int) {}, func(a *Answer) error {
		if a.Outcome != Matching {
			return nil
		}
		err := x.noteWithheld(ctx, a)
		if errors.Is(err, mirror.ErrExpunged) || isRefusal(err) {
			return nil // it will be unavailable
		}
		return err
	})
}

func (x *run) noteWithheld(ctx context.Context, a *Answer) error {
	stored, err := a.stored(ctx)
	if err != nil {
		return err
	}
	if stored != nil {
		defer stored.Close()
	}
	ciphertext, err := storedHash(a, stored)
	if err != nil {
		return err
	}
	mark := x.marks.of("", ciphertext)
	if !mark.Withhold {
		return nil
	}
	message, err := a.ensure(ctx)
	if err != nil {
		return err
	}
	id, err := identity(message, a.Message)
	x.withheld[id] = mark
	return err
}
