package ldapclient_test

import (
	"errors"
	"slices"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/directorytest"
	"mailsrv/pkg/directory/ldapclient"
	"mailsrv/pkg/peertest"
)

// startSlapd runs OpenLDAP's server over an empty tree o=mail with our schema,
// and returns its URL.
func startSlapd(t testing.TB) string {
	t.Helper()
	return peertest.StartSlapd(t, peertest.SlapdOptions{Suffix: "o=mail", Password: password, Schema: []string{"../../schema/mailsrv.schema"}}).URL
}

// TestSlapdSuite: the suite of every directory, but for what only ours promises.
func TestSlapdSuite(t *testing.T) {
	connect := func(t *testing.T) directory.Editor {
		return dial(t, ldapclient.Options{URLs: []string{startSlapd(t)}, BindDN: admin, Password: password})
	}
	t.Run("tree", func(t *testing.T) {
		directorytest.RunTree(t, connect,
			"greater", "less", // its sn has no order
			"a password like a scheme",                             // it is taken for a hash
			"add no parent", "RDN", "no class", "move to the root", // right, by other codes
		)
	})
	t.Run("view", func(t *testing.T) {
		directorytest.Run(t, connect,
			"unique", "alias of a domain") // it knows no rule about addresses
	})
}

// TestSlapd: the client in front of a directory that is not ours.
func TestSlapd(t *testing.T) {
	c := dial(t, ldapclient.Options{URLs: []string{startSlapd(t)}, BindDN: admin, Password: password})
	ctx := t.Context()
	attribute := func(name string, values ...string) directory.Attribute {
		return directory.Attribute{Name: name, Values: values}
	}
	must(t, c.Add(ctx, directory.Entry{DN: directory.MustParseDN("o=mail"), Attributes: []directory.Attribute{attribute("objectClass", "organization"), attribute("o", "mail")}}))
	const n = 250 // more than slapd's limit of an unpaged search
	for i := range n {
		must(t, c.Add(ctx, directory.Entry{DN: person(i), Attributes: []directory.Attribute{
			attribute("objectClass", "inetOrgPerson"), attribute("uid", "u"+itoa(i)), attribute("cn", "User "+itoa(i)), attribute("sn", "(*)\\ ü"),
			attribute("mail", "u"+itoa(i)+"@example.com", "alias"+itoa(i)+"@example.com"), attribute("userPassword", "p"+itoa(i)),
		}}))
	}
	if got, err := names(t, c, directory.Equal("objectClass", "inetOrgPerson")); err != nil || len(got) != n {
		t.Errorf("all, in pages: %d entries, %v", len(got), err)
	}
	for name, f := range map[string]directory.Filter{
		"and":       directory.AllOf(directory.Equal("objectClass", "inetOrgPerson"), directory.Equal("mail", "ALIAS7@example.com")),
		"value":     directory.AllOf(directory.Equal("sn", "(*)\\ ü"), directory.Equal("uid", "u7")),
		"substring": {Kind: directory.Substrings, Attribute: "mail", Initial: "alias7@", Any: []string{"exam"}, Final: ".com"},
	} {
		if got, err := names(t, c, f); err != nil || !slices.Equal(got, []string{"uid=u7"}) {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
	must(t, c.Bind(ctx, person(7), "p7"))
	for dn, pw := range map[string]string{person(7).String(): "p8", "uid=nobody,o=mail": "p7", "o=mail": "x"} {
		if err := c.Bind(ctx, directory.MustParseDN(dn), pw); !errors.Is(err, directory.ErrBadCredentials) {
			t.Errorf("bind as %s: %v", dn, err)
		}
	}
	must(t, c.Modify(ctx, person(7), []directory.Change{
		{Kind: directory.DeleteValues, Attribute: attribute("mail", "alias7@example.com")},
		{Kind: directory.AddValues, Attribute: attribute("mail", "x@example.com", "y@example.com")},
		{Kind: directory.ReplaceValues, Attribute: attribute("sn", "Seven")},
	}))
	for e, err := range c.Search(ctx, directory.Query{Base: person(7), Attributes: []string{"mail", "sn"}}) {
		must(t, err)
		if !slices.Equal(e.Values("mail"), []string{"u7@example.com", "x@example.com", "y@example.com"}) || e.Value("sn") != "Seven" {
			t.Errorf("%+v", e)
		}
	}
	must(t, c.Rename(ctx, person(7), directory.RDN{{Name: "uid", Value: "seven"}}, true, nil))
	for what, test := range map[string]struct{ err, want error }{
		"delete what moved":    {c.Delete(ctx, person(7)), directory.ErrNotFound},
		"add twice":            {c.Add(ctx, directory.Entry{DN: directory.MustParseDN("o=mail"), Attributes: []directory.Attribute{attribute("objectClass", "organization")}}), directory.ErrExists},
		"delete what is there": {c.Delete(ctx, directory.MustParseDN("uid=seven,o=mail")), nil},
	} {
		if !errors.Is(test.err, test.want) {
			t.Errorf("%s: %v", what, test.err)
		}
	}
	if r, ok := errors.AsType[*directory.ResultError](c.Delete(ctx, directory.MustParseDN("o=mail"))); !ok || r.Code != directory.NotAllowedOnNonLeaf {
		t.Errorf("deleting what has children: %v", r)
	}
	i := 0
	for _, err := range c.Search(ctx, directory.Query{Base: directory.MustParseDN("o=mail"), Scope: directory.ScopeSubtree, SizeLimit: 5}) {
		if i++; i == 6 {
			if r, ok := errors.AsType[*directory.ResultError](err); !ok || r.Code != directory.SizeLimitExceeded {
				t.Errorf("the size limit: %v", err)
			}
		}
	}
}
