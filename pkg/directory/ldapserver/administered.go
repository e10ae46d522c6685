package ldapserver

import (
	"context"
	"sync"

	"mailsrv/pkg/directory"
)

// maxAdministered bounds how many askers' domains are remembered.
const maxAdministered = 10_000

// administered remembers which domains who administers, until the tree changes.
type administered struct {
	mu      sync.Mutex
	version uint64
	of      map[string][]directory.DN
}

// domainsOf are the nodes of the domains that dn administers. The slice is shared.
func (s *Server) domainsOf(ctx context.Context, dn directory.DN) ([]directory.DN, error) {
	ask := func() (all []directory.DN, err error) {
		for _, base := range s.o.NamingContexts {
			nodes, err := directory.AdministeredBy(ctx, s.o.Tree, base, dn)
			if err != nil {
				return nil, err
			}
			all = append(all, nodes...)
		}
		return all, nil
	}
	tree, ok := s.o.Tree.(directory.Versioned)
	if !ok {
		return ask()
	}
	m, key, version := &s.administered, dn.Normal(), tree.Version()
	m.mu.Lock()
	if m.of == nil || m.version != version || len(m.of) >= maxAdministered {
		m.of, m.version = map[string][]directory.DN{}, version
	}
	nodes, known := m.of[key]
	m.mu.Unlock()
	if known {
		return nodes, nil
	}
	nodes, err := ask()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.version == version { // else it may be from before a change
		m.of[key] = nodes
	}
	return nodes, nil
}
