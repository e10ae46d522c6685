package cmd

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-smtp"

	"mailsrv/pkg/peertest"
)

// officeLDIF is what an office has that has used OpenLDAP for its wiki for years.
const officeLDIF = `dn: dc=corp,dc=test
objectClass: dcObject
objectClass: organization
o: Corp
dc: corp

dn: ou=People,dc=corp,dc=test
objectClass: organizationalUnit
ou: People

dn: uid=alice,ou=People,dc=corp,dc=test
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: Example
mail: alice@example.test
mail: info@example.test
userPassword: alice-secret

dn: uid=bob,ou=People,dc=corp,dc=test
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: Bob
mail: bob@example.test
userPassword: bob-secret

dn: uid=carol,ou=People,dc=corp,dc=test
objectClass: inetOrgPerson
uid: carol
cn: Carol
sn: Carol
mail: carol@example.test
employeeType: left
userPassword: carol-secret

dn: cn=all,dc=corp,dc=test
objectClass: groupOfNames
objectClass: extensibleObject
cn: all
mail: all@example.test
member: uid=alice,ou=People,dc=corp,dc=test
member: uid=bob,ou=People,dc=corp,dc=test
`

// TestPeerOpenLDAP has a slapd that knows nothing of mail for our directory: the
// preset and three lines make its people our users.
func TestPeerOpenLDAP(t *testing.T) {
	w := newWhole(t)
	s := peertest.StartSlapd(t, peertest.SlapdOptions{Suffix: "dc=corp,dc=test", Password: "of-the-admin", LDIF: officeLDIF})
	w.start("store, mta, mmp", map[string]string{"directory": fmt.Sprintf("suffix: \"dc=corp,dc=test\", url: [%q], starttls: true, ca: %s, bind_dn: \"cn=admin,dc=corp,dc=test\", bind_password_file: %s, "+
		"foreign: {preset: openldap, domains: [{name: example.test, aliases: [example.org]}], inactive: \"(employeeType=left)\"}",
		s.URL, s.CA, w.file("admin.secret", "of-the-admin\n"))})
	for n, to := range []string{"info@example.test", "alice@example.org", "all@example.test"} {
		if err := w.submit(t, "bob@example.test", "bob-secret", fmt.Sprintf("From: bob@example.test\r\nSubject: %d\r\n\r\n", n), to); err != nil {
			t.Errorf("to %s: %v", to, err)
		}
	}
	w.arrived(t, w.dial(t, "info@example.test", "alice-secret"), "INBOX", 3)
	w.arrived(t, w.dial(t, "bob", "bob-secret"), "INBOX", 1)
	for login, want := range map[string]imap.ResponseCode{"alice": imap.ResponseCodeAuthenticationFailed, "nobody": imap.ResponseCodeAuthenticationFailed} {
		if err := w.connect(t, nil, nil).Login(login, "wrong").Wait(); code(err) != want {
			t.Errorf("%s: %v", login, err)
		}
	}
	if err := w.connect(t, nil, nil).Login("carol", "carol-secret").Wait(); err == nil {
		t.Error("a user who left logged in")
	}
	err := w.submit(t, "bob@example.test", "bob-secret", "From: bob@example.test\r\n\r\n", "nobody@example.test")
	if e, ok := errors.AsType[*smtp.SMTPError](err); !ok || e.EnhancedCode != (smtp.EnhancedCode{5, 1, 1}) {
		t.Errorf("to nobody: %v", err)
	}
	if out := w.mailsrv("user", "list"); !strings.Contains(out, "alice@example.test") || !strings.Contains(out, "carol@example.test") {
		t.Errorf("user list:\n%s", out)
	}
	if out := w.mailsrv("directory", "test", "alice"); !strings.Contains(out, "result: the login would succeed") {
		t.Errorf("directory test:\n%s", out)
	}
}
