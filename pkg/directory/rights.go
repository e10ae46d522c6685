package directory

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// Access is who may do what over LDAP: rules, each of which grants something. What
// no rule grants is refused. Passwords are read by nobody, and nobody anonymous
// writes, whatever the rules say.
type Access struct {
	// Admins and Services are who the rules call so.
	Admins, Services []DN
	// Rules; nil: DefaultRules without attributes that users change, but their password.
	Rules []Rule
}

// Subject is who asks.
type Subject struct {
	// DN is who is bound; the root: nobody.
	DN DN
	// Domains are the nodes of the domains that the subject administers.
	Domains []DN
}

// Rule grants Who a right on attributes of Whose entries.
type Rule struct {
	Who   Role
	Whose Whose
	// Attributes are names, "*" for all; "" stands for the entry itself: that it
	// is there, or that it is added, removed and renamed.
	Attributes []string
	Right      Right
}

// Role is a kind of subject.
type Role int

// The roles.
const (
	Anybody     Role = iota // who is bound
	DomainAdmin             // who administers a domain
	ServiceRole             // one of Access.Services
	AdminRole               // one of Access.Admins
	Nobody                  // who is not bound, and everybody else, too
)

// Whose says which entries a rule is about.
type Whose int

// Which entries.
const (
	Everybodys Whose = iota // all
	Own                     // the subject's own, and those below it
	OwnDomain               // those below the nodes of the subject's domains
)

// Right is what a rule grants.
type Right int

// The rights.
const (
	Read Right = iota // see it, and test it in a filter
	Write
)

// DefaultRules are: users read the address book and their own entries, and
// change their password and the attributes named; admins of a domain manage
// what is below its node; services read everything and note when a password of
// a program was used; admins do everything.
func DefaultRules(selfWrite ...string) []Rule {
	return []Rule{
		{Anybody, Everybodys, addressBook(), Read},
		{Anybody, Own, []string{"", "*"}, Read},
		{Anybody, Own, append([]string{"userPassword"}, selfWrite...), Write},
		{DomainAdmin, OwnDomain, []string{"", "*"}, Read},
		{DomainAdmin, OwnDomain, []string{"", "*"}, Write},
		{ServiceRole, Everybodys, []string{"", "*", SCRAMAttribute, NumberAttribute}, Read},
		{ServiceRole, Everybodys, []string{"mailsrvLastUse"}, Write},
		{AdminRole, Everybodys, []string{"", "*", SCRAMAttribute, NumberAttribute}, Read},
		{AdminRole, Everybodys, []string{"", "*", NumberAttribute}, Write},
	}
}

// AnonymousRule lets the address book be read without a bind.
func AnonymousRule() Rule { return Rule{Nobody, Everybodys, addressBook(), Read} }

// addressBook are the attributes that people may know of each other.
func addressBook() []string {
	return []string{"", "objectClass", "cn", "sn", "givenName", "initials", "displayName", "mail", "telephoneNumber", "mobile", "homePhone",
		"facsimileTelephoneNumber", "title", "o", "ou", "l", "uid", "dc", "postalAddress", "jpegPhoto", "uniqueMember", "member", "memberOf",
		"uidNumber", "gidNumber", "homeDirectory", "loginShell", "gecos", "memberUid", "sAMAccountName", "userPrincipalName", "objectCategory",
		"structuralObjectClass", "hasSubordinates", "entryDN", "entryUUID", "subschemaSubentry", "createTimestamp", "modifyTimestamp"}
}

// Privileged reports whether who is an admin or a service.
func (a Access) Privileged(who DN) bool { return within(a.Admins, who) || within(a.Services, who) }

func within(dns []DN, who DN) bool { return !who.IsRoot() && slices.ContainsFunc(dns, who.Equal) }

// MayRead reports whether the subject may see the attribute in the entry dn, or
// test it in a filter; "" stands for the entry itself.
func (a Access) MayRead(s Subject, dn DN, attribute string) bool {
	return !strings.EqualFold(attribute, "userPassword") && a.granted(s, dn, attribute, Read)
}

// MayWrite reports whether the subject may change the attribute in the entry dn;
// "" stands for adding, removing and renaming it.
func (a Access) MayWrite(s Subject, dn DN, attribute string) bool {
	return a.granted(s, dn, attribute, Write)
}

func (a Access) granted(s Subject, dn DN, attribute string, right Right) bool {
	if s.DN.IsRoot() && right != Read {
		return false
	}
	rules := a.Rules
	if rules == nil {
		rules = DefaultRules()
	}
	return slices.ContainsFunc(rules, func(r Rule) bool {
		return r.Right == right && a.is(s, r.Who) && r.Whose.holds(s, dn) && r.names(attribute)
	})
}

// is reports whether the subject has the role. Services are no users: what
// anybody may, they may not.
func (a Access) is(s Subject, r Role) bool {
	switch r {
	case Nobody:
		return true
	case DomainAdmin:
		return len(s.Domains) > 0
	case ServiceRole:
		return within(a.Services, s.DN)
	case AdminRole:
		return within(a.Admins, s.DN)
	}
	return !s.DN.IsRoot() && !within(a.Services, s.DN)
}

// Anonymous reports whether who is not bound may read anything at all.
func (a Access) Anonymous() bool {
	return slices.ContainsFunc(a.Rules, func(r Rule) bool { return r.Who == Nobody && r.Right == Read })
}

func (w Whose) holds(s Subject, dn DN) bool {
	switch w {
	case Own:
		return !s.DN.IsRoot() && dn.Under(s.DN)
	case OwnDomain:
		return slices.ContainsFunc(s.Domains, func(d DN) bool { return dn.Under(d) && !dn.Equal(d) })
	}
	return true
}

// names reports whether the rule is about the attribute. All attributes are not
// the SCRAM secrets and the numbers, which must be named.
func (r Rule) names(attribute string) bool {
	return slices.ContainsFunc(r.Attributes, func(n string) bool {
		return strings.EqualFold(n, attribute) || n == "*" && attribute != "" && !strings.EqualFold(attribute, SCRAMAttribute) && !strings.EqualFold(attribute, NumberAttribute)
	})
}

// DomainAdmins is the name of the group, beside a domain's other groups, whose
// members administer the domain.
const DomainAdmins = "Domain Administrators"

// AdministeredBy returns the nodes of the domains below base that who
// administers: who is a member of cn=Domain Administrators,ou=Groups of each.
func AdministeredBy(ctx context.Context, tree Tree, base, who DN) ([]DN, error) {
	var nodes []DN
	q := Query{Base: base, Scope: ScopeSubtree, Attributes: []string{"1.1"}, Filter: AllOf(
		Equal("uniqueMember", who.String()), Equal("objectClass", "groupOfUniqueNames"), Equal("cn", DomainAdmins))}
	for e, err := range tree.Search(ctx, q) {
		if errors.Is(err, ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if folder := e.DN.Parent(); len(folder.RDNs) > 0 && strings.EqualFold(folder.RDNs[0].String(), "ou=Groups") {
			nodes = append(nodes, folder.Parent())
		}
	}
	return nodes, nil
}
