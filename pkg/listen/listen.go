// Package listen accepts connections for the doors: listeners, TLS from the
// first byte, the PROXY protocol from trusted peers, limits on connections, and
// the drain at the end.
//
// It reads nothing of any mail protocol.
package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"
)

// Options of Serve. Zero limits mean no limit.
type Options struct {
	// Name says in the log which door it is.
	Name string
	// TLS wraps connections from the first byte; nil: plain.
	TLS *tls.Config
	// ProxyFrom are the networks whose connections begin with a PROXY header
	// (version 2). From anywhere else one is never believed.
	ProxyFrom []netip.Prefix
	Limits
	// Busy is what a client over a limit hears, a whole line of the door's
	// protocol, before it is closed. With TLS nothing can be said.
	Busy string
	// HandshakeTimeout bounds the PROXY header and the TLS handshake; 0: 10 s.
	HandshakeTimeout time.Duration
	// Grace is how long connections may finish once ctx ended; 0: 30 s.
	Grace time.Duration
	// Opened and Closed are told of each connection that is served, Refused of
	// each that is not, or no more, because of a limit.
	Opened, Closed, Refused func()
	Log                     *slog.Logger
}

// Open listens on "host:port", ":port" or "unix:/path" (mode 0660; a socket
// that nobody serves any more is replaced).
func Open(ctx context.Context, addr string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(addr, "unix:")
	if !isUnix {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return nil, fmt.Errorf("listening on %s: the port is taken by another program: %w", addr, err)
		case errors.Is(err, fs.ErrPermission):
			return nil, fmt.Errorf("listening on %s: ports below 1024 need root or the capability cap_net_bind_service: %w", addr, err)
		case err != nil:
			return nil, fmt.Errorf("listening on %s: %w", addr, err)
		}
		return ln, nil
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("listening on %s: another program serves it", addr)
	}
	if st, err := os.Lstat(path); err == nil && st.Mode()&fs.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listening on %s: %w", addr, err)
		}
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		ln.Close()
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	return ln, nil
}

// Serve accepts connections from ln and runs serve for each on a goroutine of
// its own, until ctx ends: then it accepts no more, ends the context of each
// connection, waits Grace, closes what is left, and returns nil. serve closes
// its connection. Serve closes ln.
func Serve(ctx context.Context, ln net.Listener, o Options, serve func(ctx context.Context, conn net.Conn)) error {
	if o.HandshakeTimeout == 0 {
		o.HandshakeTimeout = 10 * time.Second
	}
	if o.Grace == 0 {
		o.Grace = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{o: o, serve: serve, visitors: newVisitors(o.Limits)}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	err := s.accept(ctx, ln)
	s.drain()
	return err
}

type server struct {
	o        Options
	serve    func(ctx context.Context, conn net.Conn)
	wg       sync.WaitGroup
	visitors *visitors
}

func (s *server) accept(ctx context.Context, ln net.Listener) error {
	wait := 5 * time.Millisecond
	for {
		c, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return nil
		}
		if err != nil {
			// Out of descriptors, most likely: they come back when connections
			// end. Without a pause this would spin.
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accepting for %s: %w", s.o.Name, err)
			}
			s.o.Log.Error("accept failed", "err", err)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return nil
			}
			wait = min(2*wait, time.Second)
			continue
		}
		wait = 5 * time.Millisecond
		if !s.admit(c) {
			continue
		}
		s.wg.Go(func() { s.one(ctx, c) })
	}
}

func peerAddr(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

func (s *server) trusted(a netip.Addr) bool {
	return slices.ContainsFunc(s.o.ProxyFrom, func(p netip.Prefix) bool { return p.Contains(a) })
}

// admit counts the connection, or turns it away.
func (s *server) admit(c net.Conn) bool {
	a := peerAddr(c)
	over, first, displaced := s.visitors.admit(c, a, a.IsLoopback() || s.trusted(a))
	if displaced != nil {
		s.o.Log.Info("connection displaced", "peer", displaced.RemoteAddr().String(), "err", "too many connections")
		displaced.Close()
	}
	if (over != "" || displaced != nil) && s.o.Refused != nil {
		s.o.Refused()
	}
	if over == "" {
		return true
	}
	if first { // once a minute: who floods the door does not flood the log
		s.o.Log.Warn("connection refused", "peer", a.String(), "err", over)
	}
	if s.o.TLS == nil && s.o.Busy != "" {
		// A new connection's buffer takes a line without waiting.
		_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = c.Write([]byte(s.o.Busy))
	}
	c.Close()
	return false
}

// one prepares a connection and hands it to the door.
func (s *server) one(ctx context.Context, raw net.Conn) {
	defer s.visitors.leave(raw)
	if s.o.Opened != nil {
		s.o.Opened()
	}
	if s.o.Closed != nil {
		defer s.o.Closed()
	}
	conn := raw
	deadline := time.Now().Add(s.o.HandshakeTimeout)
	if len(s.o.ProxyFrom) > 0 && s.trusted(peerAddr(raw)) {
		p := proxyproto.NewConn(raw, func(p *proxyproto.Conn) { p.ProxyHeaderPolicy = proxyproto.REQUIRE })
		_ = raw.SetReadDeadline(deadline)
		if p.ProxyHeader() == nil {
			s.o.Log.Warn("connection refused", "peer", raw.RemoteAddr().String(), "err", "no PROXY header")
			raw.Close()
			return
		}
		_ = raw.SetReadDeadline(time.Time{})
		conn = &Proxied{Conn: p}
	}
	if s.o.TLS != nil {
		t := tls.Server(conn, s.o.TLS)
		hctx, cancel := context.WithDeadline(ctx, deadline)
		err := t.HandshakeContext(hctx)
		cancel()
		if err != nil {
			s.o.Log.Info("handshake failed", "peer", conn.RemoteAddr().String(), "err", err)
			raw.Close()
			return
		}
		conn = t
	}
	s.serve(context.WithValue(ctx, keepKey{}, func() { s.visitors.keep(raw) }), conn)
}

// drain waits for the connections, at most the grace, and then cuts them off.
func (s *server) drain() {
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
		return
	case <-time.After(s.o.Grace):
	}
	s.visitors.each(func(c net.Conn) { c.Close() })
	<-done
}

// TraceTLV is the type of the PROXY field (from the range for custom use) in
// which an MMP passes the session's trace id on.
const TraceTLV proxyproto.PP2Type = 0xE0

// ServiceTLV is the type of the field with the service that the client of an
// MMP uses, as directory.Service spells it.
const ServiceTLV proxyproto.PP2Type = 0xE1

// HopsTLV is the type of the field, one octet, with the number of MMPs that the
// session has come through.
const HopsTLV proxyproto.PP2Type = 0xE2

// Proxied is a connection that came with a PROXY header of a trusted peer; its
// RemoteAddr is the real client's.
type Proxied struct {
	*proxyproto.Conn
}

// proxied finds the header under TLS too.
func proxied(c net.Conn) *Proxied {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	p, _ := c.(*Proxied)
	return p
}

// ProxiedBy returns the address of the trusted proxy that c came through; it
// is not valid if there was none.
func ProxiedBy(c net.Conn) netip.AddrPort {
	p := proxied(c)
	if p == nil {
		return netip.AddrPort{}
	}
	return peerAddrPort(p.Raw().RemoteAddr())
}

// peerAddrPort is a TCP address, without IPv4 in IPv6.
func peerAddrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// ProxiedTLS reports whether a trusted proxy said that the client's own
// connection is encrypted. The field alone does not say so: proxies send it for
// plain clients too, with its first bit (PP2_CLIENT_SSL) clear.
func ProxiedTLS(c net.Conn) bool {
	v := tlv(c, proxyproto.PP2_TYPE_SSL)
	return len(v) > 0 && v[0]&1 != 0
}

// ProxiedTrace returns the trace id that a trusted proxy passed on, or "".
func ProxiedTrace(c net.Conn) string { return string(tlv(c, TraceTLV)) }

// ProxiedService returns the service that a trusted proxy said its client uses, or "".
func ProxiedService(c net.Conn) string { return string(tlv(c, ServiceTLV)) }

// ProxiedHops returns how many MMPs the session came through, as a trusted
// proxy said; 0: it did not say.
func ProxiedHops(c net.Conn) int {
	if v := tlv(c, HopsTLV); len(v) == 1 {
		return int(v[0])
	}
	return 0
}

func tlv(c net.Conn, t proxyproto.PP2Type) []byte {
	p := proxied(c)
	if p == nil {
		return nil
	}
	tlvs, err := p.ProxyHeader().TLVs()
	if err != nil {
		return nil
	}
	for _, v := range tlvs {
		if v.Type == t {
			return v.Value
		}
	}
	return nil
}
