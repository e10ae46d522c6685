package ldapclient_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/ldapclient"
)

// startSlapd runs OpenLDAP's server over an empty tree o=mail with the
// standard schema, and returns its URL; it skips the test if there is none.
func startSlapd(t testing.TB) string {
	t.Helper()
	slapd, err := exec.LookPath("slapd")
	if err != nil {
		if slapd = "/usr/sbin/slapd"; !exists(slapd) {
			t.Skip("slapd is not installed (package slapd)")
		}
	}
	root := filepath.Dir(filepath.Dir(filepath.Dir(slapd))) // "/", or where a package was unpacked
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "db"), 0o700))
	conf := fmt.Sprintf(`include %[1]s/etc/ldap/schema/core.schema
include %[1]s/etc/ldap/schema/cosine.schema
include %[1]s/etc/ldap/schema/inetorgperson.schema
modulepath %[1]s/usr/lib/ldap
moduleload back_mdb
pidfile %[2]s/pid
database mdb
maxsize 104857600
index uid,mail,objectClass eq
suffix "o=mail"
rootdn "cn=admin,o=mail"
rootpw %[3]q
directory %[2]s/db
sizelimit size.soft=100 size.hard=unlimited size.prtotal=unlimited
`, root, dir, password)
	must(t, os.WriteFile(filepath.Join(dir, "slapd.conf"), []byte(conf), 0o600))
	l := listen(t, "tcp", "127.0.0.1:0")
	url := "ldap://" + l.Addr().String()
	must(t, l.Close())
	var log bytes.Buffer
	cmd := exec.Command(slapd, "-h", url, "-f", filepath.Join(dir, "slapd.conf"), "-d", "none")
	cmd.Stderr = &log
	must(t, cmd.Start())
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	for deadline := time.Now().Add(10 * time.Second); ; {
		c, err := ldapclient.Dial(t.Context(), ldapclient.Options{URLs: []string{url}, BindDN: admin, Password: password, Probe: true})
		if err == nil {
			_ = c.Close()
			return url
		}
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("slapd ended: %v\n%s", err, log.Bytes())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("slapd does not answer: %v\n%s", err, log.Bytes())
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
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
