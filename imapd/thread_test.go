package imapd

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/sealpost/sealpost/bridge/mirror"
)

// TestThreads: testdata/threads.txt says how it is read.
func TestThreads(t *testing.T) {
	text, err := os.ReadFile("testdata/threads.txt")
	if err != nil {
		t.Fatal(err)
	}
	var messages []mirror.Digest
	checked, sent := 0, time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#":
			if len(words) == 0 {
				messages = nil
			}
		case words[0] == "REFERENCES" || words[0] == "ORDEREDSUBJECT":
			checked++
			want := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), words[0]))
			if got := threaded(words[0], messages); got != want {
				t.Errorf("%s of %d messages: %s, want %s", words[0], len(messages), got, want)
			}
		default:
			sent = sent.Add(time.Minute)
			messages = append(messages, sampleDigest(t, words, sent))
		}
	}
	if checked < 15 {
		t.Fatalf("only %d cases", checked)
	}
}

func sampleDigest(t *testing.T, words []string, sent time.Time) mirror.Digest {
	uid, err := strconv.Atoi(words[0])
	if err != nil {
		t.Fatal(words, err)
	}
	dash := func(s string) string { return strings.TrimPrefix(s, "-") }
	d := mirror.Digest{UID: imap.UID(uid), Sent: sent, MessageID: dash(words[1]), Subject: dash(words[3]), Answer: len(words) > 4}
	if words[2] != "-" {
		d.References = strings.Split(words[2], ",")
	}
	return d
}

func threaded(algorithm string, messages []mirror.Digest) string {
	build := map[string]func([]mirror.Digest) []*container{"REFERENCES": byReferences, "ORDEREDSUBJECT": bySubject}[algorithm]
	var out bytes.Buffer
	r := &request{output: newOutput(&out, false)}
	for _, root := range build(messages) {
		r.threadOf(root, func(d *mirror.Digest) uint32 { return uint32(d.UID) })
	}
	_ = r.Flush()
	return out.String()
}

// Every message is in exactly one place, whatever it refers to.
func FuzzThreads(f *testing.F) {
	f.Add("a -\nb a\nc a,b\n")
	f.Add("a b\nb a\na c\n")
	f.Fuzz(func(t *testing.T, text string) {
		var messages []mirror.Digest
		for line := range strings.Lines(text) {
			words := strings.Fields(line)
			if len(words) < 2 {
				continue
			}
			messages = append(messages, mirror.Digest{UID: imap.UID(len(messages) + 1), MessageID: words[0],
				References: strings.Split(words[1], ","), Subject: words[0][:1], Answer: len(words)%2 == 1})
		}
		for _, algorithm := range []string{"REFERENCES", "ORDEREDSUBJECT"} {
			seen := map[string]int{}
			for _, number := range strings.FieldsFunc(threaded(algorithm, messages), func(r rune) bool { return r < '0' || r > '9' }) {
				seen[number]++
			}
			for _, m := range messages {
				if n := seen[strconv.Itoa(int(m.UID))]; n != 1 {
					t.Fatalf("%s: message %d is there %d times", algorithm, m.UID, n)
				}
			}
		}
	})
}

// Whatever a client sends is read to an end or refused.
func FuzzArguments(f *testing.F) {
	for _, seed := range []string{
		"1:*,$ (FLAGS BODY.PEEK[1.2.HEADER.FIELDS (To \"x y\")]<0.10> BINARY.SIZE[3])", `1 PREVIEW (LAZY)`,
		`RETURN (MIN SAVE) CHARSET latin1 OR (NOT SEEN) HEADER "a\"b" {`, `(REVERSE DATE SUBJECT) UTF-8 OLDER 5 UID 1:4294967295`,
		`1 +FLAGS.SILENT (\Seen $x)`, "F&APw-nf &- &AGE-", "", "(((((((((((((((((((((((((((((((((((((((((((((((((((((((((((",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, read := range []func(a *arguments) error{
			func(a *arguments) error { _, err := a.set(); return err },
			func(a *arguments) error { _, err := a.fetchItems(); return err },
			func(a *arguments) error { _, err := a.mailbox(); return err },
			func(a *arguments) error { _, err := a.storeFlags(); return err },
			func(a *arguments) error {
				_, err := (&searchKeys{arguments: a, now: time.Unix(1<<30, 0)}).all()
				return err
			},
			func(a *arguments) error { _, err := (&request{arguments: *a}).searchReturn(); return err },
			func(a *arguments) error { _, _, err := (&request{arguments: *a}).sortKeys(); return err },
		} {
			a := &arguments{text}
			if err := read(a); err == nil && len(a.rest) > len(text) {
				t.Fatalf("%q: %q is left", text, a.rest)
			}
		}
		quoteAtoms(text)
	})
}
