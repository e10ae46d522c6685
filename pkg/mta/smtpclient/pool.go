package smtpclient

import (
	"context"
	"sync"
	"time"
)

// Bounds of what is kept open between messages.
const (
	idleFor     = 5 * time.Second // hosts are not kept waiting for nothing
	idlePerHop  = 20
	idleInAll   = 200
	perSession  = 100 // messages: hosts that balance load like to see us anew
	sessionLife = 5 * time.Minute
)

// pool keeps sessions that took a message well for the next one to the same
// address under the same terms. A session that a policy on TLS protects is not
// kept: the policy may be another by then.
type pool struct {
	mu     sync.Mutex
	idle   map[terms][]*session
	count  int
	closed bool
	// spurned are the hosts that offered CHUNKING and then knew no BDAT.
	spurned map[string]bool
}

// maxSpurned bounds how many hosts are remembered; with more, all are forgotten.
const maxSpurned = 1000

// spurn notes that a host knows no BDAT, whatever it offers.
func (p *pool) spurn(host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spurned == nil || len(p.spurned) >= maxSpurned {
		p.spurned = make(map[string]bool)
	}
	p.spurned[host] = true
}

func (p *pool) spurns(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spurned[host]
}

// terms are what makes two hops one.
type terms struct {
	name, addr string
	security   Security
	username   string
}

func (h hop) terms() terms {
	t := terms{name: h.name, addr: h.addr, security: h.security}
	if h.auth != nil {
		t.username = h.auth.Username
	}
	return t
}

// take returns the idle session of a hop that was used last, bound to ctx; nil
// if there is none.
func (p *pool) take(ctx context.Context, h hop) *session {
	if h.protection != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for list := p.idle[h.terms()]; len(list) > 0; list = p.idle[h.terms()] {
		s := list[len(list)-1]
		p.remove(s)
		if s.expiry.Stop() {
			s.stop = context.AfterFunc(ctx, func() { s.c.Close() })
			s.begun = false
			return s
		}
	}
	return nil
}

// put keeps a session for the next message, or ends it.
func (p *pool) put(s *session) {
	s.messages++
	if s.broken || !s.clean || s.hop.protection != nil || s.messages >= perSession || time.Since(s.opened) > sessionLife || !s.stop() {
		s.close()
		return
	}
	p.mu.Lock()
	t := s.hop.terms()
	full := p.closed || p.count >= idleInAll || len(p.idle[t]) >= idlePerHop
	if !full {
		if p.idle == nil {
			p.idle = make(map[terms][]*session)
		}
		p.idle[t] = append(p.idle[t], s)
		p.count++
		s.expiry = time.AfterFunc(idleFor, func() { p.expire(s) })
	}
	p.mu.Unlock()
	if full {
		s.close()
	}
}

// remove takes a session out of the lists.
func (p *pool) remove(s *session) {
	t := s.hop.terms()
	list := p.idle[t]
	for i, other := range list {
		if other == s {
			list = append(list[:i], list[i+1:]...)
			p.count--
			break
		}
	}
	if len(list) == 0 {
		delete(p.idle, t)
	} else {
		p.idle[t] = list
	}
}

func (p *pool) expire(s *session) {
	p.mu.Lock()
	p.remove(s)
	p.mu.Unlock()
	s.close()
}

// close ends all idle sessions.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	var all []*session
	for _, list := range p.idle {
		for _, s := range list {
			if s.expiry.Stop() {
				all = append(all, s)
			}
		}
	}
	p.idle, p.count = nil, 0
	p.mu.Unlock()
	for _, s := range all {
		s.close()
	}
}
