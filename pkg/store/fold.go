package store

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// AppendFold appends s in the form in which i;unicode-casemap compares it:
// letters in one case, characters that are made of others taken apart (RFC 5051
// §2). Folding goes character by character: the parts of a text folded are the
// folded text.
func AppendFold(dst, s []byte) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			dst = append(dst, lower(c))
			i++
			continue
		}
		r, n := utf8.DecodeRune(s[i:])
		dst = appendFoldRune(dst, r)
		i += n
	}
	return dst
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

func appendFoldRune(dst []byte, r rune) []byte {
	start := len(dst)
	dst = utf8.AppendRune(dst, unicode.ToTitle(r))
	if apart := norm.NFKD.Properties(dst[start:]).Decomposition(); apart != nil {
		dst = append(dst[:start], apart...)
	}
	for i := start; i < len(dst); i++ {
		dst[i] = lower(dst[i])
	}
	return dst
}
