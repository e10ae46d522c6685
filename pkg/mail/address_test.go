package mail

import (
	"errors"
	"strings"
	"testing"
)

func TestParsePath(t *testing.T) {
	long := strings.Repeat("a", 65)
	for _, tt := range []struct {
		in   string
		want Address
		rest string
		bad  bool
	}{
		{in: "<>", want: Address{}},
		{in: "<> SIZE=1", rest: " SIZE=1"},
		{in: "<a@example.com>", want: Address{"a", "example.com"}},
		{in: "<A.b@EXAMPLE.com.>", want: Address{"A.b", "example.com"}},
		{in: "<postMaster>", want: Address{Local: "postMaster"}},
		{in: "<Postmaster> NOTIFY=NEVER", want: Address{Local: "Postmaster"}, rest: " NOTIFY=NEVER"},
		{in: "<@a.example,@b.example:c@d.example>", want: Address{"c", "d.example"}},
		{in: `<"a b"@example.com>`, want: Address{"a b", "example.com"}},
		{in: `<"a\"b\\c"@example.com>`, want: Address{`a"b\c`, "example.com"}},
		{in: `<"a> SIZE=1"@example.com>`, want: Address{"a> SIZE=1", "example.com"}},
		{in: `<"ab"@example.com>`, want: Address{"ab", "example.com"}},
		{in: "<a%b!c@example.com>", want: Address{"a%b!c", "example.com"}},
		{in: "<a@[192.0.2.1]>", want: Address{"a", "[192.0.2.1]"}},
		{in: "<a@[ipv6:2001:DB8::1]>", want: Address{"a", "[IPv6:2001:db8::1]"}},
		{in: "<é@bücher.example>", want: Address{"é", "xn--bcher-kva.example"}},
		{in: "a@example.com", bad: true},
		{in: "<a@example.com", bad: true},
		{in: "<a@b@example.com>", bad: true},
		{in: "<a@>", bad: true},
		{in: "<@example.com>", bad: true},
		{in: "<a..b@example.com>", bad: true},
		{in: "<.a@example.com>", bad: true},
		{in: "<a.@example.com>", bad: true},
		{in: `<""@example.com>`, bad: true},
		{in: `<"a@example.com>`, bad: true},
		{in: "<\"a\r\nb\"@example.com>", bad: true},
		{in: "<\"a\x00b\"@example.com>", bad: true},
		{in: "<../../x@example.com>", bad: true},
		{in: "<a@../../etc>", bad: true},
		{in: "<a@-x.example>", bad: true},
		{in: "<a@[127.1]>", bad: true},
		{in: "<a@[2001:db8::1]>", bad: true},
		{in: "<a@[IPv6:fe80::1%eth0]>", bad: true},
		{in: "<\xff@example.com>", bad: true},
		{in: "<a@\xff.example>", bad: true},
		{in: "<" + long + "@example.com>", bad: true},
		{in: "<a@" + strings.Repeat("a.", 127) + "example>", bad: true},
		{in: "<@:a@example.com>", bad: true},
		{in: "<@a.example a@example.com>", bad: true},
	} {
		t.Run(tt.in, func(t *testing.T) {
			got, rest, err := ParsePath(tt.in)
			if tt.bad {
				if !errors.Is(err, ErrAddress) {
					t.Errorf("got %+v, error %v", got, err)
				}
				return
			}
			if err != nil || got != tt.want || rest != tt.rest {
				t.Errorf("got %+v %q %v, want %+v %q", got, rest, err, tt.want, tt.rest)
			}
		})
	}
}

// What is read once is written so that it is read as the same, keeps the limits
// and ends no line.
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"a@example.com", `"a b\"\\"@example.com`, "é@bücher.example", "a@[192.0.2.1]", "a@[IPv6:::1]", "a%b@x.", "\"\u2028\"@x", "a@" + strings.Repeat("ü", 60) + ".example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if path, rest, perr := ParsePath("<" + s + ">"); err == nil && (perr != nil || path != a || rest != "") {
			t.Fatalf("%q is %+v, and as a path %+v %q %v", s, a, path, rest, perr)
		}
		if err != nil {
			if !errors.Is(err, ErrAddress) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		text := a.String()
		if strings.ContainsAny(text, "\r\n\x00") || len(a.Local) > MaxLocal || len(a.Domain) > MaxDomain || a.Local == "" || a.Domain == "" {
			t.Fatalf("%q is %q", s, text)
		}
		if again, err := ParseAddress(text); err != nil || again != a {
			t.Fatalf("%q is %+v, written %q, and that %+v %v", s, a, text, again, err)
		}
	})
}
