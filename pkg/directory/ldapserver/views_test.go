package ldapserver_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/ldapserver"
	"mailsrv/pkg/directory/sqldir"
	"mailsrv/pkg/peertest"
	"mailsrv/pkg/wire/ldapwire"
)

// viewed serves example.com, with its users ann and ben, the group all, and views.
func viewed(t *testing.T, l net.Listener) (ldapserver.Options, *directory.Provisioner) {
	t.Helper()
	tree := filled(t, 0)
	p := directory.NewProvisioner(tree, directory.ViewOptions{Base: base()})
	ctx := t.Context()
	must(t, p.AddDomain(ctx, "example.com", ""))
	must(t, p.AddUser(ctx, "ann@example.com", "Änn Example", saltedSHA512("secret-ann"), ""))
	must(t, p.AddUser(ctx, "ben@example.com", "Ben", saltedSHA512("secret-ben"), ""))
	must(t, p.AddAlias(ctx, "info@example.com", "ann@example.com"))
	must(t, p.AddGroup(ctx, "all@example.com", []string{"ann@example.com", "ben@example.com"}))
	o := options(directory.NewViews(tree.(*sqldir.Dir), directory.ViewsOptions{First: 10000, Group: 100, Home: "/home/%d/%u", Shell: "/bin/sh",
		Known: func(name string) bool { return tree.(*sqldir.Dir).Schema().Attribute(name) != nil }}))
	serve(t, l, o)
	return o, p
}

// TestViews: what other programs call users and groups is found and shown.
func TestViews(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	_, p := viewed(t, l)
	c := dialRaw(t, l)
	if code := c.bind(admin(), secret); code != directory.Success {
		t.Fatal(code)
	}
	id := 10
	search := func(filter string, attributes ...string) (names []string, first map[string]string) {
		t.Helper()
		f, err := directory.ParseFilter(filter)
		must(t, err)
		req := find(wireFilter(f))
		req.Attributes = attributes
		id++
		res, entries := c.ask(id, req)
		if res.Code != 0 {
			t.Errorf("%s: %+v", filter, res)
		}
		for i, e := range entries {
			name, _, _ := strings.Cut(e.DN, ",")
			names = append(names, name)
			if i == 0 {
				first = map[string]string{}
				for _, a := range e.Attributes {
					first[a.Name] = strings.Join(a.Values, " ")
				}
			}
		}
		slices.Sort(names)
		return names, first
	}
	_, ann := search("(uid=ann)", "uid", "uidNumber", "gidNumber", "homeDirectory", "loginShell", "gecos", "sAMAccountName", "userPrincipalName", "proxyAddresses")
	number := ann["uidNumber"]
	want := map[string]string{"uid": "ann", "uidNumber": number, "gidNumber": "100", "homeDirectory": "/home/example.com/ann", "loginShell": "/bin/sh", "gecos": "?nn Example",
		"sAMAccountName": "ann", "userPrincipalName": "ann@example.com", "proxyAddresses": "SMTP:ann@example.com smtp:info@example.com"}
	if fmt.Sprint(ann) != fmt.Sprint(want) || len(number) != 5 || number[:2] != "10" {
		t.Errorf("ann: %v, want %v", ann, want)
	}
	_, all := search("(&(objectClass=posixGroup)(cn=all))", "cn", "gidNumber", "memberUid", "member")
	if all["memberUid"] != "ann ben" || len(all["gidNumber"]) != 5 || all["gidNumber"] == number || !strings.HasPrefix(all["member"], "uid=ann,") || len(all) != 4 {
		t.Errorf("all: %v", all)
	}
	for filter, want := range map[string]string{
		"(uidNumber=" + number + ")":                      "uid=ann",
		"(uidNumber=10)":                                  "",
		"(uidNumber=x)":                                   "",
		"(gidNumber=" + all["gidNumber"] + ")":            "cn=all",
		"(gidNumber=" + number + ")":                      "",
		"(gidNumber=100)":                                 "uid=ann uid=ben",
		"(&(objectClass=posixAccount)(uid=ben))":          "uid=ben",
		"(objectClass=posixAccount)":                      "uid=ann uid=ben",
		"(objectClass=posixGroup)":                        "cn=all",
		"(&(objectClass=posixGroup)(memberUid=ben))":      "cn=all",
		"(memberUid=nobody)":                              "",
		"(sAMAccountName=ANN)":                            "uid=ann",
		"(sAMAccountName=a*)":                             "cn=all uid=ann",
		"(userPrincipalName=ben@example.com)":             "uid=ben",
		"(proxyAddresses=SMTP:info@example.com)":          "uid=ann",
		"(proxyAddresses=smtp:all@*)":                     "cn=all",
		"(proxyAddresses=x500:ann@example.com)":           "",
		"(&(objectCategory=person)(displayName=ben))":     "uid=ben",
		"(!(sAMAccountName=ann))":                         "cn=all o=example.com o=mail ou=Groups ou=People uid=ben",
		"(member=uid=ann,ou=People,o=example.com,o=mail)": "cn=all",
	} {
		got, _ := search(filter, "cn")
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %q, want %q", filter, s, want)
		}
	}
	// A number is nobody else's, not even after its first owner is gone.
	must(t, p.DeleteUser(t.Context(), "ben@example.com"))
	must(t, p.AddUser(t.Context(), "cas@example.com", "", saltedSHA512("x"), ""))
	_, ben := search("(uid=cas)", "uidNumber")
	if got, _ := search("(uidNumber="+ben["uidNumber"]+")", "cn"); !slices.Equal(got, []string{"uid=cas"}) || ben["uidNumber"] <= all["gidNumber"] {
		t.Errorf("a new user has the number %s: %v", ben["uidNumber"], got)
	}
}

func wireFilter(f directory.Filter) ldapwire.Filter {
	kinds := map[directory.FilterKind]ldapwire.FilterKind{directory.And: ldapwire.And, directory.Or: ldapwire.Or, directory.Not: ldapwire.Not, directory.Equality: ldapwire.Equality,
		directory.Substrings: ldapwire.Substrings, directory.Present: ldapwire.Present, directory.GreaterOrEqual: ldapwire.GreaterOrEqual, directory.LessOrEqual: ldapwire.LessOrEqual}
	out := ldapwire.Filter{Kind: kinds[f.Kind], Attribute: f.Attribute, Value: f.Value, Initial: f.Initial, Any: f.Any, Final: f.Final}
	for _, c := range f.Children {
		out.Children = append(out.Children, wireFilter(c))
	}
	return out
}

// TestNSLCD: the machines of an office resolve our users and groups, in a mount
// namespace where this machine's own configuration is another.
func TestNSLCD(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root makes mount namespaces")
	}
	nslcd := peertest.Program(t, "nslcd", "nslcd")
	unshare := peertest.Program(t, "unshare", "util-linux")
	if err := exec.CommandContext(t.Context(), unshare, "-m", "true").Run(); err != nil {
		t.Skip("no mount namespaces here:", err)
	}
	l := listen(t, "tcp", "127.0.0.1:0")
	viewed(t, l)
	dir := t.TempDir()
	conf := fmt.Sprintf("uri ldap://%s\nbase o=mail\nbinddn cn=admin,o=mail\nbindpw %s\n", l.Addr(), secret)
	must(t, os.WriteFile(filepath.Join(dir, "nslcd.conf"), []byte(conf), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "nsswitch.conf"), []byte("passwd: files ldap\ngroup: files ldap\n"), 0o644))
	script := fmt.Sprintf(`set -e
mount --bind %[1]s/nsswitch.conf /etc/nsswitch.conf
touch /etc/nslcd.conf 2>/dev/null || true
mount --bind %[1]s/nslcd.conf /etc/nslcd.conf
mkdir -p /run/nslcd
mount -t tmpfs none /run/nslcd
%[2]s -n >%[1]s/log 2>&1 &
server=$!
for i in $(seq 200); do [ -S /run/nslcd/socket ] && break; read -t 0.05 _ <> <(:) || true; done
getent passwd ann || true
getent group all || true
id -nG ann || true
kill $server
wait $server || true
`, dir, nslcd)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), unshare, "-m", "bash", "-c", script)
	out, err := cmd.CombinedOutput()
	for _, want := range []string{":100:?nn Example:/home/example.com/ann:/bin/sh\n", "all:*:", ":ann,ben\n", " all"} {
		if err != nil || !strings.Contains(string(out), want) {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("%q is missing: %v\n%s\n%s", want, err, out, log)
		}
	}
}
