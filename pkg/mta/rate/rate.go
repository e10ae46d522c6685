// Package rate bounds how much mail one source may hand in (hardening.md
// section 3): recipients of a login, so that a stolen password sends little
// before somebody looks, and messages of a stranger's network.
package rate

import (
	"container/list"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// Limits are the bounds; 0: none.
type Limits struct {
	// Hourly and Daily bound the recipients of one login.
	Hourly, Daily int
	// Minute bounds the messages of one stranger: an IPv4 address, an IPv6 /64.
	Minute int
}

// Options of New.
type Options struct {
	Limits Limits
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Check counts and refuses for a while. It may be used from many goroutines.
type Check struct {
	o Options

	mu      sync.Mutex
	sources map[string]*list.Element // of *source
	order   *list.List               // most recently seen first
}

var _ mta.Check = (*Check)(nil)

// maxSources bounds how many sources are remembered; the one seen longest ago
// is forgotten.
const maxSources = 50_000

// source is one login or network.
type source struct {
	name        string
	short, long window
	warned      time.Time // of half the daily limit
}

// window counts by the fixed span that now lies in, and adds the share of the
// span before that a sliding one would still see.
type window struct {
	begun     time.Time
	now, last float64
}

// add counts n and returns how much the last span holds; take it back with a
// negative n.
func (w *window) add(at time.Time, span time.Duration, n int) float64 {
	begun := at.Truncate(span)
	switch {
	case begun.Equal(w.begun):
	case begun.Sub(w.begun) == span:
		w.begun, w.last, w.now = begun, w.now, 0
	default:
		w.begun, w.last, w.now = begun, 0, 0
	}
	w.now = max(0, w.now+float64(n))
	return w.now + w.last*(1-float64(at.Sub(begun))/float64(span))
}

// New returns a Check.
func New(o Options) *Check {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Check{o: o, sources: make(map[string]*list.Element), order: list.New()}
}

// Check implements mta.Check.
func (c *Check) Check(_ context.Context, at mta.Stage, e *mta.Evidence) error {
	switch {
	case at == mta.AtRecipient && e.Session.Submission && e.Session.Identity != nil:
		return c.login(e.Session.Identity.User.Account())
	case at == mta.AtSender && e.Stranger && !e.Vouched && c.o.Limits.Minute > 0:
		return c.stranger(e.Session.Client.Addr.Addr().Unmap())
	}
	return nil
}

func (c *Check) login(account string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, l := c.o.Now(), c.o.Limits
	s := c.source("login " + account)
	hour, day := s.short.add(now, time.Hour, 1), s.long.add(now, 24*time.Hour, 1)
	over := l.Hourly > 0 && hour > float64(l.Hourly) || l.Daily > 0 && day > float64(l.Daily)
	if l.Daily > 0 && day > float64(l.Daily)/2 && now.Sub(s.warned) > 24*time.Hour {
		s.warned = now
		c.o.Log.Warn("login sends much", "account", account, "recipients", int(day), "limit", l.Daily)
	}
	if !over {
		return nil
	}
	s.short.add(now, time.Hour, -1)
	s.long.add(now, 24*time.Hour, -1)
	return &mail.Status{Code: 450, Enhanced: [3]int{4, 7, 1},
		Text: fmt.Sprintf("you have reached the limit of %d recipients an hour and %d a day, try again later", l.Hourly, l.Daily)}
}

func (c *Check) stranger(ip netip.Addr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.o.Now()
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.WithZone("").Prefix(bits)
	s := c.source("network " + p.String())
	if s.short.add(now, time.Minute, 1) <= float64(c.o.Limits.Minute) {
		return nil
	}
	s.short.add(now, time.Minute, -1)
	return mail.TryLater(7, 1, "too many messages from your address, try again in a minute", nil)
}

// source finds or makes the source of that name.
func (c *Check) source(name string) *source {
	if el, ok := c.sources[name]; ok {
		c.order.MoveToFront(el)
		return el.Value.(*source)
	}
	if c.order.Len() >= maxSources {
		oldest := c.order.Back()
		delete(c.sources, oldest.Value.(*source).name)
		c.order.Remove(oldest)
	}
	s := &source{name: name}
	c.sources[name] = c.order.PushFront(s)
	return s
}
