package ldapserver

import (
	"net/netip"
	"sync"
)

// hosts are the addresses from which services and admins are bound.
type hosts struct {
	mu    sync.Mutex
	bound map[netip.Addr]int
}

func (h *hosts) trusted(a netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bound[a] > 0
}

// add notes that one more is bound from there, or with -1 one less.
func (h *hosts) add(a netip.Addr, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bound == nil {
		h.bound = map[netip.Addr]int{}
	}
	if h.bound[a] += n; h.bound[a] <= 0 {
		delete(h.bound, a)
	}
}

// identify makes who is bound known; nobody: the zero asker.
func (c *session) identify(as asker) {
	from := c.from.Addr().Unmap()
	if c.privileged {
		c.srv.hosts.add(from, -1)
	}
	if c.asker = as; c.privileged {
		c.srv.hosts.add(from, 1)
	}
}
