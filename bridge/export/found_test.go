package export

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
)

// sight is a message, and what queries say of it.
type sight struct {
	name, message string
	queries       []string // "find harbour"
	uid           uint32
}

func readSights(t *testing.T) (all []*sight) {
	t.Helper()
	data, err := os.ReadFile("testdata/found.txt")
	check(t, err)
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		switch word, rest, _ := strings.Cut(line, " "); word {
		case "", "#":
		case "case":
			all = append(all, &sight{name: rest})
		case "|":
			all[len(all)-1].message += rest + "\n"
		case "find", "open", "miss":
			all[len(all)-1].queries = append(all[len(all)-1].queries, line)
		default:
			t.Fatalf("testdata/found.txt: %q", line)
		}
	}
	return all
}

func TestFound(t *testing.T) {
	r := newRig(t)
	all := readSights(t)
	for _, s := range all {
		s.uid = r.deliver(alice, "INBOX", s.message)
	}
	for _, s := range all {
		for _, q := range s.queries {
			wanted, query, _ := strings.Cut(q, " ")
			f, err := r.desk(noon).Search(t.Context(), Request{Query: query, Custodians: []string{alice}}, quiet)
			check(t, err)
			if got := outcomeOf(f, s.uid); got != wanted {
				t.Errorf("%s: %s: %s, not %s", s.name, query, got, wanted)
			}
		}
	}
}

// Holds keep what is found, and what is open.
func TestFoundIsHeld(t *testing.T) {
	r := newRig(t)
	for i, s := range readSights(t) {
		_, query, _ := strings.Cut(s.queries[0], " ")
		r.hold(fmt.Sprint("h", i), query)
		uid := r.deliver(alice, "INBOX", s.message)
		check(t, r.expunge("INBOX", imap.UID(uid)))
		if r.count("held_message") == 0 {
			t.Errorf("%s: a message that says it is gone while %s is held", s.name, query)
		}
		_, err := r.holds.Release(t.Context(), ReleaseOptions{Name: fmt.Sprint("h", i), Purge: true, Unexported: true})
		check(t, err)
	}
}

func outcomeOf(f *Found, uid uint32) string {
	for _, h := range f.Matching {
		if uint32(h.UID) == uid {
			return "find"
		}
	}
	for _, h := range f.Undecided {
		if uint32(h.UID) == uid {
			return "open"
		}
	}
	return "miss"
}

// A header that is too long to be read as a whole may say anything.
func TestLongHeader(t *testing.T) {
	const long = 1 << 20
	r := newRig(t)
	text := "X-Long: " + strings.Repeat(strings.Repeat("x", 60)+"\n ", long/60) + "\n" + note("Harbour", "1")
	for i, query := range []string{"from:@bravo.test", "subject:harbour", "harbour", "since:2026-11-23 until:2026-11-23", "id:1@bravo.test"} {
		uid := r.deliver(alice, "INBOX", text)
		f, err := r.desk(noon).Search(t.Context(), Request{Query: query, Custodians: []string{alice}}, quiet)
		check(t, err)
		if got := outcomeOf(f, uid); got != "open" {
			t.Errorf("%s: %s", query, got)
		}
		r.hold(fmt.Sprint("h", i), query)
		check(t, r.expunge("INBOX", imap.UID(uid)))
		if got := r.count("held_message"); got != i+1 {
			t.Errorf("%s: %d messages are held", query, got)
		}
	}
}
