package pop3wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/wire"
)

// conn reads what a client sent.
func conn(sent string) *wire.Conn {
	return wire.NewConn(&silent{r: strings.NewReader(sent)}, 4<<10, nil)
}

func TestReadCommand(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     Command
		bad      string
		err      error
	}{
		{name: "bare", in: "stat\r\n", want: Command{Name: "STAT"}},
		{name: "argument", in: "RETR 1\r\n", want: Command{Name: "RETR", Arg: "1", Given: true}},
		{name: "password with spaces", in: "PASS  a b \r\n", want: Command{Name: "PASS", Arg: " a b ", Given: true}},
		{name: "empty argument", in: "PASS \r\n", want: Command{Name: "PASS", Given: true}},
		{name: "UTF-8 argument", in: "USER jos\u00e9\r\n", want: Command{Name: "USER", Arg: "jos\u00e9", Given: true}},
		{name: "empty line", in: "\r\n", bad: "unknown command"},
		{name: "blank first", in: " STAT\r\n", bad: "unknown command"},
		{name: "control character", in: "ST\x01T\r\n", bad: "unknown command"},
		{name: "NUL", in: "USER a\x00b\r\n", bad: "NUL is not allowed"},
		{name: "bare LF", in: "STAT\n", bad: "lines end in CRLF"},
		{name: "bare CR", in: "ST\rAT\r\n", bad: "lines end in CRLF"},
		{name: "long line", in: "PASS " + strings.Repeat("x", 5000) + "\r\n", bad: "line too long"},
		{name: "endless line", in: strings.Repeat("x", 100<<10), err: ErrDesync},
		{name: "cut off", in: "STA", err: io.ErrUnexpectedEOF},
		{name: "closed", in: "", err: io.EOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ReadCommand(conn(c.in))
			bad := (*BadCommandError)(nil)
			switch {
			case c.bad != "":
				if !errors.As(err, &bad) || bad.Text != c.bad {
					t.Errorf("got %+v %v, want %q", got, err, c.bad)
				}
			case !errors.Is(err, c.err):
				t.Errorf("got %v, want %v", err, c.err)
			default:
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestParseResponse(t *testing.T) {
	for in, want := range map[string]Response{
		"+OK":                       {OK: true},
		"+ok done":                  {OK: true, Text: "done"},
		"+OK [XCLIENT] ready":       {OK: true, Code: "XCLIENT", Text: "ready"},
		"-ERR [sys/temp] later":     {Code: "SYS/TEMP", Text: "later"},
		"-ERR [broken later":        {Text: "[broken later"},
		"+ Y29udGludWU=":            {Continue: true, Text: "Y29udGludWU="},
		"+ ":                        {Continue: true},
		"-ERR [LOGIN-DELAY] wait 5": {Code: "LOGIN-DELAY", Text: "wait 5"},
	} {
		got, err := ParseResponse([]byte(in))
		if err != nil || got != want {
			t.Errorf("%q: got %+v %v, want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "OK", "* OK", "+OKAY"} {
		if got, err := ParseResponse([]byte(in)); err == nil {
			t.Errorf("%q was read as %+v", in, got)
		}
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"":                    ".\r\n",
		"a\r\nb\r\n":          "a\r\nb\r\n.\r\n",
		"no end":              "no end\r\n.\r\n",
		".\r\n..\r\n.x":       "..\r\n...\r\n..x\r\n.\r\n",
		"a\n.\nb":             "a\r\n..\r\nb\r\n.\r\n",
		"\n\n":                "\r\n\r\n.\r\n",
		"a\r.\r\nb":           "a\r.\r\nb\r\n.\r\n",
		"ends in CR\r":        "ends in CR\r\r\n.\r\n",
		"a\r\r\n.":            "a\r\r\n..\r\n.\r\n",
		"dot. in .the middle": "dot. in .the middle\r\n.\r\n",
	} {
		for size := 1; size <= len(in)+1; size++ {
			var text Text
			var got []byte
			for rest := []byte(in); len(rest) > 0; rest = rest[min(size, len(rest)):] {
				got = text.Append(got, rest[:min(size, len(rest))])
			}
			if got = text.End(got); string(got) != want {
				t.Fatalf("%q in pieces of %d: got %q, want %q", in, size, got, want)
			}
		}
	}
}

// FuzzText proves that a text cannot end early, and comes back as it was but
// for line ends.
func FuzzText(f *testing.F) {
	f.Add([]byte("a\r\n.\r\nQUIT\r\n"), 3)
	f.Add([]byte("x\n.\n\r.\r\n"), 1)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		if size < 1 || size > 64 {
			return
		}
		var text Text
		var out []byte
		for rest := in; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			out = text.Append(out, rest[:min(size, len(rest))])
		}
		out = text.End(out)
		var back []byte
		lines := bytes.SplitAfter(out, []byte("\n"))
		for i, line := range lines[:len(lines)-1] {
			line, ok := bytes.CutSuffix(line, []byte("\r\n"))
			if !ok {
				t.Fatalf("line %q ends in a bare LF", line)
			}
			plain, end := Unstuff(line)
			if end != (i == len(lines)-2) {
				t.Fatalf("%q ends at line %d of %q", in, i, out)
			}
			if !end {
				back = append(append(back, plain...), '\n')
			}
		}
		want := bytes.ReplaceAll(in, []byte("\r\n"), []byte("\n"))
		if n := len(want); n > 0 && want[n-1] != '\n' {
			want = append(want, '\n')
		}
		if !bytes.Equal(back, want) {
			t.Fatalf("%q became %q and came back as %q", in, out, back)
		}
	})
}

// FuzzReadCommand lets a client say anything: no command holds NUL, CR or LF.
func FuzzReadCommand(f *testing.F) {
	f.Add("USER a\r\nPASS b\r\n")
	f.Add("AUTH PLAIN =\r\n\n")
	f.Fuzz(func(t *testing.T, in string) {
		c := wire.NewConn(&silent{r: iotest.OneByteReader(strings.NewReader(in))}, 4<<10, nil)
		for {
			cmd, err := ReadCommand(c)
			if bad := (*BadCommandError)(nil); errors.As(err, &bad) {
				continue
			}
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatal(err)
				}
				return
			}
			if strings.ContainsAny(cmd.Name+cmd.Arg, "\x00\n\r") {
				t.Fatalf("%+v", cmd)
			}
		}
	})
}

// silent is a connection that only reads.
type silent struct {
	net.TCPConn
	r io.Reader
}

func (s *silent) Read(b []byte) (int, error)      { return s.r.Read(b) }
func (s *silent) SetReadDeadline(time.Time) error { return nil }

func BenchmarkText(b *testing.B) {
	message := bytes.Repeat([]byte("This is a line of a message that somebody wrote to somebody.\r\n"), 500)
	b.SetBytes(int64(len(message)))
	out := make([]byte, 0, 2*len(message))
	for b.Loop() {
		var text Text
		text.End(text.Append(out[:0], message))
	}
}
