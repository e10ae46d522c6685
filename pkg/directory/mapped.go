package directory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"mailsrv/pkg/password"
)

// mappedDomain is Domain over a directory that knows none.
func (v *View) mappedDomain(name string) (Domain, error) {
	d, ok := v.o.Mapping.domain(name)
	if !ok {
		return Domain{}, fmt.Errorf("looking up domain %s: %w", name, ErrNotFound)
	}
	return parseDomain(d.entry(v.o.Base)), nil
}

// mapped is what an entry of theirs is to mail.
func (v *View) mapped(e Entry, group bool) (Recipient, error) {
	m := v.o.Mapping
	e = m.ours(e, group, v.o.Base)
	owner, ok := m.owner(e, v.o.Base)
	if !ok {
		return Recipient{}, fmt.Errorf("%w: %s belongs to no domain", ErrNotFound, e.DN)
	}
	e, d := m.completed(e, owner), parseDomain(owner.entry(v.o.Base))
	if group {
		g := parseGroup(e, d)
		return Recipient{Group: &g}, nil
	}
	u := v.user(e, d)
	return Recipient{User: &u}, nil
}

// mappedSearch yields the users, and where groups is set the groups, that a search
// finds. Their classes are asked of the server: it does not tell all of an entry's.
func (v *View) mappedSearch(ctx context.Context, q Query, groups bool) iter.Seq2[Recipient, error] {
	m, f := v.o.Mapping, q.Filter
	q.Attributes = m.asks()
	return func(yield func(Recipient, error) bool) {
		seen := map[string]bool{}
		for _, group := range []bool{false, true} {
			if group && !groups {
				return
			}
			if q.Filter = AllOf(m.Users, f); group {
				q.Filter = AllOf(m.Groups, f)
			}
			for e, err := range v.tree.Search(ctx, q) {
				if err != nil {
					yield(Recipient{}, err)
					return
				}
				name := e.DN.Normal()
				r, err := v.mapped(e, group)
				if err != nil || seen[name] {
					continue // who belongs to no domain of ours gets no mail
				}
				if seen[name] = true; !yield(r, nil) {
					return
				}
			}
		}
	}
}

// maxMapped bounds how many entries that match are looked at to find the one that
// is meant.
const maxMapped = 16

// mappedOne returns the one of what a filter finds below the domain's base that is
// meant; groups, for which mail alone asks, are looked for where no user is. ErrNotFound, ErrAmbiguous.
func (v *View) mappedOne(ctx context.Context, d Domain, f Filter, groups bool, meant func(Recipient) bool) (Recipient, error) {
	var found []Recipient
	for r, err := range v.mappedSearch(ctx, Query{Base: d.DN, Scope: ScopeSubtree, Filter: f, SizeLimit: maxMapped, Routing: groups}, groups) {
		if err != nil {
			return Recipient{}, outage(err)
		}
		if r.Group != nil && len(found) > 0 && found[0].User != nil {
			break
		}
		if meant(r) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
		return Recipient{}, ErrNotFound
	case 1:
		return found[0], nil
	}
	return Recipient{}, fmt.Errorf("%w: below %s", ErrAmbiguous, d.DN)
}

// mappedRecipient finds who has one of the addresses.
func (v *View) mappedRecipient(ctx context.Context, d Domain, addresses []string) (Recipient, error) {
	return v.mappedOne(ctx, d, v.o.Mapping.holders(addresses...), true, func(r Recipient) bool { return r.has(addresses) })
}

// mappedUser finds who logs in as local in the domain, or by an address.
func (v *View) mappedUser(ctx context.Context, d Domain, local, canonical, given string) (User, error) {
	m := v.o.Mapping
	r, err := v.mappedOne(ctx, d, m.logins(local, canonical, given), false, func(r Recipient) bool {
		u := r.User
		switch {
		case u == nil:
			return false
		case u.Domain == d.Name && strings.EqualFold(u.UID, local), r.has([]string{canonical, given}):
			return true
		}
		for _, name := range m.LoginAddress {
			for _, v := range u.Entry.Values(name) {
				if strings.EqualFold(v, canonical) || strings.EqualFold(v, given) {
					return true
				}
			}
		}
		return false
	})
	if err != nil {
		return User{}, fmt.Errorf("looking up login %q: %w", given, err)
	}
	return *r.User, nil
}

// has reports whether the recipient has one of the addresses.
func (r Recipient) has(addresses []string) bool {
	own := []string{r.Address().String()}
	e := Entry{}
	if r.User != nil {
		e = r.User.Entry
	} else {
		e = r.Group.Entry
	}
	for _, name := range addressAttributes() {
		own = append(own, e.Values(name)...)
	}
	return slices.ContainsFunc(own, func(a string) bool {
		return slices.ContainsFunc(addresses, func(b string) bool { return strings.EqualFold(a, b) })
	})
}

// mappedMember is Member.
func (v *View) mappedMember(ctx context.Context, dn DN) (Recipient, error) {
	for r, err := range v.mappedSearch(ctx, Query{Base: dn, Scope: ScopeBase, Routing: true}, true) {
		if err != nil {
			return r, fmt.Errorf("looking up %s: %w", dn, outage(err))
		}
		return r, nil
	}
	return Recipient{}, fmt.Errorf("looking up %s: %w", dn, ErrNotFound)
}

// mappedList is List.
func (v *View) mappedList(ctx context.Context, u MemberURL) (found []Recipient, err error) {
	for r, err := range v.mappedSearch(ctx, Query{Base: u.Base, Scope: u.Scope, Filter: u.Filter, SizeLimit: maxMembers}, true) {
		if e, ok := errors.AsType[*ResultError](err); ok && e.Code == SizeLimitExceeded || len(found) == maxMembers {
			return nil, fmt.Errorf("listing %s: %w", u, ErrTooMany)
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, fmt.Errorf("listing %s: %w", u, outage(err))
		}
		if err == nil {
			found = append(found, r)
		}
	}
	return found, nil
}

// mappedRecipients lists the users and groups of a domain; of all if it is empty.
func (v *View) mappedRecipients(ctx context.Context, domain string) ([]Recipient, error) {
	var out []Recipient
	seen := map[string]bool{}
	for _, d := range v.o.Mapping.Domains {
		if domain != "" && d.Name != domain {
			continue
		}
		for r, err := range v.mappedSearch(ctx, Query{Base: cmpDN(d.Base, v.o.Base), Scope: ScopeSubtree}, true) {
			if err != nil {
				return nil, fmt.Errorf("listing recipients: %w", outage(err))
			}
			name := r.DN().Normal()
			if !seen[name] && (domain == "" || r.domain() == domain) {
				out = append(out, r)
			}
			seen[name] = true
		}
	}
	slices.SortFunc(out, func(a, b Recipient) int { return cmp.Compare(a.Address().String(), b.Address().String()) })
	return out, nil
}

func (r Recipient) domain() string {
	if r.User != nil {
		return r.User.Domain
	}
	return r.Group.Domain
}

// prove checks a password, by a bind or here.
func (v *View) prove(ctx context.Context, dn DN, given string) error {
	if !v.o.Compare {
		return v.tree.Bind(ctx, dn, given)
	}
	e, err := v.one(ctx, Query{Base: dn, Scope: ScopeBase, Attributes: []string{"userPassword"}})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	hashes := e.Values("userPassword")
	known := len(hashes) > 0
	if !known { // who does not exist costs what a wrong password does
		hashes = []string{dummyPassword}
	}
	select {
	case v.hashes <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	defer func() { <-v.hashes }()
	if !password.Check(hashes, given) || !known {
		return ErrBadCredentials
	}
	return nil
}

// dummyPassword is of a password that nobody knows.
const dummyPassword = "{SSHA512}bm9ib2R5IGtub3dzIHRoZSBwYXNzd29yZCBvZiB0aGlzIGhhc2gsIHdoaWNoIGlzIG5vbmUgb2YgYW55dGhpbmcgYXQgYWxsLi4uc2FsdHNhbHQ="
