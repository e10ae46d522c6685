package auth

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// The throttle (hardening.md section 3): a source that failed often is refused
// for a while, an account that is being guessed answers ever more slowly, and
// nobody is locked out.
const (
	perMinute   = 10
	freeTries   = 3 // failures of an account that cost no delay
	firstDelay  = 2 * time.Second
	longest     = 30 * time.Second
	accountSpan = time.Hour
	maxTracked  = 10_000
)

type throttle struct {
	now func() time.Time

	mu       sync.Mutex
	sources  map[netip.Prefix][]time.Time
	accounts map[string][]time.Time
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, sources: map[netip.Prefix][]time.Time{}, accounts: map[string][]time.Time{}}
}

// source is what counts as one: an IPv4 address, an IPv6 /64.
func source(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// recent drops what is older than span.
func recent(times []time.Time, now time.Time, span time.Duration) []time.Time {
	for len(times) > 0 && now.Sub(times[0]) > span {
		times = times[1:]
	}
	return times
}

// wait returns ErrThrottled for a source over its limit, and else after the
// account's delay. Loopback, where proxies and administrators are, never waits.
func (t *throttle) wait(ctx context.Context, a netip.Addr, account string) error {
	if a.IsLoopback() || !a.IsValid() {
		return nil
	}
	t.mu.Lock()
	now := t.now()
	fails := len(recent(t.sources[source(a)], now, time.Minute))
	guessed := len(recent(t.accounts[strings.ToLower(account)], now, accountSpan))
	t.mu.Unlock()
	if fails >= perMinute {
		return ErrThrottled
	}
	if guessed <= freeTries {
		return nil
	}
	timer := time.NewTimer(min(firstDelay<<min(guessed-freeTries-1, 4), longest))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *throttle) failed(a netip.Addr, account string) {
	if a.IsLoopback() || !a.IsValid() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.sources) > maxTracked {
		clear(t.sources)
	}
	if len(t.accounts) > maxTracked {
		clear(t.accounts)
	}
	now, account := t.now(), strings.ToLower(account)
	s := source(a)
	t.sources[s] = append(recent(t.sources[s], now, time.Minute), now)
	if list := recent(t.accounts[account], now, accountSpan); len(list) < 20 {
		t.accounts[account] = append(list, now)
	}
}

func (t *throttle) succeeded(account string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.accounts, strings.ToLower(account))
}
