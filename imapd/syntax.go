package imapd

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
)

// arguments is what is left to read of a command's arguments: one line, as the gate has turned
// literals into quoted strings. Readers return a refused error at what RFC 9051 §9 does not allow.
type arguments struct{ rest string }

const malformed = refused("BAD Malformed arguments")

func (a *arguments) empty() bool { return a.rest == "" }

// next is the next byte, 0 at the end.
func (a *arguments) next() byte {
	if a.rest == "" {
		return 0
	}
	return a.rest[0]
}

// skip takes a byte if it is the next.
func (a *arguments) skip(c byte) bool {
	if a.next() != c || c == 0 {
		return false
	}
	a.rest = a.rest[1:]
	return true
}

func (a *arguments) expect(c byte) error {
	if !a.skip(c) {
		return malformed
	}
	return nil
}

func (a *arguments) space() error { return a.expect(' ') }

// end makes sure that nothing is left.
func (a *arguments) end() error {
	if !a.empty() {
		return malformed
	}
	return nil
}

// until takes everything up to one of the bytes.
func (a *arguments) until(stop string) string {
	n := strings.IndexAny(a.rest, stop)
	if n < 0 {
		n = len(a.rest)
	}
	taken := a.rest[:n]
	a.rest = a.rest[n:]
	return taken
}

// word takes an atom, in upper case.
func (a *arguments) word() (string, error) {
	word := strings.ToUpper(a.until(` ()[]<>{"\`))
	if word == "" {
		return "", malformed
	}
	return word, nil
}

// astring takes an atom or a quoted string.
func (a *arguments) astring() (string, error) {
	if a.next() == '"' {
		return a.quoted()
	}
	atom := a.until(` (){"`)
	if atom == "" {
		return "", malformed
	}
	return atom, nil
}

func (a *arguments) quoted() (string, error) {
	var out strings.Builder
	for i := 1; i < len(a.rest); i++ {
		switch c := a.rest[i]; c {
		case '"':
			a.rest = a.rest[i+1:]
			return out.String(), nil
		case '\\':
			if i++; i == len(a.rest) {
				return "", malformed
			}
			out.WriteByte(a.rest[i])
		default:
			out.WriteByte(c)
		}
	}
	return "", malformed
}

// number takes a number of up to 63 bits.
func (a *arguments) number() (int64, error) {
	digits := len(a.rest) - len(strings.TrimLeft(a.rest, "0123456789"))
	n, err := strconv.ParseInt(a.rest[:digits], 10, 64)
	if err != nil {
		return 0, malformed
	}
	a.rest = a.rest[digits:]
	return n, nil
}

// list calls item for each of the items of a list in parentheses.
func (a *arguments) list(item func() error) error {
	if err := a.expect('('); err != nil {
		return err
	}
	for first := true; !a.skip(')'); first = false {
		if !first {
			if err := a.space(); err != nil {
				return err
			}
		}
		if err := item(); err != nil {
			return err
		}
	}
	return nil
}

// date takes "1-Feb-2020", quoted or not (RFC 9051 §9, date).
func (a *arguments) date() (time.Time, error) {
	text, err := a.astring()
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse("2-Jan-2006", text)
	if err != nil {
		return time.Time{}, malformed
	}
	return t, nil
}

// set takes a sequence set; "$" is the saved result (RFC 9051 §9, sequence-set).
func (a *arguments) set() (numSet, error) {
	if a.skip('$') {
		return numSet{saved: true}, nil
	}
	var set numSet
	for {
		start, err := a.seqNumber()
		if err != nil {
			return set, err
		}
		stop := start
		if a.skip(':') {
			if stop, err = a.seqNumber(); err != nil {
				return set, err
			}
		}
		set.ranges = append(set.ranges, imap.SeqRange{Start: start, Stop: stop})
		if !a.skip(',') {
			return set, nil
		}
	}
}

// seqNumber takes a number; "*" is 0.
func (a *arguments) seqNumber() (uint32, error) {
	if a.skip('*') {
		return 0, nil
	}
	n, err := a.number()
	if err != nil || n == 0 || n > math.MaxUint32 {
		return 0, malformed
	}
	return uint32(n), nil
}

// numSet is a set of sequence numbers or of UIDs, as the command has it.
type numSet struct {
	ranges imap.SeqSet
	saved  bool
}

// uids is the set read as one of UIDs.
func (n numSet) uids() imap.UIDSet {
	set := make(imap.UIDSet, len(n.ranges))
	for i, r := range n.ranges {
		set[i] = imap.UIDRange{Start: imap.UID(r.Start), Stop: imap.UID(r.Stop)}
	}
	return set
}

// of is the set as the library has it.
func (n numSet) of(uid bool) imap.NumSet {
	switch {
	case n.saved:
		return imap.SearchRes()
	case uid:
		return n.uids()
	}
	return n.ranges
}
