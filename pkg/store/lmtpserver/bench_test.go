package lmtpserver

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"mailsrv/pkg/store"
	"mailsrv/pkg/store/sqlstore"
)

// BenchmarkDeliver takes messages over the wire into a store on disk, each
// connection waiting for its reply.
func BenchmarkDeliver(b *testing.B) {
	for _, c := range []struct {
		name        string
		size, conns int
	}{{"4KiB/1", 4 << 10, 1}, {"4KiB/10", 4 << 10, 10}, {"4KiB/50", 4 << 10, 50}, {"100KiB/10", 100 << 10, 10}} {
		b.Run(c.name, func(b *testing.B) {
			engine, err := sqlstore.Open(context.Background(), sqlstore.Options{Dir: b.TempDir(), PackLimit: 1 << 20})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = engine.Close() })
			addr := start(b, Options{Deliverer: store.NewDeliverer(engine, people{}, store.NoQuota())})
			text := "\r\n" + strings.Repeat(strings.Repeat("x", 74)+"\r\n", c.size/76) + ".\r\n"
			next := make(chan int)
			var wg sync.WaitGroup
			for range c.conns {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				r := bufio.NewReader(conn)
				say := func(line, want string) {
					if _, err := conn.Write([]byte(line)); err != nil {
						b.Error(err)
					}
					got, err := r.ReadString('\n')
					for err == nil && len(got) > 3 && got[3] == '-' {
						got, err = r.ReadString('\n')
					}
					if err != nil || !strings.HasPrefix(got, want) {
						b.Errorf("%.20q answered with %q, %v", line, got, err)
					}
				}
				say("", "220")
				say("LHLO bench\r\n", "250")
				wg.Go(func() {
					for i := range next {
						say("MAIL FROM:<sender@bench.test>\r\n", "250")
						say(fmt.Sprintf("RCPT TO:<u%d@example.test>\r\n", i%50), "250")
						say("DATA\r\n", "354")
						say(fmt.Sprintf("From: <sender@bench.test>\r\nMessage-ID: <%d@bench>\r\n%s", i, text), "250")
					}
				})
			}
			b.ResetTimer()
			for i := range b.N {
				next <- i
			}
			close(next)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
