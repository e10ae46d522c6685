// Package iprev looks whether a stranger's host has a name: one that the DNS
// gives its address and that leads back to it (iprev, RFC 8601 §2.7.3), and the
// one by which it calls itself in HELO. Neither is asked for by any standard, and
// honest hosts fail both: they are signals, which the admin may let count.
package iprev

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// Action is what a failure leads to.
type Action string

// The actions.
const (
	Off    Action = "off"    // nothing is asked
	Note   Action = "note"   // it stands in Authentication-Results
	Junk   Action = "junk"   // and the message is filed into Junk
	Refuse Action = "refuse" // the client is refused at MAIL FROM
)

// Resolver asks the DNS; *net.Resolver is one.
type Resolver interface {
	LookupAddr(ctx context.Context, addr string) ([]string, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options of New.
type Options struct {
	// Reverse is about the address's own name, Helo about the name in HELO.
	Reverse, Helo Action
	// Hostname is ours: nobody else's.
	Hostname string
	// Resolver is required.
	Resolver Resolver
	// Timeout bounds all questions about one client; 0: 5 seconds.
	Timeout time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Check asks. It may be used from many goroutines.
type Check struct {
	o Options

	mu    sync.Mutex
	known map[client]*list.Element // of *entry
	order *list.List               // most recently asked first
}

var _ mta.Check = (*Check)(nil)

const (
	// remembered is how many clients are, and for how long.
	remembered = 10_000
	memory     = 10 * time.Minute
	// maxNames bounds how many names of one address are looked at (RFC 7208 §5.5).
	maxNames = 10
)

type client struct {
	ip   netip.Addr
	helo string
}

type entry struct {
	client        client
	reverse, helo verdict
	until         time.Time
}

// verdict is a result with its reason.
type verdict struct{ result, reason string }

// New returns a Check.
func New(o Options) *Check {
	o.Timeout = cmp.Or(o.Timeout, 5*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Check{o: o, known: make(map[client]*list.Element), order: list.New()}
}

// Check implements mta.Check.
func (c *Check) Check(ctx context.Context, at mta.Stage, e *mta.Evidence) error {
	if at != mta.AtSender || !e.Stranger || e.Vouched {
		return nil
	}
	ip := e.Session.Client.Addr.Addr().Unmap().WithZone("")
	if !ip.IsValid() {
		return nil
	}
	found := c.look(ctx, client{ip, strings.ToLower(e.Session.Helo)})
	if c.o.Reverse != Off {
		e.Note(mta.Finding{Method: "iprev", Result: found.reverse.result, Reason: found.reverse.reason,
			Properties: []mta.Property{{Name: "policy.iprev", Value: ip.String()}}})
		if err := c.act(c.o.Reverse, found.reverse, [3]int{5, 7, 25}, e); err != nil {
			return err
		}
	}
	if c.o.Helo == Off {
		return nil
	}
	e.Note(mta.Finding{Method: "x-helo", Result: found.helo.result, Reason: found.helo.reason,
		Properties: []mta.Property{{Name: "smtp.helo", Value: e.Session.Helo}}})
	return c.act(c.o.Helo, found.helo, [3]int{5, 7, 1}, e)
}

// act does what the admin wants of a failure. The DNS' own troubles are never one.
func (c *Check) act(a Action, v verdict, enhanced [3]int, e *mta.Evidence) error {
	if v.result == "pass" || v.result == "temperror" {
		return nil
	}
	switch a {
	case Junk:
		e.Suspect(v.reason)
	case Refuse:
		return &mail.Status{Code: 550, Enhanced: enhanced, Text: v.reason}
	}
	return nil
}

// look asks about a client, or remembers.
func (c *Check) look(ctx context.Context, who client) *entry {
	now := c.o.Now()
	c.mu.Lock()
	if el, ok := c.known[who]; ok && now.Before(el.Value.(*entry).until) {
		c.order.MoveToFront(el)
		c.mu.Unlock()
		return el.Value.(*entry)
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	e := &entry{client: who, until: now.Add(memory)}
	var wg sync.WaitGroup
	if c.o.Reverse != Off {
		wg.Go(func() { e.reverse = c.reverse(ctx, who.ip) })
	}
	if c.o.Helo != Off {
		wg.Go(func() { e.helo = c.helo(ctx, who) })
	}
	wg.Wait()
	if e.reverse.result != "temperror" && e.helo.result != "temperror" {
		c.remember(e)
	}
	return e
}

func (c *Check) remember(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.known[e.client]; ok {
		c.order.Remove(el)
	}
	c.known[e.client] = c.order.PushFront(e)
	if c.order.Len() > remembered {
		oldest := c.order.Back()
		c.order.Remove(oldest)
		delete(c.known, oldest.Value.(*entry).client)
	}
}

// reverse is iprev: a name of the address that leads back to it.
func (c *Check) reverse(ctx context.Context, ip netip.Addr) verdict {
	names, err := c.o.Resolver.LookupAddr(ctx, ip.String())
	switch {
	case isNotFound(err), err == nil && len(names) == 0:
		return verdict{"permerror", "your address has no name"}
	case err != nil && len(names) == 0:
		return verdict{"temperror", "the DNS gave no answer about your address"}
	}
	trouble := false
	for _, name := range names[:min(len(names), maxNames)] {
		ok, err := c.leads(ctx, name, ip)
		if ok {
			return verdict{"pass", strings.TrimSuffix(name, ".")}
		}
		trouble = trouble || err != nil
	}
	if trouble {
		return verdict{"temperror", "the DNS gave no answer about the name of your address"}
	}
	return verdict{"fail", "the name of your address does not lead back to it"}
}

// helo judges what the client calls itself.
func (c *Check) helo(ctx context.Context, who client) verdict {
	if text, ok := strings.CutPrefix(who.helo, "["); ok {
		a, err := netip.ParseAddr(strings.TrimPrefix(strings.TrimSuffix(text, "]"), "ipv6:"))
		if err == nil && a.Unmap() == who.ip {
			return verdict{"pass", ""}
		}
		return verdict{"fail", "you call yourself by an address that is not yours"}
	}
	switch name := strings.TrimSuffix(who.helo, "."); {
	case strings.EqualFold(name, c.o.Hostname):
		return verdict{"fail", "you call yourself by our name"}
	case !strings.Contains(name, "."):
		return verdict{"fail", "you call yourself by no full name"}
	default:
		ok, err := c.leads(ctx, name, who.ip)
		switch {
		case ok:
			return verdict{"pass", ""}
		case err != nil:
			return verdict{"temperror", "the DNS gave no answer about the name that you call yourself by"}
		}
		return verdict{"fail", "the name that you call yourself by does not lead to you"}
	}
}

// leads reports whether a name has the address. An error is the DNS' own.
func (c *Check) leads(ctx context.Context, name string, ip netip.Addr) (bool, error) {
	network := "ip6"
	if ip.Is4() {
		network = "ip4"
	}
	addrs, err := c.o.Resolver.LookupNetIP(ctx, network, strings.TrimSuffix(name, ".")+".")
	if isNotFound(err) {
		return false, nil
	}
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Unmap() == ip }), err
}

func isNotFound(err error) bool {
	d, ok := errors.AsType[*net.DNSError](err)
	return ok && d.IsNotFound
}
