package listen

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// start serves with o; the returned function stops the server and waits.
func start(t *testing.T, o Options, serve func(context.Context, net.Conn)) (addr string, stop func()) {
	t.Helper()
	ln, err := Open(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, o, serve) }()
	return ln.Addr().String(), func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestDrain(t *testing.T) {
	serving := make(chan struct{})
	addr, stop := start(t, Options{}, func(ctx context.Context, c net.Conn) {
		defer c.Close()
		close(serving)
		<-ctx.Done() // finishes its transaction
		io.WriteString(c, "bye\n")
	})
	c := dial(t, addr)
	<-serving
	stop()
	if line, err := bufio.NewReader(c).ReadString('\n'); line != "bye\n" {
		t.Errorf("%q %v", line, err)
	}
}

func TestGraceEnds(t *testing.T) {
	serving := make(chan struct{})
	addr, stop := start(t, Options{Grace: time.Millisecond}, func(_ context.Context, c net.Conn) {
		close(serving)
		io.Copy(io.Discard, c) // listens to nobody
	})
	dial(t, addr)
	<-serving
	stop()
}

func TestTotalLimit(t *testing.T) {
	serving := make(chan struct{}, 2)
	addr, stop := start(t, Options{Limits: Limits{Total: 1}}, func(ctx context.Context, c net.Conn) {
		defer c.Close()
		serving <- struct{}{}
		<-ctx.Done()
	})
	defer stop()
	dial(t, addr)
	<-serving
	if _, err := dial(t, addr).Read(make([]byte, 1)); err == nil {
		t.Error("a connection over the limit is served")
	}
}

func TestProxyHeader(t *testing.T) {
	header := proxyproto.HeaderProxyFromAddrs(2, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 99}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 143})
	if err := header.SetTLVs([]proxyproto.TLV{{Type: TraceTLV, Value: []byte("trace")}}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ trust, want string }{
		"trusted": {"127.0.0.0/8", "192.0.2.9:99 trace\n"}, "stranger": {"198.51.100.0/24", ""},
	} {
		t.Run(name, func(t *testing.T) {
			addr, stop := start(t, Options{ProxyFrom: []netip.Prefix{netip.MustParsePrefix(c.trust)}}, func(_ context.Context, conn net.Conn) {
				defer conn.Close()
				io.WriteString(conn, conn.RemoteAddr().String()+" "+ProxiedTrace(conn)+"\n")
			})
			defer stop()
			conn := dial(t, addr)
			if _, err := header.WriteTo(conn); err != nil {
				t.Fatal(err)
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			if c.want != "" && line != c.want || c.want == "" && line != conn.LocalAddr().String()+" \n" {
				t.Errorf("%q", line)
			}
		})
	}
}

func TestTLSAndProtocol(t *testing.T) {
	cert, key, err := SelfSigned(t.TempDir(), "localhost", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	c, err := LoadCertificate(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	addr, stop := start(t, Options{TLS: c.Config("imap")}, func(_ context.Context, conn net.Conn) {
		io.WriteString(conn, "hello\n")
		conn.Close()
	})
	defer stop()
	for offer, want := range map[string]bool{"": true, "imap": true, "http/1.1": false} {
		o := &tls.Config{InsecureSkipVerify: true}
		if offer != "" {
			o.NextProtos = []string{offer}
		}
		conn, err := tls.Dial("tcp", addr, o)
		if (err == nil) != want {
			t.Errorf("%q: %v", offer, err)
		}
		if err == nil {
			conn.Close()
		}
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	ln, err := Open(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, err := Open(t.Context(), ln.Addr().String()); err == nil {
		t.Error("a taken port was opened twice")
	}
	path := "unix:" + t.TempDir() + "/s"
	for range 2 { // the second replaces what a crash would leave
		u, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		u.(*net.UnixListener).SetUnlinkOnClose(false)
		u.Close()
	}
}

func TestProxiedTLSNeedsItsBit(t *testing.T) {
	for name, c := range map[string]struct {
		value []byte
		want  string
	}{
		"encrypted": {[]byte{1, 0, 0, 0, 0}, "true\n"}, "plain": {[]byte{0, 0, 0, 0, 1}, "false\n"}, "absent": {nil, "false\n"},
	} {
		t.Run(name, func(t *testing.T) {
			header := proxyproto.HeaderProxyFromAddrs(2, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 99}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 143})
			if c.value != nil {
				if err := header.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_SSL, Value: c.value}}); err != nil {
					t.Fatal(err)
				}
			}
			addr, stop := start(t, Options{ProxyFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, func(_ context.Context, conn net.Conn) {
				defer conn.Close()
				fmt.Fprintln(conn, ProxiedTLS(conn))
			})
			defer stop()
			conn := dial(t, addr)
			if _, err := header.WriteTo(conn); err != nil {
				t.Fatal(err)
			}
			if line, _ := bufio.NewReader(conn).ReadString('\n'); line != c.want {
				t.Errorf("%q, want %q", line, c.want)
			}
		})
	}
}

func TestSourceIsOneHost(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.9": "192.0.2.9/32", "2001:db8::1": "2001:db8::/64", "2001:db8::ffff:1": "2001:db8::/64", "2001:db8:0:1::1": "2001:db8:0:1::/64",
	} {
		if got := source(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
