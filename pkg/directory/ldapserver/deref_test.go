package ldapserver_test

import (
	"slices"
	"strings"
	"testing"

	"mailsrv/pkg/directory"
)

// TestAliases: derefAliases (RFC 4511 §4.5.1.3), with aliases of entries, of
// subtrees, of each other, of nothing and in a ring.
func TestAliases(t *testing.T) {
	tree := filled(t, 2)
	ctx := t.Context()
	add := func(dn string, classes []string, more ...directory.Attribute) {
		t.Helper()
		must(t, tree.Add(ctx, directory.Entry{DN: directory.MustParseDN(dn), Attributes: append(more, directory.Attribute{Name: "objectClass", Values: classes})}))
	}
	to := func(dn string) directory.Attribute {
		return directory.Attribute{Name: "aliasedObjectName", Values: []string{dn}}
	}
	unit, alias := []string{"organizationalUnit"}, []string{"alias", "extensibleObject"}
	add("ou=new,o=mail", unit)
	add("ou=team,ou=new,o=mail", unit)
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(directory.NewViews(tree.(directory.Engine), directory.ViewsOptions{})))
	c := dialRaw(t, l)
	if code := c.bind(admin(), secret); code != directory.Success {
		t.Fatal(code)
	}
	id := 10
	search := func(base string, scope, deref int) (string, directory.ResultCode) {
		id++
		req := everything()
		req.Base, req.Scope, req.DerefAliases = base, scope, deref
		res, entries := c.ask(id, req)
		var names []string
		for _, e := range entries {
			name, _, _ := strings.Cut(e.DN, ",")
			names = append(names, name)
		}
		slices.Sort(names)
		return strings.Join(names, " "), directory.ResultCode(res.Code)
	}
	if got, code := search("ou=new,o=mail", 2, 3); got != "ou=new ou=team" || code != 0 {
		t.Errorf("without aliases: %q %d", got, code)
	}
	add("cn=boss,ou=team,ou=new,o=mail", alias, to("uid=u0,o=mail"))
	add("ou=old,o=mail", alias, to("ou=new,o=mail"))
	add("ou=older,o=mail", alias, to("ou=old,o=mail"))
	add("cn=a,o=mail", alias, to("cn=b,o=mail"))
	add("cn=b,o=mail", alias, to("cn=a,o=mail"))
	add("cn=nothing,ou=team,ou=new,o=mail", alias, to("cn=gone,o=mail"))
	for _, test := range []struct {
		base         string
		scope, deref int
		want         string
		code         directory.ResultCode
	}{
		{"ou=new,o=mail", 2, 0, "cn=boss cn=nothing ou=new ou=team", 0},
		{"ou=new,o=mail", 2, 1, "ou=new ou=team uid=u0", 0},
		{"ou=team,ou=new,o=mail", 1, 3, "uid=u0", 0},
		{"ou=old,o=mail", 0, 0, "ou=old", 0},
		{"ou=old,o=mail", 0, 1, "ou=old", 0},
		{"ou=old,o=mail", 0, 2, "ou=new", 0},
		{"ou=older,o=mail", 2, 3, "ou=new ou=team uid=u0", 0},
		{"ou=team,ou=older,o=mail", 0, 3, "ou=team", 0},
		{"cn=a,o=mail", 0, 2, "", directory.AliasDereferencingProblem},
		{"cn=nothing,ou=team,ou=new,o=mail", 0, 2, "", directory.NoSuchObject},
		{"o=mail", 2, 3, "o=mail ou=new ou=team uid=u0 uid=u1", 0},
	} {
		if got, code := search(test.base, test.scope, test.deref); got != test.want || code != test.code {
			t.Errorf("%s, scope %d, deref %d: %q %d, want %q %d", test.base, test.scope, test.deref, got, code, test.want, test.code)
		}
	}
}
