package queue

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"mailsrv/pkg/mail"
)

// BenchmarkEnqueue measures durable enqueues of 4 KiB messages.
func BenchmarkEnqueue(b *testing.B) {
	text := mail.Bytes(letter + strings.Repeat("x", 4<<10))
	for _, writers := range []int{1, 10, 50} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			q, err := Open(b.Context(), options(b.TempDir(), newHop()))
			if err != nil {
				b.Fatal(err)
			}
			defer q.Close()
			var n atomic.Int64
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
						env := mail.Envelope{Trace: mail.NewTraceID(), To: []mail.Recipient{{Address: mail.Address{Local: "u", Domain: fmt.Sprintf("d%d.test", i%100)}}}}
						if err := q.Deliver(b.Context(), env, text)[0]; err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkDrain measures how fast a full queue empties into a next hop that
// costs nothing.
func BenchmarkDrain(b *testing.B) {
	for _, domains := range []int{1, 100} {
		b.Run(fmt.Sprintf("%d-destinations", domains), func(b *testing.B) {
			o := options(b.TempDir(), deliverFunc(func(mail.Envelope) error { return nil }))
			var left atomic.Int64
			left.Store(int64(b.N))
			empty := make(chan struct{})
			o.Attempted = func(Outcome) {
				if left.Add(-1) == 0 {
					close(empty)
				}
			}
			q, err := Open(b.Context(), o)
			if err != nil {
				b.Fatal(err)
			}
			q.herd = 1
			text := mail.Bytes(letter + strings.Repeat("x", 4<<10))
			var n atomic.Int64
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
						q.Deliver(b.Context(), mail.Envelope{Trace: mail.NewTraceID(),
							To: []mail.Recipient{{Address: mail.Address{Local: "u", Domain: fmt.Sprintf("d%d.test", i%int64(domains))}}}}, text)
					}
				})
			}
			wg.Wait()
			ctx, cancel := context.WithCancel(b.Context())
			served := make(chan error)
			b.ResetTimer()
			go func() { served <- q.Serve(ctx) }()
			<-empty
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			b.StopTimer()
			cancel()
			if err := <-served; err != nil {
				b.Error(err)
			}
			if err := q.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}
