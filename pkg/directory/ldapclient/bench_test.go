package ldapclient_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/directorytest"
	"mailsrv/pkg/directory/ldapclient"
)

const benchEntries = 10_000

// BenchmarkDirectory is searches and binds a second over loopback, at 10,000
// entries, with so many connections each used by one goroutine. (Passwords are
// {SSHA512}: with argon2id the hash alone would be measured.)
func BenchmarkDirectory(b *testing.B) {
	l := listen(b, "tcp", "127.0.0.1:0")
	serve(b, l, options(filled(b, benchEntries)))
	bench(b, ldapclient.Options{URLs: []string{"ldap://" + l.Addr().String()}, BindDN: service, Password: password})
}

// BenchmarkSlapd is the same client before OpenLDAP's server.
func BenchmarkSlapd(b *testing.B) {
	o := ldapclient.Options{URLs: []string{startSlapd(b)}, BindDN: admin, Password: password}
	c := dial(b, o)
	must(b, c.Add(b.Context(), directory.Entry{DN: directorytest.Base(), Attributes: []directory.Attribute{{Name: "objectClass", Values: []string{"organization"}}}}))
	for i := range benchEntries {
		must(b, c.Add(b.Context(), directory.Entry{DN: person(i), Attributes: []directory.Attribute{
			{Name: "objectClass", Values: []string{"inetOrgPerson"}}, {Name: "cn", Values: []string{"User " + itoa(i)}}, {Name: "sn", Values: []string{"User"}},
			{Name: "mail", Values: []string{"u" + itoa(i) + "@example.com"}}, {Name: "userPassword", Values: []string{"p" + itoa(i)}}}}))
	}
	bench(b, o)
}

func bench(b *testing.B, o ldapclient.Options) {
	for _, conns := range []int{1, 16} {
		o.Connections, o.Binders = conns, conns
		c := dial(b, o)
		for _, work := range []struct {
			name string
			run  func(i int) error
		}{
			{"search", func(i int) error { return one(b, c, "u"+itoa(i)+"@example.com") }},
			{"bind", func(i int) error { return c.Bind(b.Context(), person(i), "p"+itoa(i)) }},
		} {
			b.Run(fmt.Sprintf("%s/conns=%d", work.name, conns), func(b *testing.B) {
				b.ReportAllocs()
				var left atomic.Int64
				left.Store(int64(b.N))
				var wg sync.WaitGroup
				for range conns {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							if err := work.run(rand.IntN(benchEntries)); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), work.name+"/s")
			})
		}
	}
}

func one(b *testing.B, tree directory.Tree, mail string) error {
	n := 0
	for _, err := range tree.Search(b.Context(), directory.Query{Base: directorytest.Base(), Scope: directory.ScopeSubtree,
		Filter: directory.Equal("mail", mail), SizeLimit: 2}) {
		if err != nil {
			return err
		}
		n++
	}
	if n != 1 {
		return fmt.Errorf("%d entries of %s", n, mail)
	}
	return nil
}
