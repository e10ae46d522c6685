package directorytest

import (
	"errors"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/password"
)

// RunSecrets proves that the empty tree which make returns keeps what SCRAM
// needs in step with the passwords. Foreign directories keep none.
func RunSecrets(t *testing.T, makeTree func(t *testing.T) directory.Editor) {
	tree := makeTree(t)
	p := provisioner(t, tree)
	ctx := t.Context()
	v := directory.NewView(tree, directory.ViewOptions{Base: Base(), DefaultDomain: "example.com"})
	must(t, p.AddDomain(ctx, "example.com", ""))
	must(t, p.AddUser(ctx, "alice@example.com", "", "secret", ""))
	holds := func(clear string) {
		t.Helper()
		u, s, err := v.SCRAM(ctx, "alice")
		if err != nil || u.UID != "alice" || password.DeriveSCRAM(clear, s.Salt, s.Iterations).String() != s.String() {
			t.Errorf("the SCRAM secret of %q: %q %v", clear, u.UID, err)
		}
	}
	holds("secret")
	must(t, p.SetPassword(ctx, "alice@example.com", "changed"))
	holds("changed")
	must(t, p.SetPassword(ctx, "alice@example.com", password.Hash("hashed elsewhere")))
	for _, login := range []string{"alice", "nobody", "*"} {
		if _, _, err := v.SCRAM(ctx, login); !errors.Is(err, directory.ErrNotFound) {
			t.Errorf("SCRAM secret of %s: %v, want ErrNotFound", login, err)
		}
	}
	alice := directory.MustParseDN("uid=alice,ou=People,o=example.com,o=mail")
	for _, q := range []directory.Query{
		{Base: alice},
		{Base: alice, Attributes: []string{"*"}},
		{Base: alice, Attributes: []string{"1.1"}},
	} {
		for e, err := range tree.Search(ctx, q) {
			if err != nil || e.Values(directory.SCRAMAttribute) != nil {
				t.Errorf("a search for %v tells the SCRAM secret, or %v", q.Attributes, err)
			}
		}
	}
}

// RunAppPasswords proves passwords of programs over the empty tree that make returns.
func RunAppPasswords(t *testing.T, makeTree func(t *testing.T) directory.Editor) {
	tree := makeTree(t)
	p := provisioner(t, tree)
	ctx := t.Context()
	v := directory.NewView(tree, directory.ViewOptions{Base: Base(), DefaultDomain: "example.com"})
	must(t, p.AddDomain(ctx, "example.com", ""))
	must(t, p.AddUser(ctx, "alice@example.com", "", "secret", ""))
	phone, err := p.AddAppPassword(ctx, "alice@example.com", "phone", []string{"imap", "smtp"})
	must(t, err)
	laptop, err := p.AddAppPassword(ctx, "alice@example.com", "laptop", nil)
	must(t, err)
	for _, c := range []struct {
		password string
		service  directory.Service
		want     error
	}{
		{"secret", directory.ServiceIMAP, nil},
		{phone, directory.ServiceIMAPS, nil},
		{phone, directory.ServiceSMTP, nil},
		{phone, directory.ServicePOP3, directory.ErrBadCredentials},
		{laptop, directory.ServicePOP3, nil},
		{"aaaa-bbbb-cccc-dddd", directory.ServiceIMAP, directory.ErrBadCredentials},
		{"wrong", directory.ServiceIMAP, directory.ErrBadCredentials},
		{"", directory.ServiceIMAP, directory.ErrBadCredentials},
	} {
		if u, err := v.VerifyFor(ctx, "alice", c.password, c.service); !errors.Is(err, c.want) || err == nil && u.UID != "alice" {
			t.Errorf("%q for %s: %q %v, want %v", c.password, c.service, u.UID, err, c.want)
		}
	}
	if _, err := v.Verify(ctx, "alice", phone); !errors.Is(err, directory.ErrBadCredentials) {
		t.Errorf("a program's password counts for no service: %v", err)
	}
	list, err := p.AppPasswords(ctx, "alice@example.com")
	if err != nil || len(list) != 2 || list[1].Name != "phone" || list[1].LastUse.IsZero() || list[1].Made.IsZero() {
		t.Errorf("%+v %v", list, err)
	}
	must(t, p.DeleteAppPassword(ctx, "alice@example.com", "phone"))
	if _, err := v.VerifyFor(ctx, "alice", phone, directory.ServiceIMAP); !errors.Is(err, directory.ErrBadCredentials) {
		t.Errorf("a revoked password: %v", err)
	}
	if _, err := v.VerifyFor(ctx, "alice", laptop, directory.ServiceIMAP); err != nil {
		t.Errorf("the other one: %v", err)
	}
	if _, err := p.AddAppPassword(ctx, "alice@example.com", "x", []string{"telnet"}); !errors.Is(err, directory.ErrBadSetting) {
		t.Errorf("a service that is none: %v", err)
	}
	must(t, p.DeleteUser(ctx, "alice@example.com"))
}
