package ldapserver_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/peertest"
)

// script runs one in the language of path, with the server's host and port as its
// arguments; its last line is to be "ok".
func script(t *testing.T, path, text, address string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	must(t, err)
	file := filepath.Join(t.TempDir(), "script")
	must(t, os.WriteFile(file, []byte(text), 0o600))
	out, err := exec.CommandContext(t.Context(), path, file, host, port).CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "ok") {
		t.Errorf("%s: %v\n%s", path, err, out)
	}
}

// needs skips unless a program's module is there.
func needs(t *testing.T, path string, check []string, debian string) {
	t.Helper()
	if err := exec.CommandContext(t.Context(), path, check...).Run(); err != nil {
		peertest.Missing(t, "%s of the Debian package %s", strings.Join(check, " "), debian)
	}
}

// TestPythonLDAP: python3-ldap, with all it does to an entry, and pages.
func TestPythonLDAP(t *testing.T) {
	python := peertest.Program(t, "python3", "python3")
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		python = "/usr/bin/python3" // Debian's, which has Debian's modules
	}
	needs(t, python, []string{"-c", "import ldap"}, "python3-ldap")
	l := listen(t, "tcp", "127.0.0.1:0")
	viewed(t, l)
	script(t, python, `
import sys, ldap, ldap.modlist
from ldap.controls import SimplePagedResultsControl
c = ldap.initialize("ldap://%s:%s" % (sys.argv[1], sys.argv[2]))
c.simple_bind_s("cn=admin,o=mail", "`+secret+`")
assert c.whoami_s() == "dn:cn=admin,o=mail"
dn = "uid=cas,ou=People,o=example.com,o=mail"
c.add_s(dn, ldap.modlist.addModlist({"objectClass": [b"inetOrgPerson", b"inetMailUser", b"inetLocalMailRecipient"], "uid": [b"cas"], "cn": ["Cäs".encode()], "sn": [b"Cas"], "mail": [b"cas@example.com"]}))
old = c.search_s(dn, ldap.SCOPE_BASE)[0][1]
c.modify_s(dn, ldap.modlist.modifyModlist(old, dict(old, title=[b"Chief"], sn=[b"Other"])))
assert c.search_s("o=mail", ldap.SCOPE_SUBTREE, "(&(title=chief)(cn=c*s))", ["sn"]) == [(dn, {"sn": [b"Other"]})]
assert c.compare_s(dn, "title", b"CHIEF") is True
c.passwd_s(dn, None, "secret of cas")
d = ldap.initialize("ldap://%s:%s" % (sys.argv[1], sys.argv[2]))
d.simple_bind_s(dn, "secret of cas")
assert d.search_ext_s("o=mail", ldap.SCOPE_SUBTREE, "(uid=ann)", ["mailQuota"])[0][1] == {}
try:
    d.modify_s(dn, [(ldap.MOD_REPLACE, "mailQuota", [b"9G"])])
    assert False
except ldap.INSUFFICIENT_ACCESS: pass
cookie, seen = "", 0
page = SimplePagedResultsControl(True, size=2, cookie="")
while True:
    _, data, _, answers = c.result3(c.search_ext("o=mail", ldap.SCOPE_SUBTREE, serverctrls=[page]))
    seen += len(data)
    page.cookie = [a for a in answers if a.controlType == page.controlType][0].cookie
    if not page.cookie: break
assert seen == 8, seen
c.rename_s(dn, "uid=kas", delold=1)
c.delete_s("uid=kas,ou=People,o=example.com,o=mail")
try:
    c.delete_s(dn); assert False
except ldap.NO_SUCH_OBJECT: pass
from ldap.schema.subentry import SubSchema
s = SubSchema(c.read_subschemasubentry_s(c.search_subschemasubentry_s("o=mail")))
assert s.get_obj(ldap.schema.AttributeType, "mailHost").names == ("mailHost",)
print("ok")
`, l.Addr().String())
}

// TestNetLDAP: Perl's, as many old scripts have it.
func TestNetLDAP(t *testing.T) {
	perl := peertest.Program(t, "perl", "perl")
	needs(t, perl, []string{"-MNet::LDAP", "-e", "1"}, "libnet-ldap-perl")
	l := listen(t, "tcp", "127.0.0.1:0")
	viewed(t, l)
	script(t, perl, `
use strict; use Net::LDAP; use Net::LDAP::Control::Sort; use Net::LDAP::Constant qw(LDAP_CONTROL_SORTRESULT);
my $c = Net::LDAP->new($ARGV[0], port => $ARGV[1]) or die $@;
sub good { my ($m, $want) = @_; $m->code == ($want // 0) or die $m->code . " " . $m->error; $m }
good($c->bind("uid=ann,ou=People,o=example.com,o=mail", password => "secret-ann"));
good($c->bind("uid=ann,ou=People,o=example.com,o=mail", password => "x"), 49);
good($c->bind("cn=admin,o=mail", password => "`+secret+`"));
my $dn = "cn=List,ou=Groups,o=example.com,o=mail";
good($c->add($dn, attrs => [objectClass => ["groupOfUniqueNames"], cn => "List", uniqueMember => "uid=ann,ou=People,o=example.com,o=mail"]));
good($c->modify($dn, add => {description => ["one", "two"]}));
good($c->modify($dn, delete => {description => ["one"]}));
my $found = good($c->search(base => "o=mail", filter => "(|(description=t*o)(uid>=b))", control => [Net::LDAP::Control::Sort->new(order => "cn")]));
join(" ", map { $_->get_value("cn") } $found->entries) eq "Ben List" or die join(" ", map { $_->dn } $found->entries);
good($c->compare($dn, attr => "cn", value => "LIST"), 6);
good($c->moddn($dn, newrdn => "cn=Letter", deleteoldrdn => 1, newsuperior => "ou=People,o=example.com,o=mail"));
good($c->delete("cn=Letter,ou=People,o=example.com,o=mail"));
defined $c->schema->attribute("mailAlternateAddress") or die "no schema";
$c->root_dse->supported_control("1.2.840.113556.1.4.319") or die "no pages";
print "ok\n";
`, l.Addr().String())
}

// TestShelldap: a shell over the tree, as an admin uses it.
func TestShelldap(t *testing.T) {
	shelldap := peertest.Program(t, "shelldap", "shelldap")
	l := listen(t, "tcp", "127.0.0.1:0")
	viewed(t, l)
	home := t.TempDir()
	must(t, os.WriteFile(filepath.Join(home, ".shelldap.rc"), fmt.Appendf(nil, "server: ldap://%s\nbinddn: cn=admin,o=mail\nbindpass: %s\nbasedn: ou=People,o=example.com,o=mail\n", l.Addr(), secret), 0o600))
	cmd := exec.CommandContext(t.Context(), shelldap)
	cmd.Env = append(os.Environ(), "HOME="+home, "TERM=dumb")
	cmd.Stdin = strings.NewReader("ls\ncat uid=ann\nrm uid=ben\nls\nquit\n")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "mail: ann@example.com") || !strings.Contains(string(out), "uid=ben") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestApache: mod_authnz_ldap lets in who is in a group, by search, bind and compare.
func TestApache(t *testing.T) {
	apache := peertest.Program(t, "apache2", "apache2-bin")
	l := listen(t, "tcp", "127.0.0.1:0")
	_, p := viewed(t, l)
	must(t, p.AddGroup(t.Context(), "wiki@example.com", []string{"ann@example.com"}))
	free := listen(t, "tcp", "127.0.0.1:0")
	address := free.Addr().String()
	must(t, free.Close())
	dir := peertest.Folder(t)
	must(t, os.Mkdir(filepath.Join(dir, "www"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "www", "index.html"), []byte("the wiki"), 0o644))
	modules := ""
	for _, m := range []string{"mpm_event", "authn_core", "authz_core", "authz_user", "auth_basic", "ldap", "authnz_ldap", "dir"} {
		modules += fmt.Sprintf("LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n", m, m)
	}
	conf := fmt.Sprintf(`%sServerRoot %[2]s
ServerName localhost
Listen %[3]s
PidFile %[2]s/pid
ErrorLog %[2]s/log
User daemon
Group daemon
DocumentRoot %[2]s/www
DirectoryIndex index.html
<Directory %[2]s/www>
AuthType Basic
AuthName wiki
AuthBasicProvider ldap
AuthLDAPURL "ldap://%[4]s/o=mail?uid?sub?(objectClass=inetMailUser)"
AuthLDAPBindDN "cn=admin,o=mail"
AuthLDAPBindPassword %[5]q
AuthLDAPGroupAttribute uniqueMember
Require ldap-group cn=wiki,ou=Groups,o=example.com,o=mail
</Directory>
`, modules, dir, address, l.Addr(), secret)
	file := filepath.Join(dir, "conf")
	must(t, os.WriteFile(file, []byte(conf), 0o644))
	cmd := exec.Command(apache, "-f", file, "-DFOREGROUND")
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	get := func(user, password string) (int, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", nil)
		must(t, err)
		req.SetBasicAuth(user, password)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		return res.StatusCode, res.Body.Close()
	}
	peertest.Eventually(t, 20*time.Second, func() error { _, err := get("", ""); return err })
	for user, c := range map[string]struct {
		password string
		want     int
	}{"ann": {"secret-ann", 200}, "ben": {"secret-ben", 401}, "ann)(uid=*": {"secret-ann", 401}, "nobody": {"x", 401}} {
		if got, err := get(user, c.password); err != nil || got != c.want {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Errorf("%s: %d %v, want %d\n%s", user, got, err, c.want, log)
		}
	}
	if got, _ := get("ann", "wrong"); got != 401 {
		t.Errorf("a wrong password: %d", got)
	}
}

// TestThunderbird: what its address book asks for the letters that were typed.
func TestThunderbird(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	viewed(t, l)
	c := dialRaw(t, l)
	if code := c.bind(directory.MustParseDN(annDN()), "secret-ann"); code != directory.Success {
		t.Fatal(code)
	}
	f, err := directory.ParseFilter("(&(objectclass=*)(|(cn=*be*)(mail=*be*)(sn=*be*)(givenName=*be*)(displayName=*be*)(nickname=*be*)(xmozillanickname=*be*)(mozillaNickname=*be*)(mozillaSecondEmail=*be*)))")
	must(t, err)
	req := find(wireFilter(f))
	req.SizeLimit = 100
	req.Attributes = []string{"cn", "commonname", "displayname", "mail", "mozillaNickname", "o", "company", "sn", "surname", "givenname", "telephoneNumber", "objectclass", "modifytimestamp"}
	res, entries := c.ask(10, req)
	if res.Code != 0 || len(entries) != 1 || !strings.HasPrefix(entries[0].DN, "uid=ben,") {
		t.Errorf("%+v %+v", res, entries)
	}
}
