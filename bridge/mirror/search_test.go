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

// oracle decides about one message, criterion by criterion as the RFC reads.
func oracle(c *imap.SearchCriteria, s sample, number, messages int, internal time.Time) bool {
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
	ok := true
	for _, set := range c.SeqNum {
		ok = ok && slices.ContainsFunc(set, func(r imap.SeqRange) bool { return in(r.Start, r.Stop, uint32(number), uint32(messages)) })
	}
	for _, set := range c.UID {
		ok = ok && slices.ContainsFunc(set, func(r imap.UIDRange) bool {
			return in(uint32(r.Start), uint32(r.Stop), uint32(s.uid), uint32(messages))
		})
	}
	ok = ok && (c.Since.IsZero() || date(internal) >= date(c.Since)) && (c.Before.IsZero() || date(internal) < date(c.Before))
	ok = ok && (c.SentSince.IsZero() || date(s.sent) >= date(c.SentSince)) && (c.SentBefore.IsZero() || date(s.sent) < date(c.SentBefore))
	for _, h := range c.Header {
		m, err := netmail.ReadMessage(strings.NewReader(statusField + s.raw))
		ok = ok && err == nil && m.Header[h.Key] != nil && has(m.Header.Get(h.Key), h.Value)
	}
	for _, text := range c.Body {
		ok = ok && has(s.text, text)
	}
	for _, text := range c.Text {
		ok = ok && has(statusField+s.raw, text)
	}
	for _, f := range c.Flag {
		ok = ok && slices.Contains(s.flags, f)
	}
	for _, f := range c.NotFlag {
		ok = ok && !slices.Contains(s.flags, f)
	}
	size := int64(len(statusField + s.raw))
	ok = ok && (c.Larger == 0 || size > c.Larger) && (c.Smaller == 0 || size < c.Smaller)
	for i := range c.Not {
		ok = ok && !oracle(&c.Not[i], s, number, messages, internal)
	}
	for i := range c.Or {
		ok = ok && (oracle(&c.Or[i][0], s, number, messages, internal) || oracle(&c.Or[i][1], s, number, messages, internal))
	}
	return ok
}

func criteria(depth int) *rapid.Generator[imap.SearchCriteria] {
	return rapid.Custom(func(t *rapid.T) imap.SearchCriteria {
		var c imap.SearchCriteria
		word := func() string {
			w := rapid.SampledFrom(append(slices.Clone(words), "STRASSE", "äPF", "ete", "and", "lph", "", "nothing")).Draw(t, "word")
			return w
		}
		number := func() uint32 {
			return rapid.SampledFrom([]uint32{0, 1, 2, 9, 15, 24, 25, 4294967295}).Draw(t, "number")
		}
		date := func() time.Time { return time.Date(2026, 1, rapid.IntRange(1, 7).Draw(t, "day"), 5, 0, 0, 0, time.UTC) }
		for range rapid.IntRange(1, 2).Draw(t, "keys") {
			switch rapid.IntRange(0, 12).Draw(t, "key") {
			case 0:
				c.SeqNum = append(c.SeqNum, imap.SeqSet{{Start: number(), Stop: number()}})
			case 1:
				c.UID = append(c.UID, imap.UIDSet{{Start: imap.UID(number()), Stop: imap.UID(number())}})
			case 2:
				c.Since = time.Now().AddDate(0, 0, rapid.IntRange(-1, 1).Draw(t, "days"))
			case 3:
				c.Before = time.Now().AddDate(0, 0, rapid.IntRange(-1, 1).Draw(t, "days"))
			case 4:
				c.SentSince = date()
			case 5:
				c.SentBefore = date()
			case 6:
				name := rapid.SampledFrom([]string{"Subject", "From", "To", "X-Sealpost-Status", "X-Missing"}).Draw(t, "field")
				c.Header = append(c.Header, imap.SearchCriteriaHeaderField{Key: name, Value: word()})
			case 7:
				c.Body = append(c.Body, word())
			case 8:
				c.Text = append(c.Text, word())
			case 9:
				c.Flag = append(c.Flag, imap.FlagSeen)
			case 10:
				c.NotFlag = append(c.NotFlag, imap.FlagFlagged)
			case 11:
				c.Larger = int64(rapid.IntRange(1, 1000).Draw(t, "size"))
			case 12:
				c.Smaller = int64(rapid.IntRange(1, 1000).Draw(t, "size"))
			}
		}
		if depth > 0 {
			c.Not = rapid.SliceOfN(criteria(depth-1), 0, 2).Draw(t, "not")
			for range rapid.IntRange(0, 2).Draw(t, "ors") {
				c.Or = append(c.Or, [2]imap.SearchCriteria{criteria(depth-1).Draw(t, "left"), criteria(depth-1).Draw(t, "right")})
			}
		}
		return c
	})
}

func TestSearchFindsWhatAnOracleFinds(t *testing.T) {
	check(t, flag.Set("rapid.checks", "200"))
	r := newRig(t)
	all := r.samples(25)
	b := r.refreshed("INBOX")
	s := b.Snapshot()
	seq := uidsOf(s)
	rapid.Check(t, func(rt *rapid.T) {
		c := criteria(2).Draw(rt, "criteria")
		got, err := b.Search(t.Context(), &c, seq)
		if err != nil {
			rt.Fatalf("%v", err)
		}
		want := []imap.UID{}
		for i, sample := range all {
			if oracle(&c, sample, i+1, len(all), s.Messages[i].InternalDate) {
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
	body := func(s string) imap.SearchCriteria { return imap.SearchCriteria{Body: []string{s}} }
	text := func(s string) imap.SearchCriteria { return imap.SearchCriteria{Text: []string{s}} }
	field := func(name, s string) imap.SearchCriteria {
		return imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: name, Value: s}}}
	}
	for name, c := range map[string]struct {
		criteria imap.SearchCriteria
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
			got, err := b.Search(t.Context(), &c.criteria, nil)
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
	c := &imap.SearchCriteria{Body: []string{"needle"}}
	if got, err := b.Search(t.Context(), c, nil); !errors.Is(err, ErrOffline) {
		t.Errorf("found %v, %v", got, err)
	}
	var refused *imap.Error
	nested := &imap.SearchCriteria{Or: [][2]imap.SearchCriteria{{{}, {Not: []imap.SearchCriteria{{ModSeq: &imap.SearchCriteriaModSeq{}}}}}}}
	if _, err := b.Search(t.Context(), nested, nil); !errors.As(err, &refused) {
		t.Errorf("MODSEQ: %v", err)
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte("Content-Type: text/html\r\n\r\n<p>a&amp;b<script>x</script>"))
	f.Add([]byte("Subject: =?utf-8?q?=00?=\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\x00\xff\r\n--b--"))
	f.Fuzz(func(t *testing.T, message []byte) {
		src := source(string(message))
		root, err := mimescan.Scan(src)
		check(t, err)
		check(t, eachText(src, root, func(piece string) error {
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
