package mirror

import "strings"

// baseSubject takes from a decoded subject what says that it is a reply or a forward
// (RFC 5256 §2.1). The steps are the RFC's.
func baseSubject(decoded string) (base string, answer bool) {
	s := strings.Join(strings.Fields(decoded), " ") // (1)
	for {
		s, answer = cutTrailers(s, answer) // (2)
		s, answer = cutLeaders(s, answer)  // (3) to (5)
		inner, forwarded := cutForward(s)  // (6)
		if !forwarded {
			return s, answer
		}
		s, answer = inner, true
	}
}

func cutTrailers(s string, answer bool) (string, bool) {
	for {
		s = strings.TrimRight(s, " ")
		if len(s) < 5 || !strings.EqualFold(s[len(s)-5:], "(fwd)") {
			return s, answer
		}
		s, answer = s[:len(s)-5], true
	}
}

// cutLeaders also removes "[list]" in front, unless nothing is left then.
func cutLeaders(s string, answer bool) (string, bool) {
	for {
		s = strings.TrimLeft(s, " ")
		if rest, ok := cutLeader(s); ok {
			s, answer = rest, true
			continue
		}
		if rest, ok := cutBlob(s); ok && rest != "" {
			s = rest
			continue
		}
		return s, answer
	}
}

// cutLeader removes "[list] Re [2]:" and the like.
func cutLeader(s string) (string, bool) {
	for rest, ok := cutBlob(s); ok; rest, ok = cutBlob(s) {
		s = rest
	}
	for _, word := range []string{"re", "fwd", "fw"} {
		if len(s) < len(word) || !strings.EqualFold(s[:len(word)], word) {
			continue
		}
		rest := strings.TrimLeft(s[len(word):], " ")
		if after, ok := cutBlob(rest); ok {
			rest = after
		}
		if after, ok := strings.CutPrefix(rest, ":"); ok {
			return after, true
		}
	}
	return s, false
}

// cutBlob removes "[…]" in front.
func cutBlob(s string) (string, bool) {
	if !strings.HasPrefix(s, "[") {
		return s, false
	}
	end := strings.IndexAny(s[1:], "[]")
	if end < 0 || s[1+end] != ']' {
		return s, false
	}
	return strings.TrimLeft(s[end+2:], " "), true
}

// cutForward takes "[fwd: …]" off.
func cutForward(s string) (string, bool) {
	if len(s) < 6 || !strings.EqualFold(s[:5], "[fwd:") || !strings.HasSuffix(s, "]") {
		return s, false
	}
	return s[5 : len(s)-1], true
}
