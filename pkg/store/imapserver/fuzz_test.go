package imapserver_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/store/imapserver"
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
	scripts, err := filepath.Glob("testdata/script/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range scripts {
		script, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var seed strings.Builder
		for line := range strings.SplitSeq(string(script), "\n") {
			if text, ok := strings.CutPrefix(line, "C: "); ok {
				seed.WriteString(unescape(text) + "\r\n")
			}
		}
		f.Add(seed.String())
	}
	p := newPeer(f, func(o *imapserver.Options) { o.MaxMessage = 4000 })
	plain, mixed := readMail(f, "plain.eml"), readMail(f, "mixed.eml")
	n := 0
	defer func() { p.tb = f }()
	f.Fuzz(func(t *testing.T, in string) {
		n++
		p.tb = t
		p.dir.user.UID = fmt.Sprint("u", n)
		p.put("INBOX", plain, `\Seen`)
		p.put("INBOX", mixed, "$Work")
		var log strings.Builder
		client := &hungUp{}
		h := &mmp.Handover{
			Conn: client, ReadAhead: []byte(in), Tag: "in", Identity: auth.Identity{User: p.dir.user},
			Client: auth.Client{Addr: netip.MustParseAddrPort("192.0.2.1:1"), Service: directory.ServiceIMAP},
			Log:    slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})),
		}
		if err := p.server.Attach(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		if log.Len() > 0 {
			t.Errorf("logged as our own fault:\n%s", log.String())
		}
		if client.written > 20000*(1+len(in)) {
			t.Errorf("%d bytes answered to %d", client.written, len(in))
		}
	})
}
