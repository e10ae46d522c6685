package smtpwire

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
)

func TestReadReply(t *testing.T) {
	tests := []struct {
		in   string
		want Reply
		err  error
	}{
		{in: "250 2.1.0 ok\r\n", want: Reply{250, [3]int{2, 1, 0}, []string{"ok"}}},
		{in: "250\r\n", want: Reply{250, [3]int{}, []string{""}}},
		{in: "550 5.1.1\r\n", want: Reply{550, [3]int{5, 1, 1}, []string{""}}},
		{in: "550-5.1.1 no\r\n550 5.1.1 such user\r\n", want: Reply{550, [3]int{5, 1, 1}, []string{"no", "such user"}}},
		{in: "250-a\n250 b\n", want: Reply{250, [3]int{}, []string{"a", "b"}}},
		{in: "550 2.1.1 odd\r\n", want: Reply{550, [3]int{}, []string{"2.1.1 odd"}}},
		{in: "550 5.1 odd\r\n", want: Reply{550, [3]int{}, []string{"5.1 odd"}}},
		{in: "550 5.+1.1 odd\r\n", want: Reply{550, [3]int{}, []string{"5.+1.1 odd"}}},
		{in: "250-a\r\n251 b\r\n", err: ErrReply},
		{in: "25 a\r\n", err: ErrReply},
		{in: "250_a\r\n", err: ErrReply},
		{in: "199 a\r\n", err: ErrReply},
		{in: "600 a\r\n", err: ErrReply},
		{in: "\r\n", err: ErrReply},
		{in: "250-a\r\n", err: io.ErrUnexpectedEOF},
		{in: "250 a", err: io.ErrUnexpectedEOF},
		{in: "", err: io.EOF},
		{in: strings.Repeat("250-a\r\n", 200), err: ErrReply},
	}
	for _, tt := range tests {
		got, err := ReadReply(reading(tt.in, 5))
		if diff := cmp.Diff(tt.want, got); diff != "" || !errors.Is(err, tt.err) {
			t.Errorf("%.40q: %v\n%s", tt.in, err, diff)
		}
	}
	if _, err := ReadReply(reading("250 "+long(3000)+"\r\n", 100)); err == nil {
		t.Error("a line of 3000 octets was read")
	}
}

func TestParseExtensions(t *testing.T) {
	r, err := ReadReply(reading("250-mx.test size 3\r\n250-size 1000\r\n250-AUTH=LOGIN\r\n250-Auth PLAIN\r\n250-\xff\r\n250 PIPELINING\r\n", 100))
	if err != nil {
		t.Fatal(err)
	}
	e := ParseExtensions(r)
	if diff := cmp.Diff(Extensions{"SIZE": "1000", "AUTH": "LOGIN PLAIN", "PIPELINING": ""}, e); diff != "" {
		t.Error(diff)
	}
	if e.MaxSize() != 1000 || !e.Has(ExtPipelining) || e.Has(ExtDSN) {
		t.Error("extensions are not read right")
	}
}

func TestAppendStatus(t *testing.T) {
	tests := []struct {
		st   mail.Status
		want string
	}{
		{mail.Status{Code: 354, Text: "go"}, "354 go\r\n"},
		{mail.Status{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no\r\n250 ok\x00ü"}, "550 5.1.1 no??250 ok??\r\n"},
	}
	for _, tt := range tests {
		if got := string(AppendStatus(nil, &tt.st)); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
	if n := len(AppendStatus(nil, &mail.Status{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: long(9999)})); n > 512 {
		t.Errorf("a reply of %d octets", n)
	}
}

func FuzzReadReply(f *testing.F) {
	f.Add("250-a\r\n250 2.0.0 b\r\n")
	f.Add("421\r\n")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ReadReply(reading(s, 3))
		if err != nil {
			return
		}
		_ = ParseExtensions(r)
		line := AppendStatus(nil, r.Status())
		if back, err := ReadReply(reading(string(line), 100)); err != nil || back.Code != r.Code || len(line) > 512 {
			t.Fatalf("%q came back as %+v, %v", line, back, err)
		}
	})
}
