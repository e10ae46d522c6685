package mta_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

func read(t testing.TB, b mail.Body) string {
	t.Helper()
	rc, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	text, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(text)) != b.Size() {
		t.Errorf("%d bytes, but Size is %d", len(text), b.Size())
	}
	return string(text)
}

func TestDowngraded(t *testing.T) {
	octets := strings.Repeat("\x00\n\r\xff.\n", 30)
	coded := func(s string) string {
		var lines []string
		for text := base64.StdEncoding.EncodeToString([]byte(s)); text != ""; {
			n := min(76, len(text))
			lines, text = append(lines, text[:n]), text[n:]
		}
		return strings.Join(lines, "\r\n")
	}
	const bin, eight, b64 = "Content-Transfer-Encoding: binary\r\n", "Content-Transfer-Encoding: 8bit\r\n", "Content-Transfer-Encoding: base64\r\n"
	tests := []struct{ name, in, want string }{
		{"text stays", "A: b\r\n\r\nhello\r\n", "A: b\r\n\r\nhello\r\n"},
		{"no end of the last line", "A: b\r\n\r\nhello", "A: b\r\n\r\nhello"},
		{"a message of octets", "A: b\r\n" + bin + "C: d\r\n\r\n" + octets, "A: b\r\nC: d\r\n" + b64 + "\r\n" + coded(octets) + "\r\n"},
		{"nothing but a header", "A: b\r\n" + bin + "\r\n", "A: b\r\n" + b64 + "\r\n"},
		{"one part of several",
			"Content-Type: multipart/mixed; boundary=x\r\nContent-Transfer-Encoding:\r\n BINARY\r\n\r\n--x\r\n\r\ntext\r\n--x\r\nContent-Type: image/png\r\n" + bin + "\r\n" + octets + "\r\n--x\r\nA: b\r\n\r\nmore\r\n--x--\r\n",
			"Content-Type: multipart/mixed; boundary=x\r\n" + eight + "\r\n--x\r\n\r\ntext\r\n--x\r\nContent-Type: image/png\r\n" + b64 + "\r\n" + coded(octets) + "\r\n--x\r\nA: b\r\n\r\nmore\r\n--x--\r\n"},
		{"a message within",
			"Content-Type: message/rfc822\r\n" + bin + "\r\nSubject: in\r\n" + bin + "\r\n" + octets,
			"Content-Type: message/rfc822\r\n" + eight + "\r\nSubject: in\r\n" + b64 + "\r\n" + coded(octets) + "\r\n"},
		{"octets where text was said", "A: b\r\n\r\nhel\nlo\r\n", "554"},
		{"a bare CR at the end", "A: b\r\n\r\nhello\r", "554"},
		{"a long line", "A: b\r\n\r\n" + strings.Repeat("x", 9000) + "\r\n", "554"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := mta.Downgraded(mail.Bytes(tt.in))
			if tt.want == "554" {
				if !mail.IsPermanent(err) {
					t.Errorf("err %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, read(t, b)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestBinaryIsDowngradedForTheStore: a store takes text, and what a user sends
// is signed as it will travel.
func TestBinaryIsDowngradedForTheStore(t *testing.T) {
	h := newHouse(t)
	tr, err := h.agent.Begin(t.Context(), stranger(), mta.Sender{From: addr(t, "far@far.test"), Binary: true, EightBit: true})
	if err == nil {
		err = tr.Recipient(t.Context(), mail.Recipient{Address: addr(t, "alice@us.example")})
	}
	if err == nil {
		err = tr.Data(t.Context(), mail.Bytes("From: far@far.test\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\n\xff"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := h.stores["a.us.example"].bodies[0]; !strings.HasSuffix(got, "\r\nContent-Transfer-Encoding: base64\r\n\r\nAAr/\r\n") {
		t.Errorf("%q", got)
	}
	tr, err = h.agent.Begin(t.Context(), stranger(), mta.Sender{From: addr(t, "far@far.test"), Binary: true})
	if err == nil {
		err = tr.Recipient(t.Context(), mail.Recipient{Address: addr(t, "alice@us.example")})
	}
	if err == nil {
		err = tr.Data(t.Context(), mail.Bytes("From: far@far.test\r\n\r\n\x00\n\xff"))
	}
	if !mail.IsPermanent(err) {
		t.Errorf("octets that are not declared: %v", err)
	}
}

func FuzzDowngraded(f *testing.F) {
	f.Add([]byte("Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\r\n--x--\r\n"))
	f.Add([]byte("Content-Transfer-Encoding: binary\r\n\r\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := mta.Downgraded(mail.Bytes(b))
		if err != nil {
			return
		}
		text := []byte(read(t, d))
		rest := bytes.ReplaceAll(text, []byte("\r\n"), nil)
		if bytes.ContainsAny(rest, "\r\n") {
			t.Errorf("a bare CR or LF is left in %q", text)
		}
	})
}
