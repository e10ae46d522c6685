package pop3server_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/store/pop3server"
)

// hungUp is a client that has said all it wanted to and listens.
type hungUp struct{ written int }

func (*hungUp) Read([]byte) (int, error)         { return 0, io.EOF }
func (h *hungUp) Write(b []byte) (int, error)    { h.written += len(b); return len(b), nil }
func (*hungUp) Close() error                     { return nil }
func (*hungUp) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*hungUp) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*hungUp) SetDeadline(time.Time) error      { return nil }
func (*hungUp) SetReadDeadline(time.Time) error  { return nil }
func (*hungUp) SetWriteDeadline(time.Time) error { return nil }

// FuzzSession lets a logged-in client say anything. The session must end, say
// no more than in proportion, and not panic.
func FuzzSession(f *testing.F) {
	f.Add("STAT\r\nLIST\r\nUIDL\r\nRETR 1\r\nTOP 2 1\r\nDELE 1\r\nRSET\r\nDELE 2\r\nQUIT\r\n")
	f.Add("LIST 1\r\nUIDL 9\r\nTOP 1 4294967296\r\nCAPA\r\nLANG en\r\nNOOP\n")
	f.Add("RETR 0\r\nRETR -1\r\nRETR 99999999999999999999\r\n" + strings.Repeat("x", 5000) + "\r\n")
	p := newPeer(f, pop3server.Options{})
	defer func() { p.tb = f }()
	n := 0
	f.Fuzz(func(t *testing.T, in string) {
		n++
		p.tb = t
		p.dir.user.UID = fmt.Sprint("u", n)
		p.put(first, second)
		var log strings.Builder
		client := &hungUp{}
		h := p.handover(client, in)
		h.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))
		if err := p.server.Attach(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		if log.Len() > 0 {
			t.Errorf("logged as our own fault:\n%s", log.String())
		}
		if client.written > 200*(1+len(in)) {
			t.Errorf("%d bytes answered to %d", client.written, len(in))
		}
	})
}

func BenchmarkRetr(b *testing.B) {
	p := newPeer(b, pop3server.Options{})
	body := strings.Repeat("This is a line of a message that somebody wrote to somebody.\r\n", 64)
	const messages = 1000
	for i := range messages {
		p.put(fmt.Sprintf("Subject: %d\r\n\r\n%s", i, body))
	}
	c := p.login(b.Context(), nil)
	buf := make([]byte, 64<<10)
	for i := 0; b.Loop(); i++ {
		if _, err := fmt.Fprintf(c.conn, "RETR %d\r\n", 1+i%messages); err != nil {
			b.Fatal(err)
		}
		for end := ""; end != "\r\n.\r\n"; {
			n, err := c.r.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			end = (end + string(buf[max(0, n-5):n]))
			end = end[max(0, len(end)-5):]
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "RETR/s")
}
