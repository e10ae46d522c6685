package smtpwire

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/wire"
)

// recorder is a Handler that takes everything, but for what its addresses say.
type recorder struct {
	mu    sync.Mutex
	offer Offer
	// got tells what happened, one line a call.
	got []string
	// pending are the recipients of the transaction.
	pending []mail.Recipient
	lmtp    bool
	login   func(mechanism string) (Exchange, error)
}

func (r *recorder) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, fmt.Sprintf(format, args...))
}

func (r *recorder) calls() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.got...)
}

func (r *recorder) Hello(_ context.Context, h Hello) (Offer, error) {
	r.note("hello %s %v", h.Name, h.ESMTP)
	return r.offer, nil
}
func (r *recorder) Secured(tls.ConnectionState) { r.note("secured") }
func (r *recorder) Reset()                      { r.note("reset"); r.pending = nil }

func (r *recorder) Auth(_ context.Context, mechanism string) (Exchange, error) {
	if r.login == nil {
		return nil, status(504, 5, 4, "no such mechanism")
	}
	return r.login(mechanism)
}

func (r *recorder) Mail(_ context.Context, m Mail) error {
	if m.From.Local == "bad" {
		return mail.Refuse(7, 1, "not you")
	}
	r.note("mail <%s>", m.From)
	return nil
}

func (r *recorder) Rcpt(_ context.Context, to mail.Recipient) error {
	if to.Address.Local == "nobody" {
		return mail.Refuse(1, 1, "no such user here")
	}
	r.note("rcpt <%s>", to.Address)
	r.pending = append(r.pending, to)
	return nil
}

func (r *recorder) Data(_ context.Context, body io.Reader) []*mail.Status {
	n := 1
	if r.lmtp {
		n = len(r.pending)
	}
	r.pending = nil
	b, err := io.ReadAll(body)
	if err != nil {
		return []*mail.Status{mail.StatusOf(err)}
	}
	r.note("data %q", b)
	var out []*mail.Status
	for range n {
		out = append(out, status(250, 0, 0, "queued"))
	}
	return out
}

// serve starts a session over loopback TCP and returns the client's end and a
// channel that yields the session's error.
func serve(t testing.TB, ctx context.Context, o Options, h Handler) (net.Conn, <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) // not before it has accepted
	if o.Hostname == "" {
		o.Hostname = "mx.example"
	}
	o.Log = slog.New(slog.DiscardHandler)
	done := make(chan error, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer raw.Close()
		done <- Serve(ctx, wire.NewConn(raw, ReadSize, nil), o, h)
	}()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	_ = client.SetDeadline(time.Now().Add(20 * time.Second))
	return client, done
}

// chat plays a dialogue: lines "C: text" are sent with CRLF, "R: text" as they
// are in Go quotes; "S: prefix" reads one line that must begin so; "S: EOF"
// wants the end of the connection.
func chat(t testing.TB, conn net.Conn, script string) {
	t.Helper()
	r := bufio.NewReader(conn)
	for line := range strings.SplitSeq(strings.TrimSpace(script), "\n") {
		line = strings.TrimSpace(line)
		kind, text, _ := strings.Cut(line, ": ")
		switch kind {
		case "C":
			_, _ = io.WriteString(conn, text+"\r\n")
		case "C:":
			_, _ = io.WriteString(conn, "\r\n")
		case "R":
			var raw string
			if _, err := fmt.Sscanf(text, "%q", &raw); err != nil {
				t.Fatalf("bad script line %q: %v", line, err)
			}
			_, _ = io.WriteString(conn, raw)
		case "S":
			got, err := r.ReadString('\n')
			if text == "EOF" {
				if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("want the end of the connection, got %q, %v", got, err)
				}
				continue
			}
			if err != nil || !strings.HasPrefix(got, text) {
				t.Fatalf("want %q, got %q, %v", text, got, err)
			}
			if !strings.HasSuffix(got, "\r\n") {
				t.Fatalf("reply does not end in CRLF: %q", got)
			}
		default:
			t.Fatalf("bad script line %q", line)
		}
	}
}

func TestSessionDialogues(t *testing.T) {
	tests := []struct {
		name   string
		opts   Options
		offer  Offer
		script string
		want   []string
	}{
		{
			name: "one message",
			opts: Options{MaxSize: 1000},
			script: `
				S: 220 mx.example ESMTP
				C: EHLO client.example
				S: 250-mx.example
				S: 250-PIPELINING
				S: 250-8BITMIME
				S: 250-SMTPUTF8
				S: 250-ENHANCEDSTATUSCODES
				S: 250 SIZE 1000
				C: MAIL FROM:<a@b.example> SIZE=20 BODY=8BITMIME
				S: 250 2.1.0
				C: RCPT TO:<c@d.example>
				S: 250 2.1.5
				C: DATA
				S: 354
				C: ..hello
				C: .
				S: 250 2.0.0 queued
				C: QUIT
				S: 221 2.0.0
				S: EOF`,
			want: []string{"hello client.example true", "mail <a@b.example>", "rcpt <c@d.example>", `data ".hello\r\n"`},
		},
		{
			name: "pipelined in one write, replies in order",
			script: `
				S: 220
				R: "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<nobody@d>\r\nRCPT TO:<postmaster>\r\nDATA\r\n"
				S: 250-mx
				S: 250-PIPELINING
				S: 250-8BITMIME
				S: 250-SMTPUTF8
				S: 250-ENHANCEDSTATUSCODES
				S: 250 SIZE
				S: 250 2.1.0
				S: 550 5.1.1 no such user here
				S: 250 2.1.5
				S: 354
				R: "\r\n.\r\nQUIT\r\n"
				S: 250 2.0.0
				S: 221
				S: EOF`,
			want: []string{"hello x true", "mail <>", "rcpt <postmaster>", `data "\r\n"`},
		},
		{
			name: "order of commands",
			script: `
				S: 220
				C: MAIL FROM:<a@b>
				S: 503 5.5.1
				C: HELO x
				S: 250 mx.example
				C: RCPT TO:<a@b>
				S: 503 5.5.1
				C: DATA
				S: 503 5.5.1
				C: MAIL FROM:<a@b>
				S: 250
				C: MAIL FROM:<c@d>
				S: 503 5.5.1
				C: DATA
				S: 554 5.5.1
				C: RSET
				S: 250 2.0.0
				C: RCPT TO:<a@b>
				S: 503
				C: QUIT now
				S: 501 5.5.4
				C: quit
				S: 221`,
			want: []string{"hello x false", "mail <a@b>", "reset"},
		},
		{
			name: "small words",
			script: `
				S: 220
				C: NOOP whatever
				S: 250 2.0.0
				C: VRFY alice
				S: 252 2.0.0
				C: EXPN staff
				S: 502 5.5.1
				C: HELP
				S: 214 2.0.0
				C: XCLIENT NAME=x
				S: 500 5.5.1
				C: STARTTLSxyz
				S: 500 5.5.1
				C: AUTH PLAIN
				S: 503
				C: EHLO
				S: 501 5.5.4
				C: EHLO x) by evil (y
				S: 501 5.5.4
				C: EHLO ü.test
				S: 501 5.5.4
				C: LHLO x
				S: 500 5.5.1
				C:
				S: 500 5.5.1
				R: "NOOP \x00\r\n"
				S: 500 5.5.2
				C: QUIT
				S: 221`,
		},
		{
			name: "EHLO in a transaction resets it",
			script: `
				S: 220
				C: HELO x
				S: 250
				C: MAIL FROM:<a@b>
				S: 250
				C: HELO y
				S: 250
				C: RCPT TO:<a@b>
				S: 503
				C: QUIT
				S: 221`,
			want: []string{"hello x false", "mail <a@b>", "hello y false", "reset"},
		},
		{
			name: "recipients and sizes are bounded",
			opts: Options{MaxRecipients: 1, MaxSize: 100},
			script: `
				S: 220
				C: HELO x
				S: 250
				C: MAIL FROM:<a@b> SIZE=101
				S: 552 5.3.4
				C: MAIL FROM:<a@b> SIZE=99999999999999999999
				S: 552 5.3.4
				C: MAIL FROM:<a@b> SIZE=100
				S: 250
				C: RCPT TO:<a@b>
				S: 250
				C: RCPT TO:<c@b>
				S: 452 4.5.3
				C: QUIT
				S: 221`,
			want: []string{"hello x false", "mail <a@b>", "rcpt <a@b>", "reset"},
		},
		{
			name: "LMTP answers for each recipient",
			opts: Options{LMTP: true},
			script: `
				S: 220 mx.example LMTP
				C: EHLO x
				S: 500 5.5.1
				C: LHLO x
				S: 250-mx
				S: 250-
				S: 250-
				S: 250-
				S: 250-
				S: 250 SIZE
				C: MAIL FROM:<a@b>
				S: 250
				C: RCPT TO:<nobody@b>
				S: 550 5.1.1
				C: DATA
				S: 503 5.5.1
				C: RCPT TO:<c@b>
				S: 250
				C: RCPT TO:<d@b>
				S: 250
				C: DATA
				S: 354
				C: x
				C: .
				S: 250 2.0.0
				S: 250 2.0.0
				C: QUIT
				S: 221`,
			want: []string{"hello x true", "mail <a@b>", "rcpt <c@b>", "rcpt <d@b>", `data "x\r\n"`},
		},
		{
			name: "BDAT that is not offered ends the connection before its chunk can be read",
			script: `
				S: 220
				R: "HELO x\r\nBDAT 30 LAST\r\nMAIL FROM:<evil@b>\r\nRSET\r\n"
				S: 250
				S: 502 5.5.1
				S: EOF`,
			want: []string{"hello x false"},
		},
		{
			name:   "HTTP is not spoken to",
			script: "S: 220\nR: \"GET / HTTP/1.1\\r\\nMAIL FROM:<a@b>\\r\\n\"\nS: 500 5.5.1\nS: EOF",
		},
		{
			name:   "header fields are not commands",
			script: "S: 220\nR: \"Subject: x\\r\\nMAIL FROM:<a@b>\\r\\n\"\nS: 500 5.5.1\nS: EOF",
		},
		{
			name:   "bare LF in a command",
			script: "S: 220\nR: \"HELO x\\nMAIL FROM:<a@b>\\r\\n\"\nS: 550 5.5.2 bare <CR>/<LF> received\nS: EOF",
		},
		{
			name:   "bare CR in a command",
			script: "S: 220\nR: \"HELO x\\rMAIL FROM:<a@b>\\r\\n\"\nS: 550 5.5.2 bare <CR>/<LF> received\nS: EOF",
		},
		{
			name: "too many errors",
			opts: Options{Limits: Limits{SoftErrors: 1, HardErrors: 3, ErrorDelay: time.Millisecond}},
			script: `
				S: 220
				C: FOO
				S: 500
				C: FOO
				S: 500
				C: FOO
				S: 421 4.7.0
				S: EOF`,
		},
		{
			name: "too much junk",
			opts: Options{Limits: Limits{Junk: 2}},
			script: `
				S: 220
				C: NOOP
				S: 250
				C: RSET
				S: 250
				C: VRFY x
				S: 421 4.7.0
				S: EOF`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := &recorder{offer: tt.offer, lmtp: tt.opts.LMTP}
			conn, done := serve(t, t.Context(), tt.opts, h)
			chat(t, conn, tt.script)
			conn.Close()
			if err := <-done; err != nil {
				t.Error("session:", err)
			}
			if diff := cmp.Diff(tt.want, h.calls()); diff != "" {
				t.Error("handler calls (-want +got):\n" + diff)
			}
		})
	}
}

func TestSessionLineLengths(t *testing.T) {
	conn, _ := serve(t, t.Context(), Options{}, &recorder{})
	long := func(n int, s string) string { return s + strings.Repeat("x", n-len(s)-2) }
	chat(t, conn, "S: 220\nC: "+long(512, "NOOP ")+"\nS: 250\nC: "+long(513, "NOOP ")+"\nS: 500 5.5.2 line too long\n"+
		"C: HELO x\nS: 250\nC: "+long(2048, "MAIL FROM:<a@b> X=")+"\nS: 555\nC: "+long(2049, "MAIL FROM:<a@b> X=")+
		"\nS: 500 5.5.2\nC: "+long(12300, "NOOP ")+"\nS: 500 5.5.2\nS: EOF")
}

func TestSessionEndlessLine(t *testing.T) {
	conn, done := serve(t, t.Context(), Options{}, &recorder{})
	go func() { _, _ = io.Copy(conn, zeros{}) }()
	chat(t, conn, "S: 220\nS: 500 5.5.2 line too long\nS: EOF")
	conn.Close()
	<-done
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestSessionDrains(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	conn, done := serve(t, ctx, Options{}, &recorder{})
	chat(t, conn, "S: 220\nC: HELO x\nS: 250\nC: MAIL FROM:<a@b>\nS: 250")
	stop()
	chat(t, conn, "C: RCPT TO:<a@b>\nS: 250\nC: DATA\nS: 354\nC: x\nC: .\nS: 250 2.0.0\nS: 421 4.3.2\nS: EOF")
	conn.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}

	conn, _ = serve(t, ctx, Options{}, &recorder{})
	chat(t, conn, "S: 421 4.3.2\nS: EOF")
}

func TestSessionDrainsIdleClient(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	conn, _ := serve(t, ctx, Options{}, &recorder{})
	chat(t, conn, "S: 220\nC: HELO x\nS: 250")
	stop()
	chat(t, conn, "S: 421 4.3.2\nS: EOF")
}

func TestSessionTimeouts(t *testing.T) {
	t.Run("command", func(t *testing.T) {
		conn, _ := serve(t, t.Context(), Options{Limits: Limits{Command: 20 * time.Millisecond}}, &recorder{})
		chat(t, conn, "S: 220\nR: \"NO\"\nS: 421 4.4.2\nS: EOF")
	})
	t.Run("prelude", func(t *testing.T) {
		conn, _ := serve(t, t.Context(), Options{Limits: Limits{Command: time.Minute, Prelude: 30 * time.Millisecond}}, &recorder{})
		chat(t, conn, "S: 220\nC: NOOP\nS: 250\nS: 421 4.4.2\nS: EOF")
	})
	t.Run("data", func(t *testing.T) {
		h := &recorder{}
		conn, _ := serve(t, t.Context(), Options{Limits: Limits{Command: time.Minute, Data: 20 * time.Millisecond}}, h)
		chat(t, conn, "S: 220\nC: HELO x\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<a@b>\nS: 250\nC: DATA\nS: 354\nC: half\nS: 421 4.4.2\nS: EOF")
	})
}
