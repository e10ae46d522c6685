package cmd

import (
	"errors"
	"strings"
	"testing"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
	"mailsrv/pkg/directory"
)

// office is a directory with two users, outside of any server.
func office(t *testing.T) (config.Config, directory.Editor) {
	t.Helper()
	cfg := config.Default()
	cfg.Hostname = "mail.example.com"
	tree, drop, err := daemon.Scratch(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(); err != nil {
			t.Error(err)
		}
	})
	o, err := daemon.View(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := directory.NewProvisioner(tree, o)
	ctx := t.Context()
	for _, err := range []error{p.EnsureBase(ctx), p.AddDomain(ctx, "example.com", ""), p.AddUser(ctx, "ann@example.com", "Änn", "secret-ann", ""),
		p.AddUser(ctx, "ben@example.com", "", "secret-ben", ""), p.AddAlias(ctx, "info@example.com", "ann@example.com"), p.AddGroup(ctx, "all@example.com", []string{"ann@example.com", "ben@example.com"})} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.AddAppPassword(ctx, "ben@example.com", "phone", nil); err != nil {
		t.Fatal(err)
	}
	return cfg, tree
}

const changes = `dn: uid=ben,ou=People,o=example.com,o=mail
changetype: modify
replace: mailUserStatus
mailUserStatus: inactive
-

dn: uid=ann,ou=People,o=example.com,o=mail
changetype: modify
delete: mailAlternateAddress
-
add: title
title: Chief

dn: uid=cas,ou=People,o=example.com,o=mail
objectClass: inetOrgPerson
objectClass: inetUser
objectClass: inetMailUser
objectClass: inetLocalMailRecipient
uid: cas
cn: Cas
sn: Cas
mail: cas@example.com
createTimestamp: 20200101000000Z
userPassword: secret-cas
`

func TestDryRun(t *testing.T) {
	cfg, tree := office(t)
	var out strings.Builder
	if err := rehearse(t.Context(), cfg, tree, strings.NewReader(changes), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 users lose access: ben@example.com\n", "1 users gain access: cas@example.com\n", "1 addresses take mail no more: info@example.com\n",
		"1 addresses take mail: cas@example.com\n", "- mailUserStatus: active\n", "+ mailUserStatus: inactive\n", "+ title: Chief\n", "3 records would be applied; nothing was changed\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "secret-cas") || strings.Contains(out.String(), "{ARGON2ID}") {
		t.Errorf("a password is shown:\n%s", out.String())
	}
	var dump strings.Builder
	if err := exportLDIF(t.Context(), tree, cfg.Directory.Suffix, &dump); err != nil || strings.Contains(dump.String(), "Chief") {
		t.Errorf("the dry run changed something: %v", err)
	}
}

// TestExportImport: what is written is read again, into an empty directory.
func TestExportImport(t *testing.T) {
	cfg, tree := office(t)
	if n, err := importLDIF(t.Context(), tree, cfg.Directory.Suffix, strings.NewReader(changes)); n != 3 || err != nil {
		t.Fatalf("%d records, %v", n, err)
	}
	var dump strings.Builder
	o, err := daemon.View(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := directory.NewProvisioner(tree, o).DeleteAppPassword(t.Context(), "ben@example.com", "phone"); err != nil {
		t.Fatal(err) // without its password it could not come back
	}
	withoutPasswords := func(tree directory.Editor, to *strings.Builder) {
		t.Helper()
		if err := exportLDIF(t.Context(), tree, cfg.Directory.Suffix, to); err != nil {
			t.Fatal(err)
		}
	}
	withoutPasswords(tree, &dump)
	other, drop, err := daemon.Scratch(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer drop()
	if n, err := importLDIF(t.Context(), other, cfg.Directory.Suffix, strings.NewReader(dump.String())); n != 8 || err != nil {
		t.Fatalf("%d records, %v\n%s", n, err, dump.String())
	}
	if n, err := importLDIF(t.Context(), other, cfg.Directory.Suffix, strings.NewReader("dn: O=Mail\nobjectClass: organization\no: mail\n")); n != 1 || err != nil {
		t.Errorf("a suffix that is there: %d records, %v", n, err)
	}
	var again strings.Builder
	withoutPasswords(other, &again)
	if again.String() != dump.String() {
		t.Errorf("written:\n%s\nread and written again:\n%s", dump.String(), again.String())
	}
	if n, err := importLDIF(t.Context(), other, cfg.Directory.Suffix, strings.NewReader("dn: ou=x,o=mail\nobjectClass: organizationalUnit\nou: x\n\ndn: ou=x,o=mail\nobjectClass: organizationalUnit\nou: x\n")); n != 1 || !errors.Is(err, directory.ErrExists) || !strings.Contains(err.Error(), "line 5") {
		t.Errorf("%d, %v", n, err)
	}
}

func TestLoginTest(t *testing.T) {
	cfg, tree := office(t)
	if _, err := importLDIF(t.Context(), tree, cfg.Directory.Suffix, strings.NewReader(changes)); err != nil {
		t.Fatal(err)
	}
	for login, c := range map[string]struct {
		want string
		err  error
	}{
		"ann@example.com": {"result: the login would succeed", nil},
		"ben@example.com": {"mailUserStatus: inactive", errLogin},
		"dan@example.com": {"no such user", errLogin},
		"ann@example.org": {"nothing found", errLogin},
	} {
		var out strings.Builder
		if err := testLogin(t.Context(), cfg, tree, login, directory.ServiceIMAP, false, &out); !errors.Is(err, c.err) ||
			!strings.Contains(out.String(), c.want) || !strings.Contains(out.String(), "search base=") {
			t.Errorf("%s: %v\n%s", login, err, out.String())
		}
	}
}
