package imapd

import (
	"bufio"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
)

// output writes responses of the session's own. Errors stay until flush; nothing more is written
// after one.
type output struct {
	*bufio.Writer
	utf8 bool // the client takes UTF-8 in quoted strings (RFC 9051 §5.1, RFC 6855 §3)
}

func newOutput(w io.Writer, utf8 bool) *output {
	return &output{Writer: bufio.NewWriterSize(w, 32<<10), utf8: utf8}
}

// raw writes text as it is.
func (o *output) raw(text ...string) {
	for _, t := range text {
		_, _ = o.WriteString(t)
	}
}

func (o *output) num(n int64) {
	_, _ = o.Write(strconv.AppendInt(o.AvailableBuffer(), n, 10))
}

// text writes a string: quoted where that is possible, else as a literal.
func (o *output) text(s string) {
	if !o.quotable(s) {
		o.literal(int64(len(s)))
		o.raw(s)
		return
	}
	_ = o.WriteByte('"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			_ = o.WriteByte('\\')
		}
		_ = o.WriteByte(s[i])
	}
	_ = o.WriteByte('"')
}

// longQuoted is how long a quoted string may be; some clients have short line buffers.
const longQuoted = 1000

func (o *output) quotable(s string) bool {
	for i := range len(s) {
		if s[i] == 0 || s[i] == '\r' || s[i] == '\n' || s[i] >= 0x80 && !o.utf8 {
			return false
		}
	}
	return len(s) <= longQuoted && (!o.utf8 || strings.ToValidUTF8(s, "") == s)
}

// nstring writes a string, NIL if it is empty.
func (o *output) nstring(s string) {
	if s == "" {
		o.raw("NIL")
		return
	}
	o.text(s)
}

func (o *output) literal(size int64) {
	o.raw("{")
	o.num(size)
	o.raw("}\r\n")
}

// flags writes a list of flags.
func (o *output) flags(flags []imap.Flag) {
	o.raw("(")
	for i, f := range validFlags(flags, false) {
		if i > 0 {
			o.raw(" ")
		}
		o.raw(string(f))
	}
	o.raw(")")
}

func (o *output) date(t time.Time) { o.raw(`"`, t.Format("02-Jan-2006 15:04:05 -0700"), `"`) }

// ranges writes a set, in the order given, joining neighbours: 1:3,7.
func (o *output) ranges(numbers []uint32) {
	for i := 0; i < len(numbers); {
		end := i
		for end+1 < len(numbers) && numbers[end+1] == numbers[end]+1 {
			end++
		}
		if i > 0 {
			o.raw(",")
		}
		o.num(int64(numbers[i]))
		if end > i {
			o.raw(":")
			o.num(int64(numbers[end]))
		}
		i = end + 1
	}
}

// The session tells of changes with these (see view).

func (o *output) WriteExpunge(seq uint32) error {
	o.raw("* ")
	o.num(int64(seq))
	o.raw(" EXPUNGE\r\n")
	return nil
}

func (o *output) WriteNumMessages(n uint32) error {
	o.raw("* ")
	o.num(int64(n))
	o.raw(" EXISTS\r\n")
	return nil
}

func (o *output) WriteNumRecent(n uint32) error {
	o.raw("* ")
	o.num(int64(n))
	o.raw(" RECENT\r\n")
	return nil
}

func (o *output) WriteMessageFlags(seq uint32, uid imap.UID, flags []imap.Flag) error {
	o.stored(numbered{seq, uid}, flags, true)
	return nil
}

func (o *output) WriteMailboxFlags(flags []imap.Flag) error {
	o.raw("* FLAGS ")
	o.flags(flags)
	o.raw("\r\n")
	return nil
}

// stored writes the flags of a message.
func (o *output) stored(n numbered, flags []imap.Flag, withUID bool) {
	o.raw("* ")
	o.num(int64(n.seq))
	o.raw(" FETCH (")
	if withUID {
		o.raw("UID ")
		o.num(int64(n.uid))
		o.raw(" ")
	}
	o.raw("FLAGS ")
	o.flags(flags)
	o.raw(")\r\n")
}
