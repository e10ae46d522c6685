package mime

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// nested has every kind of part.
const nested = `From: a@example.org
Content-Type: multipart/mixed; boundary=o

--o
Content-Type: multipart/alternative; boundary=i

--i
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

caf=C3=A9
--i
Content-Type: text/html

<p>
--i--
--o
Content-Type: message/rfc822

Subject: inner

inner body
--o
Content-Type: message/rfc822

Subject: multi
Content-Type: multipart/mixed; boundary=d

--d

deep
--d--
--o--
`

func TestFind(t *testing.T) {
	message := crlf(nested)
	m := scan(t, message)
	parts, err := DecodeParts(m.AppendParts(nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path       []int
		mime, body string // what BODY[path.MIME] and BODY[path] begin and are
		header     string // what BODY[path.HEADER] is, for messages
	}{
		{[]int{1, 1}, "Content-Type: text/plain", "caf=C3=A9", ""},
		{[]int{1, 2}, "Content-Type: text/html", "<p>", ""},
		{[]int{2}, "Content-Type: message/rfc822", "Subject: inner\r\n\r\ninner body", "Subject: inner\r\n\r\n"},
		{[]int{2, 1}, "Subject: inner", "inner body", ""},
		{[]int{3, 1}, "\r\n", "deep", ""},
	} {
		t.Run(fmt.Sprint(c.path), func(t *testing.T) {
			r, ok := parts.Find(c.path)
			if !ok {
				t.Fatal("not found")
			}
			if got := message[r.Body:r.End]; got != c.body {
				t.Errorf("body %q, want %q", got, c.body)
			}
			if got := message[r.Header:r.Body]; !strings.HasPrefix(got, c.mime) {
				t.Errorf("header %q, want %q", got, c.mime)
			}
			inner, ok := parts.Message(c.path)
			if ok != (c.header != "") || ok != r.IsMessage || ok && message[inner.Header:inner.Body] != c.header {
				t.Errorf("message %v %q, want %q", ok, message[inner.Header:inner.Body], c.header)
			}
		})
	}
	for _, path := range [][]int{{0}, {4}, {-1}, {1, 3}, {1, 1, 1}, {2, 2}, {2, 1, 1}, {3, 2}} {
		if r, ok := parts.Find(path); ok {
			t.Errorf("found %v at %+v", path, r)
		}
	}
	if r, ok := parts.Message(nil); !ok || r.Header != 0 || r.End != m.Size || !strings.HasPrefix(message[r.Body:], "--o") {
		t.Errorf("whole message: %v %+v", ok, r)
	}
	var texts []string
	for r := range parts.Texts() {
		texts = append(texts, r.Charset+" "+message[r.Body:r.End])
	}
	if diff := cmp.Diff([]string{"utf-8 caf=C3=A9", "us-ascii <p>", "us-ascii inner body", "us-ascii deep"}, texts); diff != "" {
		t.Error(diff)
	}
	headers := slices.Collect(parts.Headers())
	if len(headers) != 3 || !strings.HasPrefix(message[headers[2].Header:], "Subject: multi") {
		t.Errorf("headers %+v", headers)
	}
}

// TestFindInSinglePart: part 1 of a message that is no multipart is its body
// (RFC 9051 §6.4.5.1).
func TestFindInSinglePart(t *testing.T) {
	for name, message := range map[string]string{
		"text":    "Subject: x\r\n\r\nhello",
		"message": "Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nhello",
	} {
		parts, err := DecodeParts(scan(t, message).AppendParts(nil))
		if err != nil {
			t.Fatal(err)
		}
		paths := [][]int{{1}}
		if name == "message" {
			paths = append(paths, []int{1, 1})
		}
		for _, path := range paths {
			r, ok := parts.Find(path)
			if !ok || !strings.HasSuffix(message[r.Body:r.End], "hello") {
				t.Errorf("%s %v: %v %+v", name, path, ok, r)
			}
		}
		if _, ok := parts.Find([]int{2}); ok {
			t.Errorf("%s: found part 2", name)
		}
	}
}

func TestPrefixParts(t *testing.T) {
	const prefix = "Return-Path: <>\r\n"
	message := crlf(nested)
	got, err := PrefixParts(nil, scan(t, message).AppendParts(nil), len(prefix))
	if err != nil {
		t.Fatal(err)
	}
	if want := scan(t, prefix+message).AppendParts(nil); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	if _, err := PrefixParts(nil, []byte{9, 9}, 1); err == nil {
		t.Error("a bad table passed")
	}
}

func FuzzDecodeParts(f *testing.F) {
	m, err := Scan(strings.NewReader(crlf(nested)), Limits{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.AppendParts(nil))
	f.Add([]byte{1, 2, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 127, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := DecodeParts(in)
		if err != nil {
			return
		}
		for r := range p.Texts() {
			if r.Header < 0 || r.Body < r.Header || r.End < r.Body || r.End > p.root.End {
				t.Fatalf("range %+v outside the message", r)
			}
		}
		_, _ = p.Find([]int{1, 1, 1})
	})
}
