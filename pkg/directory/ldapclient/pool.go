package ldapclient

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// pool lends connections, so many at once and each to one borrower.
type pool struct {
	dial  func(context.Context) (*conn, error)
	slots chan struct{}

	mu     sync.Mutex
	idle   []*conn // the last used is the last, and the next
	closed bool
}

func newPool(size int, dial func(context.Context) (*conn, error)) *pool {
	return &pool{dial: dial, slots: make(chan struct{}, size)}
}

// get waits for a turn and returns a connection that was alive just now, or a
// fresh one if fresh is set. ErrUnavailable if there is none at the deadline,
// or when ctx ends.
func (p *pool) get(ctx context.Context, deadline time.Time, fresh bool) (*conn, error) {
	select {
	case p.slots <- struct{}{}:
	default:
		if err := p.queue(ctx, deadline); err != nil {
			return nil, outage(ctx, err)
		}
	}
	k, err := p.take(fresh)
	if err == nil && k == nil {
		ctx, cancel := context.WithDeadline(ctx, deadline)
		k, err = p.dial(ctx)
		cancel()
	}
	if err != nil {
		<-p.slots
		return nil, outage(ctx, err)
	}
	return k, nil
}

// queue waits for a turn.
func (p *pool) queue(ctx context.Context, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for a connection: %w", ctx.Err())
	}
}

// take returns an idle connection that is alive; nil: one must be dialed.
func (p *pool) take(fresh bool) (*conn, error) {
	for {
		k, err := p.pop()
		if err != nil || k == nil {
			return nil, err
		}
		if !fresh && k.alive() {
			k.reused = true
			return k, nil
		}
		k.close()
	}
}

func (p *pool) pop() (*conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	n := len(p.idle)
	if n == 0 {
		return nil, nil
	}
	k := p.idle[n-1]
	p.idle = p.idle[:n-1]
	return k, nil
}

// put gives a connection back; one that broke is closed, and if that was after
// long use the idle ones, which probably share its fate, with it.
func (p *pool) put(k *conn) {
	defer func() { <-p.slots }()
	p.mu.Lock()
	if k.err == nil && !p.closed {
		p.idle = append(p.idle, k)
		p.mu.Unlock()
		return
	}
	var doomed []*conn
	if k.err != nil && k.reused {
		doomed, p.idle = p.idle, nil
	}
	p.mu.Unlock()
	k.close()
	for _, other := range doomed {
		other.close()
	}
}

func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, k := range idle {
		k.close()
	}
}
