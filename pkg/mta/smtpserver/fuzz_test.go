package smtpserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/wire/smtpwire"
)

// spoken is a connection whose client has said all in advance.
type spoken struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *spoken) Read(p []byte) (int, error)       { return s.in.Read(p[:min(len(p), 700)]) }
func (s *spoken) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *spoken) Close() error                     { return nil }
func (s *spoken) LocalAddr() net.Addr              { return loopback }
func (s *spoken) RemoteAddr() net.Addr             { return loopback }
func (s *spoken) SetDeadline(time.Time) error      { return nil }
func (s *spoken) SetReadDeadline(time.Time) error  { return nil }
func (s *spoken) SetWriteDeadline(time.Time) error { return nil }

var loopback = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}

var replyLine = regexp.MustCompile(`^[2-5][0-9][0-9][ -][ -~]*$`)

// FuzzSession is the whole door: whatever is said, replies are replies, and
// what is taken came through MAIL, RCPT and a DATA that ended.
func FuzzSession(f *testing.F) {
	const hello = "EHLO x\r\nAUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n"
	f.Add([]byte(hello + "MAIL FROM:<a@us.test> SIZE=10 BODY=8BITMIME\r\nRCPT TO:<b@us.test>\r\nDATA\r\n..x\r\n.\r\nQUIT\r\n"))
	f.Add([]byte(hello + "MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nRSET\r\nMAIL FROM:<\"a b\"@us.test> SMTPUTF8\r\nRCPT TO:<ü@us.test>\r\nDATA\r\n\r.\r\n.\r\n"))
	f.Add([]byte("HELO x\r\nAUTH LOGIN\r\nNOOP\r\nVRFY x\r\nHELP\r\nSTARTTLS\r\nBDAT 3 LAST\r\nabc"))
	f.Add([]byte("EHLO x\r\nAUTH LOGIN\r\nYWxpY2U=\r\n*\r\nAUTH PLAIN\r\n\r\nAUTH PLAIN =\r\n"))
	f.Add([]byte("EHLO x\nMAIL FROM:<@a,@b:c@d.test>\r\n"))
	f.Add([]byte(hello + "MAIL FROM:<a@us.test> RET=FULL ENVID=+41\r\nRCPT TO:<b@us.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+40us.test\r\nDATA\r\n\n.\n\r\n.\r\n"))
	limits := smtpwire.PublicLimits()
	limits.ErrorDelay = 0
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, said []byte) {
		in := &intake{}
		s := New(Options{Intake: in, Submission: true, Authenticator: logins{}, Hostname: "mx.us.test", DSN: true, MaxSize: 10000,
			SpoolDir: dir, Limits: limits, Log: slog.New(failOnError{slog.DiscardHandler, t})})
		conn := &spoken{in: bytes.NewReader(said)}
		s.ServeConn(t.Context(), conn)
		if rest, err := io.ReadAll(conn.in); err != nil || len(rest) == len(said) && len(said) > 0 {
			t.Errorf("nothing was read: %v", err)
		}
		replies := conn.out.String()
		if !strings.HasSuffix(replies, "\r\n") {
			t.Errorf("replies end in %q", replies[max(0, len(replies)-20):])
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(replies, "\r\n"), "\r\n") {
			if !replyLine.MatchString(line) {
				t.Errorf("%q is no reply", line)
			}
		}
		for _, m := range in.all() {
			if len(m.To) == 0 || m.Login == "" {
				t.Errorf("taken without recipient or login: %+v", m)
			}
			if bare := strings.ReplaceAll(m.Text, "\r\n", ""); strings.ContainsAny(bare, "\r\n") {
				t.Errorf("taken with a bare CR or LF: %q", m.Text)
			}
			if len(m.Text) > 10000 {
				t.Errorf("taken with %d bytes", len(m.Text))
			}
		}
	})
}

// failOnError makes an error in the log, such as a panic, the test's.
type failOnError struct {
	slog.Handler
	t *testing.T
}

func (h failOnError) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }
func (h failOnError) WithAttrs([]slog.Attr) slog.Handler           { return h }
func (h failOnError) Handle(_ context.Context, r slog.Record) error {
	h.t.Error(r.Message)
	r.Attrs(func(a slog.Attr) bool { h.t.Log(a); return true })
	return errors.New("logged")
}
