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
	GroupsOf(ctx context.Context, member DN) ([]DN, error)
}

var _ Memberships = (*View)(nil)

// GroupsOf implements Memberships.
func (v *View) GroupsOf(ctx context.Context, member DN) (groups []DN, err error) {
	is, members := Equal("objectClass", "inetMailGroup"), "uniqueMember"
	if m := v.o.Mapping; m != nil {
		if m.MembersAre != MemberDN || m.Members == "" {
			return nil, nil // these groups find their members by a search
		}
		is, members = m.Groups, m.Members
	}
	q := Query{Base: v.o.Base, Scope: ScopeSubtree, Filter: AllOf(is, Equal(members, member.String()))}
	for e, err := range v.tree.Search(ctx, q) {
		switch {
		case err == nil:
			groups = append(groups, e.DN)
		case errors.Is(err, ErrNotFound):
		default:
			return nil, fmt.Errorf("finding groups of %s: %w", member, outage(err))
		}
	}
	return groups, nil
}
