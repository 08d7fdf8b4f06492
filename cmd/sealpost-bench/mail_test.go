package main

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"slices"
	"strings"
	"testing"
)

const testCount = 1500

func TestMessagesAreReproducible(t *testing.T) {
	one, other := newMailbox(nil), newMailbox(nil)
	for _, i := range []int{0, 7, 500, testCount - 1} {
		a, b := one.message(i, testCount), other.message(i, testCount)
		if !bytes.Equal(a.clear(), b.clear()) || !bytes.Equal(a.payload(), b.payload()) || a.flags() != b.flags() {
			t.Errorf("message %d differs from one run to the next", i)
		}
	}
}

// A search for a planted word is right only if the vocabulary cannot produce it.
func TestVocabularyLacksPlantedWords(t *testing.T) {
	for _, word := range newMailbox(nil).words {
		for _, special := range []string{rareWord, commonWord, shortWord, subjectWord, absentWord} {
			if strings.Contains(word, special) || strings.Contains(special, word) && len(word) >= len(special) {
				t.Errorf("the vocabulary has %q, which holds %q", word, special)
			}
		}
	}
}

// What a parser we did not write reads in the messages is what the benchmark expects to be found.
func TestMessagesHoldWhatIsExpected(t *testing.T) {
	box := newMailbox(nil)
	var found expectation
	for i := range testCount {
		header, text := parsed(t, box.message(i, testCount).clear())
		for _, c := range []struct {
			has bool
			n   *int
		}{
			{strings.Contains(text, rareWord), &found.rare}, {strings.Contains(text, commonWord), &found.common},
			{strings.Contains(text, shortWord), &found.short}, {strings.Contains(header.Get("Subject"), subjectWord), &found.subject},
		} {
			if c.has {
				*c.n++
			}
		}
	}
	if want := expected(testCount); found != want {
		t.Errorf("found %+v, expected %+v", found, want)
	}
	if found.rare == 0 || found.subject == 0 || found.short == 0 || found.common < testCount/10 {
		t.Errorf("a word is planted nowhere: %+v", found)
	}
}

func TestMessagesAreOfRealisticSize(t *testing.T) {
	box, sum := newMailbox(nil), 0
	for i := range testCount {
		n := len(box.message(i, testCount).clear())
		if sum += n; n < 1000 || n > 40_000 {
			t.Errorf("message %d has %d bytes", i, n)
		}
	}
	if mean := sum / testCount; mean < 3000 || mean > 10_000 {
		t.Errorf("the messages have %d bytes on average", mean)
	}
}

func TestThreads(t *testing.T) {
	box := newMailbox(nil)
	replies := 0
	for i := range testCount {
		header, _ := parsed(t, box.message(i, testCount).clear())
		references := strings.Fields(header.Get("References"))
		if len(references) > 10 || len(references) > 0 && references[len(references)-1] != messageID(parent(i)) {
			t.Errorf("message %d has References %v", i, references)
		}
		if slices.Contains(references, messageID(i)) || parent(i) > i {
			t.Errorf("message %d answers itself or a later one", i)
		}
		if reply := len(references) > 0; reply != strings.HasPrefix(header.Get("Subject"), "Re: ") {
			t.Errorf("message %d: subject %q with References %v", i, header.Get("Subject"), references)
		} else if reply {
			replies++
		}
	}
	if replies < testCount/3 {
		t.Errorf("only %d of %d messages are replies", replies, testCount)
	}
}

// Encrypted and clear form hold the same mail, and nothing of it stands outside the ciphertext.
func TestEncryptedMessageIsTheClearOne(t *testing.T) {
	all, err := newKeys()
	if err != nil {
		t.Fatal(err)
	}
	autocrypt, err := all.autocrypt()
	if err != nil {
		t.Fatal(err)
	}
	secret, certificate := ownKey(t)
	e, err := newEncrypter(all, certificate)
	if err != nil {
		t.Fatal(err)
	}
	m := newMailbox(autocrypt).message(500, testCount)
	armored, err := e.encrypt(m)
	if err != nil {
		t.Fatal(err)
	}
	stored := m.encrypted(armored)
	if bytes.Contains(stored, []byte(m.subject)) || bytes.Contains(stored, []byte(rareWord)) {
		t.Error("the subject or the text can be read")
	}
	if _, err := decryptRate(t.Context(), all, secret, [][]byte{stored}); err != nil {
		t.Error(err)
	}
	if _, err := mail.ReadMessage(bytes.NewReader(stored)); err != nil {
		t.Error(err)
	}
	if !bytes.HasSuffix(m.clear(), m.body) || !bytes.HasSuffix(m.payload(), m.body) {
		t.Error("the two forms have different bodies")
	}
}

// parsed is the header of a message and the text of all its text parts.
func parsed(t *testing.T, data []byte) (mail.Header, string) {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Header.Date(); err != nil {
		t.Fatal(err)
	}
	return m.Header, partText(t, m.Header.Get("Content-Type"), m.Body)
}

func partText(t *testing.T, contentType string, body io.Reader) string {
	t.Helper()
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(media, "multipart/") {
		text, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(media, "text/") {
			return string(text)
		}
		return ""
	}
	var all strings.Builder
	for parts := multipart.NewReader(body, params["boundary"]); ; {
		part, err := parts.NextPart() // decodes quoted-printable
		if err == io.EOF {
			return all.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(partText(t, part.Header.Get("Content-Type"), part))
	}
}
