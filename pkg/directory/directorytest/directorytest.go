// Package directorytest is the suite that every directory passes: RunTree for
// the LDAP-shaped seam, Run for the mail view over it.
package directorytest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// Base is the suffix of the suite's entries.
func Base() directory.DN { return directory.MustParseDN("o=mail") }

func provisioner(t *testing.T, e directory.Editor) *directory.Provisioner {
	t.Helper()
	p := directory.NewProvisioner(e, directory.ViewOptions{Base: Base()})
	must(t, p.EnsureBase(t.Context()))
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// unless skips a subtest that is excepted by its name.
func unless(t *testing.T, except []string) {
	t.Helper()
	name := t.Name()[strings.LastIndexByte(t.Name(), '/')+1:]
	if slices.Contains(except, strings.ReplaceAll(name, "_", " ")) {
		t.Skip("not promised by this directory")
	}
}

// Run proves the mail view over the empty tree that make returns. Except names
// the cases that are left out, because a server that is not ours does not
// promise them.
func Run(t *testing.T, makeTree func(t *testing.T) directory.Editor, except ...string) {
	tree := makeTree(t)
	p := provisioner(t, tree)
	ctx := t.Context()
	v := directory.NewView(tree, directory.ViewOptions{Base: Base(), DefaultDomain: "example.com"})
	must(t, p.AddDomain(ctx, "example.com", "store1.example.com"))
	must(t, p.AddAlias(ctx, "example.net", "example.com"))
	must(t, p.AddUser(ctx, "alice@example.com", "Alice Example", "secret", ""))
	must(t, p.AddUser(ctx, "bob@example.com", "", "hunter2", "store2.example.com"))
	must(t, p.AddAlias(ctx, "info@example.com", "alice@example.com"))
	must(t, p.AddGroup(ctx, "all@example.com", []string{"alice@example.com", "bob@example.com", "west@florizel.example"}))

	t.Run("domain", func(t *testing.T) {
		for name, want := range map[string]error{"example.com": nil, "example.net": nil, "example.org": directory.ErrNotFound, "*": directory.ErrNotFound} {
			d, err := v.Domain(ctx, name)
			if !errors.Is(err, want) || want == nil && d.Name != "example.com" {
				t.Errorf("%s: %q, %v; want %v", name, d.Name, err, want)
			}
		}
	})
	t.Run("list", func(t *testing.T) {
		for text, want := range map[string]int{
			"ldap:///o=mail??sub?(mail=*@example.com)":                           3,
			"ldap:///o=example.com,o=mail??sub?(uid=b*)":                         1,
			"ldap:///o=example.com,o=mail??one?(uid=*)":                          0,
			"ldap:///ou=nowhere,o=mail??sub":                                     0,
			"ldap:///uid=alice,ou=People,o=example.com,o=mail":                   1,
			"ldap:///o=example.com,o=mail??sub?(objectClass=organizationalUnit)": 0,
		} {
			u, err := directory.ParseMemberURL(text)
			must(t, err)
			found, err := v.List(ctx, u)
			if err != nil || len(found) != want {
				t.Errorf("%s: %d members, %v; want %d", text, len(found), err, want)
			}
		}
		u, err := directory.ParseMemberURL("ldap:///o=elsewhere??sub")
		must(t, err)
		if _, err := v.List(ctx, u); !errors.Is(err, directory.ErrNotFound) {
			t.Errorf("a search outside of our base: %v", err)
		}
	})
	t.Run("groups of", func(t *testing.T) {
		u, err := v.User(ctx, "alice@example.com")
		must(t, err)
		groups, err := v.GroupsOf(ctx, u.DN)
		if err != nil || len(groups) != 1 || !strings.HasPrefix(groups[0].String(), "cn=all,") {
			t.Fatalf("%v %v", groups, err)
		}
		if groups, err = v.GroupsOf(ctx, groups[0]); err != nil || len(groups) != 0 {
			t.Errorf("nobody's member is in %v %v", groups, err)
		}
	})
	t.Run("recipient", func(t *testing.T) {
		for address, want := range map[string]string{
			"alice@example.com": "alice@example.com", "ALICE@example.com": "alice@example.com", "alice@example.net": "alice@example.com",
			"info@example.net": "alice@example.com", "all@example.com": "all@example.com", "nobody@example.com": "", "a*@example.com": "",
		} {
			a, err := mail.ParseAddress(address)
			must(t, err)
			r, err := v.Recipient(ctx, a)
			if want == "" {
				if !errors.Is(err, directory.ErrNotFound) {
					t.Errorf("%s: %v, want ErrNotFound", address, err)
				}
			} else if err != nil || r.Address().String() != want {
				t.Errorf("%s: %v %v, want %s", address, r, err, want)
			}
		}
	})
	t.Run("group", func(t *testing.T) {
		r, err := v.Recipient(ctx, mail.Address{Local: "all", Domain: "example.com"})
		must(t, err)
		if len(r.Group.Members) != 2 || len(r.Group.External) != 1 {
			t.Fatalf("%+v", r.Group)
		}
		m, err := v.Member(ctx, r.Group.Members[1])
		if err != nil || m.User == nil || m.User.Account() != "bob@example.com" || m.User.MailHost != "store2.example.com" {
			t.Errorf("%+v %v", m.User, err)
		}
	})
	t.Run("verify", func(t *testing.T) {
		for _, c := range []struct {
			login, password string
			want            error
		}{
			{"alice", "secret", nil}, {"alice@example.com", "secret", nil}, {"info@example.com", "secret", nil}, {"alice@example.net", "secret", nil},
			{"alice", "Secret", directory.ErrBadCredentials}, {"alice", "", directory.ErrBadCredentials}, {"nobody", "secret", directory.ErrBadCredentials},
			{"*", "secret", directory.ErrBadCredentials}, {"alice)(uid=*", "secret", directory.ErrBadCredentials}, {"", "", directory.ErrBadCredentials},
		} {
			u, err := v.Verify(ctx, c.login, c.password)
			if !errors.Is(err, c.want) || c.want == nil && (err != nil || u.UID != "alice") {
				t.Errorf("%q %q: %v %v, want %v", c.login, c.password, u.UID, err, c.want)
			}
		}
		must(t, p.SetPassword(ctx, "alice@example.com", "changed"))
		if _, err := v.Verify(ctx, "alice", "secret"); !errors.Is(err, directory.ErrBadCredentials) {
			t.Errorf("the old password still counts: %v", err)
		}
		if _, err := v.Verify(ctx, "alice", "changed"); err != nil {
			t.Errorf("the new password: %v", err)
		}
	})
	t.Run("settings", func(t *testing.T) {
		must(t, p.Set(ctx, directory.KindUser, "bob@example.com", []string{"quota=2M", "status=inactive"}))
		u, err := v.User(ctx, "bob")
		if err != nil || u.Quota != 2<<20 || u.Status != directory.Inactive {
			t.Errorf("%+v %v", u, err)
		}
		must(t, p.Set(ctx, directory.KindDomain, "example.com", []string{"status=disabled"}))
		if u, err = v.User(ctx, "bob"); err != nil || u.Status != directory.Disabled {
			t.Errorf("the domain's status comes first: %v %v", u.Status, err)
		}
		if err := p.Set(ctx, directory.KindUser, "bob@example.com", []string{"colour=blue"}); !errors.Is(err, directory.ErrBadSetting) {
			t.Errorf("unknown setting: %v", err)
		}
		for _, bad := range []string{"forward=x", "forward=a@example.org,b", "delivery=mailbx", "mailhost=a b", "access=imap:*", "access=+imap", "status=of", "quota=much"} {
			if err := p.Set(ctx, directory.KindUser, "bob@example.com", []string{bad}); !errors.Is(err, directory.ErrBadSetting) {
				t.Errorf("%s: %v", bad, err)
			}
		}
		for _, bad := range []string{"catchall=x", "preauth=maybe", "mailhost=a b", "routinghosts=a.example,b c"} {
			if err := p.Set(ctx, directory.KindDomain, "example.com", []string{bad}); !errors.Is(err, directory.ErrBadSetting) {
				t.Errorf("%s: %v", bad, err)
			}
		}
		must(t, p.Set(ctx, directory.KindUser, "bob@example.com", []string{"forward=a@example.org,b@example.org", "delivery=mailbox,forward", "access=+imap,pop:*$-smtp:192.0.2.0/24"}))
		must(t, p.Set(ctx, directory.KindUser, "bob@example.com", []string{"forward=", "delivery=mailbox", "access="}))
	})
	t.Run("unique", func(t *testing.T) {
		unless(t, except)
		for name, err := range map[string]error{
			"uid":     p.AddUser(ctx, "alice@example.com", "", "x", ""),
			"address": p.AddAlias(ctx, "bob@example.com", "alice@example.com"),
			"alias":   p.AddUser(ctx, "info@example.com", "", "x", ""),
			"domain":  p.AddAlias(ctx, "example.com", "example.com"),
		} {
			if err == nil {
				t.Errorf("%s: given twice", name)
			}
		}
	})
	t.Run("two domains", func(t *testing.T) {
		must(t, p.AddDomain(ctx, "example.org", ""))
		must(t, p.AddUser(ctx, "alice@example.org", "", "other", ""))
		must(t, p.AddAlias(ctx, "sales@example.org", "alice@example.com"))
		r, err := v.Recipient(ctx, mail.Address{Local: "sales", Domain: "example.org"})
		if err != nil || r.Group == nil || len(r.Group.Members) != 1 {
			t.Errorf("an alias of a user in another domain: %+v %v", r.Group, err)
		}
		if err := p.AddAlias(ctx, "support@example.org", "allice@example.com"); !errors.Is(err, directory.ErrNotFound) {
			t.Errorf("an alias of nobody: %v", err)
		}
		must(t, p.DeleteAlias(ctx, "sales@example.org"))
		must(t, p.DeleteUser(ctx, "alice@example.org"))
		must(t, p.DeleteDomain(ctx, "example.org"))
	})
	t.Run("catch-all", func(t *testing.T) {
		a := directory.MustParseDN("uid=alice,ou=People,o=example.com,o=mail")
		everything := directory.Attribute{Name: "mailAlternateAddress", Values: []string{"@example.com"}}
		must(t, tree.Modify(ctx, a, []directory.Change{{Kind: directory.AddValues, Attribute: everything}}))
		r, err := v.Recipient(ctx, mail.Address{Local: "nobody", Domain: "example.net"})
		if err != nil || r.User == nil || r.User.UID != "alice" {
			t.Errorf("%+v %v", r.User, err)
		}
		if err := p.Set(ctx, directory.KindUser, "nobody@example.com", []string{"quota=1M"}); !errors.Is(err, directory.ErrNotFound) {
			t.Errorf("the holder of everything was changed under a wrong name: %v", err)
		}
		must(t, tree.Modify(ctx, a, []directory.Change{{Kind: directory.DeleteValues, Attribute: everything}}))
	})
	t.Run("alias of a domain", func(t *testing.T) {
		unless(t, except)
		bob := directory.MustParseDN("uid=bob,ou=People,o=example.com,o=mail")
		err := tree.Modify(ctx, bob, []directory.Change{{Kind: directory.AddValues,
			Attribute: directory.Attribute{Name: "mailAlternateAddress", Values: []string{"alice@example.net"}}}})
		if err == nil {
			t.Error("alice's address under the other name of her domain was given to bob")
		}
		must(t, p.DeleteAlias(ctx, "info@example.net"))
		if _, err := v.Recipient(ctx, mail.Address{Local: "info", Domain: "example.com"}); !errors.Is(err, directory.ErrNotFound) {
			t.Errorf("a deleted alias: %v", err)
		}
	})
	t.Run("delete", func(t *testing.T) {
		if err := p.DeleteDomain(ctx, "example.com"); err == nil {
			t.Error("a domain with users was deleted")
		}
		must(t, p.DeleteUser(ctx, "bob@example.com"))
		r, err := v.Recipient(ctx, mail.Address{Local: "all", Domain: "example.com"})
		if err != nil || len(r.Group.Members) != 1 {
			t.Errorf("the group still has its dead member: %v %v", r.Group, err)
		}
		must(t, p.DeleteGroup(ctx, "all@example.com"))
		must(t, p.DeleteUser(ctx, "alice@example.com"))
		must(t, p.DeleteDomain(ctx, "example.com"))
	})
}

// RunTree proves the tree that make returns, empty, but for the cases that
// except names, as in Run.
func RunTree(t *testing.T, makeTree func(t *testing.T) directory.Editor, except ...string) {
	tree := makeTree(t)
	ctx := t.Context()
	add := func(dn string, attributes ...directory.Attribute) error {
		return tree.Add(ctx, directory.Entry{DN: directory.MustParseDN(dn), Attributes: attributes})
	}
	class := directory.Attribute{Name: "objectClass", Values: []string{"inetOrgPerson"}}
	unit := directory.Attribute{Name: "objectClass", Values: []string{"organizationalUnit"}}
	person := func(name string) error {
		return add("cn="+name+",ou=a,o=mail", class, directory.Attribute{Name: "sn", Values: []string{name}},
			directory.Attribute{Name: "userPassword", Values: []string{"pw-" + name}}, directory.Attribute{Name: "description", Values: []string{"one", "two " + name}})
	}
	must(t, add("o=mail", directory.Attribute{Name: "objectClass", Values: []string{"organization"}}))
	must(t, add("ou=a,o=mail", unit))
	must(t, add("ou=b,o=mail", unit))
	must(t, person("Ann"))
	must(t, person("Ben"))
	code := func(err error) directory.ResultCode {
		r, ok := errors.AsType[*directory.ResultError](err)
		if !ok {
			return directory.Success
		}
		return r.Code
	}
	search := func(base string, scope directory.Scope, f directory.Filter) (names []string, err error) {
		for e, err := range tree.Search(ctx, directory.Query{Base: directory.MustParseDN(base), Scope: scope, Filter: f}) {
			if err != nil {
				return names, err
			}
			names = append(names, e.DN.RDNs[0].String())
		}
		slices.Sort(names)
		return names, nil
	}
	t.Run("search", func(t *testing.T) {
		people := []string{"cn=Ann", "cn=Ben"}
		for name, c := range map[string]struct {
			base  string
			scope directory.Scope
			f     directory.Filter
			want  []string
		}{
			"base":      {"ou=a,o=mail", directory.ScopeBase, directory.Filter{}, []string{"ou=a"}},
			"one":       {"o=mail", directory.ScopeOne, directory.Filter{}, []string{"ou=a", "ou=b"}},
			"sub":       {"ou=a,o=mail", directory.ScopeSubtree, directory.Filter{}, []string{"cn=Ann", "cn=Ben", "ou=a"}},
			"case":      {"O=Mail", directory.ScopeSubtree, directory.Equal("SN", "aNN"), []string{"cn=Ann"}},
			"and":       {"o=mail", directory.ScopeSubtree, directory.AllOf(directory.Equal("objectClass", "inetOrgPerson"), directory.Equal("sn", "Ben")), []string{"cn=Ben"}},
			"or":        {"o=mail", directory.ScopeSubtree, directory.AnyOf(directory.Equal("sn", "Ann"), directory.Equal("sn", "Ben")), people},
			"not":       {"ou=a,o=mail", directory.ScopeOne, directory.Filter{Kind: directory.Not, Children: []directory.Filter{directory.Equal("sn", "Ann")}}, []string{"cn=Ben"}},
			"present":   {"o=mail", directory.ScopeSubtree, directory.Filter{Attribute: "sn"}, people},
			"substring": {"o=mail", directory.ScopeSubtree, directory.Filter{Kind: directory.Substrings, Attribute: "description", Initial: "TW", Any: []string{"o "}, Final: "en"}, []string{"cn=Ben"}},
			"greater":   {"o=mail", directory.ScopeSubtree, directory.Filter{Kind: directory.GreaterOrEqual, Attribute: "sn", Value: "b"}, []string{"cn=Ben"}},
			"less":      {"o=mail", directory.ScopeSubtree, directory.Filter{Kind: directory.LessOrEqual, Attribute: "sn", Value: "b"}, []string{"cn=Ann"}},
			"other":     {"ou=b,o=mail", directory.ScopeSubtree, directory.Equal("sn", "Ann"), nil},
		} {
			if slices.Contains(except, name) {
				continue
			}
			if got, err := search(c.base, c.scope, c.f); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%s: %v %v, want %v", name, got, err, c.want)
			}
		}
		if _, err := search("ou=x,o=mail", directory.ScopeSubtree, directory.Filter{}); !errors.Is(err, directory.ErrNotFound) {
			t.Errorf("a base that is not there: %v", err)
		}
	})
	t.Run("bind", func(t *testing.T) {
		ann := directory.MustParseDN("cn=Ann,ou=a,o=mail")
		for range 2 { // the second time from the cache
			must(t, tree.Bind(ctx, ann, "pw-Ann"))
		}
		t.Run("a password like a scheme", func(t *testing.T) { // is in clear, and hashed as any
			unless(t, except)
			ben := directory.MustParseDN("cn=Ben,ou=a,o=mail")
			must(t, tree.Modify(ctx, ben, []directory.Change{{Kind: directory.ReplaceValues, Attribute: directory.Attribute{Name: "userPassword", Values: []string{"{my}password"}}}}))
			must(t, tree.Bind(ctx, ben, "{my}password"))
		})
		if err := tree.Bind(ctx, directory.MustParseDN("ou=a,o=mail"), "x"); !errors.Is(err, directory.ErrBadCredentials) {
			t.Errorf("an entry without a password: %v", err)
		}
		for _, pw := range []string{"", "pw-Ben"} {
			if err := tree.Bind(ctx, ann, pw); !errors.Is(err, directory.ErrBadCredentials) {
				t.Errorf("password %q: %v", pw, err)
			}
		}
	})
	t.Run("result codes", func(t *testing.T) {
		ann := directory.MustParseDN("cn=ann,ou=a,o=mail")
		mod := func(kind directory.ChangeKind, name string, values ...string) error {
			return tree.Modify(ctx, ann, []directory.Change{{Kind: kind, Attribute: directory.Attribute{Name: name, Values: values}}})
		}
		for name, c := range map[string]struct {
			err  error
			want directory.ResultCode
		}{
			"add twice":        {person("Ann"), directory.EntryAlreadyExists},
			"add no parent":    {add("cn=x,ou=x,o=mail", class), directory.NoSuchObject},
			"delete non-leaf":  {tree.Delete(ctx, directory.MustParseDN("ou=a,o=mail")), directory.NotAllowedOnNonLeaf},
			"delete nothing":   {tree.Delete(ctx, directory.MustParseDN("ou=x,o=mail")), directory.NoSuchObject},
			"value twice":      {mod(directory.AddValues, "description", "ONE"), directory.AttributeOrValueExists},
			"no such value":    {mod(directory.DeleteValues, "description", "three"), directory.NoSuchAttribute},
			"no such attr":     {mod(directory.DeleteValues, "mail"), directory.NoSuchAttribute},
			"RDN":              {mod(directory.DeleteValues, "cn"), directory.NotAllowedOnRDN},
			"must":             {add("cn=x,o=mail", class), directory.ObjectClassViolation},
			"no class":         {add("cn=x,o=mail"), directory.ObjectClassViolation},
			"single value":     {mod(directory.ReplaceValues, "mailHost", "a.example.com", "b.example.com"), directory.ConstraintViolation},
			"move to the root": {tree.Rename(ctx, ann, directory.RDN{{Name: "cn", Value: "ann"}}, false, &directory.DN{}), directory.NoSuchObject},
			"modify a nothing": {tree.Modify(ctx, directory.MustParseDN("cn=x,o=mail"), nil), directory.NoSuchObject},
		} {
			if got := code(c.err); got != c.want && !slices.Contains(except, name) {
				t.Errorf("%s: result %d (%v), want %d", name, got, c.err, c.want)
			}
		}
		must(t, mod(directory.ReplaceValues, "mail", "a@example.com", "b@example.com"))
		if got, _ := search("o=mail", directory.ScopeSubtree, directory.Equal("mail", "B@example.com")); len(got) != 1 {
			t.Errorf("a replaced value is not found: %v", got)
		}
	})
	t.Run("rename", func(t *testing.T) {
		b := directory.MustParseDN("ou=b,o=mail")
		must(t, tree.Rename(ctx, directory.MustParseDN("ou=a,o=mail"), directory.RDN{{Name: "ou", Value: "c"}}, true, &b))
		if got, err := search("ou=c,ou=b,o=mail", directory.ScopeSubtree, directory.Filter{}); err != nil || len(got) != 3 {
			t.Errorf("%v %v", got, err)
		}
		if got, _ := search("o=mail", directory.ScopeSubtree, directory.Equal("ou", "a")); len(got) != 0 {
			t.Errorf("the old name is still found: %v", got)
		}
		must(t, tree.Bind(ctx, directory.MustParseDN("cn=Ann,ou=c,ou=b,o=mail"), "pw-Ann"))
	})
}
