package main

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"mime/quotedprintable"
	"strings"
	"time"
)

// Words that the vocabulary cannot produce: it knows neither q, x nor a doubled vowel. So a search for
// one of them finds the messages it was planted in, and no others.
const (
	rareWord    = "xylograph" // in one message of a thousand
	commonWord  = "meeting"   // in about three of ten
	shortWord   = "qx"        // in about one of a hundred
	subjectWord = "requisite" // in the subject of about one thread of a hundred
	absentWord  = "quixotry"  // in none
)

const (
	seed       = 20240229
	owner      = "load@bench.test"
	senders    = 40
	vocabulary = 20000
	yearOne    = 2016
	years      = 10
)

// mailbox generates messages: the same index gives the same message in every run.
type mailbox struct {
	words []string
	// autocrypt are the fields that announce the senders' certificates; nil: none.
	autocrypt []string
}

func newMailbox(autocrypt []string) *mailbox {
	r := rand.New(rand.NewPCG(seed, 0))
	m := &mailbox{autocrypt: autocrypt}
	for range vocabulary {
		m.words = append(m.words, inventWord(r))
	}
	return m
}

// inventWord joins syllables; about one word in twenty has a letter that is not ASCII.
func inventWord(r *rand.Rand) string {
	const consonants, vowels, endings = "bcdfghjklmnprstvwz", "aeiou", "lmnrst"
	var b strings.Builder
	for range 1 + r.IntN(4) {
		b.WriteByte(consonants[r.IntN(len(consonants))])
		if r.IntN(60) == 0 {
			b.WriteString([]string{"é", "ü", "ø"}[r.IntN(3)])
		} else {
			b.WriteByte(vowels[r.IntN(len(vowels))])
		}
	}
	if r.IntN(2) == 0 {
		b.WriteByte(endings[r.IntN(len(endings))])
	}
	return b.String()
}

// message is one generated mail, before it is written clear or encrypted.
type message struct {
	index   int
	sender  int
	date    time.Time
	subject string
	fields  []string // header fields that both forms have, without the subject
	outer   []string // fields that stay outside the encryption only
	media   string   // Content-Type of the body
	body    []byte
}

// random is the source of one aspect of one message.
func random(aspect uint64, index int) *rand.Rand {
	return rand.New(rand.NewPCG(seed+aspect, uint64(index)))
}

const (
	aspectThread uint64 = iota + 1
	aspectPlanted
	aspectContent
	aspectSubject
)

// planted says which of the special words a message has.
type planted struct{ rare, common, short, subject bool }

func plantedIn(index int) planted {
	r := random(aspectPlanted, index)
	return planted{
		rare: index%1000 == 500, common: r.IntN(10) < 3, short: r.IntN(100) == 0,
		subject: random(aspectSubject, root(index)).IntN(100) == 0,
	}
}

// parent is the message this one answers; itself if it begins a thread.
func parent(index int) int {
	r := random(aspectThread, index)
	if index == 0 || r.IntN(10) < 4 {
		return index
	}
	return max(0, index-1-r.IntN(200))
}

func root(index int) int {
	for p := parent(index); p != index; p = parent(index) {
		index = p
	}
	return index
}

// ancestors are the nearest, at most ten, oldest first.
func ancestors(index int) []string {
	var ids []string
	for p := parent(index); p != index && len(ids) < 10; p = parent(index) {
		ids = append([]string{messageID(p)}, ids...)
		index = p
	}
	return ids
}

func messageID(index int) string {
	r := random(aspectThread, index)
	return fmt.Sprintf("<%08x.%d@mail%d.bench.test>", r.Uint32(), index, index%7)
}

func senderAddress(sender int) string {
	return fmt.Sprintf("person%02d@example%d.test", sender, sender%5)
}

// sentAt spreads the messages over ten years, in the order of arrival but for some hours of delay.
func sentAt(index, count int, r *rand.Rand) time.Time {
	start := time.Date(yearOne, 1, 1, 0, 0, 0, 0, time.UTC)
	span := time.Date(yearOne+years, 1, 1, 0, 0, 0, 0, time.UTC).Sub(start)
	arrived := start.Add(span / time.Duration(count) * time.Duration(index))
	zone := time.FixedZone("", (r.IntN(23)-11)*3600)
	return arrived.Add(-time.Duration(r.IntN(12*3600)) * time.Second).In(zone)
}

// message generates the one at index, from 0, of a mailbox of count.
func (m *mailbox) message(index, count int) message {
	r := random(aspectContent, index)
	w := writer{words: m.words, r: r, zipf: rand.NewZipf(r, 1.1, 8, vocabulary-1)}
	msg := message{index: index, sender: r.IntN(senders)}
	msg.date = sentAt(index, count, r)
	msg.subject = m.subject(index)
	msg.fields = msg.header()
	msg.outer = []string{fmt.Sprintf("Received: from mail%d.bench.test (mail%d.bench.test [192.0.2.%d])\r\n by mx.bench.test with ESMTPS id %08x; %s",
		index%7, index%7, index%250, r.Uint32(), msg.date.Format(time.RFC1123Z))}
	if m.autocrypt != nil {
		msg.outer = append(msg.outer, m.autocrypt[msg.sender])
	}
	msg.media, msg.body = w.content(index)
	return msg
}

func (m *mailbox) subject(index int) string {
	top := root(index)
	r := random(aspectSubject, top)
	var words []string
	if r.IntN(100) == 0 {
		words = append(words, subjectWord)
	}
	zipf := rand.NewZipf(r, 1.1, 8, vocabulary-1)
	for range 2 + r.IntN(6) {
		words = append(words, ascii(m.words[zipf.Uint64()]))
	}
	if top != index {
		return "Re: " + strings.Join(words, " ")
	}
	return strings.Join(words, " ")
}

// ascii keeps subjects free of encoded words, whose folding would be measured instead of the search.
func ascii(word string) string {
	return strings.NewReplacer("é", "e", "ü", "u", "ø", "o").Replace(word)
}

func (m message) header() []string {
	fields := []string{
		fmt.Sprintf("From: Person %02d <%s>", m.sender, senderAddress(m.sender)),
		"To: <" + owner + ">", "Date: " + m.date.Format(time.RFC1123Z), "Message-ID: " + messageID(m.index),
	}
	if ids := ancestors(m.index); len(ids) > 0 {
		fields = append(fields, "In-Reply-To: "+ids[len(ids)-1], "References: "+strings.Join(ids, "\r\n "))
	}
	return fields
}

// writer writes the text of one message.
type writer struct {
	words []string
	r     *rand.Rand
	zipf  *rand.Zipf
}

// content is 2 to 20 kB, most of it short: text and HTML, one in ten with an attachment.
func (w writer) content(index int) (media string, body []byte) {
	size := int(2000 * math.Pow(10, math.Pow(w.r.Float64(), 2)))
	attached := w.r.IntN(10) == 0
	paragraphs := w.paragraphs(max(300, (size-1500)/2), plantedIn(index))
	boundary := fmt.Sprintf("alternative-%d", index)
	media = "multipart/alternative; boundary=\"" + boundary + "\""
	var b strings.Builder
	b.WriteString("--" + boundary + "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	quote(&b, strings.Join(paragraphs, "\r\n\r\n"))
	b.WriteString("\r\n--" + boundary + "\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	quote(&b, "<html><head><style>p { margin: 1em }</style></head><body>\r\n<p>"+strings.Join(paragraphs, "</p>\r\n<p class=\"text\">")+"</p>\r\n</body></html>")
	b.WriteString("\r\n--" + boundary + "--\r\n")
	if attached {
		return w.attach(index, media, b.String())
	}
	return media, []byte(b.String())
}

func (w writer) paragraphs(size int, p planted) []string {
	var list []string
	for written := 0; written < size; {
		var words []string
		for range 8 + w.r.IntN(60) {
			word := w.words[w.zipf.Uint64()]
			words = append(words, word)
			written += len(word) + 1
		}
		list = append(list, strings.Join(words, " ")+".")
	}
	for _, special := range []struct {
		word string
		has  bool
	}{{rareWord, p.rare}, {commonWord, p.common}, {shortWord, p.short}} {
		if special.has {
			list[0] = special.word + " " + list[0]
		}
	}
	return list
}

// quote writes quoted-printable; a strings.Builder does not fail.
func quote(b *strings.Builder, text string) {
	q := quotedprintable.NewWriter(b)
	_, _ = q.Write([]byte(text))
	_ = q.Close()
}

// attach puts random bytes beside what there is.
func (w writer) attach(index int, media, body string) (string, []byte) {
	boundary := fmt.Sprintf("mixed-%d", index)
	var b strings.Builder
	fmt.Fprintf(&b, "--%s\r\nContent-Type: %s\r\n\r\n%s\r\n--%s\r\n", boundary, media, body, boundary)
	fmt.Fprintf(&b, "Content-Type: application/pdf; name=\"scan-%d.pdf\"\r\nContent-Disposition: attachment; filename=\"scan-%d.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n", index, index)
	for range 20 + w.r.IntN(60) {
		var line [57]byte
		for i := range line {
			line[i] = byte(w.r.Uint32())
		}
		b.WriteString(base64.StdEncoding.EncodeToString(line[:]) + "\r\n")
	}
	b.WriteString("--" + boundary + "--\r\n")
	return "multipart/mixed; boundary=\"" + boundary + "\"", []byte(b.String())
}

// clear is the message as it would have come without encryption.
func (m message) clear() []byte {
	fields := append(append([]string{}, m.outer...), m.fields...)
	fields = append(fields, "Subject: "+m.subject, "MIME-Version: 1.0", "Content-Type: "+m.media)
	return append([]byte(strings.Join(fields, "\r\n")+"\r\n\r\n"), m.body...)
}

// payload is what is encrypted: all of the header is protected, the subject is inside only
// (RFC 9788).
func (m message) payload() []byte {
	fields := []string{"Content-Type: " + m.media + ";\r\n hp=\"cipher\"; protected-headers=\"v1\"", "Subject: " + m.subject}
	fields = append(fields, m.fields...)
	for _, f := range append(m.fields[:len(m.fields):len(m.fields)], "Subject: [...]") {
		fields = append(fields, "HP-Outer: "+f)
	}
	return append([]byte(strings.Join(fields, "\r\n")+"\r\n\r\n"), m.body...)
}

// encrypted is the message around an armored ciphertext (RFC 3156 §4).
func (m message) encrypted(armored []byte) []byte {
	boundary := fmt.Sprintf("encrypted-%d", m.index)
	fields := append(append([]string{}, m.outer...), m.fields...)
	fields = append(fields, "Subject: [...]", "MIME-Version: 1.0",
		"Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\r\n boundary=\""+boundary+"\"")
	text := strings.Join(fields, "\r\n") + "\r\n\r\n--" + boundary + "\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--" +
		boundary + "\r\nContent-Type: application/octet-stream; name=\"encrypted.asc\"\r\n\r\n"
	return append(append([]byte(text), armored...), "\r\n--"+boundary+"--\r\n"...)
}

// flags of a message, as the letters of a Maildir (most is read).
func (m message) flags() string {
	r := random(aspectPlanted, -1-m.index)
	flags := ""
	for _, f := range []struct {
		letter  string
		percent int
	}{{"F", 5}, {"R", 20}, {"S", 85}} { // in the order of the alphabet, as Maildir asks
		if r.IntN(100) < f.percent {
			flags += f.letter
		}
	}
	return flags
}
