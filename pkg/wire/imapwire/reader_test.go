package imapwire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/wire"
)

// scripted is a net.Conn that reads a script and keeps what is written.
type scripted struct {
	io.Reader
	out strings.Builder
}

func (s *scripted) Write(b []byte) (int, error)    { return s.out.Write(b) }
func (*scripted) Close() error                     { return nil }
func (*scripted) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*scripted) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*scripted) SetDeadline(time.Time) error      { return nil }
func (*scripted) SetReadDeadline(time.Time) error  { return nil }
func (*scripted) SetWriteDeadline(time.Time) error { return nil }

// readAll reads all commands of in and describes each on a line.
func readAll(in string, l Limits) (got []string, out string) {
	raw := &scripted{Reader: strings.NewReader(in)}
	conn := wire.NewConn(raw, 512, nil)
	r := NewReader(conn)
	for {
		cmd, err := r.ReadCommand(l)
		bad := (*BadCommandError)(nil)
		switch {
		case errors.As(err, &bad):
			got = append(got, fmt.Sprintf("%s BAD [%s] %s", bad.Tag, bad.Code, bad.Name))
			continue
		case err != nil:
			if errors.Is(err, ErrDesync) {
				got = append(got, "desync")
			} else if !errors.Is(err, io.EOF) {
				got = append(got, err.Error())
			}
			_ = conn.Flush()
			return got, raw.out.String()
		}
		line := cmd.Tag + " " + cmd.Name
		for cmd.Args.Take(' ') {
			line += " " + cmd.Args.AString()
		}
		if err := cmd.Args.Err(); err != nil {
			line += " error: " + err.Error()
		}
		if m := cmd.Message; m != nil && m.Size() < 100 {
			b, err := io.ReadAll(m)
			line += fmt.Sprintf(" message %q", b)
			if err == nil {
				var rest *Lexer
				if rest, _, err = m.Next(); err == nil {
					err = rest.End()
				}
			}
			if err != nil {
				line += " " + err.Error()
			}
		} else if m != nil {
			line += " refused"
		}
		got = append(got, line)
	}
}

func TestReaderFramesCommands(t *testing.T) {
	small := Limits{Line: 200, Literal: 20, Literals: 30, Depth: 3, Drain: 1000}
	stream := small
	stream.Stream = true
	const goAhead = "+ go ahead\r\n"
	tests := []struct {
		name, in string
		limits   Limits
		want     []string
		out      string
	}{
		{"plain", "a1 noop\r\na2 LOGIN bob \"x \\\"y\"\r\n", small, []string{"a1 NOOP", `a2 LOGIN bob x "y`}, ""},
		{"literals", "a LOGIN {3}\r\nbob {6}\r\nse\r\nt!\r\nb NOOP\r\n", small, []string{"a LOGIN bob se\r\nt!", "b NOOP"}, goAhead + goAhead},
		{"non-synchronising", "a LOGIN {3+}\r\nbob {0+}\r\n\r\nb NOOP\r\n", small, []string{"a LOGIN bob ", "b NOOP"}, ""},
		{"refused literal is drained", "a SUBSCRIBE {24+}\r\nzz DELETE Archive\r\n12345\r\nb NOOP\r\n", small, []string{"a BAD [TOOBIG] SUBSCRIBE", "b NOOP"}, ""},
		{"so are those after it", "a X {24+}\r\nzz DELETE Archive\r\n12345 {5+}\r\nz A\r\n\r\nb NOOP\r\n", small, []string{"a BAD [TOOBIG] X", "b NOOP"}, ""},
		{"refused sync literal is not sent", "a X {2000000000}\r\nb NOOP\r\n", small, []string{"a BAD [TOOBIG] X", "b NOOP"}, ""},
		{"drain ends at a sync literal", "a X {24+}\r\nzz DELETE Archive\r\n12345 {4}\r\nb NOOP\r\n", small, []string{"a BAD [TOOBIG] X", "b NOOP"}, ""},
		{"sum of literals", "a X {20+}\r\n01234567890123456789 {20+}\r\nb DELETE Archive!!!!\r\nc NOOP\r\n", small, []string{"a BAD [TOOBIG] X", "c NOOP"}, ""},
		{"too large to drain", "a X {2000000+}\r\nb DELETE x\r\n", small, []string{"desync"}, ""},
		{"size beyond numbers", "a X {99999999999999999999+}\r\nb DELETE x\r\n", small, []string{"desync"}, ""},
		{"size beyond numbers, sync", "a X {99999999999999999999}\r\nb NOOP\r\n", small, []string{"a BAD [TOOBIG] X", "b NOOP"}, ""},
		{"literal of a line without a tag", "( {10+}\r\nb DELETE x\r\nb NOOP\r\n", small, []string{"* BAD [] ", "b NOOP"}, ""},
		{"literal in an open quote", "a X \"y {10+}\r\nb DELETE x\r\nb NOOP\r\n", small, []string{"a X  error: quoted string without end", "b NOOP"}, ""},
		{"no literal inside a line", "a X {3} y\r\nb NOOP\r\n", small, []string{"a X  error: bad literal", "b NOOP"}, ""},
		{"empty line", "\r\nb NOOP\r\n", small, []string{"* BAD [] ", "b NOOP"}, ""},
		{"tag alone", "a\r\na \r\n", small, []string{"a BAD [] ", "a BAD [] "}, ""},
		{"bad tag", "+a NOOP\r\n* NOOP\r\n", small, []string{"* BAD [] ", "* BAD [] "}, ""},
		{"bare LF", "a NOOP\nb NOOP\r\n", small, []string{"desync"}, ""},
		{"bare CR", "a X \"y\rz\"\r\n", small, []string{"desync"}, ""},
		{"NUL", "a X \x00\r\n", small, []string{"desync"}, ""},
		{"NUL in a literal", "a X {1+}\r\n\x00\r\nb NOOP\r\n", small, []string{"a X  error: NUL in a literal", "b NOOP"}, ""},
		{"long line", "a X " + strings.Repeat("y", 2000) + "\r\n", small, []string{"desync"}, ""},
		{"HTTP", "GET / HTTP/1.1\r\n", small, []string{"GET / HTTP/1.1"}, ""},
		{"cut in a line", "a NO", small, []string{"unexpected EOF"}, ""},
		{"cut in a literal", "a X {3+}\r\nb", small, []string{"unexpected EOF"}, ""},
		{"append", "a APPEND x {5}\r\nhello\r\nb NOOP\r\n", stream, []string{`a APPEND x  error: expected a string message "hello"`, "b NOOP"}, goAhead},
		{"append, mailbox as a literal", "a APPEND {1}\r\nx {5+}\r\nhello\r\nb NOOP\r\n", stream, []string{`a APPEND x  error: expected a string message "hello"`, "b NOOP"}, goAhead},
		{"append refused", "a APPEND x {105+}\r\n" + strings.Repeat("zz DELETE Archive\r\n\r\n", 5) + "\r\nb NOOP\r\n", stream,
			[]string{"a APPEND x  error: expected a string refused", "b NOOP"}, ""},
		{"append refused, sync", "a APPEND x {105}\r\nb NOOP\r\n", stream, []string{"a APPEND x  error: expected a string refused", "b NOOP"}, ""},
		{"append too large to drain", "a APPEND x {105000+}\r\n" + strings.Repeat("zz DELETE Archive\r\n\r\n", 5), stream,
			[]string{"a APPEND x  error: expected a string refused", "desync"}, ""},
		{"text after the message", "a APPEND x {5+}\r\nhello y {5+}\r\nz A\r\n\r\nb NOOP\r\n", stream,
			[]string{`a APPEND x  error: expected a string message "hello" unexpected text at the end of the command`, "b NOOP"}, ""},
		{"append cut", "a APPEND x {5+}\r\nhel", stream, []string{`a APPEND x  error: expected a string message "hel" unexpected EOF`, "unexpected EOF"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, out := readAll(tt.in, tt.limits)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
			if out != tt.out {
				t.Errorf("written %q, want %q", out, tt.out)
			}
		})
	}
}

func TestReaderKeepsLongCommands(t *testing.T) {
	set := strings.Repeat("1234567,", 8000) + "1"
	got, _ := readAll("a X "+set+"\r\n", LoggedIn())
	if diff := cmp.Diff([]string{"a X " + set}, got); diff != "" {
		t.Error(diff)
	}
}

// TestReaderIgnoresWakeUps: a wake-up that came too late for IDLE must not end
// the wait for a command.
func TestReaderIgnoresWakeUps(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	conn := wire.NewConn(server, 512, nil)
	defer conn.Close()
	conn.Wake()
	go func() { _, _ = client.Write([]byte("a NOOP\r\n")) }()
	cmd, err := NewReader(conn).ReadCommand(PreLogin())
	if err != nil || cmd.Name != "NOOP" {
		t.Fatalf("got %v, %v", cmd, err)
	}
	// and one that comes while it waits is told to those who ask for it
	woken := make(chan error, 1)
	go func() { woken <- conn.AwaitCommand() }()
	conn.Wake()
	if err := <-woken; !errors.Is(err, wire.ErrWoken) {
		t.Fatalf("AwaitCommand: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add("a LOGIN {3}\r\nbob {6+}\r\nsecret\r\nb NOOP\r\n")
	f.Add("a APPEND {1}\r\nx (\\Seen) {5+}\r\nhello\r\nb NOOP\r\n")
	f.Add("a X {99999999999999999999+}\r\n{{}\"\\\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		for _, l := range []Limits{PreLogin(), LoggedIn()} {
			readAll(in, l)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	in := strings.Repeat("a123 UID FETCH 1:* (FLAGS UID ENVELOPE)\r\n", 1000)
	b.ReportAllocs()
	for b.Loop() {
		conn := wire.NewConn(&scripted{Reader: strings.NewReader(in)}, 4096, nil)
		r := NewReader(conn)
		for {
			if _, err := r.ReadCommand(LoggedIn()); err != nil {
				break
			}
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "commands/s")
}
