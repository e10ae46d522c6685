package ldapserver_test

import (
	"slices"
	"strings"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// TestWhoSeesWhat: passwords nobody; others' attributes as Access says, and no
// filter tells what reading would not.
func TestWhoSeesWhat(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, 3)))
	hash := saltedSHA512("p1")
	quota := equal("mailQuota", "1000")
	password := ldapwire.Filter{Kind: ldapwire.Substrings, Attribute: "userPassword", Initial: hash[:20]}
	not := func(f ldapwire.Filter) ldapwire.Filter {
		return ldapwire.Filter{Kind: ldapwire.Not, Children: []ldapwire.Filter{f}}
	}
	or := ldapwire.Filter{Kind: ldapwire.Or, Children: []ldapwire.Filter{password, equal("cn", "User 2")}}
	all := ldapwire.Filter{Kind: ldapwire.Extensible, Rule: "2.5.13.5", Value: hash}
	for _, test := range []struct {
		name   string
		who    directory.DN
		pw     string
		filter ldapwire.Filter
		want   []string
	}{
		{"admin by quota", admin(), secret, quota, []string{"uid=u0,o=mail", "uid=u1,o=mail", "uid=u2,o=mail"}},
		{"admin by password", admin(), secret, password, nil},
		{"admin by not password", admin(), secret, not(password), nil},
		{"admin by the password's number", admin(), secret, equal("2.5.4.35", hash), nil},
		{"admin by the password with an option", admin(), secret, equal("userPassword;x", hash), nil},
		{"admin by all attributes", admin(), secret, all, nil},
		{"admin by password or name", admin(), secret, or, []string{"uid=u2,o=mail"}},
		{"user by quota", user(1), "p1", quota, []string{"uid=u1,o=mail"}},
		{"user by not quota", user(1), "p1", not(equal("mailQuota", "2000")), []string{"uid=u1,o=mail"}},
		{"user by mail", user(1), "p1", equal("mail", "u2@example.com"), []string{"uid=u2,o=mail"}},
		{"nobody", directory.DN{}, "", quota, nil},
	} {
		c := dialRaw(t, l)
		if code := c.bind(test.who, test.pw); code != directory.Success {
			t.Fatal(code)
		}
		req := find(test.filter)
		req.Attributes = []string{"*", "+", "userPassword", "mailQuota"}
		_, entries := c.ask(2, req)
		var got []string
		for _, e := range entries {
			got = append(got, e.DN)
			for _, a := range e.Attributes {
				if strings.EqualFold(a.Name, "userPassword") {
					t.Errorf("%s: %s came with its password", test.name, e.DN)
				}
				if a.Name == "mailQuota" && !test.who.Equal(admin()) && e.DN != test.who.String() {
					t.Errorf("%s: %s came with its quota", test.name, e.DN)
				}
			}
		}
		if slices.Sort(got); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// TestUsersEdit: a user may change the own password and nothing else.
func TestUsersEdit(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, 3)))
	replace := func(dn, name, value string) ldapwire.Op {
		return &ldapwire.ModifyRequest{DN: dn, Changes: []ldapwire.Change{{Kind: 2, Attribute: ldapwire.Attribute{Name: name, Values: []string{value}}}}}
	}
	passwd := func(p ldapwire.PasswordModify) ldapwire.Op {
		return &ldapwire.ExtendedRequest{OID: ldapwire.OIDPasswordModify, Value: string(p.Append(nil)), HasValue: true}
	}
	c := dialRaw(t, l)
	if code := c.bind(user(1), "p1"); code != directory.Success {
		t.Fatal(code)
	}
	for i, test := range []struct {
		name string
		op   ldapwire.Op
		want directory.ResultCode
	}{
		{"own password", replace("uid=u1,o=mail", "userPassword", "new"), directory.Success},
		{"another's password", replace("uid=u2,o=mail", "userPassword", "new"), directory.InsufficientAccessRights},
		{"own quota", replace("uid=u1,o=mail", "mailQuota", "-1"), directory.InsufficientAccessRights},
		{"nothing of own", &ldapwire.ModifyRequest{DN: "uid=u1,o=mail"}, directory.InsufficientAccessRights},
		{"delete", &ldapwire.DelRequest{DN: "uid=u1,o=mail"}, directory.InsufficientAccessRights},
		{"rename", &ldapwire.ModifyDNRequest{DN: "uid=u1,o=mail", NewRDN: "uid=root"}, directory.InsufficientAccessRights},
		{"add", &ldapwire.AddRequest{DN: "uid=u9,o=mail"}, directory.InsufficientAccessRights},
		{"compare own password", &ldapwire.CompareRequest{DN: "uid=u1,o=mail", Attribute: "userPassword", Value: "new"}, directory.InsufficientAccessRights},
		{"compare another's quota", &ldapwire.CompareRequest{DN: "uid=u2,o=mail", Attribute: "mailQuota", Value: "1000"}, directory.InsufficientAccessRights},
		{"compare own quota", &ldapwire.CompareRequest{DN: "uid=u1,o=mail", Attribute: "mailQuota", Value: "1000"}, directory.CompareTrue},
		{"exop, wrong old password", passwd(ldapwire.PasswordModify{Old: "p1", New: "x"}), directory.InvalidCredentials},
		{"exop, another's", passwd(ldapwire.PasswordModify{User: "uid=u2,o=mail", New: "x"}), directory.InsufficientAccessRights},
		{"exop, malformed", &ldapwire.ExtendedRequest{OID: ldapwire.OIDPasswordModify, Value: "?", HasValue: true}, directory.ProtocolError},
		{"exop", passwd(ldapwire.PasswordModify{Old: "new", New: "newer"}), directory.Success},
	} {
		if res, _ := c.ask(10+i, test.op); directory.ResultCode(res.Code) != test.want {
			t.Errorf("%s: %+v, want %d", test.name, res, test.want)
		}
	}
	if code := c.bind(user(1), "newer"); code != directory.Success {
		t.Errorf("with the newest password: %d", code)
	}
}

// TestMalformedEdits are answered, each by its own result.
func TestMalformedEdits(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, 2)))
	c := dialRaw(t, l)
	if code := c.bind(admin(), secret); code != directory.Success {
		t.Fatal(code)
	}
	change := func(kind int, name string) ldapwire.Op {
		return &ldapwire.ModifyRequest{DN: "uid=u1,o=mail", Changes: []ldapwire.Change{{Kind: kind, Attribute: ldapwire.Attribute{Name: name, Values: []string{"1"}}}}}
	}
	for i, test := range []struct {
		name string
		op   ldapwire.Op
		want directory.ResultCode
	}{
		{"increment", change(3, "mailQuota"), directory.Success},
		{"unknown change", change(4, "mailQuota"), directory.ProtocolError},
		{"attribute with a space", change(2, "mail quota"), directory.UndefinedAttributeType},
		{"attribute without a name", change(2, ""), directory.UndefinedAttributeType},
		{"attribute without values", &ldapwire.AddRequest{DN: "uid=x,o=mail", Attributes: []ldapwire.Attribute{{Name: "sn"}}}, directory.InvalidAttributeSyntax},
		{"malformed DN", &ldapwire.DelRequest{DN: "u1"}, directory.InvalidDNSyntax},
		{"two RDNs", &ldapwire.ModifyDNRequest{DN: "uid=u1,o=mail", NewRDN: "uid=a,uid=b"}, directory.InvalidDNSyntax},
		{"no RDN", &ldapwire.ModifyDNRequest{DN: "uid=u1,o=mail"}, directory.InvalidDNSyntax},
		{"unknown exop", &ldapwire.ExtendedRequest{OID: "1.2.3"}, directory.ProtocolError},
		{"unknown scope", &ldapwire.SearchRequest{Base: "o=mail", Scope: 3}, directory.ProtocolError},
		{"compare nothing", &ldapwire.CompareRequest{DN: "uid=x,o=mail", Attribute: "sn", Value: "x"}, directory.NoSuchObject},
		{"compare what is not there", &ldapwire.CompareRequest{DN: "uid=u1,o=mail", Attribute: "title", Value: "x"}, directory.NoSuchAttribute},
		{"compare falsely", &ldapwire.CompareRequest{DN: "uid=u1,o=mail", Attribute: "cn", Value: "x"}, directory.CompareFalse},
	} {
		if res, _ := c.ask(10+i, test.op); directory.ResultCode(res.Code) != test.want {
			t.Errorf("%s: %+v, want %d", test.name, res, test.want)
		}
	}
	critical := ldapwire.Control{OID: "1.2.3", Critical: true}
	for i, op := range []ldapwire.Op{everything(), change(2, "mailQuota"), simple("", ""), &ldapwire.DelRequest{DN: "uid=u1,o=mail"}, &ldapwire.ExtendedRequest{OID: ldapwire.OIDWhoAmI}} {
		if res, _ := c.ask(50+i, op, critical); res.Code != int(directory.UnavailableCritExtension) {
			t.Errorf("critical control on %T: %+v", op, res)
		}
	}
	if res, _ := c.ask(60, everything(), ldapwire.Paged{Size: 1}.Control(false)); res.Code != 0 {
		t.Errorf("a control that is not critical: %+v", res)
	}
}

// readOnly hides that a tree can be edited.
type readOnly struct{ directory.Tree }

func TestReadOnly(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(readOnly{filled(t, 2)}))
	c := dialRaw(t, l)
	if code := c.bind(admin(), secret); code != directory.Success {
		t.Fatal(code)
	}
	if res, _ := c.ask(2, &ldapwire.DelRequest{DN: "uid=u1,o=mail"}); res.Code != int(directory.UnwillingToPerform) {
		t.Errorf("%+v", res)
	}
}
