package mirror

import (
	"errors"
	"flag"
	"fmt"
	netmail "net/mail"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/mimescan"
)

// sample is a message as the oracle knows it.
type sample struct {
	uid                 imap.UID
	subject, from, text string
	sent                time.Time
	flags               []imap.Flag
	raw                 string
}

var words = []string{"alpha", "Beta", "GAMMA", "straße", "Äpfel", "été", "x"}

func (r *rig) samples(n int) []sample {
	var all []sample
	systemFlags := []imap.Flag{imap.FlagSeen, imap.FlagFlagged, imap.FlagAnswered}
	for i := range n {
		s := sample{subject: words[i%7] + " " + words[i*3%7], from: fmt.Sprintf("%s <u%d@bravo.test>", words[i%3], i%4),
			text: words[i%5] + " and " + words[i*2%7] + strings.Repeat(" filler", i*10), sent: time.Date(2026, 1, 1+i%6, 23, 30, 0, 0, time.FixedZone("", 3600*(i%5)))}
		for k, f := range systemFlags {
			if i>>k&1 == 1 {
				s.flags = append(s.flags, f)
			}
		}
		s.raw = "From: " + s.from + "\r\nTo: alice@alpha.test\r\nSubject: " + s.subject + "\r\nDate: " + s.sent.Format(time.RFC1123Z) +
			"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + s.text + "\r\n"
		s.uid = r.deliver("INBOX", s.raw, splitFlags[string](joinFlags(s.flags))...)
		all = append(all, s)
	}
	return all
}

// message is what the oracle judges by.
type message struct {
	sample
	number, messages int
	internal         time.Time
}

// oracle decides about one message, criterion by criterion as the RFC reads.
func oracle(c Criterion, m message) bool {
	has := func(text, part string) bool { return strings.Contains(fold(text), fold(part)) }
	in := func(start, stop, n, last uint32) bool {
		if start == 0 {
			start = last
		}
		if stop == 0 {
			stop = last
		}
		return n >= min(start, stop) && n <= max(start, stop)
	}
	date := func(t time.Time) string { return t.Format("2006-01-02") }
	within := func(t, since, before time.Time) bool {
		return (since.IsZero() || date(t) >= date(since)) && (before.IsZero() || date(t) < date(before))
	}
	size := int64(len(statusField + m.raw))
	switch c := c.(type) {
	case And:
		return !slices.ContainsFunc(c, func(c Criterion) bool { return !oracle(c, m) })
	case Or:
		return oracle(c.Left, m) || oracle(c.Right, m)
	case Not:
		return !oracle(c.Criterion, m)
	case Seq:
		return slices.ContainsFunc(c, func(r imap.SeqRange) bool { return in(r.Start, r.Stop, uint32(m.number), uint32(m.messages)) })
	case UIDs:
		return slices.ContainsFunc(c, func(r imap.UIDRange) bool {
			return in(uint32(r.Start), uint32(r.Stop), uint32(m.uid), uint32(m.messages))
		})
	case Flagged:
		return slices.Contains(m.flags, imap.Flag(c))
	case Arrived:
		return within(m.internal, c.Since, c.Before)
	case Received:
		return (c.After.IsZero() || m.internal.After(c.After)) && (c.UpTo.IsZero() || !m.internal.After(c.UpTo))
	case Sent:
		return within(m.sent, c.Since, c.Before)
	case Larger:
		return size > int64(c)
	case Smaller:
		return size < int64(c)
	case Header:
		parsed, err := netmail.ReadMessage(strings.NewReader(statusField + m.raw))
		return err == nil && parsed.Header[c.Name] != nil && has(parsed.Header.Get(c.Name), c.Value)
	case Body:
		return has(m.text, string(c))
	case Text:
		return has(statusField+m.raw, string(c))
	}
	panic(fmt.Sprintf("no oracle for %T", c))
}

func criteria(depth int) *rapid.Generator[Criterion] {
	return rapid.Custom(func(t *rapid.T) Criterion {
		word := func() string {
			return rapid.SampledFrom(append(slices.Clone(words), "STRASSE", "äPF", "ete", "and", "lph", "", "nothing", "a and", "ler fil", `"`, "x ", "er", "qq", "é", "Ä")).Draw(t, "word")
		}
		number := func() uint32 {
			return rapid.SampledFrom([]uint32{0, 1, 2, 9, 15, 24, 25, 4294967295}).Draw(t, "number")
		}
		date := func() time.Time { return time.Date(2026, 1, rapid.IntRange(1, 7).Draw(t, "day"), 5, 0, 0, 0, time.UTC) }
		near := func() time.Time { return time.Now().AddDate(0, 0, rapid.IntRange(-1, 1).Draw(t, "days")) }
		kinds := 16
		if depth == 0 {
			kinds = 13
		}
		switch rapid.IntRange(0, kinds-1).Draw(t, "key") {
		case 0:
			return Seq{{Start: number(), Stop: number()}, {Start: number(), Stop: number()}}
		case 1:
			return UIDs{{Start: imap.UID(number()), Stop: imap.UID(number())}, {Start: imap.UID(number()), Stop: imap.UID(number())}}
		case 2:
			return Arrived{Since: near()}
		case 3:
			return Arrived{Before: near()}
		case 4:
			return Sent{Since: date()}
		case 5:
			return Sent{Before: date()}
		case 6:
			name := rapid.SampledFrom([]string{"Subject", "From", "To", "X-Sealpost-Status", "X-Missing"}).Draw(t, "field")
			return Header{name, word()}
		case 7:
			return Body(word())
		case 8:
			return Text(word())
		case 9:
			return Flagged(rapid.SampledFrom([]imap.Flag{imap.FlagSeen, imap.FlagFlagged}).Draw(t, "flag"))
		case 10:
			return Received{After: near(), UpTo: near()}
		case 11:
			return Larger(rapid.IntRange(1, 1000).Draw(t, "size"))
		case 12:
			return Smaller(rapid.IntRange(1, 1000).Draw(t, "size"))
		case 13:
			return Not{criteria(depth-1).Draw(t, "not")}
		case 14:
			return Or{criteria(depth-1).Draw(t, "left"), criteria(depth-1).Draw(t, "right")}
		}
		return And(rapid.SliceOfN(criteria(depth-1), 0, 3).Draw(t, "and"))
	})
}

// Some messages are indexed, some not yet, one has more text than the database holds.
func TestSearchFindsWhatAnOracleFinds(t *testing.T) {
	check(t, flag.Set("rapid.checks", "400"))
	r := newRig(t)
	all := r.samples(120)
	b := r.refreshed("INBOX")
	s := b.Snapshot()
	seq := uidsOf(s)
	if _, err := b.Search(t.Context(), Body("open them all"), seq); err != nil {
		t.Fatal(err)
	}
	if _, err := r.indexSome(t.Context()); err != nil { // a batch, not all
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		c := criteria(3).Draw(rt, "criteria")
		got, err := b.Search(t.Context(), c, seq)
		if err != nil {
			rt.Fatalf("%v", err)
		}
		want := []imap.UID{}
		for i, sample := range all {
			if oracle(c, message{sample, i + 1, len(all), s.Messages[i].InternalDate}) {
				want = append(want, sample.uid)
			}
		}
		if !slices.Equal(got, want) {
			rt.Fatalf("found %v, want %v", got, want)
		}
	})
}

// TestSearchText: which text of a message is found, and which is not there.
func TestSearchText(t *testing.T) {
	long := strings.Repeat("word ", 400_000)
	message := "From: =?utf-8?q?J=C3=BCrgen?= <j@bravo.test>\r\nSubject: =?iso-8859-1?q?Gr=FC=DFe?= aus\r\n =?utf-8?b?S8O2bG4=?=\r\n" +
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" +
		"<style>hidden</style><p>Sch=F6ne &amp; <b>gu</b>te\r\n  Zeit<br>Ende</p>\r\n" +
		"--b\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"Rechnung.txt\"\r\n\r\n" +
		"R2VoZWltbmlz\r\n" +
		"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner matter\r\n\r\ninner text\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\n" + long + "needle at the end\r\n" +
		"--b\r\nContent-Type: application/octet-stream\r\n\r\nbinary\r\n--b--\r\n"
	r := newRig(t)
	r.deliver("INBOX", message)
	b := r.refreshed("INBOX")
	body := func(s string) Criterion { return Body(s) }
	text := func(s string) Criterion { return Text(s) }
	field := func(name, s string) Criterion { return Header{name, s} }
	for name, c := range map[string]struct {
		criteria Criterion
		found    bool
	}{
		"decoded subject":           {field("SUBJECT", "GRÜSSE aus Köln"), true},
		"decoded name":              {field("From", "jürgen"), true},
		"empty value, field exists": {field("From", ""), true},
		"no such field":             {field("Cc", ""), false},
		"field name is no prefix":   {field("Sub", "aus"), false},
		"text has the header":       {text("köln"), true},
		"body has no header":        {body("köln"), false},
		"html":                      {body("schöne & gute zeit"), true},
		"markup is left out":        {body("<b>"), false},
		"style is left out":         {body("hidden"), false},
		"a break separates":         {body("zeitende"), false},
		"base64":                    {body("geheimnis"), true},
		"file name":                 {body("rechnung.TXT"), true},
		"attached message, header":  {body("inner matter"), true},
		"attached message, body":    {body("INNER text"), true},
		"beyond what is kept":       {body("needle at"), true},
		"across pieces":             {text("word word needle"), true},
		"not there":                 {text("nothing of the kind"), false},
		"other attachments":         {body("binary"), false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := b.Search(t.Context(), c.criteria, nil)
			if err != nil || (len(got) == 1) != c.found {
				t.Errorf("found %v, %v", got, err)
			}
		})
	}
}

func TestSearchSaysWhenItCannotSeeEverything(t *testing.T) {
	r := newRig(t)
	r.deliver("INBOX", letter("one", "needle"))
	b := r.refreshed("INBOX")
	defer r.provider.Inject(bridgetest.Fault{Protocol: "imap", Command: "CONNECT", Drop: true})()
	r.provider.Disconnect()
	if got, err := b.Search(t.Context(), Body("needle"), nil); !errors.Is(err, ErrOffline) {
		t.Errorf("found %v, %v", got, err)
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte("Content-Type: text/html\r\n\r\n<p>a&amp;b<script>x</script>"))
	f.Add([]byte("Subject: =?utf-8?q?=00?=\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\x00\xff\r\n--b--"))
	f.Add([]byte("Content-Type: text/calendar\r\n\r\na\r\n b²™´\u00ad\n"))
	f.Add([]byte("Content-Type: text/plain; format=flowed; delsp=yes\r\n\r\na \r\n \n"))
	f.Fuzz(func(t *testing.T, message []byte) {
		src := source(string(message))
		root, err := mimescan.Scan(src)
		check(t, err)
		check(t, eachText(src, root, func(piece string) error {
			piece = fold(piece)
			if again := fold(piece); again != piece && fold(again) != again {
				t.Fatalf("folding does not settle: %q", piece)
			}
			if strings.Contains(piece, "\x00") {
				t.Fatalf("a NUL in %q", piece)
			}
			return nil
		}))
	})
}
