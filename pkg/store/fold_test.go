package store_test

import (
	"testing"
	"unicode/utf8"

	"mailsrv/pkg/store"
)

// TestFold holds texts together that i;unicode-casemap (RFC 5051) calls equal.
func TestFold(t *testing.T) {
	for _, equal := range [][]string{
		{"Straße", "straße", "STRAßE"},
		{"É", "é", "E\u0301", "e\u0301"},
		{"ﬁn", "FIN", "fin"},
		{"Ǆ", "ǅ", "ǆ"},
		{"ΑΓΟΡΆ", "αγορά", "αγορα\u0301"},
		{"ПРИВЕТ", "привет"},
		{"２０２６", "2026"},
		{"ſ", "s", "S"},
		{"ı", "i", "I"}, // their titlecase is one
	} {
		want := string(store.AppendFold(nil, []byte(equal[0])))
		for _, s := range equal[1:] {
			if got := string(store.AppendFold(nil, []byte(s))); got != want {
				t.Errorf("%q is folded to %q, %q to %q", equal[0], want, s, got)
			}
		}
	}
	for _, differ := range [][2]string{{"a", "b"}, {"e", "é"}, {"日本", "日木"}} {
		if string(store.AppendFold(nil, []byte(differ[0]))) == string(store.AppendFold(nil, []byte(differ[1]))) {
			t.Errorf("%q and %q are one", differ[0], differ[1])
		}
	}
}

// FuzzFold: folding is the same piece by piece, valid and done after once.
func FuzzFold(f *testing.F) {
	f.Add("Grüße ﬁ ǅ \xff日本", 4)
	f.Fuzz(func(t *testing.T, s string, at int) {
		whole := store.AppendFold(nil, []byte(s))
		if !utf8.Valid(whole) {
			t.Errorf("%q is folded to %q", s, whole)
		}
		if at < 0 || at > len(s) || at < len(s) && !utf8.RuneStart(s[at]) || !utf8.ValidString(s) {
			return
		}
		pieces := store.AppendFold(store.AppendFold(nil, []byte(s[:at])), []byte(s[at:]))
		if string(pieces) != string(whole) {
			t.Errorf("%q and %q are folded to %q, together to %q", s[:at], s[at:], pieces, whole)
		}
	})
}
