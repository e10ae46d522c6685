package listen

import (
	"container/list"
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits bound who may connect. Zero is no bound. Loopback and Options.ProxyFrom
// are bound by Total alone: many clients come through them.
type Limits struct {
	// PerAddress bounds the connections that an IPv4 address, or an IPv6 /64,
	// has open at once.
	PerAddress int
	// PerNetwork does so for an IPv4 /24, or an IPv6 /48.
	PerNetwork int
	// PerMinute bounds the connections that an address opens in a minute.
	PerMinute int
	// Total bounds all that are open at once.
	Total int
	// Displace makes room beyond Total: the connection that has been open the
	// longest without Keep is closed for the new one. Else the new one is refused.
	Displace bool
}

// maxCounted bounds the addresses whose new connections are counted.
const maxCounted = 100_000

// visitor is an open connection.
type visitor struct {
	conn             net.Conn
	address, network netip.Prefix
	passing          *list.Element // its place among those without Keep; nil: kept
}

// recent is what an address did in this minute.
type recent struct {
	opened int
	told   bool // a refusal is in the log
}

// visitors counts connections. It may be used from many goroutines.
type visitors struct {
	o Limits

	mu       sync.Mutex
	open     map[net.Conn]*visitor
	passing  *list.List // of *visitor, the oldest first
	from     map[netip.Prefix]int
	minute   time.Time
	recently map[netip.Prefix]*recent
}

func newVisitors(o Limits) *visitors {
	return &visitors{o: o, open: map[net.Conn]*visitor{}, passing: list.New(), from: map[netip.Prefix]int{}, recently: map[netip.Prefix]*recent{}}
}

// source is what counts as one address: a host has the whole of its IPv6 /64.
func source(a netip.Addr) netip.Prefix { return prefix(a, 32, 64) }

// prefix is a's network of so many bits.
func prefix(a netip.Addr, bits4, bits6 int) netip.Prefix {
	bits := bits4
	if a.Is6() {
		bits = bits6
	}
	p, _ := a.Prefix(bits)
	return p
}

// admit counts the connection, unless that would be over a limit, which it then
// names; first says that it is the address's first refusal in this minute.
// displaced is who has to go for it.
func (v *visitors) admit(c net.Conn, a netip.Addr, free bool) (over string, first bool, displaced net.Conn) {
	v.mu.Lock()
	defer v.mu.Unlock()
	x := &visitor{conn: c, address: source(a), network: prefix(a, 24, 48)}
	r := v.count(x.address)
	free = free || !a.IsValid()
	switch {
	case !free && v.o.PerMinute > 0 && r.opened > v.o.PerMinute:
		over = "too many connections a minute from the address"
	case !free && v.o.PerAddress > 0 && v.from[x.address] >= v.o.PerAddress:
		over = "too many connections from the address"
	case !free && v.o.PerNetwork > 0 && v.from[x.network] >= v.o.PerNetwork:
		over = "too many connections from the network"
	case v.o.Total > 0 && len(v.open) >= v.o.Total:
		oldest := v.passing.Front()
		if !v.o.Displace || oldest == nil {
			over = "too many connections"
			break
		}
		displaced = oldest.Value.(*visitor).conn
		v.forget(displaced)
	}
	if over != "" {
		first, r.told = !r.told, true
		return over, first, nil
	}
	v.open[c] = x
	x.passing = v.passing.PushBack(x)
	v.from[x.address]++
	v.from[x.network]++
	return "", false, displaced
}

// count notes a new connection of the address.
func (v *visitors) count(address netip.Prefix) *recent {
	if now := time.Now(); now.Sub(v.minute) >= time.Minute || len(v.recently) >= maxCounted {
		v.minute = now
		clear(v.recently)
	}
	r := v.recently[address]
	if r == nil {
		r = &recent{}
		v.recently[address] = r
	}
	r.opened++
	return r
}

// keep saves the connection from being displaced.
func (v *visitors) keep(c net.Conn) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if x := v.open[c]; x != nil && x.passing != nil {
		v.passing.Remove(x.passing)
		x.passing = nil
	}
}

// leave forgets a connection that ended.
func (v *visitors) leave(c net.Conn) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.forget(c)
}

func (v *visitors) forget(c net.Conn) {
	x := v.open[c]
	if x == nil {
		return // displaced before it ended
	}
	delete(v.open, c)
	if x.passing != nil {
		v.passing.Remove(x.passing)
	}
	for _, p := range []netip.Prefix{x.address, x.network} {
		if v.from[p]--; v.from[p] <= 0 {
			delete(v.from, p)
		}
	}
}

// each calls fn for every open connection.
func (v *visitors) each(fn func(net.Conn)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for c := range v.open {
		fn(c)
	}
}

// keepKey finds what Keep calls.
type keepKey struct{}

// Keep says that the connection which ctx belongs to has earned its place, by a
// login say: it is not closed for a newer one when the door is full. For other
// contexts it does nothing.
func Keep(ctx context.Context) {
	if keep, ok := ctx.Value(keepKey{}).(func()); ok {
		keep()
	}
}
