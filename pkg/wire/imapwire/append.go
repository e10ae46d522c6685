package imapwire

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxQuoted is the longest string that is written quoted, in octets; longer
// ones go as literals, which every client takes at any length.
const maxQuoted = 1000

// AppendQuoted appends s as a quoted string and reports whether it can be
// one: ASCII without controls, at most 1000 octets. If not, dst is unchanged.
func AppendQuoted(dst []byte, s string) ([]byte, bool) {
	if len(s) > maxQuoted {
		return dst, false
	}
	start := len(dst)
	dst = append(dst, '"')
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c > '~' {
			return dst[:start], false
		}
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"'), true
}

// AppendString appends s quoted, or as a literal of a server's response.
func AppendString(dst []byte, s string) []byte {
	if out, ok := AppendQuoted(dst, s); ok {
		return out
	}
	return append(AppendLiteral(dst, int64(len(s))), s...)
}

// AppendNString is AppendString, with NIL if there is no string.
func AppendNString(dst []byte, s string, ok bool) []byte {
	if !ok {
		return append(dst, "NIL"...)
	}
	return AppendString(dst, s)
}

// AppendAString appends s as an atom if it can be one, else as AppendString.
func AppendAString(dst []byte, s string) []byte {
	if s == "" || strings.EqualFold(s, "NIL") {
		return AppendString(dst, s)
	}
	for i := range len(s) {
		if !isAStringChar(s[i]) {
			return AppendString(dst, s)
		}
	}
	return append(dst, s...)
}

// AppendMailbox appends the UTF-8 mailbox name in modified UTF-7, as an
// astring. The result is never a literal.
func AppendMailbox(dst []byte, name string) []byte {
	coded := AppendUTF7(make([]byte, 0, 64), name)
	atom := len(coded) > 0 && !strings.EqualFold(name, "NIL")
	for _, c := range coded {
		atom = atom && isAStringChar(c)
	}
	if atom {
		return append(dst, coded...)
	}
	dst = append(dst, '"')
	for _, c := range coded {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

// AppendMailboxUTF8 appends the mailbox name as it is, for a client of RFC 9051
// or RFC 6855, as an atom or quoted. Broken UTF-8 becomes U+FFFD.
func AppendMailboxUTF8(dst []byte, name string) []byte {
	if name != "" && !strings.EqualFold(name, "NIL") && !strings.ContainsFunc(name, func(r rune) bool { return r >= 0x7f || !isAStringChar(byte(r)) }) {
		return append(dst, name...)
	}
	dst = append(dst, '"')
	for _, r := range name {
		if r == '"' || r == '\\' {
			dst = append(dst, '\\')
		}
		dst = utf8.AppendRune(dst, r)
	}
	return append(dst, '"')
}

// AppendLiteral appends the announcement of a literal of n octets, with its
// CRLF; the octets follow.
func AppendLiteral(dst []byte, n int64) []byte {
	dst = append(dst, '{')
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, "}\r\n"...)
}
