package directory

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// MemberURL is an LDAP URL (RFC 4516) that finds the members of a dynamic
// group. Its host and attributes do not count: it is our tree that is asked.
type MemberURL struct {
	Base   DN
	Scope  Scope
	Filter Filter
	text   string
}

// maxMemberFilter bounds the filter of a MemberURL, in bytes.
const maxMemberFilter = 1024

// ErrMemberURL is in the chain of the errors of ParseMemberURL.
var ErrMemberURL = errors.New("malformed LDAP URL")

// ParseMemberURL reads ldap://host/base?attributes?scope?filter; all parts may
// be empty. Without scope it means the entry itself, without filter any entry.
func ParseMemberURL(s string) (MemberURL, error) {
	u := MemberURL{text: s}
	rest, ok := cutPrefixFold(s, "ldap://")
	if !ok {
		if rest, ok = cutPrefixFold(s, "ldaps://"); !ok {
			return MemberURL{}, fmt.Errorf("%w: no ldap scheme", ErrMemberURL)
		}
	}
	_, rest, _ = strings.Cut(rest, "/")
	parts := strings.SplitN(rest, "?", 5)
	for i := range parts {
		var err error
		if parts[i], err = url.PathUnescape(parts[i]); err != nil {
			return MemberURL{}, fmt.Errorf("%w: %w", ErrMemberURL, err)
		}
	}
	parts = append(parts, "", "", "")
	var err error
	if u.Base, err = ParseDN(parts[0]); err != nil {
		return MemberURL{}, fmt.Errorf("%w: %w", ErrMemberURL, err)
	}
	switch strings.ToLower(parts[2]) {
	case "", "base":
	case "one":
		u.Scope = ScopeOne
	case "sub":
		u.Scope = ScopeSubtree
	default:
		return MemberURL{}, fmt.Errorf("%w: scope %q", ErrMemberURL, parts[2])
	}
	if parts[3] == "" {
		return u, nil
	}
	if len(parts[3]) > maxMemberFilter {
		return MemberURL{}, fmt.Errorf("%w: a filter of more than %d bytes", ErrMemberURL, maxMemberFilter)
	}
	if u.Filter, err = ParseFilter(parts[3]); err != nil {
		return MemberURL{}, fmt.Errorf("%w: %w", ErrMemberURL, err)
	}
	return u, nil
}

// IsEntry reports whether the URL names one entry and asks nothing of it.
func (u MemberURL) IsEntry() bool {
	return u.Scope == ScopeBase && u.Filter.Kind == Present && u.Filter.Attribute == ""
}

// String returns the URL as it was read.
func (u MemberURL) String() string { return u.text }

// Lister finds the members of dynamic groups.
type Lister interface {
	// List returns the users and groups that the URL finds below our base.
	// ErrTooMany beyond 10,000; ErrUnavailable.
	List(ctx context.Context, u MemberURL) ([]Recipient, error)
}

// ErrTooMany: a search found more than one group may hold.
var ErrTooMany = errors.New("too many members")

const maxMembers = 10_000

var _ Lister = (*View)(nil)

// List implements Lister.
func (v *View) List(ctx context.Context, u MemberURL) ([]Recipient, error) {
	if !u.Base.Equal(v.o.Base) && !u.Base.Under(v.o.Base) {
		return nil, fmt.Errorf("listing %s: %w: not below %s", u, ErrNotFound, v.o.Base)
	}
	if v.o.Mapping != nil {
		return v.mappedList(ctx, u)
	}
	q := Query{Base: u.Base, Scope: u.Scope, SizeLimit: maxMembers, Filter: AllOf(
		AnyOf(Equal("objectClass", "inetMailUser"), Equal("objectClass", "inetMailGroup")), u.Filter)}
	var entries []Entry
	for e, err := range v.tree.Search(ctx, q) {
		switch {
		case err == nil:
			entries = append(entries, e)
		case errors.Is(err, ErrNotFound):
		default:
			if r, ok := errors.AsType[*ResultError](err); ok && r.Code == SizeLimitExceeded {
				err = ErrTooMany
			}
			return nil, fmt.Errorf("listing %s: %w", u, outageUnless(err, ErrTooMany))
		}
	}
	domains := make(map[string]Domain) // by the parent of entries
	var found []Recipient
	for _, e := range entries {
		above := e.DN.Parent().Normal()
		d, ok := domains[above]
		if !ok {
			var err error
			if d, err = v.domainAbove(ctx, e.DN); err != nil && !errors.Is(err, ErrNotFound) {
				return nil, fmt.Errorf("listing %s: %w", u, err)
			}
			domains[above] = d
		}
		if r, err := parseRecipient(e, d); err == nil && d.Name != "" {
			found = append(found, r)
		}
	}
	return found, nil
}

func outageUnless(err, known error) error {
	if errors.Is(err, known) {
		return err
	}
	return outage(err)
}
