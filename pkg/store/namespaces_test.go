package store

import (
	"context"
	"errors"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// lent is a Sharer with one mailbox, which a group sees.
type lent struct{ Sharer }

func (lent) ACL(context.Context, string, string) (ACL, error) {
	return ACL{{GroupPrefix + "g@x", RightLookup | RightRead}}, nil
}

func (l lent) Granted(ctx context.Context, _ []string) ([]SharedMailbox, error) {
	acl, err := l.ACL(ctx, "", "")
	return []SharedMailbox{{Account: "a@x", MailboxEntry: MailboxEntry{Name: "Work"}, ACL: acl}}, err
}

// one is a Directory with a group in which everybody is.
type one struct {
	directory.Directory
	down bool
}

func (d *one) Recipient(context.Context, mail.Address) (directory.Recipient, error) {
	if d.down {
		return directory.Recipient{}, directory.ErrUnavailable
	}
	return directory.Recipient{Group: &directory.Group{DN: directory.MustParseDN("cn=g,o=x")}}, nil
}

func (d *one) GroupsOf(context.Context, directory.DN) ([]directory.DN, error) {
	return []directory.DN{directory.MustParseDN("cn=g,o=x")}, nil
}

// TestListDuringOutage: what was listed stays in the list, and cannot be opened.
func TestListDuringOutage(t *testing.T) {
	d := &one{}
	u := directory.User{DN: directory.MustParseDN("uid=b,o=x"), UID: "b", Domain: "x"}
	n := newNamespaces(nil, lent{}, d, u, nil, NoQuota())
	check := func(n *Namespaces, want int) {
		t.Helper()
		if list, err := n.visible(t.Context()); err != nil || len(list) != want {
			t.Errorf("%v %v, want %d with the levels above", list, err, want)
		}
	}
	check(n, 3)
	d.down = true
	clear(n.groups) // the answers have aged
	check(n, 3)
	check(n, 3)
	if _, err := n.at(t.Context(), n.route("Other Users/a@x/Work")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("rights during an outage: %v", err)
	}
	check(newNamespaces(nil, lent{}, d, u, nil, NoQuota()), 0)
}
