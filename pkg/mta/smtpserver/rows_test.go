package smtpserver

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/wire/smtpwire"
)

// The tests of this file are the rows of the hardening table, by number.

const opening = "S: 220\nC: EHLO client.test\nS: 250-mx.us.test\nC: MAIL FROM:<a@x.test>\nS: 250 2.1.0\nC: RCPT TO:<b@us.test>\nS: 250 2.1.5\nC: DATA\nS: 354\n"

// TestS1Smuggling: nothing but CRLF.CRLF ends a message; what has a bare CR or
// LF is refused at its real end, and nothing within it is executed.
func TestS1Smuggling(t *testing.T) {
	for _, eod := range []string{
		"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\n.\r", "\r.\n", "\r\n.\r", "\r.\r\n", "\r\r\n.\r\n", "\r\n\x00.\r\n\n", "\n\n.\r\n",
		"\r\n.\r\r\n", "\r\n..\n", "\r\n.\n\r\n",
	} {
		t.Run(fmt.Sprintf("%q", eod), func(t *testing.T) {
			in := &intake{}
			conn := dial(t, start(t, Options{Intake: in}))
			text := "Subject: x\r\n\r\nbody" + eod + "MAIL FROM:<evil@x.test>\r\nRCPT TO:<b@us.test>\r\nDATA\r\nsmuggled\r\n.\r\n"
			chat(t, conn, opening+fmt.Sprintf("R: %q\nS: 550 5.5.2 bare <CR>/<LF> received\nS: EOF", text))
			if len(in.all()) != 0 {
				t.Errorf("taken: %+v", in.all())
			}
		})
	}
	t.Run("bare LF in a command", func(t *testing.T) {
		conn := dial(t, start(t, Options{Intake: &intake{}}))
		chat(t, conn, "S: 220\nR: \"EHLO x\\nMAIL FROM:<a@x.test>\\r\\n\"\nS: 550 5.5.2 bare <CR>/<LF> received\nS: EOF")
	})
	t.Run("NUL in the header", func(t *testing.T) {
		conn := dial(t, start(t, Options{Intake: &intake{}}))
		chat(t, conn, opening+"R: \"Subject: \\x00\\r\\n\\r\\n.\\r\\n\"\nS: 550 5.6.0\nC: NOOP\nS: 250")
	})
	t.Run("NUL in the body", func(t *testing.T) {
		in := &intake{}
		conn := dial(t, start(t, Options{Intake: in}))
		chat(t, conn, opening+"R: \"Subject: x\\r\\n\\r\\n\\x00\\r\\n.\\r\\n\"\nS: 250 2.0.0 queued as ")
		if len(in.all()) != 1 || in.all()[0].Text != "Subject: x\r\n\r\n\x00\r\n" {
			t.Errorf("taken: %+v", in.all())
		}
	})
}

// TestS3InjectionBeforeTLS: plaintext that came with STARTTLS is never
// answered, and a failed handshake ends the connection.
func TestS3InjectionBeforeTLS(t *testing.T) {
	pair := testTLS(t)
	addr := start(t, Options{Intake: &intake{}, TLS: pair.server})
	t.Run("with the command", func(t *testing.T) {
		chat(t, dial(t, addr), "S: 220\nC: EHLO x\nS: 250\nR: \"STARTTLS\\r\\nRSET\\r\\n\"\nS: 501 5.5.2\nS: EOF")
	})
	t.Run("after the reply", func(t *testing.T) {
		chat(t, dial(t, addr), "S: 220\nC: EHLO x\nS: 250\nC: STARTTLS\nS: 220 2.0.0\nC: RSET\nS: EOF")
	})
	t.Run("state is reset", func(t *testing.T) {
		in := &intake{}
		conn := dial(t, start(t, Options{Intake: in, TLS: pair.server}))
		chat(t, conn, "S: 220\nC: EHLO plain.test\nS: 250\nC: STARTTLS\nS: 220 2.0.0")
		secure := tls.Client(conn, pair.client)
		chat(t, secure, "C: MAIL FROM:<a@x.test>\nS: 503 5.5.1\nC: STARTTLS\nS: 503 5.5.1\nC: EHLO client.test\nS: 250\nC: MAIL FROM:<a@x.test>\nS: 250\nC: STARTTLS\nS: 503\n"+
			"C: RCPT TO:<b@us.test>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250\nC: QUIT\nS: 221\nS: EOF")
		if got := in.all(); len(got) != 1 || !got[0].TLS || got[0].Helo != "client.test" {
			t.Errorf("taken: %+v", got)
		}
	})
	t.Run("not offered over TLS", func(t *testing.T) {
		conn := dial(t, addr)
		chat(t, conn, "S: 220\nC: EHLO x\nS: 250-mx.us.test|250-PIPELINING|250-8BITMIME|250-SMTPUTF8|250-ENHANCEDSTATUSCODES|250-SIZE 52428800|250-STARTTLS|250-CHUNKING|250 BINARYMIME")
		chat(t, dial(t, start(t, Options{Intake: &intake{}})), "S: 220\nC: EHLO x\nS: 250\nC: STARTTLS\nS: 502 5.5.1")
	})
}

// TestS5TruncatedChunk: what ends within a chunk is neither taken as a message
// nor executed.
func TestS5TruncatedChunk(t *testing.T) {
	in := &intake{}
	conn := dial(t, start(t, Options{Intake: in}))
	chat(t, conn, strings.TrimSuffix(opening, "C: DATA\nS: 354\n")+"R: \"BDAT 1000 LAST\\r\\nQUIT\\r\\nRSET\\r\\nMAIL FRO\"\n")
	_ = conn.(*net.TCPConn).CloseWrite()
	if n, err := io.Copy(io.Discard, conn); n > 0 || err != nil {
		t.Errorf("%d bytes were answered, %v", n, err)
	}
	if len(in.all()) != 0 {
		t.Errorf("taken: %+v", in.all())
	}
}

// TestS6EndlessLine: memory is bounded before a line end is seen.
func TestS6EndlessLine(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	conn := dial(t, start(t, Options{Intake: &intake{}}))
	go func() { _, _ = io.Copy(conn, &endless{}) }()
	chat(t, conn, "S: 220\nS: 500 5.5.2\nS: EOF")
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes were allocated for a line without end", n)
	}
	in := &intake{}
	conn = dial(t, start(t, Options{Intake: in}))
	chat(t, conn, opening+"C: "+strings.Repeat("x", 8193)+"\nC: .\nS: 554 5.6.0\nC: RSET\nS: 250\n"+strings.TrimPrefix(opening, "S: 220\n")+
		"C: "+strings.Repeat("x", 8190)+"\nC: .\nS: 250")
}

// TestS7EndlessData: an oversized message is refused after at most 1 MB more.
func TestS7EndlessData(t *testing.T) {
	in := &intake{}
	conn := dial(t, start(t, Options{Intake: in, MaxSize: 1 << 20}))
	chat(t, conn, opening)
	src := &endless{line: true}
	go func() { _, _ = io.Copy(conn, src) }()
	chat(t, conn, "S: 552 5.3.4\nS: EOF")
	if n := src.n.Load(); n > 16<<20 { // what the sockets between us hold comes on top
		t.Errorf("%d bytes were swallowed", n)
	}
	t.Run("in step if it ends in time", func(t *testing.T) {
		conn := dial(t, start(t, Options{Intake: in, MaxSize: 1000}))
		chat(t, conn, opening+"C: "+strings.Repeat("x", 2000)+"\nC: .\nS: 552 5.3.4\nC: NOOP\nS: 250")
	})
	t.Run("declared", func(t *testing.T) {
		conn := dial(t, start(t, Options{Intake: in, MaxSize: 1000}))
		chat(t, conn, "S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<a@x.test> SIZE=1001\nS: 552 5.3.4")
	})
	if len(in.all()) != 0 {
		t.Error("an oversized message was taken")
	}
}

// endless yields zeros, or lines of x.
type endless struct {
	line bool
	n    atomic.Int64
}

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 0
		if e.line {
			p[i] = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n"[(e.n.Load()+int64(i))%32]
		}
	}
	e.n.Add(int64(len(p)))
	return len(p), nil
}

// TestS8Slow: who drips is cut, who is only slow is not.
func TestS8Slow(t *testing.T) {
	limits := smtpwire.PublicLimits()
	limits.Data = 100 * time.Millisecond
	drip := func(conn net.Conn, text string, times int) {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range times {
			<-tick.C
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
		}
	}
	t.Run("1 byte at a time", func(t *testing.T) {
		conn := dial(t, start(t, Options{Intake: &intake{}, Limits: limits}))
		chat(t, conn, opening)
		go drip(conn, "x", 1000)
		chat(t, conn, "S: 421 4.4.2\nS: EOF")
	})
	t.Run("slow but steady", func(t *testing.T) {
		conn := dial(t, start(t, Options{Intake: &intake{}, Limits: limits}))
		chat(t, conn, opening)
		drip(conn, strings.Repeat("x", 98)+"\r\n", 40)
		chat(t, conn, "C: .\nS: 250")
	})
	t.Run("commands", func(t *testing.T) {
		limits := limits
		limits.Command = 50 * time.Millisecond
		conn := dial(t, start(t, Options{Intake: &intake{}, Limits: limits}))
		go drip(conn, "x", 1000)
		chat(t, conn, "S: 220\nS: 421 4.4.2\nS: EOF")
	})
}

// TestS9Floods: errors, junk and failed logins end the connection.
func TestS9Floods(t *testing.T) {
	limits := smtpwire.PublicLimits()
	limits.ErrorDelay = time.Millisecond
	addr := start(t, Options{Intake: &intake{}, Limits: limits, Submission: true, Authenticator: logins{}})
	chat(t, dial(t, addr), "S: 220\n"+strings.Repeat("C: FOO\nS: 500\n", 19)+"C: FOO\nS: 421 4.7.0\nS: EOF")
	chat(t, dial(t, addr), "S: 220\n"+strings.Repeat("C: NOOP\nS: 250\n", 100)+"C: NOOP\nS: 421 4.7.0\nS: EOF")
	bad := "C: AUTH PLAIN " + plain("", "alice", "wrong") + "\n"
	chat(t, dial(t, addr), "S: 220\nC: EHLO x\nS: 250\n"+bad+"S: 535 5.7.8\n"+bad+"S: 535 5.7.8\n"+bad+"S: 421 4.7.0\nS: EOF")
}

// TestS10Relay: the classic forms of asking for a relay.
func TestS10Relay(t *testing.T) {
	in := &intake{}
	addr := start(t, Options{Intake: in})
	tests := []struct{ path, want string }{
		{"<x@evil.test>", "550 5.7.1"},
		{"<a%b.test@us.test>", "550 5.7.1"},
		{"<b.test!a@us.test>", "550 5.7.1"},
		{`<"a@b.test"@us.test>`, "550 5.7.1"},
		{"<@us.test:a@b.test>", "550 5.7.1"},
		{"<@us.test,@x.test:a@b.test>", "550 5.7.1"},
		{"<a@[192.0.2.1]>", "550 5.7.1"},
		{"<a@[IPv6:2001:db8::1]>", "550 5.7.1"},
		{"<a@b.test@us.test>", "501 5.1.3"},
		{"<a@us.test@b.test>", "501 5.1.3"},
		{"<a@xn--mnchen-3ya.test>", "550 5.7.1"},
		{"<a@münchen.test>", "553 5.6.7"},
		{"<a@b.test>us.test", "501 5.5.4"},
		{"a@us.test", "501 5.1.3"},
		{"<a>", "501 5.1.3"},
		{"<a@>", "501 5.1.3"},
		{"<>", "501 5.1.3"},
		{"<a@us.test>,<c@us.test>", "501 5.5.4"},
		{"<a@../../etc>", "501 5.1.3"},
		{"<" + strings.Repeat("a", 65) + "@us.test>", "501 5.1.3"},
		{"<a@us.test> SIZE=1", "555 5.5.4"},
		{"<a@us.test> XMAILBOX=x", "555 5.5.4"},
		{"<a@us.test>", "250 2.1.5"},
		{"<@b.test:a@us.test>", "250 2.1.5"},
		{"<a@us.test.>", "250 2.1.5"},
		{"<A@US.TEST>", "250 2.1.5"},
		{"<postmaster>", "250 2.1.5"},
		{"<Postmaster@us.test>", "250 2.1.5"},
		{`<"a > b"@us.test>`, "250 2.1.5"},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			chat(t, dial(t, addr), "S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<a@x.test>\nS: 250\nC: RCPT TO:"+tt.path+"\nS: "+tt.want)
		})
	}
}

// TestS16Authzid: PLAIN does not let one user act as another.
func TestS16Authzid(t *testing.T) {
	addr := start(t, Options{Intake: &intake{}, Submission: true, Authenticator: logins{}})
	login := func(zid string) string {
		return "S: 220\nC: EHLO x\nS: 250\nC: AUTH PLAIN " + plain(zid, "alice", "secret") + "\n"
	}
	chat(t, dial(t, addr), login("bob")+"S: 535 5.7.8")
	chat(t, dial(t, addr), login("alice")+"S: 235 2.7.0")
	chat(t, dial(t, addr), login("")+"S: 235 2.7.0")
}

// TestS17MalformedAuth: every form of nonsense has its answer, and the
// connection lives on.
func TestS17MalformedAuth(t *testing.T) {
	in := &intake{}
	addr := start(t, Options{Intake: in, Submission: true, Authenticator: logins{}})
	chat(t, dial(t, addr), `S: 220
		C: AUTH PLAIN
		S: 503 5.5.1
		C: EHLO x
		S: 250
		C: MAIL FROM:<alice@us.test>
		S: 530 5.7.0
		C: AUTH
		S: 501 5.5.4
		C: AUTH PLAIN !!!
		S: 501 5.5.2
		C: AUTH PLAIN =
		S: 501 5.5.2
		C: AUTH PLAIN YQ
		S: 501 5.5.2
		C: AUTH CRAM-MD5
		S: 504 5.5.4`)
	chat(t, dial(t, addr), `S: 220
		C: EHLO x
		S: 250
		C: AUTH PLAIN
		S: 334
		C: *
		S: 501 5.7.0
		C: AUTH LOGIN
		S: 334 VXNlcm5hbWU6
		C: `+b64("outage")+`
		S: 334 UGFzc3dvcmQ6
		C: `+b64("x")+`
		S: 454 4.7.0
		C: AUTH PLAIN `+plain("", "throttled", "x")+`
		S: 454 4.7.0
		C: AUTH PLAIN `+plain("", "closed", "x")+`
		S: 535 5.7.13
		C: AUTH LOGIN `+b64("alice")+`
		S: 334 UGFzc3dvcmQ6
		C: `+b64("secret")+`
		S: 235 2.7.0
		C: AUTH PLAIN
		S: 503 5.5.1
		C: EHLO x
		S: 250
		C: AUTH PLAIN
		S: 503 5.5.1
		C: MAIL FROM:<alice@us.test>
		S: 250
		C: RCPT TO:<far@away.test>
		S: 250
		C: DATA
		S: 354
		C: hi
		C: .
		S: 250 2.0.0 queued as`)
	want := []message{{From: in.all()[0].From, To: in.all()[0].To, Text: "hi\r\n", Login: "alice@us.test", Helo: "x"}}
	if diff := cmp.Diff(want, in.all()); diff != "" {
		t.Error("taken (-want +got):\n" + diff)
	}
	t.Run("long response", func(t *testing.T) {
		chat(t, dial(t, addr), "S: 220\nC: EHLO x\nS: 250\nC: AUTH PLAIN\nS: 334\nC: "+b64(strings.Repeat("x", 12288))+"\nS: 500 5.5.6\nS: EOF")
	})
	t.Run("in a transaction", func(t *testing.T) {
		chat(t, dial(t, addr), "S: 220\nC: EHLO x\nS: 250\nC: AUTH PLAIN "+plain("", "alice", "secret")+"\nS: 235\nC: MAIL FROM:<alice@us.test>\nS: 250\nC: AUTH PLAIN\nS: 503")
	})
	t.Run("not on port 25", func(t *testing.T) {
		chat(t, dial(t, start(t, Options{Intake: in})), "S: 220\nC: EHLO x\nS: 250\nC: AUTH PLAIN\nS: 502 5.5.1")
	})
}

// TestAuthWantsTLS: away from loopback no password crosses in the clear.
func TestAuthWantsTLS(t *testing.T) {
	pair := testTLS(t)
	s := New(Options{Intake: &intake{}, Submission: true, Authenticator: logins{}, TLS: pair.server, Hostname: "mx.us.test", Log: slog.New(slog.DiscardHandler)})
	near, far := net.Pipe()
	go s.ServeConn(t.Context(), far) // a pipe has no address, so it is not loopback
	_ = near.SetDeadline(time.Now().Add(10 * time.Second))
	defer near.Close()
	chat(t, near, "S: 220\nC: EHLO x\nS: 250-mx.us.test|250-PIPELINING|250-8BITMIME|250-SMTPUTF8|250-ENHANCEDSTATUSCODES|250-SIZE 52428800|250-STARTTLS|250-CHUNKING|250 BINARYMIME\n"+
		"C: AUTH PLAIN "+plain("", "alice", "secret")+"\nS: 538 5.7.11\nC: MAIL FROM:<alice@us.test>\nS: 530 5.7.0 use STARTTLS\nC: STARTTLS\nS: 220")
	secure := tls.Client(near, pair.client)
	chat(t, secure, "C: EHLO x\nS: 250-mx.us.test|250-PIPELINING|250-8BITMIME|250-SMTPUTF8|250-ENHANCEDSTATUSCODES|250-SIZE 52428800|250-AUTH PLAIN LOGIN|250-CHUNKING|250-BINARYMIME|250 REQUIRETLS\n"+
		"C: AUTH PLAIN "+plain("", "alice", "secret")+"\nS: 235 2.7.0")
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func plain(authzid, login, password string) string {
	return b64(authzid + "\x00" + login + "\x00" + password)
}
