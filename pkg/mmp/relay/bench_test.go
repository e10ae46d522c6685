package relay

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mmp"
)

// bulk is what the benchmarks' store answers to a FETCH.
const bulk = 4 << 20

// benchStore answers NOOP, and FETCH with a large literal, after a login by us.
func benchStore(b testing.TB) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	message := []byte(fmt.Sprintf("* 1 FETCH (BODY[] {%d}\r\n", bulk) + strings.Repeat("x", bulk) + ")\r\nn OK done\r\n")
	serve := func(c net.Conn) {
		defer c.Close()
		_, _ = io.WriteString(c, "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n")
		for r := bufio.NewReaderSize(c, 512); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			answer := []byte(line[:1] + " OK done\r\n")
			if strings.HasPrefix(line, "n FETCH") {
				answer = message
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().String()
}

// benchClient is logged in: at the store itself, or through a relay.
func benchClient(b testing.TB, r *Relay, address string, relayed bool) net.Conn {
	b.Helper()
	if !relayed {
		c, err := net.Dial("tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		discardLine(b, c)
		return c
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	h := &mmp.Handover{Conn: far, Tag: "a", Trace: mail.NewTraceID(), Identity: auth.Identity{User: directory.User{UID: "alice", Domain: "example.test"}}}
	done := make(chan error, 1)
	go func() { done <- r.Attach(context.Background(), h) }()
	b.Cleanup(func() {
		near.Close()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	discardLine(b, near)
	return near
}

func discardLine(b testing.TB, c net.Conn) {
	b.Helper()
	var one [1]byte
	for one[0] != '\n' {
		if _, err := c.Read(one[:]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCost is what the MMP adds to a round trip and to a bulk FETCH.
func BenchmarkCost(b *testing.B) {
	address := benchStore(b)
	r := New(Options{Address: address, Authcid: "mmp", Secret: "s3cret"})
	for _, way := range []string{"direct", "relayed"} {
		b.Run("NOOP/"+way, func(b *testing.B) {
			c := benchClient(b, r, address, way == "relayed")
			buf := make([]byte, 512)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.WriteString(c, "n NOOP\r\n"); err != nil {
					b.Fatal(err)
				}
				if n, err := c.Read(buf); err != nil || !bytes.HasSuffix(buf[:n], []byte("\r\n")) {
					b.Fatalf("%q %v", buf[:n], err)
				}
			}
		})
		b.Run("FETCH/"+way, func(b *testing.B) {
			c := benchClient(b, r, address, way == "relayed")
			b.SetBytes(bulk)
			buf := make([]byte, 64<<10)
			for b.Loop() {
				if _, err := io.WriteString(c, "n FETCH 1 BODY[]\r\n"); err != nil {
					b.Fatal(err)
				}
				for done := false; !done; {
					n, err := c.Read(buf)
					if err != nil {
						b.Fatal(err)
					}
					done = bytes.HasSuffix(buf[:n], []byte("done\r\n"))
				}
			}
		})
	}
	b.Run("login", func(b *testing.B) {
		for b.Loop() {
			benchClient(b, r, address, true).Close()
		}
	})
}

// BenchmarkIdle measures what an idle session through the relay holds, with the
// store's and the client's ends in the same process taken off.
func BenchmarkIdle(b *testing.B) {
	const sessions = 500
	held := func(relayed bool) float64 {
		address := benchStore(b)
		r := New(Options{Address: address, Authcid: "mmp", Secret: "s3cret"})
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range sessions {
			benchClient(b, r, address, relayed)
		}
		runtime.GC()
		runtime.GC() // pools give back at the second
		runtime.ReadMemStats(&after)
		return float64(after.HeapInuse+after.StackInuse) - float64(before.HeapInuse+before.StackInuse)
	}
	for b.Loop() {
		b.ReportMetric((held(true)-held(false))/sessions/1024, "KiB/session")
	}
}
