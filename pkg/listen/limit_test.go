package listen

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// from is a connection that says it comes from an address.
type from struct {
	net.Conn
	addr netip.AddrPort
}

func (f *from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(f.addr) }

// lobby is a server whose connections the test makes, in a bubble.
type lobby struct {
	ln      *poor
	refused int
	stop    func()
}

// newLobby serves with o: a connection says what it reads back, and is kept once it said "keep".
func newLobby(t *testing.T, o Options) *lobby {
	l := &lobby{ln: &poor{next: make(chan net.Conn), closed: make(chan struct{})}}
	o.Refused = func() { l.refused++ }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, l.ln, o, func(ctx context.Context, c net.Conn) {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			for lines := bufio.NewScanner(c); lines.Scan(); {
				if lines.Text() == "keep" {
					Keep(ctx)
				}
				_, _ = io.WriteString(c, lines.Text()+"\n")
			}
		})
	}()
	l.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return l
}

// connect makes a connection from addr.
func (l *lobby) connect(addr string) net.Conn {
	near, far := net.Pipe()
	l.ln.next <- &from{far, netip.MustParseAddrPort(addr)}
	return near
}

// says is what comes back for line, "" at the connection's end.
func says(c net.Conn, line string) string {
	go func() { _, _ = io.WriteString(c, line+"\n") }()
	got, _ := bufio.NewReader(c).ReadString('\n')
	return got
}

func TestLimits(t *testing.T) {
	for name, c := range map[string]struct {
		o     Limits
		addrs []string
		want  int
	}{
		"one address":        {Limits{PerAddress: 2}, []string{"198.51.100.1:1", "198.51.100.1:2", "198.51.100.1:3"}, 2},
		"two addresses":      {Limits{PerAddress: 2}, []string{"198.51.100.1:1", "198.51.100.1:2", "198.51.100.2:3"}, 3},
		"one /64":            {Limits{PerAddress: 2}, []string{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1"}, 2},
		"loopback":           {Limits{PerAddress: 2}, []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}, 3},
		"trusted proxy":      {Limits{PerAddress: 2, PerMinute: 1, PerNetwork: 1}, []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"}, 3},
		"mapped address":     {Limits{PerAddress: 2}, []string{"198.51.100.1:1", "[::ffff:198.51.100.1]:2", "198.51.100.1:3"}, 2},
		"one /24":            {Limits{PerNetwork: 2}, []string{"198.51.100.1:1", "198.51.100.2:1", "198.51.100.3:1"}, 2},
		"two /24":            {Limits{PerNetwork: 2}, []string{"198.51.100.1:1", "198.51.100.2:1", "198.51.101.3:1"}, 3},
		"one /48":            {Limits{PerNetwork: 2}, []string{"[2001:db8:0:1::1]:1", "[2001:db8:0:2::1]:1", "[2001:db8:0:3::1]:1"}, 2},
		"total":              {Limits{Total: 2}, []string{"198.51.100.1:1", "198.51.100.2:1", "127.0.0.1:1"}, 2},
		"a minute":           {Limits{PerMinute: 2}, []string{"198.51.100.1:1", "198.51.100.1:2", "198.51.100.1:3"}, 2},
		"a minute, another":  {Limits{PerMinute: 2}, []string{"198.51.100.1:1", "198.51.100.1:2", "198.51.100.2:3"}, 3},
		"no limits":          {Limits{}, slices.Repeat([]string{"198.51.100.1:1"}, 20), 20},
		"displaced for each": {Limits{Total: 1, Displace: true}, []string{"198.51.100.1:1", "198.51.100.2:1", "198.51.100.3:1"}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVisitors(c.o)
			trusted := netip.MustParsePrefix("192.0.2.0/24")
			var admitted []net.Conn
			for _, a := range c.addrs {
				conn := &from{addr: netip.MustParseAddrPort(a)}
				if over, _, _ := v.admit(conn, peerAddr(conn), peerAddr(conn).IsLoopback() || trusted.Contains(peerAddr(conn))); over == "" {
					admitted = append(admitted, conn)
				}
			}
			if len(admitted) != c.want {
				t.Errorf("%d admitted, want %d", len(admitted), c.want)
			}
			for _, conn := range admitted {
				v.leave(conn)
			}
			if len(v.from) > 0 || len(v.open) > 0 || v.passing.Len() > 0 {
				t.Errorf("left behind: %v %v %d", v.from, v.open, v.passing.Len())
			}
		})
	}
}

// TestRatePerMinute: an address that connected too often hears it, and is
// welcome in the next minute.
func TestRatePerMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLobby(t, Options{Busy: "* BYE busy\r\n", Limits: Limits{PerMinute: 3}})
		defer l.stop()
		for range 3 {
			c := l.connect("198.51.100.1:1")
			if got := says(c, "hello"); got != "hello\n" {
				t.Errorf("within the limit: %q", got)
			}
			c.Close()
		}
		c := l.connect("198.51.100.1:1")
		if got, _ := io.ReadAll(c); string(got) != "* BYE busy\r\n" || l.refused != 1 {
			t.Errorf("over the limit: %q, %d refused", got, l.refused)
		}
		time.Sleep(time.Minute) // the bubble's
		c = l.connect("198.51.100.1:1")
		defer c.Close()
		if got := says(c, "hello"); got != "hello\n" {
			t.Errorf("a minute later: %q", got)
		}
	})
}

// TestDisplacesTheLongestUnkept: when the door is full, who came first and never
// logged in goes; who logged in stays, and when all have, the new one goes.
func TestDisplacesTheLongestUnkept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLobby(t, Options{Busy: "421 busy\r\n", Limits: Limits{Total: 2, Displace: true}})
		defer l.stop()
		first, second := l.connect("198.51.100.1:1"), l.connect("198.51.100.2:1")
		says(first, "keep")
		third := l.connect("198.51.100.3:1")
		if got := says(third, "keep"); got != "keep\n" {
			t.Errorf("the new one: %q", got)
		}
		if got := says(second, "hello"); got != "" {
			t.Errorf("the longest without a login is still served: %q", got)
		}
		if got := says(first, "hello"); got != "hello\n" {
			t.Errorf("the oldest, logged in: %q", got)
		}
		synctest.Wait()
		fourth := l.connect("198.51.100.4:1")
		if got, _ := io.ReadAll(fourth); string(got) != "421 busy\r\n" {
			t.Errorf("all are logged in: %q", got)
		}
	})
}
