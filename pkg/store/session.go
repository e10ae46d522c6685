package store

import (
	"context"
	"fmt"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
)

// Session is what a store grants a client that logged in: the user's own
// account under the user's own limits.
type Session struct {
	User directory.User
	// Account is all that the user can name: a *Namespaces if the engine is a Sharer.
	Account Account
	Quota   Quota
	// Sharing is the Account; nil if the engine is no Sharer.
	Sharing *Namespaces
}

// Begin opens the account of login for client. The store asks the directory
// itself and believes no front about status, service access or quota (use
// case 1, steps 5 and 6). Errors match auth.ErrRefused, directory.ErrNotFound,
// directory.ErrUnavailable, or are the engine's.
func Begin(ctx context.Context, s Store, d directory.Directory, login string, client auth.Client, defaults Quota) (Session, error) {
	u, err := d.User(ctx, login)
	if err != nil {
		return Session{}, fmt.Errorf("asking the directory about %q: %w", login, err)
	}
	if !u.Status.MayLogin() {
		return Session{}, fmt.Errorf("%w: status of %s is %s", auth.ErrRefused, u.DN, u.Status)
	}
	if !u.Allows(client.Service, client.Addr.Addr()) {
		return Session{}, fmt.Errorf("%w: %s has no access to %s from %s", auth.ErrRefused, u.DN, client.Service, client.Addr.Addr())
	}
	if IsSharedAccount(u.Account()) {
		return Session{}, fmt.Errorf("%w: %s would own what is the domain's", auth.ErrRefused, u.DN)
	}
	a, err := s.Account(ctx, u.Account())
	if err != nil {
		return Session{}, fmt.Errorf("opening account %s: %w", u.Account(), err)
	}
	granted := Session{User: u, Account: a, Quota: QuotaOf(u, defaults)}
	if sharer, ok := s.(Sharer); ok {
		granted.Sharing = newNamespaces(s, sharer, d, u, a, defaults)
		granted.Account = granted.Sharing
	}
	return granted, nil
}

// QuotaOf is the user's quota, with the system's defaults where the entry has none.
func QuotaOf(u directory.User, defaults Quota) Quota {
	q := Quota{Bytes: u.Quota, Messages: u.MessageQuota, Reject: defaults.Reject}
	if q.Bytes == directory.QuotaDefault {
		q.Bytes = defaults.Bytes
	}
	if q.Messages == directory.QuotaDefault {
		q.Messages = defaults.Messages
	}
	return q
}
