package schema

import (
	"strings"

	"golang.org/x/text/unicode/norm"
)

// Fold is the form under which values are compared without regard to case, runs
// of white space and the ways to write one character (caseIgnoreMatch, RFC 4518
// §2, RFC 4517 §4.2.11).
func Fold(s string) string {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c >= 'A' && c <= 'Z' {
			return foldSpace(strings.ToLower(s))
		}
	}
	return s // it is in that form: most are
}

// foldSpace is Fold with regard to case.
func foldSpace(s string) string { return strings.Join(strings.Fields(composed(s)), " ") }

// foldPart is Fold for a part of a value: white space at its ends counts.
func foldPart(s string) string {
	folded := Fold(s)
	if folded == "" {
		if s == "" {
			return ""
		}
		return " "
	}
	if s[0] == ' ' {
		folded = " " + folded
	}
	if s[len(s)-1] == ' ' {
		folded += " "
	}
	return folded
}

func composed(s string) string {
	if isASCII(s) {
		return s
	}
	return norm.NFKC.String(s)
}
