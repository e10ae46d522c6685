package ldapserver_test

import (
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/peertest"
)

// TestGoLDAP: every operation, spoken by a client that is not ours.
func TestGoLDAP(t *testing.T) {
	serverTLS, clientTLS, _ := certificate(t)
	l := listen(t, "tcp", "127.0.0.1:0")
	o := options(filled(t, 3))
	o.TLS = serverTLS
	serve(t, l, o)
	c, err := ldap.DialURL("ldap://" + l.Addr().String())
	must(t, err)
	defer c.Close()
	must(t, c.StartTLS(clientTLS))
	must(t, c.Bind("cn=admin,o=mail", secret))
	who, err := c.WhoAmI(nil)
	if err != nil || who.AuthzID != "dn:cn=admin,o=mail" {
		t.Errorf("whoami: %v %v", who, err)
	}

	add := ldap.NewAddRequest("cn=List,o=mail", nil)
	add.Attribute("objectClass", []string{"groupOfUniqueNames"})
	add.Attribute("cn", []string{"List"})
	add.Attribute("description", []string{"a, b", "ünï", "(*)\\"})
	must(t, c.Add(add))
	if err := c.Add(add); !ldap.IsErrorWithCode(err, ldap.LDAPResultEntryAlreadyExists) {
		t.Errorf("added twice: %v", err)
	}
	modify := ldap.NewModifyRequest("cn=List,o=mail", nil)
	modify.Add("uniqueMember", []string{"uid=u0,o=mail", "uid=u1,o=mail", "uid=u2,o=mail"})
	modify.Delete("uniqueMember", []string{"UID=U1, o=mail"})
	modify.Replace("description", []string{"one", "two"})
	must(t, c.Modify(modify))
	get := func(dn string, attributes ...string) map[string][]string {
		t.Helper()
		res, err := c.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", attributes, nil))
		must(t, err)
		got := map[string][]string{}
		for _, a := range res.Entries[0].Attributes {
			got[a.Name] = a.Values
		}
		return got
	}
	want := map[string][]string{"uniqueMember": {"uid=u0,o=mail", "uid=u2,o=mail"}, "description": {"one", "two"}}
	if diff := cmp.Diff(want, get("cn=List,o=mail", "uniqueMember", "description")); diff != "" {
		t.Errorf("after the modify (-want +got):\n%s", diff)
	}
	if got := get("cn=List,o=mail", "1.1"); len(got) != 0 {
		t.Errorf("1.1 returned %v", got)
	}

	for attribute, want := range map[string]bool{"one": true, "ONE": true, "three": false} {
		if got, err := c.Compare("cn=List,o=mail", "description", attribute); err != nil || got != want {
			t.Errorf("compare %s: %v %v", attribute, got, err)
		}
	}
	must(t, c.ModifyDN(ldap.NewModifyDNRequest("cn=List,o=mail", "cn=Letter", true, "")))
	if got := get("cn=Letter,o=mail", "cn")["cn"]; !slices.Equal(got, []string{"Letter"}) {
		t.Errorf("renamed to %v", got)
	}
	must(t, c.Del(ldap.NewDelRequest("cn=Letter,o=mail", nil)))
	if err := c.Del(ldap.NewDelRequest("cn=Letter,o=mail", nil)); !ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) {
		t.Errorf("deleted twice: %v", err)
	}

	changed, err := c.PasswordModify(ldap.NewPasswordModifyRequest("uid=u1,o=mail", "", ""))
	must(t, err)
	must(t, c.Bind("uid=u1,o=mail", changed.GeneratedPassword))
	if err := c.Bind("uid=u1,o=mail", "p1"); !ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials) {
		t.Errorf("the old password: %v", err)
	}
}

// TestGoLDAPFilters: each kind of filter, and pages, which we do not make.
func TestGoLDAPFilters(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, 3)))
	c, err := ldap.DialURL("ldap://" + l.Addr().String())
	must(t, err)
	defer c.Close()
	must(t, c.Bind("cn=admin,o=mail", secret))
	for filter, want := range map[string]string{
		"(uid=u1)":                                   "u1",
		"(&(objectClass=person)(!(uid=u1)))":         "u0 u2",
		"(|(uid=u0)(mail=U2@EXAMPLE.com))":           "u0 u2",
		"(cn=user*)":                                 "u0 u1 u2",
		"(cn=*r 2)":                                  "u2",
		"(mail=u*@*.com)":                            "u0 u1 u2",
		"(uid>=u1)":                                  "u1 u2",
		"(&(uid<=u1)(objectClass=person))":           "u0 u1",
		"(cn~=user 1)":                               "u1",
		"(cn:caseExactMatch:=User 1)":                "u1",
		"(cn:caseExactMatch:=user 1)":                "",
		"(o:dn:=mail)":                               "mail u0 u1 u2",
		"(cn:1.2.3.4:=User 1)":                       "",
		"(!(cn:1.2.3.4:=User 1))":                    "",
		`(cn=\2a)`:                                   "",
		"(objectClass=*)":                            "mail u0 u1 u2",
		"(&(objectClass=inetMailUser)(cn=user 0))":   "u0",
		"(&(objectClass=person)(nosuchattribute=*))": "",
	} {
		res, err := c.Search(ldap.NewSearchRequest("o=mail", ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, filter, []string{"uid"}, nil))
		must(t, err)
		var got []string
		for _, e := range res.Entries {
			_, name, _ := strings.Cut(strings.Split(e.DN, ",")[0], "=")
			got = append(got, name)
		}
		slices.Sort(got)
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %q, want %q", filter, s, want)
		}
	}
	req := ldap.NewSearchRequest("o=mail", ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", nil, nil)
	if res, err := c.SearchWithPaging(req, 2); err != nil || len(res.Entries) != 4 {
		t.Errorf("pages, not critical: %v", err)
	}
	_, err = c.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", []string{"+"}, nil))
	must(t, err)
}

// TestRootDSE is told to anybody, and nothing else is.
func TestRootDSE(t *testing.T) {
	serverTLS, _, _ := certificate(t)
	l := listen(t, "tcp", "127.0.0.1:0")
	o := options(filled(t, 1))
	o.TLS = serverTLS
	serve(t, l, o)
	c, err := ldap.DialURL("ldap://" + l.Addr().String())
	must(t, err)
	defer c.Close()
	res, err := c.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", nil, nil))
	must(t, err)
	e := res.Entries[0]
	for name, want := range map[string][]string{
		"namingContexts": {"o=mail"}, "supportedLDAPVersion": {"3"}, "vendorName": {"mailsrv"}, "vendorVersion": {"1.0"}, "supportedSASLMechanisms": {"PLAIN"},
		"supportedExtension": {"1.3.6.1.4.1.4203.1.11.3", "1.3.6.1.1.8", "1.3.6.1.4.1.1466.20037", "1.3.6.1.4.1.4203.1.11.1"},
	} {
		if got := e.GetAttributeValues(name); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	for _, scope := range []int{ldap.ScopeSingleLevel, ldap.ScopeWholeSubtree} {
		_, err := c.Search(ldap.NewSearchRequest("", scope, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", nil, nil))
		var e *ldap.Error
		if !errors.As(err, &e) || e.ResultCode != ldap.LDAPResultInsufficientAccessRights {
			t.Errorf("scope %d: %v", scope, err)
		}
	}
}

// TestOpenLDAPTools: Debian's ldap-utils over TCP, StartTLS and ldapi.
func TestOpenLDAPTools(t *testing.T) {
	for _, tool := range []string{"ldapsearch", "ldapadd", "ldapmodify", "ldapwhoami", "ldappasswd", "ldapcompare", "ldapmodrdn", "ldapdelete"} {
		peertest.Program(t, tool, "ldap-utils")
	}
	serverTLS, _, der := certificate(t)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	tcp, unix := listen(t, "tcp", "127.0.0.1:0"), listen(t, "unix", filepath.Join(dir, "ldapi"))
	o := options(filled(t, 3))
	o.TLS = serverTLS
	serve(t, tcp, o)
	serve(t, unix, o)
	urls := map[string]string{
		"tcp":   "ldap://" + tcp.Addr().String(),
		"ldapi": "ldapi://" + strings.ReplaceAll(unix.Addr().String(), "/", "%2F"),
	}
	run := func(wantExit int, stdin string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "LDAPTLS_CACERT="+ca)
		cmd.Stdin = strings.NewReader(stdin)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != wantExit {
			t.Errorf("%v: exit %d, want %d\n%s", args, got, wantExit, out)
		}
		return string(out)
	}
	password := []string{"-x", "-D", "cn=admin,o=mail", "-w", secret}
	for name, how := range map[string][]string{
		"tcp":   append([]string{"-H", urls["tcp"]}, password...),
		"tls":   append([]string{"-H", urls["tcp"], "-ZZ"}, password...),
		"ldapi": {"-H", urls["ldapi"], "-Y", "EXTERNAL", "-Q"},
	} {
		t.Run(name, func(t *testing.T) {
			tool := func(name string, more ...string) []string { return append(append([]string{name}, how...), more...) }
			if out := run(0, "", tool("ldapwhoami")...); !strings.Contains(out, "dn:cn=admin,o=mail") {
				t.Error(out)
			}
			const ldif = "dn: uid=new,o=mail\nobjectClass: inetOrgPerson\nobjectClass: inetMailUser\nobjectClass: inetLocalMailRecipient\n" +
				"uid: new\ncn: New\nsn: One\nmail: new@example.com\nuserPassword: first\n"
			run(0, ldif, tool("ldapadd")...)
			run(68, ldif, tool("ldapadd")...)
			run(0, "dn: uid=new,o=mail\nchangetype: modify\nadd: mailAlternateAddress\nmailAlternateAddress: a@example.com\nmailAlternateAddress: b@example.com\n-\nreplace: sn\nsn: Two\n",
				tool("ldapmodify")...)
			out := run(0, "", tool("ldapsearch", "-LLL", "-b", "o=mail", "(mailAlternateAddress=b@example.com)", "sn", "mailAlternateAddress", "userPassword")...)
			if want := "dn: uid=new,o=mail\nsn: Two\nmailAlternateAddress: a@example.com\nmailAlternateAddress: b@example.com\n\n"; !sameLines(out, want) {
				t.Errorf("got\n%swant\n%s", out, want)
			}
			run(6, "", tool("ldapcompare", "uid=new,o=mail", "sn:TWO")...)
			run(5, "", tool("ldapcompare", "uid=new,o=mail", "sn:Three")...)
			run(0, "", tool("ldappasswd", "-s", "second", "uid=new,o=mail")...)
			run(0, "", "ldapwhoami", "-x", "-H", urls["tcp"], "-D", "uid=new,o=mail", "-w", "second")
			run(49, "", "ldapwhoami", "-x", "-H", urls["tcp"], "-D", "uid=new,o=mail", "-w", "first")
			run(0, "", tool("ldapmodrdn", "-r", "uid=new,o=mail", "uid=newer")...)
			for _, options := range [][]string{{"-E", "!pr=2/noprompt"}, {"-E", "!pr=2/noprompt", "-E", "!sss=-sn/uid"}} {
				out = run(0, "", append(tool("ldapsearch", "-LLL", "-b", "o=mail"), append(options, "(uid=*)", "uid")...)...)
				if n := strings.Count(out, "\nuid: "); n != 4 || len(options) == 4 && strings.LastIndex(out, "uid: newer") < strings.LastIndex(out, "uid: u") {
					t.Errorf("%v: %d entries\n%s", options, n, out)
				}
			}
			out = run(0, "", tool("ldapsearch", "-LLL", "-o", "ldif-wrap=no", "-s", "base", "-b", "cn=Subschema", "+")...)
			for _, name := range []string{"attributeTypes", "objectClasses", "matchingRules", "ldapSyntaxes"} {
				if n := strings.Count(out, "\n"+name+": ( "); n < 30 {
					t.Errorf("%d %s are published", n, name)
				}
			}
			if out := run(0, "", tool("ldapwhoami", "-e", "!authzid=dn:uid=newer,o=mail")...); !strings.Contains(out, "dn:uid=newer,o=mail") {
				t.Error(out)
			}
			run(0, "", tool("ldapdelete", "uid=newer,o=mail")...)
			run(32, "", tool("ldapsearch", "-b", "uid=newer,o=mail")...)
		})
	}
	run(53, "", "ldapwhoami", "-x", "-H", urls["tcp"], "-D", "cn=admin,o=mail", "-w", "")
	run(50, "", "ldapsearch", "-x", "-H", urls["tcp"], "-b", "o=mail")
}

// sameLines compares without regard to the order of lines.
func sameLines(a, b string) bool {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}
