// Package rate bounds how much mail one source may hand in (hardening.md
// section 3): recipients of a login, so that a stolen password sends little
// before somebody looks, and messages of a stranger's network and reverse-path.
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
	// Sender bounds the messages a minute of strangers with one reverse-path.
	Sender int
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

	mu sync.Mutex
	// logins are apart, so that no flood of strangers makes us forget one.
	logins, strangers table
}

// table remembers sources.
type table struct {
	sources map[string]*list.Element // of *source
	order   *list.List               // most recently seen first
}

func newTable() table { return table{make(map[string]*list.Element), list.New()} }

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
	return &Check{o: o, logins: newTable(), strangers: newTable()}
}

// Check implements mta.Check.
func (c *Check) Check(_ context.Context, at mta.Stage, e *mta.Evidence) error {
	switch {
	case at == mta.AtRecipient && e.Session.Submission && e.Session.Identity != nil:
		return c.login(e.Session.Identity.User.Account())
	case at == mta.AtSender && e.Stranger && !e.Vouched:
		return c.stranger(e.Session.Client.Addr.Addr().Unmap(), e.Sender.From)
	}
	return nil
}

func (c *Check) login(account string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, l := c.o.Now(), c.o.Limits
	s := c.logins.source(account)
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

// stranger counts by network and, for what is no bounce, by reverse-path.
func (c *Check) stranger(ip netip.Addr, from mail.Address) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.minute("network "+networkOf(ip), c.o.Limits.Minute) {
		return mail.TryLater(7, 1, "too many messages from your address, try again in a minute", nil)
	}
	if !from.IsNull() && !c.minute("sender "+from.Key().String(), c.o.Limits.Sender) {
		return mail.TryLater(7, 1, "too many messages from this sender, try again in a minute", nil)
	}
	return nil
}

// minute counts one message of a source, and reports whether it may pass.
func (c *Check) minute(name string, limit int) bool {
	if limit <= 0 {
		return true
	}
	now := c.o.Now()
	s := c.strangers.source(name)
	if s.short.add(now, time.Minute, 1) <= float64(limit) {
		return true
	}
	s.short.add(now, time.Minute, -1)
	return false
}

// networkOf is an IPv4 address, or an IPv6 /64.
func networkOf(ip netip.Addr) string {
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.WithZone("").Prefix(bits)
	return p.String()
}

// source finds or makes the source of that name.
func (t *table) source(name string) *source {
	if el, ok := t.sources[name]; ok {
		t.order.MoveToFront(el)
		return el.Value.(*source)
	}
	if t.order.Len() >= maxSources {
		oldest := t.order.Back()
		delete(t.sources, oldest.Value.(*source).name)
		t.order.Remove(oldest)
	}
	s := &source{name: name}
	t.sources[name] = t.order.PushFront(s)
	return s
}
