package auth

import (
	"container/list"
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// The throttle (hardening.md section 3): a source that failed often is refused
// for a while, and wrong passwords for an account that is being guessed are
// answered ever more slowly. The right password is never delayed for what others
// did, so nobody is locked out.
const (
	perMinute   = 10
	perDay      = 50
	freeTries   = 3 // failures of an account that cost no delay
	firstDelay  = 2 * time.Second
	longest     = 30 * time.Second
	accountSpan = time.Hour
	perAccount  = 20 // failures remembered: more do not make it slower
	day         = 24 * time.Hour
	maxTracked  = 10_000 // sources, and accounts, remembered
	maxWaiting  = 1_000  // answers delayed at once; further ones go out undelayed
)

type throttle struct {
	now     func() time.Time
	waiting chan struct{}

	mu       sync.Mutex
	sources  failures[netip.Prefix]
	accounts failures[string]
	// welcome is where somebody logged in from lately: many share an address,
	// and the mistakes of some do not shut out the others for a day.
	welcome failures[netip.Prefix]
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{
		now:      now,
		waiting:  make(chan struct{}, maxWaiting),
		sources:  newFailures[netip.Prefix](perDay),
		accounts: newFailures[string](perAccount),
		welcome:  newFailures[netip.Prefix](1),
	}
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

// check returns ErrThrottled for a source over its limits.
func (t *throttle) check(a netip.Addr) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, banned := t.banned(source(a), t.now()); banned {
		return ErrThrottled
	}
	return nil
}

// banned is until when a source is refused. The caller holds mu.
func (t *throttle) banned(s netip.Prefix, now time.Time) (until time.Time, banned bool) {
	if n, ok := t.sources.oldest(s, perMinute); ok && n.After(now.Add(-time.Minute)) {
		until = n.Add(time.Minute)
	}
	if n, ok := t.sources.oldest(s, perDay); ok && n.After(now.Add(-day)) && t.welcome.since(s, now.Add(-day)) == 0 {
		until = n.Add(day)
	}
	return until, !until.IsZero()
}

// failed counts a failure, and waits before it is answered, but not beyond ctx.
func (t *throttle) failed(ctx context.Context, a netip.Addr, account string) {
	account = strings.ToLower(account)
	t.mu.Lock()
	now := t.now()
	guessed := t.accounts.since(account, now.Add(-accountSpan))
	t.sources.add(source(a), now)
	t.accounts.add(account, now)
	t.mu.Unlock()
	if guessed < freeTries {
		return
	}
	select {
	case t.waiting <- struct{}{}:
		defer func() { <-t.waiting }()
	default:
		return
	}
	timer := time.NewTimer(min(firstDelay<<min(guessed-freeTries, 4), longest))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (t *throttle) succeeded(a netip.Addr, account string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.welcome.add(source(a), t.now())
	t.accounts.forget(strings.ToLower(account))
}

// failures remembers when each key failed last: at most keep times a key, and
// the maxTracked keys that failed most recently.
type failures[K comparable] struct {
	keep  int
	order *list.List // of *record[K], the latest failure first
	byKey map[K]*list.Element
}

type record[K comparable] struct {
	key   K
	times []time.Time // oldest first
}

func newFailures[K comparable](keep int) failures[K] {
	return failures[K]{keep: keep, order: list.New(), byKey: map[K]*list.Element{}}
}

// since counts the failures of k after t.
func (f *failures[K]) since(k K, t time.Time) (n int) {
	e, ok := f.byKey[k]
	if !ok {
		return 0
	}
	times := e.Value.(*record[K]).times
	for n < len(times) && times[len(times)-1-n].After(t) {
		n++
	}
	return n
}

// oldest is when the nth last failure of k was.
func (f *failures[K]) oldest(k K, n int) (time.Time, bool) {
	e, ok := f.byKey[k]
	if !ok || len(e.Value.(*record[K]).times) < n {
		return time.Time{}, false
	}
	times := e.Value.(*record[K]).times
	return times[len(times)-n], true
}

func (f *failures[K]) add(k K, now time.Time) {
	e, ok := f.byKey[k]
	if !ok {
		if f.order.Len() >= maxTracked {
			f.forget(f.order.Back().Value.(*record[K]).key)
		}
		e = f.order.PushFront(&record[K]{key: k})
		f.byKey[k] = e
	}
	f.order.MoveToFront(e)
	r := e.Value.(*record[K])
	if len(r.times) == f.keep {
		r.times = append(r.times[:0], r.times[1:]...)
	}
	r.times = append(r.times, now)
}

func (f *failures[K]) forget(k K) {
	if e, ok := f.byKey[k]; ok {
		f.order.Remove(e)
		delete(f.byKey, k)
	}
}
