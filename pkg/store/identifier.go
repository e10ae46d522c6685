package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// ErrNoIdentifier: an identifier is neither a user nor a group of ours.
var ErrNoIdentifier = errors.New("no such user or group")

// is reports whether an identifier, without its "-", is the user.
func (n *Namespaces) is(ctx context.Context, id string) (bool, error) {
	switch group, isGroup := strings.CutPrefix(id, GroupPrefix); {
	case isGroup:
		return n.memberOf(ctx, strings.ToLower(group))
	case id == Anyone, id == Anyone+"@"+n.user.Domain:
		return true, nil
	}
	return id == n.user.Account(), nil
}

// memberOf reports whether the user is in the group of that address: by
// aclGroupAddr, as a member of it or of a group in it, or found by its search.
func (n *Namespaces) memberOf(ctx context.Context, address string) (bool, error) {
	if slices.Contains(n.user.ACLGroups, address) {
		return true, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if a, ok := n.groups[address]; ok && time.Since(a.at) < answerAge {
		return a.value, nil
	}
	is, err := n.askMembership(ctx, address)
	if err != nil {
		return false, fmt.Errorf("asking whether %s is in %s: %w: %w", n.user.Account(), address, ErrUnavailable, err)
	}
	n.groups[address] = answer[bool]{is, time.Now()}
	return is, nil
}

func (n *Namespaces) askMembership(ctx context.Context, address string) (bool, error) {
	a, err := mail.ParseAddress(address)
	if err != nil {
		return false, nil
	}
	who, err := n.dir.Recipient(ctx, a)
	if errors.Is(err, directory.ErrNotFound) || err == nil && who.Group == nil {
		return false, nil // it is gone
	}
	if err != nil {
		return false, err
	}
	above, err := n.groupsAbove(ctx)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(above, who.Group.DN.Equal) {
		return true, nil
	}
	lister, ok := n.dir.(directory.Lister)
	if !ok {
		return false, nil
	}
	for _, u := range who.Group.Searches {
		found, err := lister.List(ctx, u)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(found, func(r directory.Recipient) bool { return r.User != nil && r.User.DN.Equal(n.user.DN) }) {
			return true, nil
		}
	}
	return false, nil
}

// maxGroups bounds the groups that a user is found to be in.
const maxGroups = 1000

// groupsAbove returns the groups that have the user, or a group with the user,
// among their members.
func (n *Namespaces) groupsAbove(ctx context.Context) ([]directory.DN, error) {
	if !n.above.at.IsZero() && time.Since(n.above.at) < answerAge {
		return n.above.value, nil
	}
	m, ok := n.dir.(directory.Memberships)
	if !ok {
		return nil, nil
	}
	var found []directory.DN
	for next := []directory.DN{n.user.DN}; len(next) > 0 && len(found) < maxGroups; next = next[1:] {
		groups, err := m.GroupsOf(ctx, next[0])
		if err != nil {
			return nil, err
		}
		for _, g := range groups {
			if !slices.ContainsFunc(found, g.Equal) {
				found, next = append(found, g), append(next, g)
			}
		}
	}
	n.above = answer[[]directory.DN]{found, time.Now()}
	return found, nil
}

// Identifier brings what somebody wrote into the form in which lists keep it: an
// account for a user's login or address, "group=" and the address for a group,
// "anyone", "anyone@domain", each perhaps after "-". ErrNoIdentifier.
func (n *Namespaces) Identifier(ctx context.Context, text string) (string, error) {
	id, minus := strings.CutPrefix(text, negative)
	id = strings.ToLower(id)
	group, isGroup := strings.CutPrefix(id, GroupPrefix)
	domain, wholeDomain := strings.CutPrefix(id, Anyone+"@")
	var err error
	switch {
	case id == Anyone:
	case wholeDomain:
		var d directory.Domain
		d, err = n.dir.Domain(ctx, domain)
		id = Anyone + "@" + d.Name
	case isGroup:
		id, err = n.groupIdentifier(ctx, group)
	default:
		var u directory.User
		if u, err = n.dir.User(ctx, id); err == nil {
			if id = u.Account(); strings.HasPrefix(id, negative) || strings.HasPrefix(id, GroupPrefix) {
				err = directory.ErrNotFound // in a list it would be another
			}
		} else if errors.Is(err, directory.ErrNotFound) {
			id, err = n.groupIdentifier(ctx, id)
		}
	}
	if errors.Is(err, directory.ErrNotFound) || errors.Is(err, directory.ErrAmbiguous) {
		return "", ErrNoIdentifier
	}
	if err != nil {
		return "", fmt.Errorf("asking the directory about %q: %w: %w", text, ErrUnavailable, err)
	}
	if minus {
		id = negative + id
	}
	return id, nil
}

func (n *Namespaces) groupIdentifier(ctx context.Context, address string) (string, error) {
	a, err := mail.ParseAddress(address)
	if err != nil {
		return "", directory.ErrNotFound
	}
	who, err := n.dir.Recipient(ctx, a)
	if err == nil && who.Group == nil {
		err = directory.ErrNotFound
	}
	if err != nil {
		return "", err
	}
	return GroupPrefix + strings.ToLower(who.Group.Mail.String()), nil
}

// quotaOf is the quota of the account that owns a mailbox. What is shared by
// nobody in particular has the store's default.
func (n *Namespaces) quotaOf(ctx context.Context, account string) (Quota, error) {
	if IsSharedAccount(account) {
		return n.defaults, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if a, ok := n.quotas[account]; ok && time.Since(a.at) < answerAge {
		return a.value, nil
	}
	u, err := n.dir.User(ctx, account)
	if errors.Is(err, directory.ErrNotFound) {
		return Quota{}, nil // nothing more for who is gone
	}
	if err != nil {
		return Quota{}, fmt.Errorf("asking for the quota of %s: %w: %w", account, ErrUnavailable, err)
	}
	q := QuotaOf(u, n.defaults)
	n.quotas[account] = answer[Quota]{q, time.Now()}
	return q, nil
}
