package lmtpclient

import (
	"context"
	"sync"
	"time"
)

// pool keeps idle connections, the youngest first out, and bounds how many
// deliveries run at a time.
type pool struct {
	slots chan struct{}
	keep  time.Duration

	mu     sync.Mutex
	idle   []*connection
	closed bool
}

// acquire waits for leave to use a connection.
func (p *pool) acquire(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pool) release() { <-p.slots }

// get returns the connection that was used last; nil if none is idle.
func (p *pool) get() *connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	c := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	c.expire.Stop()
	return c
}

// put takes a connection back that is between transactions.
func (p *pool) put(c *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.wire.Close()
		return
	}
	c.expire = time.AfterFunc(p.keep, func() { p.drop(c) })
	p.idle = append(p.idle, c)
}

// drop closes a connection if it is still idle.
func (p *pool) drop(c *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.idle {
		if other == c {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			c.quit()
			return
		}
	}
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		c.expire.Stop()
		c.quit()
	}
	p.idle = nil
}
