package store_test

import (
	"errors"
	"strings"
	"testing"

	"mailsrv/pkg/store"
)

func TestParseEntry(t *testing.T) {
	for in, want := range map[string]string{
		"/shared/comment": "/shared/comment", "/PRIVATE/Vendor/x.y/Z": "/private/vendor/x.y/z", "/private/a b": "/private/a b",
		"": "", "/": "", "/shared": "", "/shared/": "", "/other/x": "", "shared/x": "", "/shared//x": "", "/shared/x/": "", "/shared/*": "", "/shared/a%": "",
		"/shared/\x00": "", "/shared/ü": "", "/shared/" + strings.Repeat("x", 250): "",
	} {
		got, err := store.ParseEntry(in)
		if got != want || (want == "") != errors.Is(err, store.ErrBadEntry) {
			t.Errorf("%.40q is %q %v, want %q", in, got, err, want)
		}
	}
}
