package thread

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// BaseSubject returns what is left of a decoded subject without the marks of
// replies and forwards, folded for comparison (RFC 5256 §2.1, RFC 5051
// simplified to case), and reports whether there were any such marks.
func BaseSubject(s string) (base string, reply bool) {
	s = Fold(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }), " "))
	for {
		s, reply = trimTrailers(s, reply)
		s, reply = trimLeaders(s, reply)
		inner, ok := strings.CutPrefix(s, "[fwd:")
		if !ok || !strings.HasSuffix(inner, "]") {
			return s, reply
		}
		s, reply = strings.TrimSpace(strings.TrimSuffix(inner, "]")), true
	}
}

// trimTrailers drops "(fwd)" and spaces at the end, again and again.
func trimTrailers(s string, reply bool) (string, bool) {
	for {
		s = strings.TrimRight(s, " ")
		rest, ok := strings.CutSuffix(s, "(fwd)")
		if !ok {
			return s, reply
		}
		s, reply = rest, true
	}
}

// trimLeaders drops "Re:", "Fw:", "Fwd:", each with blobs before and behind
// the word, and blobs alone as long as something is left.
func trimLeaders(s string, reply bool) (string, bool) {
	for {
		s = strings.TrimLeft(s, " ")
		if rest, ok := cutReply(s); ok {
			s, reply = rest, true
			continue
		}
		rest, ok := cutBlob(s)
		if !ok || rest == "" {
			return s, reply
		}
		s = rest
	}
}

// cutReply cuts *subj-blob ("re" / "fw" / "fwd") *WSP [subj-blob] ":".
func cutReply(s string) (string, bool) {
	for rest, ok := cutBlob(s); ok; rest, ok = cutBlob(s) {
		s = rest
	}
	switch {
	case strings.HasPrefix(s, "re"):
		s = s[2:]
	case strings.HasPrefix(s, "fwd"):
		s = s[3:]
	case strings.HasPrefix(s, "fw"):
		s = s[2:]
	default:
		return "", false
	}
	s = strings.TrimLeft(s, " ")
	if rest, ok := cutBlob(s); ok {
		s = rest
	}
	return strings.CutPrefix(s, ":")
}

// cutBlob cuts "[...]" and the spaces behind it.
func cutBlob(s string) (string, bool) {
	if !strings.HasPrefix(s, "[") {
		return "", false
	}
	end := strings.IndexAny(s[1:], "[]")
	if end < 0 || s[1+end] != ']' {
		return "", false
	}
	return strings.TrimLeft(s[end+2:], " "), true
}

// Fold returns s with its letters in one case, as all comparisons here take it.
func Fold(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= utf8.RuneSelf || c >= 'A' && c <= 'Z' {
			return strings.Map(func(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }, s)
		}
	}
	return s
}
