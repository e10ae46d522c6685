package store

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// Mailboxes implements Account: the user's own come first.
func (n *Namespaces) Mailboxes(ctx context.Context) ([]MailboxEntry, error) {
	own, err := n.own.Mailboxes(ctx)
	if err != nil {
		return nil, err
	}
	others, err := n.visible(ctx)
	if err != nil {
		return nil, err
	}
	subscribed := map[string]bool{}
	list := make([]MailboxEntry, 0, len(own)+len(others))
	for _, e := range own {
		if !e.NonExistent && reserved(e.Name) {
			continue // nothing of the user's can be named so
		}
		if e.NonExistent && n.route(e.Name).account != "" && slices.ContainsFunc(others, func(o MailboxEntry) bool { return o.Name == e.Name }) {
			subscribed[e.Name] = true
			continue
		}
		list = append(list, e)
	}
	for _, e := range others {
		e.Subscribed = subscribed[e.Name]
		list = append(list, e)
	}
	return list, nil
}

// visible lists the mailboxes that are not the user's own, with the levels above
// them, ascending.
func (n *Namespaces) visible(ctx context.Context) ([]MailboxEntry, error) {
	found := map[string]MailboxEntry{}
	granted, err := n.sharer.Granted(ctx, []string{n.user.Account(), Anyone, Anyone + "@" + n.user.Domain})
	if err != nil {
		return nil, err
	}
	for _, m := range granted {
		p := place{account: m.Account, prefix: OtherUsers + m.Account + "/", name: m.Name}
		switch {
		case m.Account == n.user.Account():
			continue
		case m.Account == sharedAccount+n.user.Domain:
			p.prefix = SharedTree
		case IsSharedAccount(m.Account):
			continue
		}
		r, err := n.rights(ctx, m.Account, m.ACL)
		show := r.Has(RightLookup)
		if errors.Is(err, ErrUnavailable) { // whoever is in no group still has a list
			show, err = n.wasListed(p.full()), nil
		}
		if err != nil {
			return nil, err
		}
		if show {
			found[p.full()] = MailboxEntry{Name: p.full(), NoSelect: m.NoSelect}
		}
	}
	if n.Admin {
		a, err := n.store.Account(ctx, sharedAccount+n.user.Domain)
		if err != nil {
			return nil, err
		}
		all, err := a.Mailboxes(ctx)
		if err != nil {
			return nil, err
		}
		for _, e := range all {
			found[SharedTree+e.Name] = MailboxEntry{Name: SharedTree + e.Name, NoSelect: e.NoSelect}
		}
	}
	n.noteListed(found)
	return withLevels(found), nil
}

// wasListed reports whether this session was shown a name: during an outage of
// the directory it still is, while its mailbox cannot be opened.
func (n *Namespaces) wasListed(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.listed[name]
}

func (n *Namespaces) noteListed(found map[string]MailboxEntry) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listed = make(map[string]bool, len(found))
	for name := range found {
		n.listed[name] = true
	}
}

// withLevels adds the levels above names, says which have children, and sorts.
func withLevels(found map[string]MailboxEntry) []MailboxEntry {
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	for _, name := range names {
		for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
			e, known := found[name[:i]]
			if known && e.HasChildren {
				break
			}
			if !known {
				e = MailboxEntry{Name: name[:i], NoSelect: true}
			}
			e.HasChildren = true
			found[name[:i]] = e
		}
	}
	list := make([]MailboxEntry, 0, len(found))
	for _, e := range found {
		list = append(list, e)
	}
	slices.SortFunc(list, func(x, y MailboxEntry) int {
		return strings.Compare(strings.ReplaceAll(x.Name, "/", "\x00"), strings.ReplaceAll(y.Name, "/", "\x00"))
	})
	return list
}
