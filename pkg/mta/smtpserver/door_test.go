package smtpserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

func TestImplicitTLS(t *testing.T) {
	pair := testTLS(t)
	in := &intake{}
	s := New(Options{Intake: in, TLS: pair.server, Hostname: "mx.us.test", Log: slog.New(slog.DiscardHandler)})
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		s.ServeConn(t.Context(), tls.Server(far, pair.server))
		close(done)
	}()
	conn := tls.Client(near, pair.client)
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	chat(t, conn, "S: 220\nC: EHLO x\nS: 250-mx.us.test|250-PIPELINING|250-8BITMIME|250-SMTPUTF8|250-ENHANCEDSTATUSCODES|250-SIZE 52428800|250-CHUNKING|250-BINARYMIME|250 REQUIRETLS\n"+
		"C: MAIL FROM:<>\nS: 250\nC: RCPT TO:<a@us.test>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250\nC: QUIT\nS: 221")
	near.Close()
	<-done
	if got := in.all(); len(got) != 1 || !got[0].TLS {
		t.Errorf("taken: %+v", got)
	}
}

// TestFailedIntake: what the client hears when the message cannot be taken is
// never the cause itself.
func TestFailedIntake(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{errors.New("fsync /var/lib/secret: I/O error"), "451 4.3.0 temporary failure, try again later"},
		{&mail.Status{Code: 552, Enhanced: [3]int{5, 2, 2}, Text: "mailbox full\r\n250 ok", Err: errors.New("x")}, "552 5.2.2 mailbox full??250 ok"},
		{mail.TryLater(4, 3, "directory unavailable", nil), "451 4.4.3 directory unavailable"},
		{&mail.Status{Code: 421, Enhanced: [3]int{4, 3, 2}, Text: "stopping"}, "421 4.3.2 stopping"},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			conn := dial(t, start(t, Options{Intake: &intake{fail: tt.err}}))
			script := opening + "C: x\nC: .\nS: " + tt.want + "\n"
			if strings.HasPrefix(tt.want, "421") {
				chat(t, conn, script+"S: EOF")
			} else {
				chat(t, conn, script+"C: RCPT TO:<a@us.test>\nS: 503")
			}
		})
	}
}

// TestFullDisk: a spool without space is transient, and its client in step.
func TestFullDisk(t *testing.T) {
	s := New(Options{Intake: &intake{}})
	s.o.SpoolDir = t.TempDir() + "/missing"
	in := &client{server: s, transaction: &transaction{intake: &intake{}}}
	big := strings.NewReader(strings.Repeat("x", spoolMemory+1))
	if got := in.Data(t.Context(), big); got[0].Code != 451 {
		t.Errorf("missing folder: %v", got[0])
	}
	in.transaction = &transaction{intake: &intake{}}
	if got := in.Data(t.Context(), failing{syscall.ENOSPC}); got[0].Code != 452 || got[0].Enhanced != [3]int{4, 3, 1} {
		t.Errorf("full disk: %v", got[0])
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type panicking struct{ mta.Intake }

func (panicking) Begin(context.Context, *mta.Session, mta.Sender) (mta.Transaction, error) {
	panic("boom")
}

// TestPanicEndsOneSession: the process and the other sessions live on.
func TestPanicEndsOneSession(t *testing.T) {
	var log bytes.Buffer
	addr := start(t, Options{Intake: panicking{}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	other := dial(t, addr)
	chat(t, other, "S: 220")
	chat(t, dial(t, addr), "S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<>\nS: 421 4.3.0\nS: EOF")
	chat(t, other, "C: NOOP\nS: 250\nC: QUIT\nS: 221\nS: EOF")
	if !strings.Contains(log.String(), "boom") {
		t.Error("the panic is not in the log:", log.String())
	}
}

// TestTrustedTrace: a trace is announced to and taken from trusted peers only.
func TestTrustedTrace(t *testing.T) {
	trace := string(mail.NewTraceID())
	trusting := start(t, Options{Intake: &intake{}, TrustTrace: func(a netip.Addr) bool { return a.IsLoopback() }})
	chat(t, dial(t, trusting), "S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<> XTRACE="+trace+"\nS: 250\nC: RCPT TO:<a@us.test>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250 2.0.0 queued as "+trace)
	chat(t, dial(t, trusting), "S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<> XTRACE=../../etc\nS: 501 5.5.4")
	chat(t, dial(t, start(t, Options{Intake: &intake{}})), "S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<> XTRACE="+trace+"\nS: 555 5.5.4")
}

// TestLog: one line for each refused command, and no secret in any.
func TestLog(t *testing.T) {
	var log bytes.Buffer
	s := New(Options{Intake: &intake{}, Hostname: "mx.us.test", Submission: true, Authenticator: logins{}, MaxSize: 100,
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near := dial(t, l.Addr().String())
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { s.ServeConn(t.Context(), far); close(done) }()
	secret := plain("", "alice", "secret")
	chat(t, near, "S: 220\nC: EHLO x\nS: 250\nC: AUTH PLAIN "+plain("", "alice", "hunter2")+"\nS: 535\nC: AUTH PLAIN "+secret+"\nS: 235\n"+
		"C: MAIL FROM:<alice@us.test> SIZE=101\nS: 552\nC: QUIT\nS: 221\nS: EOF")
	near.Close()
	<-done
	got := log.String()
	for _, want := range []string{
		`level=DEBUG msg="command refused" conn=1 peer=`, `verb=AUTH code=535 enhanced=5.7.8`, `err="bad credentials"`,
		`verb=MAIL code=552 enhanced=5.3.4`, `arg="PLAIN <redacted>"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("log has no %s", want)
		}
	}
	for _, never := range []string{secret, "hunter2", plain("", "alice", "hunter2")} {
		if strings.Contains(got, never) {
			t.Errorf("log has the secret %s", never)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}
