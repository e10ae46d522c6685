// Package dnscache remembers for some seconds what the DNS said, for the checks
// that ask the same of each message of a sender: SPF, DKIM, ARC, DMARC.
//
// It is no resolver and knows no times to live: what it holds is younger than
// any that matters. It remembers records, and that there are none; an answer
// that failed is asked for again. Where mail is sent to is not asked of it.
package dnscache

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"
)

// Resolver asks the DNS; *net.Resolver is one.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

// Cache is a Resolver before another. It may be used from many goroutines.
type Cache struct {
	next Resolver
	keep time.Duration
	most int

	mu      sync.Mutex
	answers map[question]answer
	// older are the answers of the generation before: when answers is full it
	// takes their place.
	older map[question]answer
}

var _ Resolver = (*Cache)(nil)

type question struct{ kind, name string }

type answer struct {
	records any
	err     error // nil, or not found
	until   time.Time
}

// New returns a Cache before next that remembers an answer for keep (0: 30 s),
// and up to most of them, twice (0: 10,000).
func New(next Resolver, keep time.Duration, most int) *Cache {
	return &Cache{next: next, keep: cmp.Or(keep, 30*time.Second), most: cmp.Or(most, 10_000), answers: make(map[question]answer)}
}

// LookupTXT implements Resolver.
func (c *Cache) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return ask(ctx, c, question{"TXT", name}, c.next.LookupTXT)
}

// LookupMX implements Resolver.
func (c *Cache) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	return ask(ctx, c, question{"MX", name}, c.next.LookupMX)
}

// LookupIPAddr implements Resolver.
func (c *Cache) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	return ask(ctx, c, question{"IP", host}, c.next.LookupIPAddr)
}

// LookupAddr implements Resolver.
func (c *Cache) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	return ask(ctx, c, question{"PTR", addr}, c.next.LookupAddr)
}

func ask[T any](ctx context.Context, c *Cache, q question, next func(context.Context, string) ([]T, error)) ([]T, error) {
	if a, ok := c.find(q, time.Now()); ok {
		return slices.Clone(a.records.([]T)), a.err
	}
	records, err := next(ctx, q.name)
	if d, ok := errors.AsType[*net.DNSError](err); err == nil || ok && d.IsNotFound && !d.IsTemporary && !d.IsTimeout {
		c.put(q, answer{slices.Clone(records), err, time.Now().Add(c.keep)})
	}
	return records, err
}

func (c *Cache) find(q question, now time.Time) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.answers[q]
	if !ok {
		a, ok = c.older[q]
	}
	return a, ok && now.Before(a.until)
}

func (c *Cache) put(q question, a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answers) >= c.most {
		c.older, c.answers = c.answers, make(map[question]answer)
	}
	c.answers[q] = a
}
