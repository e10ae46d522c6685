package mmp

import (
	"slices"
	"testing"
)

func TestCommon(t *testing.T) {
	for _, c := range []struct {
		name  string
		lists [][]string
		want  []string
	}{
		{"no store", nil, nil},
		{"none has answered", [][]string{nil, nil}, nil},
		{"one", [][]string{{"IMAP4rev1", "IDLE"}}, []string{"IMAP4rev1", "IDLE"}},
		{"one of two has answered", [][]string{nil, {"IMAP4rev1", "IDLE"}}, []string{"IMAP4rev1", "IDLE"}},
		{"in any case, in the first's order", [][]string{{"IMAP4rev1", "MOVE", "IDLE"}, {"IDLE", "imap4REV1"}}, []string{"IMAP4rev1", "IDLE"}},
		{"nothing in common", [][]string{{"TOP"}, {"UIDL"}}, []string{}},
	} {
		if got := Common(c.lists...); !slices.Equal(got, c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	list := []string{"A", "B"}
	if Common(list, []string{"B"}); list[0] != "A" {
		t.Error("Common changed what it was given")
	}
}
