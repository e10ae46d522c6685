package ldapserver_test

import (
	"path/filepath"
	"testing"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/sqldir"
	"mailsrv/pkg/wire/ldapwire"
)

// TestPolicyControl has what draft-behera-ldap-password-policy §6.2 tells a client
// of its password.
func TestPolicyControl(t *testing.T) {
	now := time.Now()
	tree, err := sqldir.Open(t.Context(), filepath.Join(t.TempDir(), "directory.db"), sqldir.Options{Now: func() time.Time { return now },
		Policy: sqldir.Policy{MinLength: 8, History: 3, MaxAge: 90 * 24 * time.Hour}})
	must(t, err)
	t.Cleanup(func() { must(t, tree.Close()) })
	must(t, tree.Add(t.Context(), directory.Entry{DN: base(), Attributes: []directory.Attribute{{Name: "objectClass", Values: []string{"organization"}}}}))
	must(t, tree.Add(t.Context(), directory.Entry{DN: user(1), Attributes: []directory.Attribute{
		{Name: "objectClass", Values: []string{"inetOrgPerson"}}, {Name: "cn", Values: []string{"x"}}, {Name: "sn", Values: []string{"x"}}, {Name: "userPassword", Values: []string{"first password"}}}}))
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(tree))
	c := dialRaw(t, l)
	id := 0
	ask := func(op ldapwire.Op) (code int, policy string) {
		t.Helper()
		id++
		c.say(ldapwire.Message{ID: id, Op: op, Controls: []ldapwire.Control{{OID: ldapwire.OIDPolicy}}})
		m := c.hear()
		if len(m.Controls) != 1 || m.Controls[0].OID != ldapwire.OIDPolicy {
			t.Fatalf("controls of %T: %+v", m.Op, m.Controls)
		}
		switch op := m.Op.(type) {
		case *ldapwire.BindResponse:
			code = op.Code
		case *ldapwire.ExtendedResponse:
			code = op.Code
		case *ldapwire.Done:
			code = op.Code
		}
		return code, m.Controls[0].Value
	}
	expect := func(what string, op ldapwire.Op, code directory.ResultCode, p ldapwire.Policy) {
		t.Helper()
		if got, policy := ask(op); got != int(code) || policy != p.Control().Value {
			t.Errorf("%s: %d %x, want %d %x", what, got, policy, code, p.Control().Value)
		}
	}
	nothing := ldapwire.Policy{ExpiresIn: -1, Error: -1}
	change := func(old, to string) ldapwire.Op {
		return &ldapwire.ExtendedRequest{OID: ldapwire.OIDPasswordModify, Value: string(ldapwire.PasswordModify{Old: old, New: to}.Append(nil)), HasValue: true}
	}
	expect("bind", simple(user(1).String(), "first password"), directory.Success, nothing)
	expect("short", change("", "short"), directory.ConstraintViolation, ldapwire.Policy{ExpiresIn: -1, Error: ldapwire.PolicyPasswordTooShort})
	expect("used", change("first password", "first password"), directory.ConstraintViolation, ldapwire.Policy{ExpiresIn: -1, Error: ldapwire.PolicyPasswordInHistory})
	expect("short, by modify", &ldapwire.ModifyRequest{DN: user(1).String(), Changes: []ldapwire.Change{{Kind: 2, Attribute: ldapwire.Attribute{Name: "userPassword", Values: []string{"short"}}}}},
		directory.ConstraintViolation, ldapwire.Policy{ExpiresIn: -1, Error: ldapwire.PolicyPasswordTooShort})
	expect("wrong old", change("wrong password", "second password"), directory.InvalidCredentials, nothing)
	expect("good", change("first password", "second password"), directory.Success, nothing)
	now = now.Add(80 * 24 * time.Hour)
	_, policy := ask(simple(user(1).String(), "second password"))
	if policy == nothing.Control().Value {
		t.Error("a password that soon ends: no warning")
	}
	now = now.Add(11 * 24 * time.Hour)
	expect("expired", simple(user(1).String(), "second password"), directory.InvalidCredentials, ldapwire.Policy{ExpiresIn: -1, Error: ldapwire.PolicyPasswordExpired})
	expect("expired, and wrong", simple(user(1).String(), "x"), directory.InvalidCredentials, nothing)
}
