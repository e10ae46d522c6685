package directory

import (
	"context"
	"errors"
	"fmt"
)

// Memberships tells what somebody is a member of.
type Memberships interface {
	// GroupsOf returns the groups that have the entry itself among their
	// members; not those that find it by a search, nor groups of groups.
	// ErrUnavailable.
	GroupsOf(ctx context.Context, member DN) ([]Group, error)
}

var _ Memberships = (*View)(nil)

// GroupsOf implements Memberships.
func (v *View) GroupsOf(ctx context.Context, member DN) ([]Group, error) {
	q := Query{Base: v.o.Base, Scope: ScopeSubtree, Filter: AllOf(Equal("objectClass", "inetMailGroup"), Equal("uniqueMember", member.String()))}
	var entries []Entry
	for e, err := range v.tree.Search(ctx, q) {
		switch {
		case err == nil:
			entries = append(entries, e)
		case errors.Is(err, ErrNotFound):
		default:
			return nil, fmt.Errorf("finding groups of %s: %w", member, outage(err))
		}
	}
	var groups []Group
	for _, e := range entries {
		d, err := v.domainAbove(ctx, e.DN)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("finding groups of %s: %w", member, err)
		}
		groups = append(groups, parseGroup(e, d))
	}
	return groups, nil
}
