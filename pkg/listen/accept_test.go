package listen

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
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

// from is a connection that says it comes from an address.
type from struct {
	net.Conn
	addr netip.AddrPort
}

func (f from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(f.addr) }

func TestPerIPLimit(t *testing.T) {
	trusted := netip.MustParsePrefix("192.0.2.0/24")
	for name, c := range map[string]struct {
		addrs []string
		want  int
	}{
		"one address":    {[]string{"198.51.100.1:1", "198.51.100.1:2", "198.51.100.1:3"}, 2},
		"two addresses":  {[]string{"198.51.100.1:1", "198.51.100.1:2", "198.51.100.2:3"}, 3},
		"one /64":        {[]string{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1"}, 2},
		"loopback":       {[]string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}, 3},
		"trusted proxy":  {[]string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"}, 3},
		"mapped address": {[]string{"198.51.100.1:1", "[::ffff:198.51.100.1]:2", "198.51.100.1:3"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{PerIP: 2, ProxyFrom: []netip.Prefix{trusted}, Log: slog.New(slog.DiscardHandler)}
			s := &server{o: o, conns: map[net.Conn]netip.Prefix{}, perIP: map[netip.Prefix]int{}}
			admitted := []net.Conn{}
			for _, a := range c.addrs {
				conn := from{addr: netip.MustParseAddrPort(a)}
				if s.admit(conn) {
					admitted = append(admitted, conn)
				}
			}
			if len(admitted) != c.want {
				t.Errorf("%d admitted, want %d", len(admitted), c.want)
			}
			for _, conn := range admitted {
				s.forget(conn)
			}
			if len(s.perIP) > 0 || len(s.conns) > 0 {
				t.Errorf("left behind: %v %v", s.perIP, s.conns)
			}
		})
	}
}
