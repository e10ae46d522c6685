package mime

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeHeader(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                                   "plain",
		"=?utf-8?q?J=C3=BCrgen?= x":               "Jürgen x",
		"=?ISO-8859-1?B?SvxyZ2Vu?=":               "Jürgen",
		"=?utf-8?q?a?= =?utf-8?q?b?=":             "ab",
		"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=":      "日本",
		"=?gb2312?B?1tDOxA==?=":                   "中文",
		"=?x-unknown?q?abc=ff?=":                  "abc\uFFFD",
		"=?utf-8?q?broken":                        "=?utf-8?q?broken",
		"caf\xe9":                                 "café",
		"caf\xc3\xa9":                             "café",
		strings.Repeat("=?utf-8?q?a?= ", 1001):    strings.Repeat("=?utf-8?q?a?= ", 1001),
		"=?utf-8*en?q?lang?=":                     "lang",
		"=?windows-1252?Q?=80?= =?us-ascii?Q?x?=": "€x",
	} {
		if got := DecodeHeader(in); got != want {
			t.Errorf("%.60q: got %.60q, want %.60q", in, got, want)
		}
	}
}

func TestParseAddressList(t *testing.T) {
	box := func(name, local, domain string) Address { return Address{Name: name, Local: local, Domain: domain} }
	for _, c := range []struct {
		in   string
		want []Address
	}{
		{"", nil},
		{" , ,", nil},
		{"a@b", []Address{box("", "a", "b")}},
		{"<a@b>", []Address{box("", "a", "b")}},
		{"Joe Q. Public <john.q@example.com>", []Address{box("Joe Q. Public", "john.q", "example.com")}},
		{`"Joe \"Q\" P" <a@b>, c@d (C D)`, []Address{box(`Joe "Q" P`, "a", "b"), box("C D", "c", "d")}},
		{`"a b"@c`, []Address{box("", "a b", "c")}},
		{"a . b @ c . d", []Address{box("", "a.b", "c.d")}},
		{"a@[192.0.2.1]", []Address{box("", "a", "[192.0.2.1]")}},
		{"=?utf-8?q?x?= <a@b>", []Address{box("=?utf-8?q?x?=", "a", "b")}},
		{"root", []Address{box("", "root", "")}},
		{"Name <>", []Address{box("Name", "", "")}},
		{"a@good.com <b@evil.com>", []Address{box("a@good.com", "b", "evil.com")}},
		{"<@x,@y:a@b>", []Address{{Route: "@x,@y", Local: "a", Domain: "b"}}},
		{"Empty:;", []Address{{Kind: GroupStart, Name: "Empty"}, {Kind: GroupEnd}}},
		{"G: a@b, c@d;, e@f", []Address{{Kind: GroupStart, Name: "G"}, box("", "a", "b"), box("", "c", "d"), {Kind: GroupEnd}, box("", "e", "f")}},
		{"G: a@b", []Address{{Kind: GroupStart, Name: "G"}, box("", "a", "b"), {Kind: GroupEnd}}},
		{"(c1) a (c2) @ (c3) b", []Address{box("c3", "a", "b")}},
		{"a@b; c@d", []Address{box("", "a", "b"), box("", "c", "d")}},
		{"\"unterminated <a@b>", []Address{box("", "unterminated <a@b>", "")}},
	} {
		if diff := cmp.Diff(c.want, ParseAddressList(c.in)); diff != "" {
			t.Errorf("%q: %s", c.in, diff)
		}
	}
	if n := len(ParseAddressList(strings.Repeat("a@b,", 5000))); n != maxAddresses {
		t.Errorf("%d addresses, want %d", n, maxAddresses)
	}
}

func TestParseDate(t *testing.T) {
	want := time.Date(2024, 2, 29, 13, 4, 5, 0, time.UTC)
	for _, in := range []string{
		"Thu, 29 Feb 2024 13:04:05 +0000", "29 Feb 2024 14:04:05 +0100", "Thu, 29 Feb 2024 13:04:05 GMT",
		"Thu, 29 Feb 2024 13:04:05 +0000 (UTC)", "Thu,  29 Feb 2024  13:04:05 +0000", "Thu Feb 29 13:04:05 2024", "Thu, 29 Feb 24 13:04:05 +0000",
	} {
		if got, ok := ParseDate(in); !ok || !got.Equal(want) {
			t.Errorf("%q: got %v %v", in, got, ok)
		}
	}
	for _, in := range []string{"", "yesterday", strings.Repeat("(", 500), "Thu, 99 Feb 2024 13:04:05 +0000"} {
		if got, ok := ParseDate(in); ok {
			t.Errorf("%.30q: got %v", in, got)
		}
	}
}

func TestTextReader(t *testing.T) {
	for _, c := range []struct{ name, in, encoding, charset, want string }{
		{"7bit", "abc", "7bit", "us-ascii", "abc"},
		{"utf-8", "caf\xc3\xa9", "8bit", "utf-8", "café"},
		{"broken utf-8", "caf\xc3(", "8bit", "utf-8", "caf\uFFFD("},
		{"latin1", "caf\xe9", "8bit", "iso-8859-1", "café"},
		{"unknown charset", "a\xe9b", "8bit", "x-what", "a\uFFFDb"},
		{"quoted-printable", "caf=C3=A9 =\r\nand=20more=\nx =zz =", "quoted-printable", "utf-8", "café and morex =zz ="},
		{"base64", "Y2Fm\r\nw6k=\r\n", "BASE64", "utf-8", "café"},
		{"base64 without padding", "Y2Fmw6k", "base64", "utf-8", "café"},
		{"base64 with rubbish", "Y2!F mw6k=*\r\nYQ==", "base64", "utf-8", "caféa"},
		{"base64 of one octet too few", "Y2FmY", "base64", "utf-8", "caf"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
				got, err := io.ReadAll(NewTextReader(r, c.encoding, c.charset))
				if err != nil || string(got) != c.want {
					t.Errorf("got %q %v, want %q", got, err, c.want)
				}
			}
		})
	}
}

func TestFields(t *testing.T) {
	const block = "A: 1\r\nB : two\r\n  folded\r\nno field\r\nC:\r\n\r\nD: body"
	var got []string
	for f := range Fields([]byte(block)) {
		got = append(got, f.Name+"="+f.Value()+"|"+string(f.Raw))
	}
	want := []string{"A=1|A: 1\r\n", "B=two  folded|B : two\r\n  folded\r\n", "=|no field\r\n", "C=|C:\r\n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if v, ok := First([]byte(block), "b"); v != "two  folded" || !ok {
		t.Errorf("first b: %q %v", v, ok)
	}
}

func FuzzText(f *testing.F) {
	f.Add("Y2Fmw6k=", "base64", "utf-8")
	f.Add("=C3=A9=\r\n", "quoted-printable", "iso-2022-jp")
	f.Fuzz(func(t *testing.T, in, encoding, charset string) {
		out, err := io.ReadAll(NewTextReader(strings.NewReader(in), encoding, charset))
		if err != nil {
			t.Fatal(err)
		}
		if len(out) > 16*len(in)+64 {
			t.Fatalf("%d octets became %d", len(in), len(out))
		}
	})
}
