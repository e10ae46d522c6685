package directory

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailsrv/pkg/mail"
)

// Mapping says how a directory that has not our schema names things: where its
// users and groups are, which of its attributes stand for ours, and which domains
// its mail is for, as it has no entries for these. View reads it; all else is as
// over our own.
type Mapping struct {
	// Domains are those that are ours; the first completes logins without a domain
	// where ViewOptions names none. At least one.
	Domains []MappedDomain
	// Users and Groups tell which entries are users and which are groups. What is
	// both is a user.
	Users, Groups Filter
	// Inactive tells which users may neither log in nor get mail; the zero Filter:
	// none. It is asked of the entry here: of object classes it sees only those
	// that the server tells.
	Inactive Filter
	// Login are the attributes with the login name without its domain, and
	// LoginAddress those with a login name that has one, besides the addresses.
	Login, LoginAddress []string
	// LoginIsAddress: a login name of a domain is an address there, too.
	LoginIsAddress bool
	// Members is the attribute with a group's members: DNs, or with MembersAre
	// their login names. With MembersAre MemberOf it is the attribute of users
	// with their groups.
	Members    string
	MembersAre MemberForm
	// Attributes are the sources of our attributes; of several, all values count.
	Attributes map[string][]Source
}

// MemberForm says what values tell who is in a group.
type MemberForm int

// The forms.
const (
	MemberDN   MemberForm = iota // DNs of members, in the group
	MemberName                   // their login names, in the group
	MemberOf                     // DNs of groups, in the members
)

// MappedDomain is a domain whose users are in a directory that does not know it.
type MappedDomain struct {
	Name    string
	Aliases []string
	// Base is the entry below which its users and groups are; the root: ViewOptions.Base.
	Base DN
	// MailHost is for users whose entry has none. CatchAll and SmartHost are as in Domain.
	MailHost, CatchAll, SmartHost string
}

// Source is an attribute of the other directory.
type Source struct {
	Attribute string
	// Prefix stands before each value that counts, in any case, and is cut off.
	Prefix string
	// Unit is put behind a value: K, M or G.
	Unit string
}

// ErrMapping is in the chain of errors of ParseSource and of Mapping's check.
var ErrMapping = errors.New("bad mapping")

// ParseSource reads "attribute", "attribute=prefix" or "attribute*unit".
func ParseSource(s string) (Source, error) {
	var src Source
	if name, prefix, ok := strings.Cut(s, "="); ok {
		src = Source{Attribute: name, Prefix: prefix}
	} else {
		src.Attribute, src.Unit, _ = strings.Cut(s, "*")
	}
	if src.Attribute == "" || strings.ContainsAny(src.Attribute, " ()*=&|!") || !slices.Contains([]string{"", "K", "M", "G"}, src.Unit) {
		return src, fmt.Errorf("%w: source %q; write attribute, attribute=prefix, or attribute*K", ErrMapping, s)
	}
	return src, nil
}

// Check reports what a Mapping cannot be without.
func (m *Mapping) Check() error {
	switch {
	case len(m.Domains) == 0:
		return fmt.Errorf("%w: no domains", ErrMapping)
	case len(m.Login) == 0:
		return fmt.Errorf("%w: no attribute with the login name", ErrMapping)
	case len(m.Attributes["mail"]) == 0 && !m.LoginIsAddress:
		return fmt.Errorf("%w: no attribute with the address", ErrMapping)
	}
	for _, d := range m.Domains {
		for _, name := range append([]string{d.Name}, d.Aliases...) {
			if canonical, err := mail.ParseDomain(name); err != nil || canonical != name {
				return fmt.Errorf("%w: domain %q is not in lower case, or malformed", ErrMapping, name)
			}
		}
	}
	return nil
}

// entry is the domain as an entry of our schema.
func (d MappedDomain) entry(base DN) Entry {
	dn := d.Base
	if dn.IsRoot() {
		dn = base
	}
	return entry(dn, attr("objectClass", "mailDomain"), attr("sunPreferredDomain", d.Name), attr("associatedDomain", d.Aliases...),
		attr("preferredMailHost", d.MailHost), attr("mailDomainCatchallAddress", d.CatchAll), attr("mailRoutingSmartHost", d.SmartHost))
}

// addressAttributes are ours that hold addresses of a recipient.
func addressAttributes() []string {
	return []string{"mail", "mailAlternateAddress", "mailEquivalentAddress"}
}

// holders is the filter for who has one of the addresses.
func (m *Mapping) holders(addresses ...string) Filter {
	var or []Filter
	for _, a := range addresses {
		or = append(or, m.addressed(a)...)
	}
	return AnyOf(or...)
}

// addressed are the filters for who has an address.
func (m *Mapping) addressed(address string) (or []Filter) {
	add := func(f Filter) {
		if !slices.ContainsFunc(or, func(g Filter) bool { return g.Attribute == f.Attribute && g.Value == f.Value }) {
			or = append(or, f)
		}
	}
	for _, name := range addressAttributes() {
		for _, s := range m.Attributes[name] {
			add(Equal(s.Attribute, s.Prefix+address))
		}
	}
	if local, _, ok := strings.Cut(address, "@"); m.LoginIsAddress && ok && local != "" {
		for _, name := range m.Login {
			add(Equal(name, local))
		}
	}
	return or
}

// logins is the filter for the user who logs in as local, or as one of the addresses.
func (m *Mapping) logins(local string, addresses ...string) Filter {
	var or []Filter
	for _, name := range m.Login {
		or = append(or, Equal(name, local))
	}
	for _, a := range addresses {
		or = append(or, m.addressed(a)...)
		for _, name := range m.LoginAddress {
			or = append(or, Equal(name, a))
		}
	}
	return AnyOf(or...)
}

// asks are the attributes to ask for: some servers tell some only by their name.
func (m *Mapping) asks() []string {
	names := append([]string{"*", m.Members}, append(slices.Clone(m.Login), m.LoginAddress...)...)
	for name, sources := range m.Attributes {
		for _, s := range sources {
			if name != SCRAMAttribute {
				names = append(names, s.Attribute)
			}
		}
	}
	names = append(names, m.Inactive.attributes()...)
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(n string) bool { return n == "" || strings.EqualFold(n, "userPassword") })
}

// ours is an entry of theirs, a user or a group, in our schema. What decides
// nothing stays as it is.
func (m *Mapping) ours(e Entry, group bool, base DN) Entry {
	out := Entry{DN: e.DN}
	names := make([]string, 0, len(m.Attributes))
	for name := range m.Attributes {
		if name != SCRAMAttribute {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if values := valuesOf(e, m.Attributes[name]); len(values) > 0 {
			out.Attributes = append(out.Attributes, attr(name, values...))
		}
	}
	if !group && len(out.Values("cn")) > 1 { // the first name that there is
		out = out.with("cn", out.Value("cn"))
	}
	if login := firstValue(e, m.Login); login != "" {
		out.Attributes = append(out.Attributes, attr("uid", login))
	}
	if out.Value("mail") == "" {
		out = out.with("mail", m.primary(e)...)
	}
	if mail := out.Values("mail"); len(mail) > 1 { // the first is who they are, the others lead there
		out = out.with("mailAlternateAddress", append(slices.Clone(out.Values("mailAlternateAddress")), mail[1:]...)...).with("mail", mail[0])
	}
	if group {
		out.Attributes = append(out.Attributes, attr("objectClass", "inetLocalMailRecipient", "inetMailGroup"))
		out = m.members(out, e, base)
	} else {
		out.Attributes = append(out.Attributes, attr("objectClass", "inetLocalMailRecipient", "inetMailUser"))
		if !m.Inactive.isZero() && m.Inactive.holds(e) {
			out.Attributes = append(out.Attributes, attr("inetUserStatus", string(Inactive)))
		}
	}
	for _, a := range e.Attributes {
		if out.Values(a.Name) == nil && !m.decides(a.Name) {
			out.Attributes = append(out.Attributes, a)
		}
	}
	return out
}

// primary is the address whose prefix stands in capitals, as Exchange marks it.
func (m *Mapping) primary(e Entry) []string {
	for _, s := range m.Attributes["mailAlternateAddress"] {
		for _, v := range e.Values(s.Attribute) {
			if a, ok := strings.CutPrefix(v, strings.ToUpper(s.Prefix)); ok && s.Prefix != strings.ToUpper(s.Prefix) {
				return []string{a}
			}
		}
	}
	return nil
}

// decides reports whether an attribute of that name would decide about mail: only
// where the mapping says so it may.
func (m *Mapping) decides(name string) bool {
	name = strings.ToLower(name)
	for _, prefix := range []string{"mail", "mgrp", "inet", "vacation"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return slices.Contains([]string{"objectclass", "uid", "uniquemember", "memberurl", "owner", "userpassword", "authpassword"}, name)
}

// members gives a group its members, as far as their DNs are not there as such.
func (m *Mapping) members(out, e Entry, base DN) Entry {
	switch m.MembersAre {
	case MemberName:
		var or []Filter
		for _, name := range e.Values(m.Members) {
			for _, login := range m.Login {
				or = append(or, Equal(login, name))
			}
		}
		var urls []string
		for part := range slices.Chunk(or, 8) { // their filters have a limit
			urls = append(urls, memberURL(base, AnyOf(part...)))
		}
		out = out.with("memberURL", urls...)
	case MemberOf:
		out.Attributes = append(out.Attributes, attr("memberURL", memberURL(base, Equal(m.Members, e.DN.String()))))
	default:
		out = out.with("uniqueMember", append(slices.Clone(e.Values(m.Members)), out.Values("uniqueMember")...)...)
	}
	return out
}

func memberURL(base DN, f Filter) string {
	escape := strings.NewReplacer("%", "%25", "?", "%3F")
	return "ldap:///" + escape.Replace(base.String()) + "??sub?" + escape.Replace(f.String())
}

// valuesOf are the values of all sources, each once.
func valuesOf(e Entry, sources []Source) (out []string) {
	for _, s := range sources {
		for _, v := range e.Values(s.Attribute) {
			if len(v) < len(s.Prefix) || !strings.EqualFold(v[:len(s.Prefix)], s.Prefix) {
				continue
			}
			v = v[len(s.Prefix):] + s.Unit
			if !slices.ContainsFunc(out, func(old string) bool { return strings.EqualFold(old, v) }) {
				out = append(out, v)
			}
		}
	}
	return out
}

func firstValue(e Entry, names []string) string {
	return firstOf(slices.Collect(func(yield func(string) bool) {
		for _, n := range names {
			if !yield(e.Value(n)) {
				return
			}
		}
	})...)
}

// with is the entry with other values of an attribute; it changes no slice of e.
func (e Entry) with(name string, values ...string) Entry {
	e = e.without(name)
	if len(values) > 0 {
		e.Attributes = append(slices.Clone(e.Attributes), attr(name, values...))
	}
	return e
}

// owner is the domain that an entry in our schema belongs to: that of its address,
// or failing that the most special one whose base it is below.
func (m *Mapping) owner(e Entry, base DN) (MappedDomain, bool) {
	if a, err := mail.ParseAddress(e.Value("mail")); err == nil {
		if d, ok := m.domain(a.Domain); ok {
			return d, true
		}
	}
	var found *MappedDomain
	for i, d := range m.Domains {
		at := cmpDN(d.Base, base)
		if e.DN.Under(at) && (found == nil || len(at.RDNs) > len(cmpDN(found.Base, base).RDNs)) {
			found = &m.Domains[i]
		}
	}
	if found == nil {
		return MappedDomain{}, false
	}
	return *found, true
}

func cmpDN(dn, otherwise DN) DN {
	if dn.IsRoot() {
		return otherwise
	}
	return dn
}

// domain is the one of that name, or with that alias.
func (m *Mapping) domain(name string) (MappedDomain, bool) {
	for _, d := range m.Domains {
		if d.Name == name || slices.Contains(d.Aliases, name) {
			return d, true
		}
	}
	return MappedDomain{}, false
}

// completed is an entry in our schema with what its domain gives it.
func (m *Mapping) completed(e Entry, d MappedDomain) Entry {
	if e.Value("mail") == "" && m.LoginIsAddress && e.Value("uid") != "" {
		e = e.with("mail", e.Value("uid")+"@"+d.Name)
	}
	if host := cmp.Or(e.Value("mailHost"), d.MailHost); host != "" && e.HasClass("inetMailUser") {
		e = e.with("mailHost", host)
	}
	return e
}
