package smtpwire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/wire"
)

// text is a connection that yields its bytes, at most n a read.
type text struct {
	net.Conn
	r io.Reader
	n int
}

func (t *text) Read(p []byte) (int, error)       { return t.r.Read(p[:min(len(p), t.n)]) }
func (t *text) SetReadDeadline(time.Time) error  { return nil }
func (t *text) Write(p []byte) (int, error)      { return len(p), nil }
func (t *text) SetWriteDeadline(time.Time) error { return nil }
func reading(s string, n int) *wire.Conn {
	return wire.NewConn(&text{r: strings.NewReader(s), n: n}, ReadSize, nil)
}
func rest(t *testing.T, c *wire.Conn) string { b, _ := io.ReadAll(c); return string(b) }
func long(n int) string                      { return strings.Repeat("x", n) }
func lines(n int) string                     { return strings.Repeat(long(98)+"\r\n", n) }
func statusIn(err error) (st *mail.Status)   { errors.As(err, &st); return st }

func TestDataReader(t *testing.T) {
	tests := []struct {
		name, in, want string
		max            int64
		refused        *mail.Status
		close          bool
		err            error
		rest           string
	}{
		{name: "empty", in: ".\r\nNOOP\r\n", rest: "NOOP\r\n"},
		{name: "dots", in: "..\r\n.x\r\n...\r\n x.\r\n.\r\n", want: ".\r\nx\r\n..\r\n x.\r\n"},
		{name: "longest line", in: long(8190) + "\r\n.\r\n", want: long(8190) + "\r\n"},
		{name: "line too long", in: long(8191) + "\r\n.\r\nNOOP", refused: errLongLine, rest: "NOOP"},
		{name: "line longer than the buffer", in: "a\r\n" + long(40000) + "\r\n.\r\nNOOP", want: "a\r\n", refused: errLongLine, rest: "NOOP"},
		{name: "CR before the LF of a long line", in: long(ReadSize-1) + "\r\n.\r\nNOOP", refused: errLongLine, rest: "NOOP"},
		{name: "long line that ends in a bare LF", in: long(20000) + "\n.\r\nx\r\n.\r\nNOOP", refused: errLongLine, rest: "NOOP"},
		{name: "NUL in the header", in: "A: \x00\r\n\r\n.\r\nx", refused: errNUL, rest: "x"},
		{name: "NUL in the body", in: "A: x\r\n\r\n\x00\r\n.\r\n", want: "A: x\r\n\r\n\x00\r\n"},
		{name: "bare LF", in: "x\r\ny\nz\r\n.\r\nNOOP", want: "x\r\n", refused: errBareEOL, close: true, rest: "NOOP"},
		{name: "bare CR", in: "x\ry\r\n.\r\nNOOP", refused: errBareEOL, close: true, rest: "NOOP"},
		{name: "double CR", in: "x\r\r\n.\r\nNOOP", refused: errBareEOL, close: true, rest: "NOOP"},
		{name: "dot after a bare LF", in: "x\n.\r\ny\r\n.\r\nNOOP", refused: errBareEOL, close: true, rest: "NOOP"},
		{name: "dot at the start with a bare LF", in: ".\nx\r\n.\r\nNOOP", refused: errBareEOL, close: true, rest: "NOOP"},
		{name: "as large as allowed", in: lines(1) + ".\r\n", max: 100, want: lines(1)},
		{name: "stuffed dots do not count", in: "..\r\n..\r\n.\r\n", max: 6, want: ".\r\n.\r\n"},
		{name: "too large", in: lines(2) + ".\r\nNOOP", max: 199, want: lines(1), refused: errTooLarge, rest: "NOOP"},
		{name: "endless", in: lines(20000) + ".\r\n", max: 100, want: lines(1), refused: errTooLarge, close: true, rest: "?"},
		{name: "endless and bare", in: "\n" + lines(20000) + ".\r\n", max: 100, refused: errBareEOL, close: true, rest: "?"},
		{name: "cut", in: "x\r\ny", want: "x\r\n", err: io.ErrUnexpectedEOF, close: true},
		{name: "cut before the dot's end", in: "x\r\n.", want: "x\r\n", err: io.ErrUnexpectedEOF, close: true},
		{name: "cut while refused", in: "x\n", err: io.ErrUnexpectedEOF, refused: errBareEOL, close: true},
		{name: "cut while drained", in: lines(3), max: 100, want: lines(1), refused: errTooLarge, close: true},
	}
	for _, tt := range tests {
		for _, n := range []int{1, 7, ReadSize} {
			c := reading(tt.in, n)
			d := newDataReader(c, tt.max, time.Minute)
			var got bytes.Buffer
			_, err := io.Copy(&got, onlyReader{d})
			if got.String() != tt.want {
				t.Errorf("%s/%d: got %.200q, want %.200q", tt.name, n, got.String(), tt.want)
			}
			if d.refused != tt.refused || d.close != tt.close {
				t.Errorf("%s/%d: refused %v, close %v; want %v, %v", tt.name, n, d.refused, d.close, tt.refused, tt.close)
			}
			if (err == nil) != (tt.refused == nil && tt.err == nil) || tt.err == nil && statusIn(err) != tt.refused {
				t.Errorf("%s/%d: reading ended with %v", tt.name, n, err)
			}
			if err := d.discard(); !errors.Is(err, tt.err) {
				t.Errorf("%s/%d: discard: %v, want %v", tt.name, n, err, tt.err)
			}
			if left := rest(t, c); left != tt.rest && tt.rest != "?" {
				t.Errorf("%s/%d: left %q, want %q", tt.name, n, left, tt.rest)
			}
		}
	}
}

type onlyReader struct{ io.Reader }

// TestDiscard: a handler that gives up leaves the session in step.
func TestDiscard(t *testing.T) {
	c := reading(lines(100)+".\r\nNOOP\r\n", ReadSize)
	d := newDataReader(c, 0, 0)
	if _, err := io.ReadFull(d, make([]byte, 150)); err != nil {
		t.Fatal(err)
	}
	if err := d.discard(); err != nil || d.refused != nil {
		t.Fatal(err, d.refused)
	}
	if got := rest(t, c); got != "NOOP\r\n" {
		t.Errorf("left %q", got)
	}
}

func TestDotWriter(t *testing.T) {
	tests := []struct {
		in, want string
		err      error
	}{
		{"", ".\r\n", nil},
		{"x", "x\r\n.\r\n", nil},
		{"x\r\n", "x\r\n.\r\n", nil},
		{".\r\n..\r\nx.\r\n\r\n.", "..\r\n...\r\nx.\r\n\r\n..\r\n.\r\n", nil},
		{"x\r.\r\nMAIL FROM:<v>\r\n", "", wire.ErrBareCR},
		{"x\n.\r\n", "", wire.ErrBareLF},
		{"\n", "", wire.ErrBareLF},
		{"x\r\r\n", "", wire.ErrBareCR},
		{"x\r", "", wire.ErrBareCR},
		{"\rx", "", wire.ErrBareCR},
	}
	for _, tt := range tests {
		for _, n := range []int{1, 2, 3, 100} {
			var out bytes.Buffer
			w := NewDotWriter(&out)
			_, err := io.CopyBuffer(onlyWriter{w}, onlyReader{&text{r: strings.NewReader(tt.in), n: n}}, make([]byte, 100))
			if err == nil {
				err = w.Close()
			}
			if !errors.Is(err, tt.err) {
				t.Errorf("%q by %d: %v, want %v", tt.in, n, err, tt.err)
			}
			if tt.err != nil {
				if bare := strings.ReplaceAll(out.String(), "\r\n", ""); !errors.Is(err, ErrText) || strings.ContainsAny(bare, "\r\n") || strings.HasSuffix(out.String(), ".\r\n") {
					t.Errorf("%q by %d: wrote %q, %v", tt.in, n, out.String(), err)
				}
			} else if out.String() != tt.want {
				t.Errorf("%q by %d: wrote %q, want %q", tt.in, n, out.String(), tt.want)
			}
		}
	}
}

type onlyWriter struct{ io.Writer }

// FuzzData: any text the writer lets through comes back the same, and the
// reader stops where the writer did; and the reader survives any bytes.
func FuzzData(f *testing.F) {
	f.Add([]byte("A: b\r\n\r\n.\r\n..\r\nx"), uint8(3))
	f.Add([]byte("x\r\n.\r\nMAIL"), uint8(1))
	f.Add([]byte("x\n.\r\n\r.\r\n"), uint8(9))
	f.Fuzz(func(t *testing.T, b []byte, n uint8) {
		step := int(n) + 1
		raw := newDataReader(reading(string(b), step), 1000, 0)
		got, _ := io.ReadAll(raw)
		if s := strings.ReplaceAll(string(got), "\r\n", ""); strings.ContainsAny(s, "\r\n") {
			t.Fatalf("bare CR or LF came through: %q", got)
		}
		var sent bytes.Buffer
		w := NewDotWriter(&sent)
		for p := b; len(p) > 0; p = p[min(step, len(p)):] {
			if _, err := w.Write(p[:min(step, len(p))]); err != nil {
				return
			}
		}
		if err := w.Close(); err != nil {
			return
		}
		c := reading(sent.String()+"NEXT", step)
		d := newDataReader(c, 0, 0)
		got, err := io.ReadAll(d)
		if d.refused != nil {
			return // NUL, or a long line
		}
		want := string(b)
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want += "\r\n"
		}
		if err != nil || string(got) != want {
			t.Fatalf("%q came back as %q, %v", b, got, err)
		}
		if left := rest(t, c); left != "NEXT" {
			t.Fatalf("left %q", left)
		}
	})
}

func BenchmarkDataReader(b *testing.B) {
	msg := strings.Repeat(long(74)+"\r\n", 1<<20/76) + ".\r\n"
	b.SetBytes(int64(len(msg)))
	for b.Loop() {
		if _, err := io.Copy(io.Discard, newDataReader(reading(msg, ReadSize), 0, time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDotWriter(b *testing.B) {
	msg := []byte(strings.Repeat(long(74)+"\r\n", 1<<20/76))
	b.SetBytes(int64(len(msg)))
	for b.Loop() {
		w := NewDotWriter(wire.NewConn(&text{}, ReadSize, nil))
		if _, err := w.Write(msg); err != nil {
			b.Fatal(err)
		}
	}
}
