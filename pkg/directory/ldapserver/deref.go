package ldapserver

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync"

	"mailsrv/pkg/directory"
)

// The bits of derefAliases (RFC 4511 §4.5.1.3).
const (
	derefInSearching = 1
	derefFindingBase = 2
)

const (
	// maxAliases bounds how many aliases one search follows, maxAliasChain how many
	// stand between a base and what it means.
	maxAliases    = 100
	maxAliasChain = 16
)

// aliases remembers whether the tree has any: most have none.
type aliases struct {
	mu      sync.Mutex
	known   bool
	version uint64
	any     bool
}

// hasAliases reports whether there are aliases below our naming contexts.
func (s *Server) hasAliases(ctx context.Context) (bool, error) {
	tree, ok := s.o.Tree.(directory.Versioned)
	var version uint64
	if ok {
		version = tree.Version()
		s.aliases.mu.Lock()
		known, found := s.aliases.known && s.aliases.version == version, s.aliases.any
		s.aliases.mu.Unlock()
		if known {
			return found, nil
		}
	}
	found := false
	for _, base := range s.o.NamingContexts {
		_, err := s.firstAlias(ctx, directory.Query{Base: base, Scope: directory.ScopeSubtree, Filter: directory.Equal("objectClass", "alias"), SizeLimit: 1})
		switch {
		case err == nil:
			found = true
		case !errors.Is(err, directory.ErrNotFound):
			return false, err
		}
	}
	if ok {
		s.aliases.mu.Lock()
		defer s.aliases.mu.Unlock()
		s.aliases.known, s.aliases.version, s.aliases.any = true, version, found
	}
	return found, nil
}

// firstAlias returns the first entry of a search; ErrNotFound.
func (s *Server) firstAlias(ctx context.Context, q directory.Query) (directory.Entry, error) {
	for e, err := range s.o.Tree.Search(ctx, q) {
		return e, err
	}
	return directory.Entry{}, directory.ErrNotFound
}

// meant is the entry that a base stands for: aliases in it, or above it, are
// replaced by what they name.
func (s *Server) meant(ctx context.Context, base directory.DN) (directory.DN, error) {
	for range maxAliasChain {
		replaced := false
		for at := base; !at.IsRoot() && !replaced; at = at.Parent() {
			e, err := s.firstAlias(ctx, directory.Query{Base: at, Scope: directory.ScopeBase, Attributes: []string{"objectClass", "aliasedObjectName"}})
			if errors.Is(err, directory.ErrNotFound) {
				continue
			}
			if err != nil {
				return base, err
			}
			if !e.HasClass("alias") {
				return base, nil // nothing above what exists, and is none, can be one: aliases are leaves
			}
			to, err := directory.ParseDN(e.Value("aliasedObjectName"))
			if err != nil {
				return base, refusal(directory.AliasProblem, "an alias names nothing")
			}
			below := base.RDNs[:len(base.RDNs)-len(at.RDNs)]
			base, replaced = directory.DN{RDNs: append(append([]directory.RDN{}, below...), to.RDNs...)}, true
		}
		if !replaced {
			return base, nil
		}
	}
	return base, refusal(directory.AliasDereferencingProblem, "aliases lead in a ring")
}

// found are the matches of a search, through aliases as the client wants them
// followed: an alias in the scope stands for the entry that it names, or for the
// subtree of it.
func (c *session) found(ctx context.Context, q directory.Query, with controls) iter.Seq2[directory.Entry, error] {
	tree := c.srv.o.Tree
	failed := func(err error) iter.Seq2[directory.Entry, error] {
		return func(yield func(directory.Entry, error) bool) { yield(directory.Entry{}, err) }
	}
	if with.deref == 0 {
		return tree.Search(ctx, q)
	}
	any, err := c.srv.hasAliases(ctx)
	if err != nil {
		return failed(err)
	}
	if any && with.deref&derefFindingBase != 0 {
		if q.Base, err = c.srv.meant(ctx, q.Base); err != nil {
			return failed(err)
		}
	}
	if !any || with.deref&derefInSearching == 0 || q.Scope == directory.ScopeBase {
		return tree.Search(ctx, q)
	}
	return func(yield func(directory.Entry, error) bool) {
		seen, queue := map[string]bool{}, []directory.Query{q}
		for n := 0; n < len(queue); n++ {
			for e, err := range tree.Search(ctx, notAlias(queue[n])) {
				name := strings.ToLower(e.DN.Normal())
				if n > 0 && errors.Is(err, directory.ErrNotFound) {
					break // an alias that names nothing
				}
				if err == nil && seen[name] {
					continue
				}
				if seen[name] = true; !yield(e, err) {
					return
				}
			}
			further, err := c.srv.aliasesIn(ctx, queue[n], &queue)
			if queue = further; err != nil {
				yield(directory.Entry{}, err)
				return
			}
		}
	}
}

// aliasesIn adds to the queue a search for each alias in the scope of q.
func (s *Server) aliasesIn(ctx context.Context, q directory.Query, queue *[]directory.Query) ([]directory.Query, error) {
	known := func(base directory.DN) bool {
		for _, other := range *queue {
			if other.Base.Equal(base) {
				return true
			}
		}
		return false
	}
	if q.Scope == directory.ScopeBase {
		return *queue, nil
	}
	all := directory.Query{Base: q.Base, Scope: q.Scope, Filter: directory.Equal("objectClass", "alias"), Attributes: []string{"aliasedObjectName"}, SizeLimit: maxAliases}
	for e, err := range s.o.Tree.Search(ctx, all) {
		if errors.Is(err, directory.ErrNotFound) {
			break
		}
		if err != nil {
			return *queue, err
		}
		to, err := s.meant(ctx, e.DN)
		if err != nil || known(to) {
			continue
		}
		if len(*queue) > maxAliases {
			return *queue, refusal(directory.AdminLimitExceeded, "too many aliases")
		}
		next := q
		if next.Base = to; q.Scope == directory.ScopeOne {
			next.Scope = directory.ScopeBase
		}
		*queue = append(*queue, next)
	}
	return *queue, nil
}

// notAlias is the search without aliases, which stand for others.
func notAlias(q directory.Query) directory.Query {
	q.Filter = directory.AllOf(q.Filter, directory.Filter{Kind: directory.Not, Children: []directory.Filter{directory.Equal("objectClass", "alias")}})
	return q
}
