package mime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// deepMessage is n multiparts, each within the other.
func deepMessage(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	b.WriteString("\r\nleaf\r\n")
	return b.String()
}

// TestM1toM5Hostile bounds time and memory for messages made to cost both (hardening
// rows M1 to M5). The bounds are far above what a linear scan needs, and far
// below what a quadratic one does.
func TestM1toM5Hostile(t *testing.T) {
	const multipart = "Content-Type: multipart/mixed; boundary=x\r\n\r\n"
	same := strings.Repeat("b", 69)
	var sameLength strings.Builder
	for i := range 100 {
		fmt.Fprintf(&sameLength, "Content-Type: multipart/mixed; boundary=%s%03d\r\n\r\n--%s%03d\r\n", same, i, same, i)
	}
	for _, c := range []struct {
		name, message string
	}{
		{"M1 16,000 levels", deepMessage(16_000)},
		{"M2 300,000 parts", multipart + strings.Repeat("--x\r\n\r\n", 300_000)},
		{"M2 300,000 closed multiparts", multipart + strings.Repeat("--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n", 40_000)},
		{"M1 100 alike boundaries, lines that almost match", sameLength.String() + strings.Repeat("--"+same+"xxx\r\n", 30_000)},
		{"M1 5,000 messages within messages", strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 5_000) + "hi"},
		{"M3 170,000 recipient fields", strings.Repeat("To:a\r\n", 170_000) + "\r\n"},
		{"M3 one field of 200,000 addresses", "To: " + strings.Repeat("a@b,", 200_000) + "\r\n\r\n"},
		{"M4 comments within comments", "To: " + strings.Repeat("(", 900_000) + "\r\n\r\n"},
		{"M4 comments that close and never end", "From: " + strings.Repeat("(a)", 300_000) + "\r\n\r\n"},
		{"M4 groups", "To: " + strings.Repeat("a:;", 300_000) + "\r\n\r\n"},
		{"M4 routes", "To: <" + strings.Repeat("@a,", 300_000) + "\r\n\r\n"},
		{"M4 quotes", "To: " + strings.Repeat(`"\"`, 300_000) + "\r\n\r\n"},
		{"M4 200,000 parameters", "Content-Type: text/plain" + strings.Repeat(";a=b", 200_000) + "\r\n\r\n"},
		{"M4 parameters that are none", "Content-Type: text/plain" + strings.Repeat(";", 900_000) + "\r\n\r\n"},
		{"M3 folds", "Subject: " + strings.Repeat("\r\n x", 200_000) + "\r\n\r\n"},
		{"M3 endless line", strings.Repeat("x", 4<<20)},
		{"M3 endless header", strings.Repeat("X: y\r\n", 700_000)},
		{"M2 10,000 parts with large headers", multipart + strings.Repeat("--x\r\nContent-Description: "+strings.Repeat("d", 1000)+"\r\n\r\n", 5_000)},
		{"M5 NULs and 8-bit", "Subject: " + strings.Repeat("\x00\xff", 200_000) + "\r\nFrom: \x00@\xff\r\n\r\n"},
		{"M4 languages", "Content-Language: " + strings.Repeat("a,", 400_000) + "\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			m := scan(t, c.message)
			out := m.AppendEnvelope(nil)
			out = m.AppendBody(out)
			out = m.AppendBodyStructure(out)
			out = m.AppendParts(out)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if took > 5*time.Second { // 50 ms is usual; the race detector and other tests share the machine
				t.Errorf("took %v", took)
			}
			if alloc := after.TotalAlloc - before.TotalAlloc; alloc > 64<<20 {
				t.Errorf("allocated %d MB for %d kB", alloc>>20, len(c.message)>>10)
			}
			if len(out) > 16<<20 {
				t.Errorf("rendered %d MB", len(out)>>20)
			}
			checkScan(t, []byte(c.message), m)
		})
	}
}

// checkScan proves what must hold for every message.
func checkScan(t *testing.T, in []byte, m *Message) {
	t.Helper()
	if m.Size != int64(len(in)) || m.Root.HeaderOffset != 0 || m.Root.End != m.Size {
		t.Fatalf("size %d of %d, root [%d,%d)", m.Size, len(in), m.Root.HeaderOffset, m.Root.End)
	}
	if !bytes.HasPrefix(in, m.Header) || int64(len(m.Header)) > m.Root.BodyOffset {
		t.Fatal("the header is not what the message begins with")
	}
	parts, err := DecodeParts(m.AppendParts(nil))
	if err != nil {
		t.Fatalf("our own table: %v", err)
	}
	checkPart(t, &m.Root, &parts.root, 0, m.Size)
	for _, rendered := range [][]byte{m.AppendEnvelope(nil), m.AppendBody(nil), m.AppendBodyStructure(nil)} {
		if rest, ok := skipValue(rendered); !ok || len(rest) > 0 || bytes.IndexByte(rendered, 0) >= 0 {
			t.Fatalf("not an IMAP list: %.300q", rendered)
		}
	}
}

func checkPart(t *testing.T, p *Part, n *node, from, end int64) {
	t.Helper()
	if p.HeaderOffset < from || p.BodyOffset < p.HeaderOffset || p.End < p.BodyOffset || p.End > end || p.Lines < 0 {
		t.Fatalf("part [%d,%d,%d) with %d lines outside [%d,%d)", p.HeaderOffset, p.BodyOffset, p.End, p.Lines, from, end)
	}
	if n.Header != p.HeaderOffset || n.Body != p.BodyOffset || n.End != p.End {
		t.Fatalf("table says %+v, scan [%d,%d,%d)", n.Range, p.HeaderOffset, p.BodyOffset, p.End)
	}
	next := p.BodyOffset
	for i := range p.Children {
		checkPart(t, &p.Children[i], &n.children[i], next, p.End)
		next = p.Children[i].End
	}
	if p.Message != nil {
		checkPart(t, &p.Message.Root, &n.children[0], p.BodyOffset, p.End)
	}
}

// skipValue reads one value of IMAP's grammar: a list, a string, a literal, a
// number or NIL.
func skipValue(b []byte) ([]byte, bool) {
	depth := 0
	for {
		switch {
		case len(b) == 0:
			return b, false
		case b[0] == '(':
			depth++
			b = b[1:]
			continue
		case b[0] == ')' && depth > 0:
			depth--
			b = b[1:]
		case b[0] == '"':
			end := 1
			for ; end < len(b) && b[end] != '"'; end++ {
				if b[end] == '\\' {
					end++
				}
				if end >= len(b) || b[end] >= 0x80 || b[end] == '\r' || b[end] == '\n' {
					return b, false
				}
			}
			if end >= len(b) {
				return b, false
			}
			b = b[end+1:]
		case b[0] == '{':
			size, rest, ok := bytes.Cut(b[1:], []byte("}\r\n"))
			n, err := strconv.Atoi(string(size))
			if !ok || err != nil || n > len(rest) {
				return b, false
			}
			b = rest[n:]
		case bytes.HasPrefix(b, []byte("NIL")):
			b = b[3:]
		case b[0] >= '0' && b[0] <= '9':
			for len(b) > 0 && b[0] >= '0' && b[0] <= '9' {
				b = b[1:]
			}
		default:
			return b, false
		}
		if depth == 0 {
			return b, true
		}
		if len(b) > 0 && b[0] == ' ' {
			b = b[1:]
		}
	}
}

func TestScanSameInAnyPieces(t *testing.T) {
	message := crlf(nested)
	want := scan(t, message)
	for name, r := range map[string]io.Reader{
		"one octet at a time": iotest.OneByteReader(strings.NewReader(message)),
		"end with the data":   iotest.DataErrReader(strings.NewReader(message)),
	} {
		got, err := Scan(r, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(Message{}, Embedded{}, Envelope{}, text{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	broken := errors.New("disk on fire")
	if _, err := Scan(io.MultiReader(strings.NewReader(message), iotest.ErrReader(broken)), Limits{}); !errors.Is(err, broken) {
		t.Errorf("error %v, want that of the reader", err)
	}
}

func TestLimits(t *testing.T) {
	structure := func(message string, l Limits) string {
		m, err := Scan(strings.NewReader(message), l)
		if err != nil {
			t.Fatal(err)
		}
		return string(m.AppendBody(nil))
	}
	for _, c := range []struct {
		name, message string
		l             Limits
		want          string
	}{
		{"depth", deepMessage(3), Limits{Depth: 1},
			`(("application" "octet-stream" NIL NIL NIL "7bit" 66) "mixed")`},
		{"parts", "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\na\r\n--x\r\n\r\nb\r\n--x--\r\n", Limits{Parts: 2},
			`(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0) "mixed")`},
		{"boundary", "Content-Type: multipart/mixed; boundary=xxxxx\r\n\r\n--xxxxx\r\n\r\na", Limits{Boundary: 4},
			`("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 12 2)`},
		{"params", "Content-Type: text/x; a=1; b=2; c=3\r\n\r\n", Limits{Params: 2},
			`("text" "x" ("a" "1" "b" "2" "charset" "us-ascii") NIL NIL "7bit" 0 0)`},
		{"kept headers", "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Description: long one\r\n\r\na", Limits{PartHeaders: 5},
			`(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0) "mixed")`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, structure(c.message, c.l)); diff != "" {
				t.Error(diff)
			}
		})
	}
	m, err := Scan(strings.NewReader("A: 1\r\nB: 2\r\n\r\nbody"), Limits{Header: 6})
	if err != nil || string(m.Header) != "A: 1\r\n" || m.Root.BodyOffset != 14 {
		t.Errorf("header %q, body at %d, %v", m.Header, m.Root.BodyOffset, err)
	}
}

func FuzzScan(f *testing.F) {
	f.Add([]byte(crlf(nested)))
	f.Add([]byte(deepMessage(120)))
	for _, s := range []string{
		"", "\r\n", "a", "--x", "Content-Type: multipart/mixed; boundary=x\r\n--x\r\n--x--", "Content-Type: message/rfc822\r\n\r\n",
		"Content-Type: multipart/digest; boundary=\"a b\"\n\n--a b\n\n--a b--\n", "From: <@a,@b:c@d>, g:;, \"\\\"\r\nSubject: \x00\xff\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := Scan(bytes.NewReader(in), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		checkScan(t, in, m)
		for field := range Fields(m.Header) {
			_ = DecodeHeader(field.Value())
			_, _ = ParseDate(field.Value())
			_ = ParseAddressList(field.Value())
		}
		joined := 0
		for field := range Fields(in) {
			joined += len(field.Raw)
		}
		if joined > len(in) {
			t.Fatal("fields are more than the header")
		}
	})
}

func benchmark(b *testing.B, message string) {
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	var out []byte
	for b.Loop() {
		m, err := Scan(strings.NewReader(message), Limits{})
		if err != nil {
			b.Fatal(err)
		}
		out = m.AppendEnvelope(out[:0])
		out = m.AppendBodyStructure(out)
		out = m.AppendBody(out)
		out = m.AppendParts(out)
	}
}

// BenchmarkScanMail is a usual mail of 4 KiB with its trace fields.
func BenchmarkScanMail(b *testing.B) {
	header := strings.Repeat("Received: from a.example.org (a.example.org [192.0.2.1])\r\n\tby b.example.org with ESMTPS; Mon, 1 Jan 2024 00:00:00 +0000\r\n", 6) +
		"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nFrom: A <a@example.org>\r\nTo: B <b@example.org>\r\nSubject: hello\r\nMessage-ID: <1@example.org>\r\n" +
		"Content-Type: multipart/alternative; boundary=\"=_x\"\r\n\r\n"
	body := "--=_x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + strings.Repeat("some words in a line of text\r\n", 45) +
		"--=_x\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + strings.Repeat("<p>some words in a line</p>\r\n", 45) + "--=_x--\r\n"
	benchmark(b, header+body)
}

// BenchmarkScanAttachment is a multipart with 1 MB of base64.
func BenchmarkScanAttachment(b *testing.B) {
	benchmark(b, "From: a@b\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nhi\r\n--x\r\nContent-Type: image/png\r\n"+
		"Content-Transfer-Encoding: base64\r\n\r\n"+strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 13_000)+"--x--\r\n")
}
