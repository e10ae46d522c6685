package listen

import (
	"context"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// poor is a listener without descriptors for its first calls of Accept; then it
// gives the connections of next.
type poor struct {
	net.Listener
	fails  int
	calls  int
	next   chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (p *poor) Accept() (net.Conn, error) {
	if p.calls++; p.calls <= p.fails {
		return nil, syscall.EMFILE
	}
	select {
	case c := <-p.next:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *poor) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// The bubble also fails the test if a goroutine outlives Serve.
func TestAcceptBacksOffWithoutDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &poor{fails: 20, next: make(chan net.Conn), closed: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		served := make(chan struct{})
		go func() {
			done <- Serve(ctx, p, Options{}, func(_ context.Context, c net.Conn) { c.Close(); close(served) })
		}()
		start := time.Now()
		ours, theirs := net.Pipe()
		defer theirs.Close()
		p.next <- ours
		<-served
		if d := time.Since(start); d < 10*time.Second || d > 20*time.Second {
			t.Errorf("%d failures took %v: it spins or sleeps too long", p.fails, d)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
