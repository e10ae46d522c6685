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
