package auth

import (
	"net/netip"
	"slices"
	"time"
)

// Source is what the throttle knows of where failed logins came from: an IPv4
// address or an IPv6 /64.
type Source struct {
	Network netip.Prefix
	// Minute and Day are the failures of the last minute and day, as far as they
	// are remembered, and Last the latest.
	Minute, Day int
	Last        time.Time
	// Until is when a banned source may try again; zero: it is not banned.
	Until time.Time
	// Welcome: somebody logged in from there in the last day, so that failures
	// shut it out for a minute at the most.
	Welcome bool
}

// Bans lists the sources whose logins are refused now, the latest failure
// first. It may be called from many goroutines.
func (l *Logins) Bans() []Source {
	t := l.throttle
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []Source
	for e := t.sources.order.Front(); e != nil; e = e.Next() {
		if s := t.describe(e.Value.(*record[netip.Prefix]).key); !s.Until.IsZero() {
			list = append(list, s)
		}
	}
	return list
}

// Source says what is known of an address, and why it is banned or not.
func (l *Logins) Source(a netip.Addr) Source {
	l.throttle.mu.Lock()
	defer l.throttle.mu.Unlock()
	return l.throttle.describe(source(a.Unmap()))
}

// Lift forgets the failures from an address, and reports whether there were any.
func (l *Logins) Lift(a netip.Addr) bool {
	t := l.throttle
	t.mu.Lock()
	defer t.mu.Unlock()
	_, known := t.sources.byKey[source(a.Unmap())]
	t.sources.forget(source(a.Unmap()))
	return known
}

// Exempt reports whether failures from an address are never held against it:
// it is loopback, or a proxy's own.
func (l *Logins) Exempt(a netip.Addr) bool {
	return a.IsLoopback() || slices.ContainsFunc(l.o.Proxies, func(p Proxy) bool { return p.from(a.Unmap()) })
}

// describe is what is known of a source. The caller holds mu.
func (t *throttle) describe(s netip.Prefix) Source {
	now := t.now()
	d := Source{
		Network: s, Minute: t.sources.since(s, now.Add(-time.Minute)), Day: t.sources.since(s, now.Add(-day)),
		Welcome: t.welcome.since(s, now.Add(-day)) > 0,
	}
	d.Last, _ = t.sources.oldest(s, 1)
	d.Until, _ = t.banned(s, now)
	return d
}
