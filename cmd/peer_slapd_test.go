package cmd

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-smtp"

	"mailsrv/pkg/peertest"
)

// TestPeerSlapd has OpenLDAP's slapd for the directory of all our other roles,
// and of the commands.
func TestPeerSlapd(t *testing.T) {
	w := newWhole(t)
	s := peertest.StartSlapd(t, peertest.SlapdOptions{Suffix: "o=mail", Password: "of-the-admin", Schema: []string{"../pkg/schema/mailsrv.schema"},
		LDIF: "dn: o=mail\nobjectClass: organization\no: mail\n"})
	w.start("store, mta, mmp", map[string]string{"directory": fmt.Sprintf("cache: {stale: 0s}, url: [%q], starttls: true, ca: %s, bind_dn: \"cn=admin,o=mail\", bind_password_file: %s",
		s.URL, s.CA, w.file("admin.secret", "of-the-admin\n"))})
	x := &slapdTest{whole: w, s: s, tool: func(t *testing.T, stdin, name string, args ...string) string {
		t.Helper()
		t.Setenv("LDAPTLS_CACERT", s.CA)
		return peertest.Client(t, stdin, peertest.Program(t, name, "ldap-utils"),
			append([]string{"-ZZ", "-x", "-H", s.URL, "-D", "cn=admin,o=mail", "-w", "of-the-admin"}, args...)...)
	}}
	w.mailsrv("domain", "add", "example.test")
	x.alice, x.bob = w.user("alice@example.test"), w.user("bob@example.test")
	t.Run("use cases", func(t *testing.T) { w.useCases(w.config) })
	t.Run("login", x.login)
	t.Run("alias and group", x.group)
	t.Run("changed by others", x.changed)
	t.Run("stopped and started", x.outage)
}

type slapdTest struct {
	*whole
	s          *peertest.Slapd
	tool       func(t *testing.T, stdin, name string, args ...string) string
	alice, bob string // passwords
}

func (x *slapdTest) login(t *testing.T) {
	if err := x.connect(t, nil, nil).Login("alice", "wrong").Wait(); code(err) != imap.ResponseCodeAuthenticationFailed {
		t.Errorf("a wrong password: %v", err)
	}
	for _, login := range []string{"alice", "ALICE@example.test"} {
		x.dial(t, login, x.alice)
	}
	if out := x.tool(t, "", "ldapsearch", "-LLL", "-b", "o=mail", "(uid=alice)", "userPassword"); !strings.Contains(out, "userPassword:: e1NTSEF9") {
		// {SSHA} in base64
		t.Errorf("the password is not hashed:\n%s", out)
	}
}

func (x *slapdTest) group(t *testing.T) {
	x.mailsrv("alias", "add", "info@example.test", "alice@example.test")
	x.mailsrv("alias", "add", "example.org", "example.test")
	x.mailsrv("group", "add", "all@example.test", "alice@example.test", "bob@example.test")
	for n, to := range []string{"info@example.test", "alice@example.org", "all@example.test"} {
		if err := x.submit(t, "bob@example.test", x.bob, fmt.Sprintf("Subject: %d\r\n\r\n", n), to); err != nil {
			t.Errorf("to %s: %v", to, err)
		}
	}
	x.arrived(t, x.dial(t, "info@example.test", x.alice), "INBOX", 3)
	x.arrived(t, x.dial(t, "bob", x.bob), "INBOX", 1)
	err := x.submit(t, "bob@example.test", x.bob, "Subject: x\r\n\r\n", "nobody@example.test")
	if e, ok := errors.AsType[*smtp.SMTPError](err); !ok || e.Code != 550 || e.EnhancedCode != (smtp.EnhancedCode{5, 1, 1}) {
		t.Errorf("to nobody: %v", err)
	}
}

// changed: what an admin does with OpenLDAP's own tools counts at once.
func (x *slapdTest) changed(t *testing.T) {
	x.tool(t, `dn: uid=carol,ou=People,o=example.test,o=mail
objectClass: inetOrgPerson
objectClass: inetUser
objectClass: inetMailUser
objectClass: inetLocalMailRecipient
uid: carol
cn: Carol
sn: Carol
mail: carol@example.test
mailHost: localhost
userPassword: first
`, "ldapadd")
	c := x.dial(t, "carol", "first")
	const carol = "uid=carol,ou=People,o=example.test,o=mail"
	x.tool(t, "", "ldappasswd", "-s", "second", carol)
	if err := x.connect(t, nil, nil).Login("carol", "first").Wait(); code(err) != imap.ResponseCodeAuthenticationFailed {
		t.Errorf("the old password: %v", err)
	}
	x.dial(t, "carol", "second")
	x.tool(t, "dn: "+carol+"\nchangetype: modify\nreplace: mailQuota\nmailQuota: 0\n", "ldapmodify")
	err := x.submit(t, "bob@example.test", x.bob, "Subject: x\r\n\r\n", "carol@example.test")
	if e, ok := errors.AsType[*smtp.SMTPError](err); !ok || e.EnhancedCode != (smtp.EnhancedCode{4, 2, 2}) && e.EnhancedCode != (smtp.EnhancedCode{5, 2, 2}) {
		t.Errorf("over quota: %v", err)
	}
	x.tool(t, "dn: "+carol+"\nchangetype: modify\nreplace: mailUserStatus\nmailUserStatus: disabled\n", "ldapmodify")
	if err := x.connect(t, nil, nil).Login("carol", "second").Wait(); err == nil {
		t.Error("a disabled user logged in")
	}
	x.tool(t, "", "ldapdelete", carol)
	if got := messages(t, c, "INBOX"); len(got) != 0 {
		t.Errorf("a session that stands: %d messages", len(got))
	}
}

// outage: without the directory all answers are transient and come soon, and
// all is well within 5 s of its return.
func (x *slapdTest) outage(t *testing.T) {
	standing := x.dial(t, "alice", x.alice)
	before := len(messages(t, standing, "INBOX"))
	x.s.Stop(t)
	soon := func(what string, start time.Time) {
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s was answered after %v", what, took)
		}
	}
	start := time.Now()
	if err := x.connect(t, nil, nil).Login("alice", x.alice).Wait(); code(err) != imap.ResponseCodeUnavailable {
		t.Errorf("a login: %v", err)
	}
	soon("a login", start)
	start = time.Now()
	if e, ok := errors.AsType[*smtp.SMTPError](x.submit(t, "bob@example.test", x.bob, "Subject: x\r\n\r\n", "alice@example.test")); !ok || e.Code != 454 {
		t.Errorf("a login to submit: %v", e)
	}
	soon("a login to submit", start)
	start = time.Now()
	if e, ok := errors.AsType[*smtp.SMTPError](x.deliver("alice@example.test")); !ok || e.Code != 451 {
		t.Errorf("a recipient: %v", e)
	}
	soon("a recipient", start)
	if got := len(messages(t, standing, "INBOX")); got != before {
		t.Errorf("a session that stands: %d messages", got)
	}
	x.s.Start(t)
	peertest.Eventually(t, 5*time.Second, func() error {
		return errors.Join(x.connect(t, nil, nil).Login("alice", x.alice).Wait(), x.deliver("alice@example.test"))
	})
	if got := len(messages(t, standing, "INBOX")); got == before {
		t.Error("nothing came")
	}
}

// deliver brings a message from a stranger to the MTA's door.
func (w *whole) deliver(to string) error {
	c, err := smtp.Dial(w.smtp)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.SendMail("stranger@elsewhere.test", []string{to}, strings.NewReader("From: stranger@elsewhere.test\r\nSubject: x\r\n\r\nx\r\n"))
}
