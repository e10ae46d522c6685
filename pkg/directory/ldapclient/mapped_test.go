package ldapclient_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/ldapclient"
	"mailsrv/pkg/directory/ldapserver"
	"mailsrv/pkg/directory/sqldir"
	"mailsrv/pkg/ldif"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/peertest"
	"mailsrv/pkg/schema"
)

// adSchema is as much of Active Directory's schema as the preset speaks of.
const adSchema = `
attributetype ( 1.2.840.113556.1.4.221 NAME 'sAMAccountName' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.656 NAME 'userPrincipalName' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.2.210 NAME 'proxyAddresses' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.2.840.113556.1.4.8 NAME 'userAccountControl' EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.2 NAME 'mDBOverHardQuotaLimit' EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.2.999 NAME 'managedBy' EQUALITY distinguishedNameMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 SINGLE-VALUE )
objectclass ( 1.2.840.113556.1.5.9 NAME 'user' SUP organizationalPerson STRUCTURAL
	MAY ( sAMAccountName $ userPrincipalName $ proxyAddresses $ userAccountControl $ mDBOverHardQuotaLimit $ mail $ displayName ) )
objectclass ( 1.2.840.113556.1.3.30 NAME 'computer' SUP user STRUCTURAL )
objectclass ( 1.2.840.113556.1.5.8 NAME 'group' SUP top STRUCTURAL MUST cn MAY ( sAMAccountName $ proxyAddresses $ mail $ member $ managedBy ) )
`

const adEntries = `dn: dc=corp,dc=test
objectClass: domain
dc: corp

dn: cn=Users,dc=corp,dc=test
objectClass: applicationProcess
cn: Users

dn: cn=Alice Example,cn=Users,dc=corp,dc=test
objectClass: user
cn: Alice Example
sn: Example
displayName: Alice
sAMAccountName: alice
userPrincipalName: alice.example@corp.test
mail: Alice@example.com
proxyAddresses: SMTP:Alice@example.com
proxyAddresses: smtp:info@example.com
proxyAddresses: X500:/o=Corp/cn=alice
userAccountControl: 512
mDBOverHardQuotaLimit: 2048
userPassword: alice-secret

dn: cn=Bob,cn=Users,dc=corp,dc=test
objectClass: user
cn: Bob
sn: Bob
sAMAccountName: bob
proxyAddresses: smtp:robert@example.com
proxyAddresses: SMTP:bob@example.com
userAccountControl: 514
userPassword: bob-secret

dn: cn=PC1,cn=Users,dc=corp,dc=test
objectClass: computer
cn: PC1
sn: PC1
sAMAccountName: PC1$
mail: pc1@example.com

dn: cn=All,cn=Users,dc=corp,dc=test
objectClass: group
cn: All
mail: all@example.com
member: cn=Alice Example,cn=Users,dc=corp,dc=test
member: cn=Bob,cn=Users,dc=corp,dc=test
managedBy: cn=Alice Example,cn=Users,dc=corp,dc=test
`

const plainEntries = `dn: dc=corp,dc=test
objectClass: domain
dc: corp

dn: ou=People,dc=corp,dc=test
objectClass: organizationalUnit
ou: People

dn: uid=alice,ou=People,dc=corp,dc=test
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: Example
mail: alice@example.com
mail: info@example.com
userPassword: alice-secret

dn: uid=bob,ou=People,dc=corp,dc=test
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: Bob
mail: bob@example.com
mail: robert@example.com
employeeType: left
userPassword: bob-secret

dn: uid=pc1,ou=People,dc=corp,dc=test
objectClass: account
uid: pc1

dn: cn=All,dc=corp,dc=test
objectClass: groupOfNames
objectClass: extensibleObject
cn: All
mail: all@example.com
owner: uid=alice,ou=People,dc=corp,dc=test
member: uid=alice,ou=People,dc=corp,dc=test
member: uid=bob,ou=People,dc=corp,dc=test
`

// foreign is a client of our server over the entries, under their schema.
func foreign(t *testing.T, rules, entries string) *ldapclient.Client {
	t.Helper()
	s, err := schema.Load(schema.File{Name: "foreign.schema", Text: rules})
	must(t, err)
	tree, err := sqldir.Open(t.Context(), filepath.Join(t.TempDir(), "directory.db"), sqldir.Options{Schema: s})
	must(t, err)
	t.Cleanup(func() { must(t, tree.Close()) })
	r := ldif.NewReader(strings.NewReader(entries))
	for rec, err := r.Next(); err == nil; rec, err = r.Next() {
		e := directory.Entry{DN: directory.MustParseDN(rec.DN)}
		for _, a := range rec.Attributes {
			e.Attributes = append(e.Attributes, directory.Attribute(a))
		}
		must(t, tree.Add(t.Context(), e))
	}
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, ldapserver.Options{Tree: tree, Schema: s, Access: directory.Access{Services: []directory.DN{service}},
		Accounts: []ldapserver.Account{{DN: service, Password: password}}})
	return dial(t, ldapclient.Options{URLs: []string{"ldap://" + l.Addr().String()}, BindDN: service, Password: password, ReadOnly: true})
}

func preset(t *testing.T, name string, change func(*directory.Mapping)) *directory.Mapping {
	t.Helper()
	m, err := directory.Preset(name)
	must(t, err)
	m.Domains = []directory.MappedDomain{{Name: "example.com", Aliases: []string{"example.net"}, MailHost: "store1.example.com"},
		{Name: "example.org", MailHost: "store2.example.com"}}
	if change != nil {
		change(m)
	}
	must(t, m.Check())
	return m
}

// TestPresets: the mail view over directories that have not our schema.
func TestPresets(t *testing.T) {
	left := func(m *directory.Mapping) { m.Inactive = directory.Equal("employeeType", "left") }
	for name, c := range map[string]struct {
		tree    func(t *testing.T) *ldapclient.Client
		mapping *directory.Mapping
		quota   int64
		compare bool
	}{
		"ad": {func(t *testing.T) *ldapclient.Client { return foreign(t, adSchema, adEntries) }, preset(t, "ad", nil), 2 << 20, false},
		"ad, memberOf": {func(t *testing.T) *ldapclient.Client { return foreign(t, adSchema, adEntries) }, preset(t, "ad", func(m *directory.Mapping) {
			m.Members, m.MembersAre = "memberOf", directory.MemberOf
		}), 2 << 20, false},
		"389ds": {func(t *testing.T) *ldapclient.Client {
			return foreign(t, "", strings.NewReplacer("groupOfNames", "groupOfUniqueNames", "member: ", "uniqueMember: ").Replace(plainEntries))
		}, preset(t, "389ds", left), directory.QuotaDefault, false},
		"openldap, names": {func(t *testing.T) *ldapclient.Client {
			return foreign(t, "", strings.NewReplacer("objectClass: groupOfNames", "objectClass: posixGroup\ngidNumber: 7", "member: uid=alice,ou=People,dc=corp,dc=test", "memberUid: alice",
				"member: uid=bob,ou=People,dc=corp,dc=test", "memberUid: bob").Replace(plainEntries))
		}, preset(t, "openldap", func(m *directory.Mapping) {
			left(m)
			m.Groups, m.Members, m.MembersAre = directory.Equal("objectClass", "posixGroup"), "memberUid", directory.MemberName
		}), directory.QuotaDefault, false},
		"slapd": {func(t *testing.T) *ldapclient.Client {
			return dial(t, ldapclient.Options{URLs: []string{startPlainSlapd(t)}, BindDN: directory.MustParseDN("cn=admin,dc=corp,dc=test"), Password: password})
		}, preset(t, "openldap", left), directory.QuotaDefault, false},
		"slapd, compare": {func(t *testing.T) *ldapclient.Client {
			return dial(t, ldapclient.Options{URLs: []string{startPlainSlapd(t)}, BindDN: directory.MustParseDN("cn=admin,dc=corp,dc=test"), Password: password})
		}, preset(t, "openldap", left), directory.QuotaDefault, true},
	} {
		t.Run(name, func(t *testing.T) {
			tree := c.tree(t)
			o := directory.ViewOptions{Base: directory.MustParseDN("dc=corp,dc=test"), Mapping: c.mapping, Compare: c.compare}
			checkMapped(t, directory.NewView(tree, o), c.quota)
			list, err := directory.NewProvisioner(tree, o).Recipients(t.Context(), "")
			var all []string
			for _, r := range list {
				all = append(all, strings.ToLower(r.Address().String()))
			}
			if err != nil || !slices.Equal(all, []string{"alice@example.com", "all@example.com", "bob@example.com"}) {
				t.Errorf("listed: %v, %v", all, err)
			}
		})
	}
}

func startPlainSlapd(t *testing.T) string {
	t.Helper()
	return peertest.StartSlapd(t, peertest.SlapdOptions{Suffix: "dc=corp,dc=test", Password: password, LDIF: strings.NewReplacer(
		"alice-secret", "{SSHA}Ye2QsKnBQPZhaprcqPomYfFmh5NzYWx0", "bob-secret", "{SSHA}Ye2QsKnBQPZhaprcqPomYfFmh5NzYWx0").Replace(plainEntries)}).URL
}

// checkMapped: alice is active, has info@ too and owns the group of her and bob,
// who is shut out; nobody else gets mail.
func checkMapped(t *testing.T, v *directory.View, quota int64) {
	t.Helper()
	ctx := t.Context()
	address := func(s string) mail.Address {
		a, err := mail.ParseAddress(s)
		must(t, err)
		return a
	}
	for to, want := range map[string]string{
		"alice@example.com": "alice", "INFO@example.com": "alice", "info@example.net": "alice", "robert@example.com": "bob", "bob@example.net": "bob",
		"pc1@example.com": "", "nobody@example.com": "", "alice@example.org": "", "*@example.com": "",
	} {
		r, err := v.Recipient(ctx, address(to))
		if want == "" {
			if !errors.Is(err, directory.ErrNotFound) {
				t.Errorf("%s: %v %v, want ErrNotFound", to, r, err)
			}
			continue
		}
		if err != nil || r.User == nil || r.User.Account() != want+"@example.com" || r.User.MailHost != "store1.example.com" {
			t.Errorf("%s: %+v %v, want %s", to, r.User, err, want)
		}
	}
	alice, err := v.User(ctx, "alice")
	if err != nil || alice.Status != directory.Active || alice.Quota != quota || !strings.EqualFold(alice.Mail.String(), "alice@example.com") || alice.Name != "Alice" {
		t.Errorf("alice: %+v %v", alice, err)
	}
	if bob, err := v.User(ctx, "bob@example.com"); err != nil || bob.Status != directory.Inactive {
		t.Errorf("bob, who left: %v %v", bob.Status, err)
	}
	for _, login := range []string{"alice@example.org", "pc1", "alice@elsewhere.test"} {
		if u, err := v.User(ctx, login); !errors.Is(err, directory.ErrNotFound) {
			t.Errorf("login %s: %v %v", login, u.DN, err)
		}
	}
	for login, c := range map[string]struct {
		password string
		want     error
	}{"alice": {"alice-secret", nil}, "info@example.net": {"alice-secret", nil}, "Alice": {"x", directory.ErrBadCredentials}, "bob": {"", directory.ErrBadCredentials}, "nobody": {"alice-secret", directory.ErrBadCredentials}} {
		if _, err := v.Verify(ctx, login, c.password); !errors.Is(err, c.want) {
			t.Errorf("%s %q: %v, want %v", login, c.password, err, c.want)
		}
	}
	r, err := v.Recipient(ctx, address("all@example.com"))
	if err != nil || r.Group == nil || r.Group.Name != "All" || len(r.Group.Owners) != 1 || !r.Group.Owners[0].Equal(alice.DN) {
		t.Fatalf("the group: %+v %v", r.Group, err)
	}
	var members []string
	for _, dn := range r.Group.Members {
		m, err := v.Member(ctx, dn)
		must(t, err)
		members = append(members, m.User.UID)
	}
	for _, u := range r.Group.Searches {
		list, err := v.List(ctx, u)
		must(t, err)
		for _, m := range list {
			members = append(members, m.User.UID)
		}
	}
	slices.Sort(members)
	if !slices.Equal(members, []string{"alice", "bob"}) {
		t.Errorf("members: %v", members)
	}
}

// TestReadOnly: a directory that is kept elsewhere is not changed from here.
func TestReadOnly(t *testing.T) {
	c := foreign(t, adSchema, adEntries)
	err := c.Delete(t.Context(), directory.MustParseDN("cn=Bob,cn=Users,dc=corp,dc=test"))
	if r, ok := errors.AsType[*directory.ResultError](err); !ok || r.Code != directory.UnwillingToPerform {
		t.Errorf("a change: %v", err)
	}
}
