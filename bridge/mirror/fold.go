package mirror

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// fold is the form in which text is compared: without regard to case and to the ways of writing a character, as i;unicode-casemap has it (RFC 5051
// §2), and without what is not seen: soft hyphens, joiners, marks of direction, variation selectors. What is a symbol and no letter stands by
// itself: "²" is "2", but ends the word before it.
func fold(s string) string {
	if isPlain(s) {
		return strings.ToLower(s)
	}
	s = strings.Map(seen, strings.ToValidUTF8(s, "\uFFFD"))
	return decompose(cases.Fold().String(decompose(s)))
}

func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf || s[i] == 0 {
			return false
		}
	}
	return true
}

// seen drops characters that have no appearance of their own. Cherokee goes into small letters: cases.Fold turns those into capitals, as it
// should, but capitals into small ones.
func seen(r rune) rune {
	switch {
	case r >= '\u13a0' && r <= '\u13ef':
		return r - '\u13a0' + '\uab70'
	case r >= '\u13f0' && r <= '\u13f5':
		return r + 8
	case r == 0 || unicode.Is(unicode.Me, r): // a frame around the character before
		return ' '
	case unicode.Is(unicode.Cf, r), unicode.Is(unicode.Variation_Selector, r), r == '\u034f':
		return -1
	}
	return r
}

// decompose is NFKD, but for symbols: those that stand for others get space around them, and accents that stand alone stay as they are, for
// otherwise they would become part of the word behind.
func decompose(s string) string {
	if !strings.ContainsFunc(s, isSymbol) {
		return norm.NFKD.String(s)
	}
	var out strings.Builder
	for s != "" {
		n := strings.IndexFunc(s, isSymbol)
		if n < 0 {
			n = len(s)
		}
		out.WriteString(norm.NFKD.String(s[:n]))
		r, size := utf8.DecodeRuneInString(s[n:])
		symbol := s[n : n+size]
		if plain := norm.NFKD.String(symbol); plain != symbol && !unicode.Is(unicode.Sk, r) {
			symbol = " " + plain + " "
		}
		out.WriteString(symbol)
		s = s[n+size:]
	}
	return out.String()
}

func isSymbol(r rune) bool {
	return r >= utf8.RuneSelf && unicode.In(r, unicode.No, unicode.So, unicode.Sk)
}
