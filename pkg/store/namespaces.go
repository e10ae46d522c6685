package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"mailsrv/pkg/directory"
)

// The namespaces beside a user's own mailboxes, which have no prefix (RFC 2342).
const (
	// OtherUsers is before the account and the name of a mailbox that another
	// user shares: "Other Users/bob@example.com/Projects".
	OtherUsers = "Other Users/"
	// SharedTree is before the name of a mailbox of the user's domain.
	SharedTree = "Shared/"
	// sharedAccount and the domain are the account that owns SharedTree. No
	// user's account can be called so: schema.md forbids "+" in a uid.
	sharedAccount = "+shared@"
)

// IsSharedAccount reports whether an account is no user's, but the shared tree
// of a domain. It has no INBOX.
func IsSharedAccount(name string) bool { return strings.HasPrefix(name, sharedAccount) }

// Namespaces is all that one user can name, as an Account: the user's own
// mailboxes, those that others share, and those of the domain. It is the one
// place where rights are checked (RFC 4314 §4): at each use, so that what is
// taken away is gone for sessions that run. Methods may be called from many
// goroutines.
type Namespaces struct {
	store    Store
	sharer   Sharer
	dir      directory.Directory
	user     directory.User
	own      Account
	defaults Quota
	// Admin: the user has all rights in SharedTree. It is set before first use.
	Admin bool

	mu     sync.Mutex
	groups map[string]answer[bool] // by lower-case address
	above  answer[[]directory.DN]
	quotas map[string]answer[Quota]
	listed map[string]bool // shown by the last list
}

var _ Account = (*Namespaces)(nil)

// answer is what the directory said, good for answerAge.
type answer[T any] struct {
	value T
	at    time.Time
}

// answerAge is how long a membership or a quota of somebody else is believed.
const answerAge = time.Minute

func newNamespaces(s Store, sharer Sharer, d directory.Directory, u directory.User, own Account, defaults Quota) *Namespaces {
	return &Namespaces{store: s, sharer: sharer, dir: d, user: u, own: own, defaults: defaults,
		groups: map[string]answer[bool]{}, quotas: map[string]answer[Quota]{}}
}

// place is where a name leads.
type place struct {
	// account owns the mailbox; empty: the user does.
	account string
	// prefix is before the owner's name for it. name may be empty: the prefix
	// alone is no mailbox.
	prefix, name string
}

func (p place) full() string { return p.prefix + p.name }

// route says where a name leads, whether or not something is there.
func (n *Namespaces) route(name string) place {
	switch first, rest, _ := strings.Cut(name, "/"); first + "/" {
	case SharedTree:
		return place{account: sharedAccount + n.user.Domain, prefix: SharedTree, name: rest}
	case OtherUsers:
		account, inner, _ := strings.Cut(rest, "/")
		if account == n.user.Account() || IsSharedAccount(account) || account == "" {
			inner, account = "", "nobody" // own mailboxes have one name
		}
		return place{account: account, prefix: OtherUsers + account + "/", name: inner}
	}
	return place{name: name}
}

// reserved reports whether a name belongs to a namespace that is not the user's own.
func reserved(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return first+"/" == OtherUsers || first+"/" == SharedTree
}

// rights are the user's on a mailbox of an account with that list.
func (n *Namespaces) rights(ctx context.Context, account string, l ACL) (Rights, error) {
	if account == "" || account == n.user.Account() || n.Admin && account == sharedAccount+n.user.Domain {
		return AllRights, nil
	}
	return l.Rights(func(id string) (bool, error) { return n.is(ctx, id) })
}

// at returns the rights at a place. ErrNoMailbox if nothing is there or the
// user has none.
func (n *Namespaces) at(ctx context.Context, p place) (Rights, error) {
	if p.account == "" {
		_, err := n.own.Open(ctx, p.name)
		return AllRights, err
	}
	if p.name == "" {
		return 0, ErrNoMailbox
	}
	l, err := n.sharer.ACL(ctx, p.account, p.name)
	if err != nil {
		return 0, err
	}
	r, err := n.rights(ctx, p.account, l)
	if err == nil && r == 0 {
		err = ErrNoMailbox
	}
	return r, err
}

// lacking is the error for who has other rights than are needed.
func lacking(have Rights) error {
	if have.Has(RightLookup) {
		return ErrNoRight
	}
	return ErrNoMailbox
}

// demand returns an error unless the user has those rights at a place.
func (n *Namespaces) demand(ctx context.Context, p place, need Rights) error {
	have, err := n.at(ctx, p)
	if err == nil && !have.Has(need) {
		err = lacking(have)
	}
	return err
}

// Name implements Account.
func (n *Namespaces) Name() string { return n.own.Name() }

// Usage implements Account: the user's own.
func (n *Namespaces) Usage(ctx context.Context) (Usage, error) { return n.own.Usage(ctx) }

// Open implements Account. A mailbox on which the user has any right can be
// opened; each method then wants the right that it needs.
func (n *Namespaces) Open(ctx context.Context, name string) (Mailbox, error) {
	p := n.route(name)
	if p.account == "" {
		m, err := n.own.Open(ctx, name)
		if err != nil {
			return nil, err
		}
		return &ownBox{Mailbox: m, n: n}, nil
	}
	return n.openShared(ctx, p)
}

func (n *Namespaces) openShared(ctx context.Context, p place) (*guardedBox, error) {
	if _, err := n.at(ctx, p); err != nil {
		return nil, err
	}
	box, err := n.sharer.OpenAs(ctx, p.account, p.name, n.own.Name())
	if err != nil {
		return nil, err
	}
	return &guardedBox{box: box, n: n, place: p}, nil
}

// Create implements Account. In another's tree it needs the right at the level
// above that is there; the new mailbox has that one's list.
func (n *Namespaces) Create(ctx context.Context, name, use string) error {
	p := n.route(name)
	if p.account == "" {
		return n.own.Create(ctx, name, use)
	}
	if use != "" || p.name == "" {
		return ErrBadName
	}
	a, err := n.mayCreate(ctx, p)
	if err != nil {
		return err
	}
	return a.Create(ctx, p.name, "")
}

// mayCreate returns the account of a place if the user may create there.
func (n *Namespaces) mayCreate(ctx context.Context, p place) (Account, error) {
	if have, err := n.rights(ctx, p.account, nil); err == nil && have.Has(RightCreate) { // an admin
		return n.store.Account(ctx, p.account)
	}
	for above := p.name; ; {
		i := strings.LastIndexByte(above, '/')
		if i < 0 {
			return nil, ErrNoRight
		}
		above = above[:i]
		l, err := n.sharer.ACL(ctx, p.account, above)
		if errors.Is(err, ErrNoMailbox) {
			continue
		}
		if err != nil {
			return nil, err
		}
		have, err := n.rights(ctx, p.account, l)
		if err != nil {
			return nil, err
		}
		if !have.Has(RightCreate) {
			return nil, ErrNoRight
		}
		return n.store.Account(ctx, p.account)
	}
}

// Delete implements Account.
func (n *Namespaces) Delete(ctx context.Context, name string) error {
	p := n.route(name)
	if p.account == "" {
		return n.own.Delete(ctx, name)
	}
	if err := n.demand(ctx, p, RightDelete); err != nil {
		return err
	}
	a, err := n.store.Account(ctx, p.account)
	if err != nil {
		return err
	}
	return a.Delete(ctx, p.name)
}

// Rename implements Account. A mailbox stays in its account; in another's it
// needs the right to delete it and all below it, and to create the new one.
func (n *Namespaces) Rename(ctx context.Context, from, to string) error {
	p, q := n.route(from), n.route(to)
	if p.account == "" && q.account == "" {
		return n.own.Rename(ctx, from, to)
	}
	if p.account == "" || p.account != q.account || q.name == "" {
		return fmt.Errorf("%w: a mailbox cannot move to another account", ErrBadName)
	}
	if err := n.demand(ctx, p, RightDelete); err != nil {
		return err
	}
	a, err := n.mayCreate(ctx, q)
	if err != nil {
		return err
	}
	list, err := a.Mailboxes(ctx)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.NonExistent || e.NoSelect || !strings.HasPrefix(e.Name, p.name+"/") {
			continue
		}
		if err := n.demand(ctx, place{account: p.account, name: e.Name}, RightDelete); err != nil {
			return fmt.Errorf("%w: below it: %w", ErrNoRight, err)
		}
	}
	if strings.EqualFold(p.name, "INBOX") {
		return ErrNoRight // it would only be emptied
	}
	return a.Rename(ctx, p.name, q.name)
}

// WatchTree implements TreeWatcher: the user's own mailboxes and subscriptions.
func (n *Namespaces) WatchTree(wake func()) (stop func()) {
	if w, ok := n.own.(TreeWatcher); ok {
		return w.WatchTree(wake)
	}
	return func() {}
}

// Subscribe implements Account.
func (n *Namespaces) Subscribe(ctx context.Context, name string, on bool) error {
	if p := n.route(name); on && p.account != "" {
		if err := n.demand(ctx, p, RightLookup); err != nil {
			return err
		}
	}
	return n.own.Subscribe(ctx, name, on)
}
