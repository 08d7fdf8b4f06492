package query

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sealpost/sealpost/bridge/mirror"
)

// word is one of a term, folded.
type word struct {
	text   string
	prefix bool // "*" follows: it stands for the rest of the word
}

// errWildcard is about "*" in or before a word, and "?", of which users of other programs expect something.
var errWildcard = errors.New("\"*\" can only stand at the end of a word, for the rest of it, and \"?\" for nothing; write the words out, with OR between them")

// checkWildcards refuses what would find something else than is meant.
func checkWildcards(text string) error {
	var before rune = ' '
	for i, r := range text {
		after, _ := utf8.DecodeRuneInString(text[i+utf8.RuneLen(r):])
		if r == '*' && (inWord(after) || !inWord(before) && after != '@') || r == '?' && inWord(before) && inWord(after) {
			return errWildcard
		}
		before = r
	}
	return nil
}

// wordsOf splits what a user wrote. Scripts without spaces are left together.
func wordsOf(text string) []word {
	var found []word
	folded := mirror.Fold(text)
	for folded != "" {
		begin := strings.IndexFunc(folded, inWord)
		if begin < 0 {
			return found
		}
		folded = folded[begin:]
		n := strings.IndexFunc(folded, func(r rune) bool { return !inWord(r) })
		if n < 0 {
			n = len(folded)
		}
		found = append(found, word{folded[:n], strings.HasPrefix(folded[n:], "*")})
		folded = folded[n:]
	}
	return found
}

func inWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) }

// unspaced are the scripts that are written without spaces between words, and the signs of kana that are of no script.
var unspaced = []*unicode.RangeTable{unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar, kanaSigns}

// kanaSigns are the voicing marks and the sign for a long vowel.
var kanaSigns = &unicode.RangeTable{R16: []unicode.Range16{{Lo: 0x3099, Hi: 0x309c, Stride: 1}, {Lo: 0x30fc, Hi: 0x30fc, Stride: 1}}}

// isBoundary says whether a word may end between two runes.
func isBoundary(before, after rune) bool {
	if !inWord(before) || !inWord(after) {
		return true
	}
	return !unicode.IsMark(after) && (unicode.In(before, unspaced...) || unicode.In(after, unspaced...))
}

// Needles are folded strings that a text must have as substrings for In to be true of it; none for terms that
// are not about words.
func (t *Term) Needles() []string {
	var needles []string
	for _, w := range t.words {
		needles = append(needles, w.text)
	}
	return needles
}

// In says whether the words of the term stand in a text, which is folded (mirror.Fold), one after the other.
func (t *Term) In(folded string) bool {
	if len(t.words) == 0 {
		return false
	}
	first := t.words[0].text
	for at := 0; ; {
		n := strings.Index(folded[at:], first)
		if n < 0 {
			return false
		}
		if at += n; t.phraseAt(folded, at) {
			return true
		}
		_, size := utf8.DecodeRuneInString(folded[at:])
		at += size
	}
}

// phraseAt says whether the words begin at an offset.
func (t *Term) phraseAt(text string, at int) bool {
	if before, size := utf8.DecodeLastRuneInString(text[:at]); size > 0 {
		if after, _ := utf8.DecodeRuneInString(text[at:]); !isBoundary(before, after) {
			return false
		}
	}
	for i, w := range t.words {
		if i > 0 {
			at += gap(text[at:])
		}
		if !strings.HasPrefix(text[at:], w.text) {
			return false
		}
		at += len(w.text)
		last, _ := utf8.DecodeLastRuneInString(text[:at])
		next, size := utf8.DecodeRuneInString(text[at:])
		switch {
		case w.prefix:
			at += restOfWord(text[at:], last)
		case size > 0 && !isBoundary(last, next):
			return false
		}
	}
	return true
}

// gap is the length of the separators a text begins with.
func gap(text string) int {
	if n := strings.IndexFunc(text, inWord); n >= 0 {
		return n
	}
	return len(text)
}

// restOfWord is how far the word goes on whose last rune so far is given.
func restOfWord(text string, last rune) int {
	for i, r := range text {
		if isBoundary(last, r) {
			return i
		}
		last = r
	}
	return len(text)
}

// Address is what a term about participants asks for if it is an address or a domain ("@alpha.test"), folded;
// "" if it is about words.
func (t *Term) Address() string {
	switch t.Field {
	case From, To, Cc, Bcc, Participants:
		if strings.Contains(t.Value, "@") && !strings.ContainsFunc(t.Value, unicode.IsSpace) {
			return mirror.Fold(t.Value)
		}
	}
	return ""
}

// IsAddress says whether a folded address is the term's, or in its domain.
func (t *Term) IsAddress(folded string) bool {
	wanted := strings.TrimPrefix(t.Address(), "*")
	if strings.HasPrefix(wanted, "@") {
		at := strings.LastIndexByte(folded, '@')
		return at >= 0 && folded[at:] == wanted
	}
	return wanted != "" && folded == wanted
}

// Names says whether a name is the value of the term, without regard to case; "*" at the value's end stands for anything.
func (t *Term) Names(name string) bool {
	value, any := strings.CutSuffix(mirror.Fold(t.Value), "*")
	if any {
		return strings.HasPrefix(mirror.Fold(name), value)
	}
	return mirror.Fold(name) == value
}

// IsType says whether the term asks for attachments of that media type and name.
func (t *Term) IsType(mediaType, fileName string) bool {
	if strings.Contains(t.Value, "/") {
		return t.Names(mediaType)
	}
	ending := "." + strings.TrimPrefix(mirror.Fold(t.Value), ".")
	return strings.HasSuffix(mirror.Fold(fileName), ending)
}
