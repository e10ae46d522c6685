package directory

import (
	"context"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// NumberAttribute is the number of a user or group: given once, by the engine, and
// never to another.
const NumberAttribute = "mailsrvNumber"

// Engine is a directory of ours in this process.
type Engine interface {
	Operator
	PasswordChanger
	PasswordAger
	Versioned
}

// ViewsOptions are what posix accounts have that entries do not say.
type ViewsOptions struct {
	// First is added to an entry's number: the result is its uidNumber or gidNumber.
	First int
	// Group is the gidNumber of users.
	Group int
	// Home and Shell are homeDirectory and loginShell; %u is the uid, %d the domain
	// of the user's address.
	Home, Shell string
	// Known reports whether entries can have an attribute of that name themselves;
	// nil: any.
	Known func(name string) bool
}

// Views is an Engine whose users and groups can be asked about, and searched by,
// the names that other programs have for what they are: posixAccount and posixGroup
// (RFC 2307), and Active Directory's sAMAccountName, userPrincipalName,
// proxyAddresses and member. What an entry has itself counts as it is. They are
// told to who asks for them by name, and cannot be written.
type Views struct {
	Engine
	o ViewsOptions
}

// NewViews returns the views of an engine.
func NewViews(e Engine, o ViewsOptions) *Views { return &Views{e, o} }

// Search implements Tree.
func (v *Views) Search(ctx context.Context, q Query) iter.Seq2[Entry, error] {
	if mentions(&q.Filter) {
		var err error
		if q.Filter, err = v.rewrite(ctx, q.Filter); err != nil {
			return func(yield func(Entry, error) bool) { yield(Entry{}, err) }
		}
	}
	var wanted []string
	for _, name := range q.Attributes {
		if isView(name) {
			wanted = append(wanted, name)
		}
	}
	if len(wanted) == 0 {
		return v.Engine.Search(ctx, q)
	}
	asked, typesOnly := q.Attributes, q.TypesOnly
	q.Attributes, q.TypesOnly = append(slices.Clone(asked), sources()...), false
	return func(yield func(Entry, error) bool) {
		for e, err := range v.Engine.Search(ctx, q) {
			if err == nil {
				e = v.shown(e, asked, wanted, typesOnly)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// sources are what the views are made of.
func sources() []string {
	return []string{"objectClass", "uid", "cn", "mail", "mailAlternateAddress", "mailEquivalentAddress", "uniqueMember", NumberAttribute}
}

// shown is the entry with the views that are wanted, and without what was only
// read for them.
func (v *Views) shown(e Entry, asked, wanted []string, typesOnly bool) Entry {
	var more []Attribute
	for _, name := range wanted {
		if values := v.values(e, strings.ToLower(name)); len(values) > 0 && e.Values(name) == nil {
			more = append(more, Attribute{Name: name, Values: values})
		}
	}
	everything := slices.Contains(asked, "*")
	e.Attributes = slices.DeleteFunc(slices.Clone(e.Attributes), func(a Attribute) bool {
		is := func(n string) bool { return strings.EqualFold(n, a.Name) }
		return slices.ContainsFunc(sources(), is) && !slices.ContainsFunc(asked, is) && (!everything || is(NumberAttribute))
	})
	e.Attributes = append(e.Attributes, more...)
	if typesOnly {
		for i := range e.Attributes {
			e.Attributes[i].Values = nil
		}
	}
	return e
}

// isView reports whether an attribute of that name can be a view.
func isView(name string) bool {
	return slices.ContainsFunc([]string{"uidNumber", "gidNumber", "homeDirectory", "loginShell", "gecos", "memberUid", "member",
		"sAMAccountName", "userPrincipalName", "proxyAddresses", "displayName"}, func(n string) bool { return strings.EqualFold(n, name) })
}

// values are those of a view, whose name is in lower case.
func (v *Views) values(e Entry, name string) []string {
	user := e.HasClass("inetMailUser") && e.Value("uid") != ""
	group := e.HasClass("groupOfUniqueNames") || e.HasClass("inetMailGroup")
	number, err := strconv.Atoi(e.Value(NumberAttribute))
	numbered := err == nil
	one := func(ok bool, value string) []string {
		if !ok || value == "" {
			return nil
		}
		return []string{value}
	}
	_, domain, _ := strings.Cut(e.Value("mail"), "@")
	filled := strings.NewReplacer("%u", e.Value("uid"), "%d", domain)
	switch name {
	case "uidnumber":
		return one(user && numbered, strconv.Itoa(v.o.First+number))
	case "gidnumber":
		if group {
			return one(numbered, strconv.Itoa(v.o.First+number))
		}
		return one(user && numbered, strconv.Itoa(v.o.Group))
	case "homedirectory":
		return one(user, filled.Replace(v.o.Home))
	case "loginshell":
		return one(user, filled.Replace(v.o.Shell))
	case "gecos":
		return one(user, ascii(e.Value("cn")))
	case "samaccountname":
		if group {
			return one(true, e.Value("cn"))
		}
		return one(user, e.Value("uid"))
	case "userprincipalname":
		return one(user, e.Value("mail"))
	case "displayname":
		return one(user || group, e.Value("cn"))
	case "proxyaddresses":
		return proxies(e)
	case "member":
		if group {
			return e.Values("uniqueMember")
		}
	case "memberuid":
		if group {
			return uidsOf(e.Values("uniqueMember"))
		}
	}
	return nil
}

// ascii is a name for gecos, which has no other letters, and no colon.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == ':' || r == ',' {
			return '?'
		}
		return r
	}, s)
}

// proxies are the addresses as Exchange writes them, the first in capitals.
func proxies(e Entry) (out []string) {
	for i, name := range addressAttributes() {
		for _, a := range e.Values(name) {
			if i == 0 {
				out = append(out, "SMTP:"+a)
			} else {
				out = append(out, "smtp:"+a)
			}
		}
	}
	return out
}

// uidsOf are the login names in DNs of users.
func uidsOf(members []string) (uids []string) {
	for _, m := range members {
		dn, err := ParseDN(m)
		if err != nil || dn.IsRoot() {
			continue
		}
		for _, av := range dn.RDNs[0] {
			if strings.EqualFold(av.Name, "uid") {
				uids = append(uids, av.Value)
			}
		}
	}
	return uids
}
