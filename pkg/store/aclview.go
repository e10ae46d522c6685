package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// ErrOwner: the owner's rights cannot be changed; they are all, always.
var ErrOwner = errors.New("the owner has all rights, always")

// administered is where the list of a mailbox is that the user may administer.
func (n *Namespaces) administered(ctx context.Context, name string) (place, error) {
	p := n.route(name)
	if p.account == "" {
		p.account = n.user.Account()
	}
	return p, n.demand(ctx, p, RightAdmin)
}

// MyRights are the user's rights on a mailbox (RFC 4314 §3.5). ErrNoMailbox if
// there are none.
func (n *Namespaces) MyRights(ctx context.Context, name string) (Rights, error) {
	return n.at(ctx, n.route(name))
}

// ACL is a mailbox's list, with its owner, for who administers it (RFC 4314 §3.3).
func (n *Namespaces) ACL(ctx context.Context, name string) (ACL, error) {
	p, err := n.administered(ctx, name)
	if err != nil {
		return nil, err
	}
	l, err := n.sharer.ACL(ctx, p.account, p.name)
	if err == nil && !IsSharedAccount(p.account) {
		l = slices.Insert(l, 0, Grant{p.account, AllRights})
	}
	return l, err
}

// SetACL changes the rights of an identifier, as Identifier reads it (RFC 4314
// §3.1). ErrNoIdentifier, ErrOwner.
func (n *Namespaces) SetACL(ctx context.Context, name, identifier string, change RightsChange, r Rights) error {
	p, err := n.administered(ctx, name)
	if err != nil {
		return err
	}
	id, err := n.Identifier(ctx, identifier)
	if err != nil {
		return err
	}
	if id == p.account {
		if change == RightsAdd || change == RightsReplace && r == AllRights {
			return nil
		}
		return ErrOwner
	}
	if id == negative+p.account {
		return ErrOwner
	}
	return n.sharer.SetACL(ctx, p.account, p.name, id, change, r)
}

// DeleteACL removes an identifier from the list (RFC 4314 §3.2), also one that
// the directory does not know any more.
func (n *Namespaces) DeleteACL(ctx context.Context, name, identifier string) error {
	p, err := n.administered(ctx, name)
	if err != nil {
		return err
	}
	l, err := n.sharer.ACL(ctx, p.account, p.name)
	if err != nil {
		return err
	}
	id := identifier
	if !slices.ContainsFunc(l, func(g Grant) bool { return g.Identifier == id }) {
		if id, err = n.Identifier(ctx, identifier); err != nil {
			return fmt.Errorf("deleting %q: %w", identifier, err)
		}
	}
	if id == p.account {
		return ErrOwner
	}
	return n.sharer.SetACL(ctx, p.account, p.name, id, RightsReplace, 0)
}

// ListRights are the rights that an identifier always has on a mailbox, and
// those that it can be given, each by itself (RFC 4314 §3.4).
func (n *Namespaces) ListRights(ctx context.Context, name, identifier string) (always, optional Rights, err error) {
	p, err := n.administered(ctx, name)
	if err != nil {
		return 0, 0, err
	}
	id, err := n.Identifier(ctx, identifier)
	if err != nil {
		return 0, 0, err
	}
	if id == p.account {
		return AllRights, 0, nil
	}
	return 0, AllRights, nil
}
